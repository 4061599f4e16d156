"""Interchange records: they come back as written, and what is wrong is named."""

import json
import math

import pytest

from saccade.errors import DataError
from saccade.kinematics.records import (
    Question,
    Track,
    check_question,
    check_track,
    read_questions,
    read_tracks,
    write_records,
    write_rejected,
)
from saccade.kinematics.schema import QUESTION_SCHEMA, TRACK_SCHEMA

TRACK = {
    "clip_id": "c1",
    "source": "made",
    "split": "train",
    "track_id": "a",
    "category": "vehicle.car",
    "timestamps_s": [0.0, 0.5, 1.0],
    "xyz_world": [[0, 0, 0], None, [10.5, 0, 0]],
    "size_lwh": [4.0, 1.8, 1.5],
    "yaw": [0.0, None, 0.1],
    "boxes_2d": [[1, 2, 30, 40], None, [5, 6, 35, 46.5]],
    "camera": {"K": [[100, 0, 50], [0, 100, 40], [0, 0, 1]], "width": 100, "height": 80, "name": "front"},
    "T_world_cam": [[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], None, None],
    "label_origin": "gt",
    "scale_info": {"scale": 2.5},
    "image_paths": ["a.jpg", None, "c.jpg"],
}
QUESTION = {
    "id": "q1",
    "clip_id": "c1",
    "task": "distance_comparison",
    "question": "Which?",
    "answer": "The red one.",
    "value": "red",
    "objects": [{"track_id": "a", "colour": "red"}, {"track_id": "b", "colour": "blue"}],
    "polarity": "more",
    "source": "made",
    "split": "train",
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_records_come_back(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    track = check_track(TRACK, "here")
    other = Track("c1", "made", "train", "b", "person", [0.0], [[1, 2, 3]], "slam")
    assert write_records([track, other], tmp_path / f"tracks{suffix}") == 2
    found = list(read_tracks(tmp_path))
    assert [item.to_dict() for item in found] == [track.to_dict(), other.to_dict()]
    assert found[0].points[2].tolist() == [10.5, 0, 0]
    assert math.isnan(found[0].points[1, 0])
    assert found[1].up == [0, 0, 1]
    questions = [
        check_question({**QUESTION, "id": str(index), "task": task, "value": value}, "here")
        for index, (task, value) in enumerate(
            [
                ("traveled_distance", 12.5), ("movement_direction", 3), ("direction_timestamp", [1.0, 2.5]),
                ("direction_comparison", "same"), ("speed_comparison", "blue"), ("travel_time", 200),
            ]
        )
    ]  # fmt: skip
    assert write_records(questions, tmp_path / f"q{suffix}") == 6
    assert list(read_questions(tmp_path / f"q{suffix}")) == questions


def test_context_of_a_question():
    question = Question(**QUESTION, frame_times_s=[0.0, 0.5])
    assert question.context["options"] == {"red": ["red"], "blue": ["blue"]}
    assert question.context["duration_s"] == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timestamps_s": [0, "a", 1]}, r"field timestamps_s\[1\] is 'a'; expected a number"),
        (
            {"xyz_world": [[0, 0, 0], None, [math.nan, 0, 0]]},
            r"xyz_world\[2\]\[0\] is nan; expected a finite number",
        ),
        ({"xyz_world": [[0, 0], None, None]}, r"xyz_world\[0\] is \[0, 0\]; expected 3 items"),
        ({"xyz_world": [[0, 0, 0]]}, "xyz_world has 1 items; expected 3"),
        ({"boxes_2d": [[9, 9, 3, 12], None, None]}, r"boxes_2d\[0\]"),
        ({"boxes_2d": [[math.inf, 9, 3, 12], None, None]}, r"boxes_2d\[0\]\[0\] is inf"),
        ({"label_origin": "guess"}, "label_origin is 'guess'; expected one of gt"),
        (
            {"camera": {"K": [[1, 0, 0]] * 3, "width": 0, "height": 3}},
            r"camera.width is 0; expected at least 1",
        ),
        ({"camera": {"width": 3, "height": 3}}, "field camera.K is missing"),
        ({"up": [0, 0, 0]}, "field up"),
        ({"format": "saccade-track/9"}, "saccade-track/1.*this version"),
        ({"track_id": ""}, "not empty"),
        ({"clip_id": True}, "expected a text"),
        ({"size_lwh": [-1, 1, 1]}, "at least 0"),
    ],
)
def test_a_wrong_track_is_named_by_file_record_and_field(tmp_path, change, words):
    path = tmp_path / "tracks.jsonl"
    lines = [json.dumps({**TRACK, "track_id": "first"}), "", json.dumps({**TRACK, **change})]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"tracks.jsonl: record 3.*{words}"):
        list(read_tracks(path))
    rejected = []
    assert [track.track_id for track in read_tracks(path, rejected)] == ["first"]
    assert len(rejected) == 1
    assert "record 3" in rejected[0].reason
    assert write_rejected(rejected, tmp_path / "rejected.jsonl") == 1
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["record"] == "tracks.jsonl:3"


