"""Odd values in every field of every file: one sentence that names the file, never a traceback, never a hang."""

import copy
import csv
import json
import math
import pickle
import sqlite3
import struct

import numpy as np
import pytest

from saccade.errors import DataError
from saccade.kinematics import label_track
from saccade.kinematics.answers import parse_answer
from saccade.kinematics.records import Track, check_question, check_track, read_tracks
from saccade.kinematics.scoring import score
from saccade.kinematics.selection import select
from saccade.kinematics.sources import read_source
from saccade.kinematics.sources.blobs import read_numbers

from . import layouts
from .tracks import many

HUGE = 10**400
"""A whole number that is no float."""


def read_or_refuse(source, root):
    """Everything that is done with a track; what a reader lets through must survive it. Returns the refusal."""
    rejected = []
    try:
        for track in read_source(source, root, rejected=rejected):
            json.dumps(track.to_dict(), allow_nan=False).encode()
            check_track(track.to_dict(), "the reader's own record")
            label = label_track(track.timestamps_s, track.points, up=track.up)
            assert all(math.isfinite(label.to_dict().get(name, 0)) for name in ("distance_m", "speed_kmh"))
            select(track, label)
    except DataError as error:
        return one_sentence(error)
    return one_sentence(rejected[0].reason) if rejected else ""


def one_sentence(error, start=""):
    """Text of an error, which has to be one line."""
    text = str(error)
    assert "\n" not in text
    assert text.startswith(start)
    return text


@pytest.mark.parametrize(
    "table",
    ["calibrated_sensor", "category", "ego_pose", "instance", "sample", "sample_annotation", "sample_data", "scene",
     "sensor"],
)  # fmt: skip
def test_nuscenes(tmp_path, table):
    layouts.nuscenes(tmp_path, samples=4)
    path = tmp_path / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    refused = 0
    for field in rows[0]:
        for odd in (None, HUGE, 1e308, [], "", [math.nan] * 3):
            changed = copy.deepcopy(rows)
            changed[0][field] = odd
            path.write_text(json.dumps(changed))
            refusal = read_or_refuse("nuscenes", tmp_path)
            assert not refusal or str(tmp_path) in refusal
            refused += bool(refusal)
    assert refused


