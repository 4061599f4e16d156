"""The package and a second program that shares no code with it agree, on tracks of every kind."""

import numpy as np
import pytest

from saccade.kinematics import label_track
from saccade.kinematics.questions import Plan, make_questions

from . import second_opinion
from .tracks import many

UPS = ([0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [0.0, 0.0, -2.0], [0.1, 0.2, 1.0])


def wander(seed):
    """Times and points of an object that drives, turns, waits and is lost for a while."""
    random = np.random.default_rng(seed)
    times = np.sort(random.uniform(-1, random.uniform(3, 22), random.integers(3, 90)))
    if seed % 3 == 0:  # on the grid, at 2 or 10 Hz
        times = np.arange(0, random.uniform(1, 21), random.choice([0.1, 0.5]))
    heading = np.cumsum(random.normal(0, random.choice([0.02, 0.3, 1.5]), len(times)))
    pace = random.choice([0, 0.3, 2, 15]) * (random.random(len(times)) > random.choice([0, 0.4]))
    steps = np.diff(times, prepend=times[0])[:, None] * pace[:, None]
    points = np.cumsum(steps * np.stack([np.cos(heading), np.sin(heading), 0.1 * np.sin(heading)], -1), 0)
    points = points + random.normal(0, 0.02, points.shape) + 4000
    rows = [
        None if lost else point.tolist()
        for lost, point in zip(random.random(len(times)) < 0.1, points, strict=True)
    ]
    order = random.permutation(len(times)) if seed % 5 == 0 else np.arange(len(times))
    return times[order].tolist(), [rows[index] for index in order]


def test_labels():
    statuses = set()
    for seed in range(240):
        times, points = wander(seed)
        up = UPS[seed % len(UPS)]
        mine = second_opinion.label(times, points, up)
        assert second_opinion.differs(mine, label_track(times, points, up=up).to_dict()) == []
        statuses.add(mine["status"])
    assert statuses == {"ok", "static", "too_short"}


def test_answers_and_balance():
    tracks = many(60)
    asked = [question.to_dict() for question in make_questions(tracks, Plan(per_clip=20)).questions]
    asked = [question for question in asked if question["task"] not in ("travel_time", "speed_ratio")]
    assert len({question["task"] for question in asked}) == 7
    labels = {
        (track.clip_id, track.track_id): second_opinion.label(track.timestamps_s, track.xyz_world, track.up)
        for track in tracks
    }
    for question in asked:
        found = [labels[question["clip_id"], thing["track_id"]] for thing in question["objects"]]
        assert second_opinion.answers(question, found, [0, 0, 1]), question["id"]
    for name, share in second_opinion.shares(asked).items():
        assert share == pytest.approx(0.5, abs=0.02), name