def test_missing_misspelt_empty_and_repeated():
    for name in TRACK_SCHEMA["required"]:
        with pytest.raises(DataError, match=f"field {name} is missing"):
            check_track({key: value for key, value in TRACK.items() if key != name}, "here")
    misspelt = {("boxes2d" if key == "boxes_2d" else key): value for key, value in TRACK.items()}
    with pytest.raises(DataError, match=r"boxes2d.*did you mean 'boxes_2d'"):
        check_track(misspelt, "here")
    with pytest.raises(DataError, match="timestamps_s is empty"):
        check_track(
            {**{key: TRACK[key] for key in TRACK_SCHEMA["required"]}, "timestamps_s": [], "xyz_world": []},
            "here",
        )
    assert check_track({**TRACK, "weather": "rain"}, "here").clip_id == "c1"  # others may add what they like


def test_duplicates_broken_lines_and_wrong_files(tmp_path):
    path = tmp_path / "tracks.jsonl"
    path.write_text(json.dumps(TRACK) + "\n" + json.dumps(TRACK) + "\n{\n[1]\n")
    with pytest.raises(DataError, match=r"record 2 \(track a\): track c1/a was already record 1"):
        list(read_tracks(path))
    rejected = []
    assert len(list(read_tracks(path, rejected))) == 1
    assert [row.record for row in rejected] == ["tracks.jsonl:2", "tracks.jsonl:3", "tracks.jsonl:4"]
    assert "not valid JSON" in rejected[1].reason
    with pytest.raises(DataError, match="no such file"):
        list(read_tracks(tmp_path / "nothing.jsonl"))
    with pytest.raises(DataError, match=r"jsonl or \.parquet"):
        write_records([], tmp_path / "tracks.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a file of questions"):
        list(read_questions(tmp_path / "empty"))
    pytest.importorskip("pyarrow")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"bad\.parquet"):
        list(read_tracks(tmp_path / "bad.parquet"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": "green"}, "value is 'green'; expected one of at least two options"),
        ({"task": "movement_direction", "value": 13}, "hour from 1 to 12"),
        ({"task": "direction_timestamp", "value": [3, 1]}, "start < end"),
        ({"task": "traveled_distance", "value": -1}, "not negative"),
        ({"task": "direction_comparison", "value": "red"}, "same or different"),
        ({"task": "distance"}, "field task"),
        ({"objects": [{"track_id": "a"}]}, r"objects\[0\].colour is missing"),
        ({"format": "saccade-question/0"}, "saccade-question/1"),
    ],
)
def test_a_wrong_question_is_named(change, words):
    with pytest.raises(DataError, match=words):
        check_question({**QUESTION, **change}, "bench.jsonl: record 1")


def test_an_older_file_of_questions_is_refused(tmp_path):
    path = tmp_path / "bench.jsonl"
    path.write_text(json.dumps({**QUESTION, "format": "saccade-question/0"}))
    with pytest.raises(DataError, match=r"bench\.jsonl: record 1.*format"):
        list(read_questions(path))


def test_schemas_agree_with_the_records():
    assert set(TRACK_SCHEMA["properties"]) == {*Track.__dataclass_fields__, "format"}
    assert set(QUESTION_SCHEMA["properties"]) == {*Question.__dataclass_fields__, "format"}
    json.dumps([TRACK_SCHEMA, QUESTION_SCHEMA])


@pytest.mark.parametrize("box", [[5, 9, 4, 12], [5, 9, 5, 12], [5, 9, 8, 9], [5, 9, 8, 8]])
def test_a_box_without_area_is_refused(box):
    fine = {**TRACK, "boxes_2d": [[5, 9, 6, 10], None, [0, 0, 1, 1]]}
    check_track(fine, "file: record 1")
    with pytest.raises(DataError, match=r"boxes_2d\[1\].*expected x0 < x1 and y0 < y1"):
        check_track({**fine, "boxes_2d": [[5, 9, 6, 10], box, None]}, "file: record 1")
