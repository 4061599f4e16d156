"""Readers: the true layouts, a camera that moves, images that are later than the LiDAR, and what is unreadable."""

import json
import os
import pickle
import sqlite3
import time

import numpy as np
import pytest

from saccade.errors import ConfigError, DataError
from saccade.kinematics.labels import label_track
from saccade.kinematics.sources import read_source
from saccade.kinematics.sources.blobs import read_numbers

from . import layouts

pyarrow = pytest.importorskip("pyarrow")
DRIVEN = ("nuscenes", "argoverse2", "nuplan")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    for name in (*DRIVEN, "egoexo4d"):
        getattr(layouts, name)(root / name)
    return root


@pytest.fixture(scope="module")
def tracks(made):
    return {name: list(read_source(name, made / name)) for name in (*DRIVEN, "egoexo4d")}


@pytest.mark.parametrize("name", DRIVEN)
def test_labels_of_a_moving_camera_are_those_of_the_world(tracks, name):
    parked, driving = sorted(tracks[name], key=lambda track: np.ptp(track.points, 0).sum())
    assert label_track(parked.times, parked.points, up=parked.up).status == "static"
    label = label_track(driving.times, driving.points, up=driving.up)
    assert (label.n_points, label.status, label.end_clock) == (7, "ok", 3)
    assert label.distance_m == pytest.approx(36, abs=1e-6)
    assert label.speed_kmh == pytest.approx(43.2, abs=1e-6)
    assert parked.size_lwh == pytest.approx(layouts.CAR_LWH)
    assert parked.yaw == pytest.approx([0.3] * len(parked.yaw))
    assert parked.label_origin == ("offline_perception" if name == "nuplan" else "gt")


@pytest.mark.parametrize("name", DRIVEN)
def test_boxes_belong_to_the_time_of_the_image(tracks, name):
    seen = 0
    for track in tracks[name]:
        parked = np.ptp(track.points, 0).sum() < 1
        for at, image_at, box in zip(track.timestamps_s, track.image_times_s, track.boxes_2d, strict=True):
            if box is None or image_at > track.timestamps_s[-1] or 1.4 < image_at < 1.6:
                continue  # around the corner the car is between two annotations that no line joins
            place, yaw = (layouts.PARKED, 0.3) if parked else layouts.driving(image_at)
            if not parked:
                yaw = layouts.driving(at)[1]
            assert box == pytest.approx(layouts.truth_box(place, yaw, image_at), abs=0.01)
            if parked and at == 1.5:
                # With the pose of the LiDAR's time the box would be off by pixels.
                assert np.abs(np.subtract(box, layouts.truth_box(place, yaw, at))).max() > 0.3
            seen += 1
    assert seen >= 8
    assert all(
        abs(a - b) <= 0.25
        for a, b in zip(tracks[name][0].image_times_s, tracks[name][0].timestamps_s, strict=True)
    )


@pytest.mark.parametrize("name", DRIVEN)
def test_records_name_their_images_cameras_and_groups(made, tracks, name):
    track = tracks[name][0]
    assert all(os.path.isfile(path) for path in track.image_paths)  # noqa: PTH113
    assert track.camera["K"] == layouts.K
    # The camera's own position comes back out of T_world_cam.
    place, yaw = layouts.ego(track.image_times_s[0])
    offset = np.array([5000.0, -3000.0, 10.0]) if name == "argoverse2" else 0
    expected = place + layouts.turned(yaw) @ layouts.CAMERA_AT + offset
    assert np.array(track.T_world_cam[0])[:3, 3] == pytest.approx(expected)
    assert track.group in ("log0", "0a1b2c", "2021.05.12.log")
    assert track.source == name


def test_city_coordinates_keep_their_digits(tracks):
    parked = min(tracks["argoverse2"], key=lambda track: np.ptp(track.points, 0).sum())
    assert parked.points[5] == pytest.approx(layouts.PARKED + np.array([5000, -3000, 10]), abs=1e-8)
    assert parked.num_points[0] == 20


