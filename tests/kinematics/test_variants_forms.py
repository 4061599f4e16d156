"""The same truth shown differently; forms for trainers; splits; drawn frames."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from saccade.errors import CheckFailed, ConfigError, DataError
from saccade.kinematics.answer_scores import score_parsed
from saccade.kinematics.answers import TASKS, parse_answer
from saccade.kinematics.draw import COLOURS, draw_boxes, write_frames
from saccade.kinematics.forms import prompt, to_chat, to_llava, write_json, write_mixture
from saccade.kinematics.geometry import Lens, inverse, move
from saccade.kinematics.labels import direction_interval, label_track
from saccade.kinematics.questions import make_questions
from saccade.kinematics.sources.assemble import Camera, Scene, Thing, clip_tracks
from saccade.kinematics.splits import assign_splits, check_apart, decontaminate, group_key
from saccade.kinematics.variants import (
    crop_region,
    crop_track,
    mirror_hour,
    mirror_question,
    mirror_track,
    respace,
    swap_colours,
)

from .tracks import clip, many


@pytest.fixture(scope="module")
def tracks():
    return many(20)


@pytest.fixture(scope="module")
def questions(tracks):
    return make_questions(tracks).questions


def seen_track():
    """Make one track whose boxes come from true projection."""
    times = 0.5 * np.arange(10)
    centres = np.stack([10 + 3 * times, 2 - 0.8 * times * times, 0 * times + 0.8], 1)
    axes = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    lens = Lens(np.array([[100.0, 0, 70], [0, 100, 45], [0, 0, 1]]), 160, 90, (-0.1, 0.01, 0.002, 0.003, 0.0))
    camera = Camera("front", lens, times, [f"{t}.jpg" for t in times], np.broadcast_to(axes, (10, 4, 4)))
    thing = Thing("a", "car", (4.0, 1.8, 1.5), times, centres, np.broadcast_to(np.eye(3), (10, 3, 3)))
    (track,) = clip_tracks(Scene("s", "s", "made", "train", "gt", Path("s")), [thing], camera)
    return track


def projected(track, row):
    lens = Lens(
        np.array(track.camera["K"]),
        track.camera["width"],
        track.camera["height"],
        tuple(track.camera.get("distortion", ())),
    )
    return lens.project(move(inverse(np.array(track.T_world_cam[row])), track.points[row]))[0]


def test_mirrored_tracks_are_consistent():
    track = seen_track()
    flipped = mirror_track(track)
    for row in range(10):
        x, y = projected(track, row)
        assert projected(flipped, row) == pytest.approx([160 - x, y], abs=1e-9)
        box, other = track.boxes_2d[row], flipped.boxes_2d[row]
        assert (box is None) == (other is None)
        assert box is None or other == pytest.approx([160 - box[2], box[1], 160 - box[0], box[3]])
        assert np.linalg.det(np.array(flipped.T_world_cam[row])[:3, :3]) == pytest.approx(1)
    here, there = label_track(track.times, track.points), label_track(flipped.times, flipped.points)
    assert [mirror_hour(hour) for hour in here.step_clocks] == list(there.step_clocks)
    assert there.distance_m == pytest.approx(here.distance_m)
    back = mirror_track(flipped)
    assert np.allclose(back.points, track.points)
    assert np.allclose(back.camera["K"], track.camera["K"])


def test_mirrored_questions_agree_with_mirrored_tracks(tracks, questions):
    of = {(track.clip_id, track.track_id): track for track in map(mirror_track, tracks)}
    hours = 0
    for question in map(mirror_question, questions):
        track = of[question.clip_id, question.objects[0]["track_id"]]
        label = label_track(track.times, track.points)
        if question.task == "movement_direction":
            assert question.value == label.end_clock
            hours += question.value not in (12, 6)
        if question.task == "direction_timestamp":
            assert list(direction_interval(label, question.clock).interval_s) == pytest.approx(question.value)
            assert f"{question.clock} o'clock" in question.question
        parsed = parse_answer(question.task, question.answer, question.context)
        assert score_parsed(question.task, question.value, parsed).correct
    assert hours >= 5
    assert [mirror_hour(hour) for hour in (12, 1, 3, 6, 11)] == [12, 11, 9, 6, 1]


def test_exchanged_colours_exchange_answers(questions):
    for question in questions:
        other = swap_colours(question)
        assert {thing["colour"]: thing["track_id"] for thing in other.objects} != {
            thing["colour"]: thing["track_id"] for thing in question.objects
        }
        if len(question.objects) == 2:
            assert other.question == question.question
            if question.task != "direction_comparison":
                assert other.value != question.value
        else:
            assert other.value == question.value
            assert other.objects[0]["colour"] in other.question.lower()
        parsed = parse_answer(other.task, other.answer, other.context)
        assert score_parsed(other.task, other.value, parsed).correct
        assert dataclasses.replace(swap_colours(other), id=question.id) == question
    with pytest.raises(ConfigError, match="other colours"):
        swap_colours(questions[0], ("green", "white"))


def test_frames_farther_apart_keep_the_last(questions):
    question = dataclasses.replace(questions[0], frame_times_s=[0.0, 0.5, 1.0, 1.5])
    assert respace(question, 2).frame_times_s == [0, 1, 1.5]
    assert respace(question, 0.5).frame_times_s == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    assert respace(question, 2).value == question.value
    assert "0.25" in prompt(respace(question, 0.5))
    with pytest.raises(ConfigError, match="factor"):
        respace(question, 0)


def test_a_crop_changes_the_picture_and_not_the_label():
    track = seen_track()
    cut = crop_track(track, 0.5)
    assert (cut.camera["width"], cut.camera["height"]) == (80, 45)
    assert label_track(cut.times, cut.points).distance_m == label_track(track.times, track.points).distance_m
    for row in range(10):
        if cut.boxes_2d[row] is not None:
            x, y = projected(track, row)
            assert projected(cut, row) == pytest.approx([x - 40, y - 22])
    assert 0 < sum(box is not None for box in cut.boxes_2d) < 10
    assert crop_region(160, 90, 1.0) == (0, 0, 160, 90)
    for share in (0, 1.5):
        with pytest.raises(ConfigError, match="share"):
            crop_track(track, share)
    with pytest.raises(ConfigError, match="no camera"):
        crop_track(dataclasses.replace(track, camera=None), 0.5)


def test_forms_for_trainers(tmp_path, questions):
    question = next(question for question in questions if question.task == "direction_timestamp")
    assert "taken at 0.0, 0.5, 1.0," in prompt(question)
    llava = to_llava(question, "frames/abc")
    assert llava["conversations"][0]["value"].startswith("<image>\n")
    assert llava["conversations"][1] == {"from": "gpt", "value": question.answer}
    chat = to_chat(question, "clip.mp4")
    assert chat["messages"][0]["content"][0] == {"type": "video", "path": "clip.mp4"}
    assert chat["messages"][1]["content"][0]["text"] == question.answer
    assert len(to_chat(question, frames=["a", "b"])["messages"][0]["content"]) == 3
    assert write_json([llava, llava], tmp_path / "a.json") == 2
    assert len(json.loads((tmp_path / "a.json").read_text())) == 2
    write_json([chat], tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text()) == chat
    write_mixture([("a.json", "all"), ("b: c.json", "random:10%")], tmp_path / "mix.yaml")
    assert yaml.safe_load((tmp_path / "mix.yaml").read_text())["datasets"][1] == {
        "json_path": "b: c.json",
        "sampling_strategy": "random:10%",
    }
    assert prompt(dataclasses.replace(question, frame_times_s=None)) == question.question


def test_splits_keep_groups_together():
    tracks = [dataclasses.replace(track, group=f"log{index // 12}") for index, track in enumerate(many(100))]
    split = assign_splits(tracks, {"train": 0.7, "val": 0.3})
    of = {}
    for track in split:
        assert of.setdefault(track.group, track.split) == track.split
    share = np.mean([name == "val" for name in of.values()])
    assert 0.1 < share < 0.5
    assert [track.split for track in assign_splits(tracks[:40], {"train": 0.7, "val": 0.3})] == [
        track.split for track in split[:40]
    ]
    with pytest.raises(ConfigError, match="add up"):
        assign_splits(tracks, {"train": 0.7})
    train = [track for track in split if track.split == "train"]
    val = [track for track in split if track.split == "val"]
    check_apart(train, val)
    with pytest.raises(CheckFailed, match=r"log\d+"):
        check_apart([*train, val[0]], val)
    kept, dropped = decontaminate([*train, *val[:5]], val)
    assert (len(kept), len(dropped)) == (len(train), 5)
    alone = dataclasses.replace(tracks[0], group="")
    assert group_key(mirror_track(alone)) == group_key(alone)


def test_boxes_are_drawn_after_resizing_around_the_object():
    grey = Image.new("RGB", (320, 180), (100, 100, 100))
    image = np.array(draw_boxes(grey, {"red": (100, 40, 200, 100), "blue": None}, size=160, width=3))
    assert image.shape == (90, 160, 3)
    red = (image == COLOURS["red"]).all(-1)
    assert red[30, 47:50].all()  # the left line, three pixels, ends where the object begins
    assert not red[30, 50:100].any()
    assert red[30, 100:103].all()
    assert red.sum() == pytest.approx(2 * 3 * (56 + 36) - 36, abs=8)
    mirrored = np.array(draw_boxes(grey, {"red": (0, 0, 50, 50)}, mirror=True))
    assert (mirrored[:, 0] == COLOURS["red"]).all(-1).any()  # boxes are those of the mirrored track
    assert draw_boxes(grey, {}, region=(80, 45, 240, 135)).size == (160, 90)
    for wrong in ({"width": 1}, {"size": 2}):
        with pytest.raises(ConfigError):
            draw_boxes(grey, {}, **wrong)
    with pytest.raises(ConfigError, match="'red'"):
        draw_boxes(grey, {"rede": None})


def test_written_frames_show_the_right_colours(tmp_path):
    tracks = clip("c", np.random.default_rng(0), images=[f"{step:03d}.png" for step in range(20)])
    for step in range(20):
        Image.new("RGB", (160, 90), (90, 90, 90)).save(tmp_path / f"{step:03d}.png")
    tracks[1] = dataclasses.replace(tracks[1], boxes_2d=[None] * 3 + tracks[1].boxes_2d[3:])
    question = next(
        question
        for question in make_questions(tracks).questions
        if {thing["track_id"] for thing in question.objects} == {"t0", "t1"} and question.task in TASKS
    )
    names = write_frames(question, tracks, tmp_path / "frames", root=tmp_path, size=160)
    assert len(names) == 20
    colour = {thing["track_id"]: thing["colour"] for thing in question.objects}
    for index in (0, 10):
        with Image.open(names[index]) as frame:
            image = np.asarray(frame, int)
        for name, left in (("t0", 5), ("t1", 45)):
            x = round(left + 0.2 * index) - 2
            near = np.abs(image[35, x - 1 : x + 2] - COLOURS[colour[name]]).sum(-1).min() < 60
            assert near == (name == "t0" or index >= 3)
    stamp = names[0].stat().st_mtime_ns
    assert write_frames(question, tracks, tmp_path / "frames", root=tmp_path)[0].stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="has no track"):
        write_frames(question, tracks[2:], tmp_path / "other", root=tmp_path)
    (tmp_path / "004.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"004\.png: not an image"):
        write_frames(question, tracks, tmp_path / "other", root=tmp_path)
    assert not list((tmp_path / "other").iterdir())
    (tmp_path / "002.png").unlink()
    with pytest.raises(DataError, match=r"002\.png: no such picture"):
        write_frames(question, tracks, tmp_path / "other", root=tmp_path)
    bare = [dataclasses.replace(track, image_paths=None) for track in tracks]
    with pytest.raises(DataError, match="no picture at 0 s"):
        write_frames(question, bare, tmp_path / "other", root=tmp_path)


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("direction_comparison", {"window_s": None}),
        ("travel_time", {"value": 0}),
        ("travel_time", {"template_id": "travel_time/q0/a0"}),
        ("traveled_distance", {"template_id": "travel_time/q0/a0/k0"}),
        ("speed_ratio", {"template_id": "speed_ratio/q0/a0/k99"}),
    ],
)
def test_a_template_that_does_not_fit_is_one_sentence(task, change):
    question = next(q for q in make_questions(many(8)).questions if q.task == task)
    with pytest.raises(ConfigError, match=r"template .*; expected"):
        swap_colours(dataclasses.replace(question, **change))
