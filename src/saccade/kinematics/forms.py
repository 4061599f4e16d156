"""Questions in the forms that trainers read: LLaVA conversations and chat messages; and the sentence of frame times.

A model that is given frames knows nothing of seconds unless it is told: "from 3.5 to 4.5 s" means nothing without.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from saccade.files import replacing, write_text
from saccade.kinematics.records import Question


def prompt(question: Question) -> str:
    """Return what a model is asked: the times of its frames, then the question."""
    times = question.frame_times_s
    return f"{say_times(times)} {question.question}" if times else question.question


def say_time(time_s: float) -> str:
    """Write a second with one decimal, or two where it has them."""
    return f"{time_s:.1f}" if abs(time_s * 10 - round(time_s * 10)) < 1e-6 else f"{time_s:.2f}"


def say_times(times_s: Sequence[float]) -> str:
    """Return the sentence that tells a model when its frames were taken."""
    shown = ", ".join(map(say_time, times_s))
    return f"These are {len(times_s)} frames of a clip, taken at {shown} seconds."


def to_llava(question: Question, video: str) -> dict[str, Any]:
    """Write a question as a LLaVA conversation.

    Args:
        question: Any.
        video: Path of the clip, or of the folder of its frames, relative to the trainer's video folder.
    """
    return {
        "id": question.id,
        "video": video,
        "conversations": [
            {"from": "human", "value": f"<image>\n{prompt(question)}"},
            {"from": "gpt", "value": question.answer},
        ],
        "data_source": question.source,
    }


def to_chat(question: Question, video: str | None = None, frames: Sequence[str] = ()) -> dict[str, Any]:
    """Write a question as chat messages.

    Args:
        question: Any.
        video: Path of the clip; or
        frames: paths of its frames, which are then given one by one.
    """
    shown: list[dict[str, str]] = [{"type": "image", "path": frame} for frame in frames]
    if not shown:
        shown = [{"type": "video", "path": video} if video else {"type": "video"}]
    return {
        "id": question.id,
        "messages": [
            {"role": "user", "content": [*shown, {"type": "text", "text": prompt(question)}]},
            {"role": "assistant", "content": [{"type": "text", "text": question.answer}]},
        ],
    }


def write_json(rows: Iterable[dict[str, Any]], path: Path | str) -> int:
    """Write rows as one JSON list (.json) or as JSON lines (any other name), all or nothing; returns how many."""
    path = Path(path)
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
    with replacing(path) as temporary:
        text = (
            "[\n" + ",\n".join(lines) + "\n]\n"
            if path.suffix == ".json"
            else "".join(f"{x}\n" for x in lines)
        )
        temporary.write_text(text, encoding="utf-8")
    return len(lines)


def write_mixture(files: Sequence[tuple[str, str]], path: Path | str) -> None:
    """Write the YAML list by which LLaVA mixes files.

    Args:
        files: (path of a JSON file, sampling strategy: all, first:N, end:N, random:N or random:P%).
        path: Where to.
    """
    rows = "".join(
        f"  - json_path: {json.dumps(name)}\n    sampling_strategy: {json.dumps(strategy)}\n"
        for name, strategy in files
    )
    write_text(path, "datasets:\n" + rows)