def test_facts_of_nuscenes(tracks, made):
    track = tracks["nuscenes"][0]
    assert track.visibility == [None, *[4.0] * 6]
    assert track.num_points == [10.0] * 7
    assert track.split == "mini"
    named = list(read_source("nuscenes", made / "nuscenes", splits={"scene-0001": "val"}))
    assert {track.split for track in named} == {"val"}


def test_wearer_of_egoexo4d(tracks):
    (track,) = tracks["egoexo4d"]
    label = label_track(track.times, track.points, up=track.up)
    assert label.status == "ok"
    assert label.end_clock == 12
    assert label.net_displacement_m == pytest.approx(8 * 5.5 / 6, abs=0.02)
    assert track.label_origin == "slam"
    assert track.timestamps_s[1] == pytest.approx(0.05)
    assert track.image_paths[10].endswith("cam01.mp4#t=0.500")
    middle = track.boxes_2d[len(track.boxes_2d) // 2]
    # At 3 s the wearer stands 8 m straight ahead of the camera; the cuboid reaches from the glasses 1.8 m down.
    head = 1.6 + 0.03 * np.sin(36)
    top = np.arctan((1.2 - head) / 7.7)
    assert middle[1] == pytest.approx(240 + 300 * (top + 0.02 * top**3), abs=0.5)
    assert middle[3] > 240 + 300 * np.arctan((1.2 - head + 1.8) / 8.4)
    assert middle[0] < 320 < middle[2]


def test_distorted_camera_of_nuplan(tmp_path, tracks):
    layouts.nuplan(tmp_path, distortion=(-0.35, 0.12, 0.0, 0.0, 0.0))
    bent = next(read_source("nuplan", tmp_path))
    assert bent.camera["distortion"][0] == -0.35
    straight = tracks["nuplan"][0]
    assert bent.boxes_2d[0] != straight.boxes_2d[0]
    # Pulled towards the principal point.
    assert abs(bent.boxes_2d[20][0] - 80) <= abs(straight.boxes_2d[20][0] - 80) + 1e-9


def change(path, edit):
    rows = json.loads(path.read_text())
    edit(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("table", "edit", "words"),
    [
        (
            "instance",
            lambda rows: rows[0].update(first_annotation_token="ann0-2"),
            "record ins0: 7 annotations belong to it, but its links lead through 5",
        ),
        ("instance", lambda rows: rows.pop(), "7 records have the instance_token 'ins1'"),
        (
            "instance",
            lambda rows: rows[0].update(category_token=None),
            "category_token is None; expected a token",
        ),
        (
            "sample_annotation",
            lambda rows: rows[2].update(next="gone"),
            "record ann0-2: field next is 'gone'",
        ),
        (
            "sample_annotation",
            lambda rows: rows[2].update(next=""),
            "last_annotation_token.*a link next is unreadable",
        ),
        ("sample_annotation", lambda rows: rows[2].update(next="ann0-1"), "leads back to itself"),
        (
            "sample_annotation",
            lambda rows: rows[2].update(sample_token="gone"),
            "ann0-2: field sample_token is 'gone'",
        ),
        (
            "sample_annotation",
            lambda rows: rows[3].update(translation=[1, float("nan"), 0]),
            "ann0-3: field translation is .*3 finite",
        ),
        (
            "sample_annotation",
            lambda rows: rows[3].update(rotation=[0, 0, 0, 0]),
            "ann0-3: field rotation is a quaternion of length 0",
        ),
        ("sample_annotation", lambda rows: rows[3].update(size=[0, 1, 1]), "ann0-3: field size"),
        ("sample_annotation", lambda rows: rows.append(rows[0]), "token ann0-0 was there before"),
        (
            "sample_annotation",
            lambda rows: rows[0].pop("translation"),
            "ann0-0: field translation is missing",
        ),
        ("sample", lambda rows: rows[0].update(scene_token="gone"), "sam0: field scene_token is 'gone'"),
        ("sample", lambda rows: rows[0].update(timestamp=None), "sam0: field timestamp is None"),
        ("instance", lambda rows: rows[0].update(category_token="gone"), "ins0: field category_token"),
        (
            "ego_pose",
            lambda rows: rows[2].update(rotation=[0, 0, 0, 0]),
            "egoc1: field rotation is a quaternion of length 0",
        ),
        ("ego_pose", lambda rows: rows.clear(), "datc0: field ego_pose_token"),
        (
            "calibrated_sensor",
            lambda rows: rows[0].update(camera_intrinsic=[]),
            "cal0: field camera_intrinsic",
        ),
        ("sample_data", lambda rows: rows[0].update(filename="none.jpg"), "none.jpg: no such file"),
        ("sensor", lambda rows: rows[0].update(channel="CAM_REAR"), "no sensor has the channel 'CAM_FRONT'"),
    ],
)
def test_what_is_wrong_in_nuscenes_is_named(tmp_path, table, edit, words):
    layouts.nuscenes(tmp_path)
    change(tmp_path / "v1.0-mini" / f"{table}.json", edit)
    with pytest.raises(DataError, match=words) as caught:
        list(read_source("nuscenes", tmp_path))
    assert "\n" not in str(caught.value)


def test_missing_tables_and_a_bad_scene_among_good_ones(tmp_path):
    layouts.nuscenes(tmp_path)
    folder = tmp_path / "v1.0-mini"
    change(folder / "sample_annotation.json", lambda rows: rows[3].update(rotation=[0, 0, 0, 0]))
    rejected = []
    assert list(read_source("nuscenes", tmp_path, rejected=rejected)) == []
    assert [(row.clip_id, "length 0" in row.reason) for row in rejected] == [("scene-0001", True)]
    (folder / "ego_pose.json").unlink()
    with pytest.raises(DataError, match=r"ego_pose\.json: no such file"):
        list(read_source("nuscenes", tmp_path))
    with pytest.raises(DataError, match=r"no folder v1\.0-trainval"):
        list(read_source("nuscenes", tmp_path, version="v1.0-trainval"))
    with pytest.raises(DataError, match="no folder"):
        list(read_source("nuscenes", tmp_path / "samples"))
    with pytest.raises(ConfigError, match="nuscenes"):
        read_source("nuscene", tmp_path)


def test_scenes_without_images_on_disk_still_have_labels(tmp_path):
    layouts.argoverse2(tmp_path, images=False)
    with pytest.raises(DataError, match="no images"):
        list(read_source("argoverse2", tmp_path))
    found = list(read_source("argoverse2", tmp_path, need_images=False))
    assert [track.boxes_2d for track in found] == [None, None]


def table_of(path, edit):
    from pyarrow import feather

    columns = feather.read_table(path).to_pydict()
    edit(columns)
    feather.write_feather(pyarrow.table(columns), path)


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        (
            "annotations.feather",
            lambda c: c["tx_m"].__setitem__(3, float("nan")),
            "record 4: tx_m, ty_m or tz_m",
        ),
        (
            "annotations.feather",
            lambda c: [c[q].__setitem__(3, 0.0) for q in ("qw", "qx", "qy", "qz")],
            "record 4: qw qx qy qz is a quaternion of length 0",
        ),
        (
            "annotations.feather",
            lambda c: c["timestamp_ns"].__setitem__(2, c["timestamp_ns"][0]),
            "track_uuid parked has two boxes",
        ),
        ("annotations.feather", lambda c: c["length_m"].__setitem__(0, 0.0), "record 1: length_m"),
        ("annotations.feather", lambda c: c.pop("track_uuid"), "no column track_uuid"),
        ("annotations.feather", lambda c: c["category"].__setitem__(5, None), "record 6: category is empty"),
        (
            "city_SE3_egovehicle.feather",
            lambda c: c["timestamp_ns"].__setitem__(0, 5),
            "no pose at timestamp_ns",
        ),
        (
            "city_SE3_egovehicle.feather",
            lambda c: c["timestamp_ns"].__setitem__(1, c["timestamp_ns"][0]),
            "occurs twice",
        ),
        (
            "calibration/intrinsics.feather",
            lambda c: c["sensor_name"].__setitem__(0, "ring_rear_left"),
            "0 rows for sensor 'ring_front_center'",
        ),
    ],
)
def test_what_is_wrong_in_argoverse2_is_named(tmp_path, file, edit, words):
    log = layouts.argoverse2(tmp_path, sweeps=7)
    table_of(log / file, edit)
    with pytest.raises(DataError, match=words):
        list(read_source("argoverse2", log))
    (log / "annotations.feather").write_bytes(b"nothing")
    rejected = []
    assert list(read_source("argoverse2", tmp_path, rejected=rejected)) == []
    assert "cannot be read as Feather" in rejected[0].reason
    (log / "annotations.feather").unlink()
    with pytest.raises(DataError, match=r"annotations\.feather: no such file"):
        list(read_source("argoverse2", tmp_path))


