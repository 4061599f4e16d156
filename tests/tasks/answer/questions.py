"""A small set of questions about motion with pictures, tracks and general conversations."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tests.kinematics.tracks import clip

from saccade.kinematics.questions import Plan, make_questions
from saccade.kinematics.records import write_records


def make_stkit(home: Path) -> Path:
    """Make six clips of 8 frames: pictures, tracks and questions, and general conversations beside them."""
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
