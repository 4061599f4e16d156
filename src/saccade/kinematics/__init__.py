"""Kinematics: from the tracks of moving objects to questions about their motion, and scores for the answers.

Public names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.kinematics.answer_scores import score_answer, score_parsed
    from saccade.kinematics.answers import TASKS, Parsed, parse_answer
    from saccade.kinematics.blind import fit_blind
    from saccade.kinematics.geometry import world_points
    from saccade.kinematics.labels import TrackLabel, direction_interval, label_track
    from saccade.kinematics.pairs import compare_direction, compare_distance, compare_speed
    from saccade.kinematics.questions import Plan, make_questions
    from saccade.kinematics.records import Question, Track, read_questions, read_tracks, write_records
    from saccade.kinematics.scale import clip_scale
    from saccade.kinematics.scoring import read_answers, score
    from saccade.kinematics.settings import Settings, make_settings
    from saccade.kinematics.sources import read_source

_HOMES = {
    "Parsed": "saccade.kinematics.answers",
    "Plan": "saccade.kinematics.questions",
    "Question": "saccade.kinematics.records",
    "Settings": "saccade.kinematics.settings",
    "TASKS": "saccade.kinematics.answers",
    "Track": "saccade.kinematics.records",
    "TrackLabel": "saccade.kinematics.labels",
    "clip_scale": "saccade.kinematics.scale",
    "compare_direction": "saccade.kinematics.pairs",
    "compare_distance": "saccade.kinematics.pairs",
    "compare_speed": "saccade.kinematics.pairs",
    "direction_interval": "saccade.kinematics.labels",
    "fit_blind": "saccade.kinematics.blind",
    "label_track": "saccade.kinematics.labels",
    "make_questions": "saccade.kinematics.questions",
    "make_settings": "saccade.kinematics.settings",
    "score_answer": "saccade.kinematics.answer_scores",
    "score_parsed": "saccade.kinematics.answer_scores",
    "parse_answer": "saccade.kinematics.answers",
    "read_answers": "saccade.kinematics.scoring",
    "read_questions": "saccade.kinematics.records",
    "read_source": "saccade.kinematics.sources",
    "read_tracks": "saccade.kinematics.records",
    "score": "saccade.kinematics.scoring",
    "world_points": "saccade.kinematics.geometry",
    "write_records": "saccade.kinematics.records",
}

__all__ = [
    "TASKS",
    "Parsed",
    "Plan",
    "Question",
    "Settings",
    "Track",
    "TrackLabel",
    "clip_scale",
    "compare_direction",
    "compare_distance",
    "compare_speed",
    "direction_interval",
    "fit_blind",
    "label_track",
    "make_questions",
    "make_settings",
    "parse_answer",
    "read_answers",
    "read_questions",
    "read_source",
    "read_tracks",
    "score",
    "score_answer",
    "score_parsed",
    "world_points",
    "write_records",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'saccade.kinematics' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