class Explosive:
    def __reduce__(self):
        return os.system, ("echo harm > harm.txt",)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE lidar_box SET x = NULL WHERE rowid = 3", "lidar_box .*: x y z yaw length width height"),
        (
            "UPDATE lidar_box SET track_token = x'00' WHERE rowid = 3",
            "track_token is 00, which table track does not hold",
        ),
        ("UPDATE track SET category_token = x'00'", "not in table category"),
        (
            "UPDATE lidar_box SET lidar_pc_token = x'00' WHERE rowid = 3",
            "lidar_pc_token is 00, which table lidar_pc",
        ),
        ("UPDATE lidar_pc SET scene_token = x'00' WHERE rowid = 3", "scene_token is 00"),
        ("UPDATE ego_pose SET qw = 0, qx = 0, qy = 0, qz = 0", "quaternion of length 0"),
        ("UPDATE image SET ego_pose_token = x'00' WHERE rowid = 3", "ego_pose_token leads nowhere"),
        ("UPDATE lidar_box SET length = 0 WHERE rowid = 5", "expected metres above 0"),
        ("UPDATE camera SET rotation = x'80'", "CAM_F0: field rotation is refused"),
        ("UPDATE camera SET translation = NULL", "translation is no blob"),
        ("DROP TABLE lidar_box", "no table lidar_box"),
        ("ALTER TABLE lidar_box DROP COLUMN yaw", "no column lidar_box.yaw"),
        ("DELETE FROM image", "table image has none of CAM_F0"),
        ("DELETE FROM lidar_box; DELETE FROM lidar_pc", "no row of lidar_pc"),
    ],
)
def test_what_is_wrong_in_nuplan_is_named(tmp_path, statement, words):
    path = layouts.nuplan(tmp_path, sweeps=21)
    data = sqlite3.connect(path)
    data.executescript(statement)
    data.commit()
    data.close()
    with pytest.raises(DataError, match=words) as caught:
        list(read_source("nuplan", tmp_path))
    assert str(path) in str(caught.value)
    rejected = []
    list(read_source("nuplan", tmp_path, rejected=rejected))
    assert len(rejected) == 1


