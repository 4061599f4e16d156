"""Tiny bases of every class and a small set of questions about motion with its pictures."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from tests.kinematics.tracks import clip
from tests.vlm.tiny import make_base

from saccade.kinematics.questions import Plan, make_questions
from saccade.kinematics.records import write_records


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Folders of tiny bases by family, made when asked for."""
    home, made = tmp_path_factory.mktemp("bases"), {}

    def base(family):
        if family not in made:
            made[family] = str(make_base(family, home / family))
        return made[family]

    return base


@pytest.fixture(scope="session")
def stkit(tmp_path_factory):
    """Six clips of 8 frames: pictures, tracks and questions, and general conversations beside them."""
    home = tmp_path_factory.mktemp("stkit")
    random = np.random.default_rng(0)
    tracks = []
    for number in range(6):
        name = f"clip{number}"
        (home / name).mkdir()
        paths = []
        for step in range(8):
            pixels = random.integers(0, 90, (45, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / name / f"{step}.png")
            paths.append(f"{name}/{step}.png")
        split = "val" if number > 4 else "train"
        for track in clip(name, random, objects=2, points=8, split=split, images=paths):
            boxes = [[value / 2 for value in box] for box in track.boxes_2d]
            camera = {**track.camera, "width": 80, "height": 45}
            tracks.append(dataclasses.replace(track, boxes_2d=boxes, camera=camera))
    write_records(tracks, home / "tracks.jsonl")
    made = make_questions(tracks, Plan(per_clip=1, num_frames=4))
    write_records(made.questions, home / "questions.jsonl")
    talks = [
        {
            "id": "seen", "video": "clip0",
            "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Noise."}],
        },
        {
            "id": "shown", "image": "clip1/0.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Noise."},
                {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."},
            ],
        },
        {
            "id": "said",
            "conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Good day."}],
        },
    ]  # fmt: skip
    (home / "general.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    return home