def test_argoverse2(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather

    log = layouts.argoverse2(tmp_path, sweeps=5)
    for path in sorted(log.rglob("*.feather")):
        kept = path.read_bytes()
        table = feather.read_table(path).to_pydict()
        for field, values in table.items():
            for odd in (1e308, math.nan, 2**63 - 1, "x"):
                try:
                    changed = pyarrow.table({**table, field: [odd, *values[1:]]})
                except (pyarrow.ArrowException, OverflowError):
                    continue  # no column holds both
                feather.write_feather(changed, path)
                refusal = read_or_refuse("argoverse2", tmp_path)
                assert not refusal or str(tmp_path) in refusal
        feather.write_feather(pyarrow.table(table).slice(0, 0), path)
        assert path.name in read_or_refuse("argoverse2", tmp_path)  # an empty table is no silent nothing
        path.write_bytes(kept)


@pytest.mark.parametrize(
    "table", ["camera", "category", "ego_pose", "image", "lidar_box", "lidar_pc", "scene", "track"]
)
def test_nuplan(tmp_path, table):
    path = layouts.nuplan(tmp_path, sweeps=5)
    kept = path.read_bytes()
    data = sqlite3.connect(path)
    fields = [row[1] for row in data.execute(f"PRAGMA table_info({table})")]
    data.close()
    for field in fields:
        for odd in (None, 1e308, 2**63 - 1, -1, "x", b"\xff", pickle.dumps([1e308] * 4)):
            path.write_bytes(kept)
            data = sqlite3.connect(path)
            data.execute(
                f"UPDATE {table} SET {field} = ? WHERE rowid = (SELECT min(rowid) FROM {table})", (odd,)
            )
            data.commit()
            data.close()
            refusal = read_or_refuse("nuplan", tmp_path)
            assert not refusal or str(path) in refusal


@pytest.mark.parametrize("file", ["closed_loop_trajectory.csv", "gopro_calibs.csv"])
def test_egoexo4d(tmp_path, file):
    layouts.egoexo4d(tmp_path, seconds=2.0)
    path = tmp_path / "takes" / "made_basketball_1" / "trajectory" / file
    rows = list(csv.reader(path.read_text().splitlines()))
    for column in range(len(rows[0])):
        for odd in ("", "1e308", "nan", "9" * 400, '"', "../x"):
            changed = [list(row) for row in rows]
            changed[1][column] = odd
            path.write_text("\n".join(",".join(row) for row in changed))
            refusal = read_or_refuse("egoexo4d", tmp_path)
            assert not refusal or str(tmp_path) in refusal


def test_names_of_pictures_stay_inside_the_data_set(tmp_path):
    layouts.nuscenes(tmp_path / "n", samples=4)
    path = tmp_path / "n" / "v1.0-mini" / "sample_data.json"
    text = path.read_text()
    for outside in ("../../secret.jpg", "/etc/hostname"):
        rows = json.loads(text)
        rows[0]["filename"] = outside
        path.write_text(json.dumps(rows))
        with pytest.raises(DataError, match=r"field filename is .* expected a path inside"):
            list(read_source("nuscenes", tmp_path / "n"))
    file = layouts.nuplan(tmp_path / "p", sweeps=11)
    data = sqlite3.connect(file)
    data.execute("UPDATE image SET filename_jpg = '../../secret.jpg'")
    data.commit()
    data.close()
    with pytest.raises(DataError, match=r"field filename_jpg is .* expected a path inside"):
        list(read_source("nuplan", tmp_path / "p"))


def test_a_time_far_off_is_refused_and_not_cut_into_clips_for_ever(tmp_path):
    file = layouts.nuplan(tmp_path, sweeps=11)
    data = sqlite3.connect(file)
    data.execute("UPDATE lidar_pc SET timestamp = 5 WHERE rowid = 1")
    data.commit()
    data.close()
    with pytest.raises(DataError, match=r"field timestamp of lidar_pc goes from 5 to .* at most a day"):
        list(read_source("nuplan", tmp_path))
    layouts.nuscenes(tmp_path / "n", samples=4)
    path = tmp_path / "n" / "v1.0-mini" / "sample.json"
    rows = json.loads(path.read_text())
    rows[1]["timestamp"] = 5
    path.write_text(json.dumps(rows))
    with pytest.raises(
        DataError, match=r"sample_annotation\.json: scene scene-0001: object ins0: a timestamp lies"
    ):
        list(read_source("nuscenes", tmp_path / "n"))


def test_a_scene_without_boxes_is_listed_and_not_passed_over(tmp_path):
    layouts.nuscenes(tmp_path, samples=4)
    folder = tmp_path / "v1.0-mini"
    for name in ("instance", "sample_annotation"):
        (folder / f"{name}.json").write_text("[]")
    rejected = []
    assert list(read_source("nuscenes", tmp_path, rejected=rejected)) == []
    assert [row.clip_id for row in rejected] == ["scene-0001"]
    assert "holds no boxes" in rejected[0].reason


def test_a_short_pickle_cannot_take_all_memory():
    # "Keep this under number 2147483647" makes the standard loader clear room for 34 GB.
    blob = b"\x80\x02]r" + struct.pack("<I", (1 << 31) - 1) + b"G" + struct.pack(">d", 1.0) + b"a."
    assert read_numbers(blob, "camera CAM_F0: field rotation") == [1.0]


def inner_places(value, path=()):
    """Where a plain record holds something: a path of names and numbers to each."""
    if path:
        yield path
    if isinstance(value, dict):
        for name in value:
            yield from inner_places(value[name], (*path, name))
    elif isinstance(value, list) and value:
        yield from inner_places(value[-1], (*path, len(value) - 1))


def with_value(record, path, value):
    """Copy of a record with one thing exchanged."""
    record = copy.deepcopy(record)
    inner = record
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return record


def test_records_of_tracks(tmp_path):
    (track, *_) = many(1, images=["x.jpg"] * 20)
    record = track.to_dict()
    for path in inner_places(record):
        for odd in (None, HUGE, 1e308, math.nan, [], {}, "", "\ud800", True):
            try:
                made = check_track(with_value(record, path, odd), "file: record 1")
            except DataError as error:
                one_sentence(error, "file: record 1")
                continue
            assert isinstance(made, Track)
            json.dumps(made.to_dict(), allow_nan=False, ensure_ascii=False).encode()
            select(made, label_track(made.timestamps_s, made.points, up=made.up))
    # Seconds since 1970 are no seconds of a clip; without a word there would be no label.
    with pytest.raises(
        DataError, match=r"timestamps_s holds 1.7e.09; expected seconds from the clip's start"
    ):
        check_track({**record, "timestamps_s": [1.7e9 + t for t in record["timestamps_s"]]}, "x")


@pytest.mark.parametrize(
    ("task", "value"),
    [("traveled_distance", 12.5), ("movement_direction", 3), ("direction_timestamp", [1.0, 2.5]),
     ("speed_comparison", "red"), ("direction_comparison", "same"), ("speed_ratio", 4.0)],
)  # fmt: skip
def test_records_of_questions_and_hostile_answers(task, value):
    record = {
        "id": "q1", "clip_id": "c", "task": task, "question": "Which?", "answer": "This.", "value": value,
        "objects": [{"track_id": "1", "colour": "red"}, {"track_id": "2", "colour": "blue"}], "source": "s",
        "split": "val", "options": {"red": ["red"], "blue": ["blue"]}, "duration_s": 9.5, "frame_times_s": [0, 0.5],
        "window_s": [0, 1], "clock": 3,
    }  # fmt: skip
    for path in inner_places(record):
        for odd in (None, HUGE, 1e308, math.nan, [], {}, "\ud800", [HUGE, 1e308], [None]):
            try:
                question = check_question(with_value(record, path, odd), "file: record 1")
            except DataError as error:
                one_sentence(error, "file: record 1")
                continue
            found = score([question], {question.id: "12 to 13"})
            json.dumps(found.to_dict(), allow_nan=False)
            json.dumps(question.to_dict(), allow_nan=False, ensure_ascii=False).encode()
    question = check_question(record, "x")
    for text in ("1e999 m", "9" * 500 + " km/h", "-1e400 hours", "from 1e400 to 2 s", "9" * 400 + " to 3 s", None, 3,
                 "\ud800", "\0", "\u0663 o'clock", math.nan, "9" * 20 + ":59 to 3", "<answer>" * 400):  # fmt: skip
        found = score([question], {"q1": text})
        json.dumps([found.to_dict(), found.rows[0].parsed.to_dict()], allow_nan=False)


def test_a_number_beyond_all_reason_is_no_answer():
    assert parse_answer("traveled_distance", "1e999 m").status == "unparsable"
    assert parse_answer("traveled_distance", "1e13 km").status == "unparsable"
    assert parse_answer("traveled_distance", "about 1e3 m").value_m == 1000


def test_a_line_of_half_characters_goes_to_the_dead_letters(tmp_path):
    good, bad, *_ = many(1)
    text = json.dumps({**bad.to_dict(), "category": "\ud800"})
    (tmp_path / "tracks.jsonl").write_text(f"{json.dumps(good.to_dict())}\n{text}\n")
    rejected = []
    assert [track.track_id for track in read_tracks(tmp_path, rejected)] == [good.track_id]
    assert "record 2" in rejected[0].reason
    assert "field category" in rejected[0].reason
    assert np.isfinite(good.points).all()