def test_a_log_that_is_no_database(tmp_path):
    (tmp_path / "a.db").write_bytes(b"nothing here that SQLite knows" * 50)
    with pytest.raises(DataError, match=r"a\.db: cannot be read as SQLite"):
        list(read_source("nuplan", tmp_path))
    with pytest.raises(DataError, match=r"no \.db file"):
        list(read_source("nuplan", tmp_path / "none"))


def test_pickles_hold_numbers_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matrix = [[1.0, 2.0], [3.0, 4.0]]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for value in (
            matrix,
            np.array(matrix),
            [list(row) for row in np.array(matrix)],
            tuple(map(tuple, matrix)),
        ):
            assert read_numbers(pickle.dumps(value, protocol), "here") == matrix
    assert read_numbers(pickle.dumps(np.array([1, 2], np.int32)), "here") == [1, 2]
    deep: list = []
    for _ in range(40):
        deep = [deep, deep]
    for value in (
        Explosive(),
        {"a": 1},
        "text",
        [None],
        [True],
        np.array(["a"]),
        np.zeros(9999),
        deep,
        b"bytes",
        1.0,
    ):
        with pytest.raises(DataError, match="camera: rotation"):
            read_numbers(pickle.dumps(value), "camera: rotation")
    began = time.monotonic()
    huge = b"cnumpy\ndtype\n(VV9999999999\ntR."
    for blob in (
        huge,
        b"",
        b"\x80\x05.",
        b"c__builtin__\neval\n(V1\ntR.",
        b"\x80" * 70_000,
        pickle.dumps(matrix)[:-4],
    ):
        with pytest.raises(DataError):
            read_numbers(blob, "here")
    assert time.monotonic() - began < 1
    assert not (tmp_path / "harm.txt").exists()
    assert np.dtype("f8") == np.dtype(float)  # no shared type was touched


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "gopro_calibs.csv",
            "map1",
            "map2",
            "graph_uid map2, and .* has map1; poses of different maps cannot",
        ),
        ("gopro_calibs.csv", "KANNALABRANDTK3", "FISHEYE624", "intrinsics_type is 'FISHEYE624'"),
        ("closed_loop_trajectory.csv", "tx_world_device", "tx", "no column tx_world_device"),
        (
            "closed_loop_trajectory.csv",
            "map1,5100000,0,2.0",
            "map1,5100000,0,nan",
            "line 22: tx_world_device is 'nan'",
        ),
        (
            "closed_loop_trajectory.csv",
            "map1,5100000,",
            "map1,5000000,",
            "line 22: tracking_timestamp_us 5000000",
        ),
    ],
)
def test_what_is_wrong_in_egoexo4d_is_named(tmp_path, file, old, new, words):
    layouts.egoexo4d(tmp_path, seconds=1.0)
    path = tmp_path / "takes" / "made_basketball_1" / "trajectory" / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        list(read_source("egoexo4d", tmp_path))
    path.unlink()
    rejected = []
    assert list(read_source("egoexo4d", tmp_path, rejected=rejected)) == []
    assert f"{file}: no such file" in rejected[0].reason


def test_a_camera_that_was_moved_has_a_pose_for_each_part(tmp_path):
    layouts.egoexo4d(tmp_path)
    path = tmp_path / "takes" / "made_basketball_1" / "trajectory" / "gopro_calibs.csv"
    head, row = path.read_text().splitlines()
    first, second = row.split(","), row.split(",")
    first[-2:], second[-2:], second[3] = ["0", "89"], ["90", "-1"], "4"
    path.write_text("\n".join([head, ",".join(second), ",".join(first)]))
    (track,) = read_source("egoexo4d", tmp_path)
    heights = [np.array(pose)[1, 3] for pose in track.T_world_cam]
    assert (heights[10], heights[-1]) == (0.0, 4.0)
    first[-1] = "95"
    path.write_text("\n".join([head, ",".join(second), ",".join(first)]))
    with pytest.raises(DataError, match="cam01: frame 90 belongs to two rows"):
        list(read_source("egoexo4d", tmp_path))


def test_names_of_takes_stay_inside_the_folder(tmp_path):
    (tmp_path / "takes.json").write_text(json.dumps([{"take_name": "../elsewhere"}]))
    with pytest.raises(DataError, match="take_name"):
        list(read_source("egoexo4d", tmp_path))
    (tmp_path / "takes.json").unlink()
    with pytest.raises(DataError, match=r"takes\.json: no such file"):
        list(read_source("egoexo4d", tmp_path))


def test_a_long_take_becomes_several_clips(tmp_path):
    layouts.egoexo4d(tmp_path, seconds=43.0)
    found = list(read_source("egoexo4d", tmp_path))
    assert [track.clip_id.rpartition(":")[2] for track in found] == ["cam01", "cam01#1", "cam01#2"]
    assert all(track.timestamps_s[0] == pytest.approx(0, abs=0.01) for track in found)
    assert label_track(found[1].times, found[1].points).n_points == 40
