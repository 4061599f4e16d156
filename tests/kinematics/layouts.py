"""Small data sets in the true layouts: a camera that drives and turns, images taken 40 ms after the LiDAR.

One scene, the same in every layout: a parked car and a car that drives ahead and turns off to the right, seen from a
vehicle at 10 m/s that slowly turns left. Everything is written from the formulas below, so tests know the truth.
"""

import csv
import json
import pickle
import sqlite3

import numpy as np
from PIL import Image

LATE_S = 0.04
"""Images are taken so much later than the annotations."""
SIZE = (160, 90)
FOCAL = 100.0
K = [[FOCAL, 0.0, 80.0], [0.0, FOCAL, 45.0], [0.0, 0.0, 1.0]]
PARKED = np.array([30.0, 4.0, 0.8])
CAR_LWH = (4.0, 1.8, 1.6)
CAMERA_FROM_EGO_AXES = np.array(
    [[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]
)  # x right = -y, y down = -z, z forward = x
CAMERA_AT = np.array([1.5, 0.2, 1.6])
CAMERA_WXYZ = (0.5, -0.5, 0.5, -0.5)
"""Rotation of the camera in the vehicle: the transpose of the axes above."""


def ego(t):
    """Position and yaw of the vehicle."""
    return np.array([10.0 * t, 0.4 * t * t, 0.0]), 0.08 * t


def driving(t):
    """Position and yaw of the moving car: 12 m/s ahead, then off to the right from 1.5 s on."""
    if t <= 1.5:
        return np.array([15.0 + 12 * t, -1.0, 0.8]), 0.0
    return np.array([33.0, -1.0 - 12 * (t - 1.5), 0.8]), -np.pi / 2


def turned(yaw):
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])


def wxyz(yaw):
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def in_ego(point, t):
    place, yaw = ego(t)
    return turned(yaw).T @ (point - place)


def truth_box(centre, yaw, t, size=CAR_LWH):
    """Rectangle around the corners of a box as the camera sees it at t, by plain arithmetic; None if not visible."""
    pixels = []
    for x in (-0.5, 0.5):
        for y in (-0.5, 0.5):
            for z in (-0.5, 0.5):
                corner = centre + turned(yaw) @ (np.array([x, y, z]) * size)
                seen = CAMERA_FROM_EGO_AXES @ (in_ego(corner, t) - CAMERA_AT)
                pixels.append((FOCAL * seen[0] / seen[2] + 80, FOCAL * seen[1] / seen[2] + 45))
    low, high = np.min(pixels, 0), np.max(pixels, 0)
    return [max(low[0], 0), max(low[1], 0), min(high[0], SIZE[0]), min(high[1], SIZE[1])]


def jpeg(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (90, 120, 150)).save(path)


def nuscenes(root, samples=7):
    """Write nuScenes' thirteen tables and images; returns the folder."""
    start = 1_532_402_927_000_000
    times = [start + 500_000 * index for index in range(samples)]
    late = int(LATE_S * 1e6)
    tables = {
        "category": [{"token": "cat0", "name": "vehicle.car", "description": ""}],
        "attribute": [],
        "map": [],
        "visibility": [
            {"token": str(level), "level": f"v{level}", "description": ""} for level in range(1, 5)
        ],
        "sensor": [
            {"token": "sen0", "channel": "CAM_FRONT", "modality": "camera"},
            {"token": "sen1", "channel": "LIDAR_TOP", "modality": "lidar"},
        ],
        "calibrated_sensor": [
            {
                "token": "cal0",
                "sensor_token": "sen0",
                "translation": CAMERA_AT.tolist(),
                "rotation": list(CAMERA_WXYZ),
                "camera_intrinsic": K,
            },
            {
                "token": "cal1",
                "sensor_token": "sen1",
                "translation": [0, 0, 1.8],
                "rotation": [1, 0, 0, 0],
                "camera_intrinsic": [],
            },
        ],
        "log": [
            {
                "token": "log0",
                "logfile": "n015",
                "vehicle": "n015",
                "date_captured": "2018-07-24",
                "location": "made",
            }
        ],
        "scene": [
            {
                "token": "scn0",
                "name": "scene-0001",
                "description": "",
                "log_token": "log0",
                "nbr_samples": samples,
                "first_sample_token": "sam0",
                "last_sample_token": f"sam{samples - 1}",
            }
        ],
        "sample": [
            {
                "token": f"sam{i}",
                "timestamp": time,
                "scene_token": "scn0",
                "prev": f"sam{i - 1}" if i else "",
                "next": f"sam{i + 1}" if i + 1 < samples else "",
            }
            for i, time in enumerate(times)
        ],
        "instance": [],
        "sample_annotation": [],
        "sample_data": [],
        "ego_pose": [],
    }
    for which, motion in enumerate((lambda t: (PARKED, 0.3), driving)):
        tables["instance"].append(
            {
                "token": f"ins{which}",
                "category_token": "cat0",
                "nbr_annotations": samples,
                "first_annotation_token": f"ann{which}-0",
                "last_annotation_token": f"ann{which}-{samples - 1}",
            }
        )
        for i in range(samples):
            place, yaw = motion(0.5 * i)
            tables["sample_annotation"].append(
                {
                    "token": f"ann{which}-{i}",
                    "sample_token": f"sam{i}",
                    "instance_token": f"ins{which}",
                    "visibility_token": "4" if i else "",
                    "attribute_tokens": [],
                    "translation": place.tolist(),
                    "size": [CAR_LWH[1], CAR_LWH[0], CAR_LWH[2]],
                    "rotation": wxyz(yaw),
                    "num_lidar_pts": 9,
                    "num_radar_pts": 1,
                    "prev": f"ann{which}-{i - 1}" if i else "",
                    "next": f"ann{which}-{i + 1}" if i + 1 < samples else "",
                }
            )
    for i, time in enumerate(times):
        for kind, at in (("c", time + late), ("l", time)):
            place, yaw = ego((at - start) / 1e6)
            tables["ego_pose"].append(
                {
                    "token": f"ego{kind}{i}",
                    "timestamp": at,
                    "rotation": wxyz(yaw),
                    "translation": place.tolist(),
                }
            )
            name = f"samples/CAM_FRONT/n__{at}.jpg" if kind == "c" else f"samples/LIDAR_TOP/n__{at}.bin"
            tables["sample_data"].append(
                {
                    "token": f"dat{kind}{i}",
                    "sample_token": f"sam{i}",
                    "ego_pose_token": f"ego{kind}{i}",
                    "calibrated_sensor_token": "cal0" if kind == "c" else "cal1",
                    "timestamp": at,
                    "fileformat": "jpg",
                    "is_key_frame": True,
                    "height": SIZE[1],
                    "width": SIZE[0],
                    "filename": name,
                    "prev": "",
                    "next": "",
                }
            )
            if kind == "c":
                jpeg(root / name)
    (root / "v1.0-mini").mkdir(parents=True)
    for name, rows in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    return root


def argoverse2(root, sweeps=31, images=True):
    """Write one log of Argoverse 2; returns the log's folder."""
    import pyarrow
    from pyarrow import feather

    log = root / "val" / "0a1b2c"
    start = 315_966_070_559_696_000
    step, late = 100_000_000, int(LATE_S * 1e9)
    boxes, poses = [], []
    offset = np.array([5000.0, -3000.0, 10.0])  # city coordinates are large
    for i in range(sweeps):
        time = start + step * i
        t = 0.1 * i
        for name, motion in (("parked", lambda t: (PARKED, 0.3)), ("driving", driving)):
            place, yaw = motion(t)
            relative = in_ego(place, t)
            boxes.append([time, name, "REGULAR_VEHICLE", *CAR_LWH, *wxyz(yaw - ego(t)[1]), *relative, 20])
        for at in (time, time + late):
            place, yaw = ego((at - start) / 1e9)
            poses.append([at, *wxyz(yaw), *(place + offset)])
        if images and i % 2 == 0:
            jpeg(log / "sensors" / "cameras" / "ring_front_center" / f"{time + late}.jpg")
    log.mkdir(parents=True, exist_ok=True)
    pose = ["qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m"]

    def write(name, columns, rows):
        path = log / name
        path.parent.mkdir(exist_ok=True)
        feather.write_feather(
            pyarrow.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), path
        )

    write(
        "annotations.feather",
        [
            "timestamp_ns",
            "track_uuid",
            "category",
            "length_m",
            "width_m",
            "height_m",
            *pose,
            "num_interior_pts",
        ],
        boxes,
    )
    write("city_SE3_egovehicle.feather", ["timestamp_ns", *pose], poses)
    write(
        "calibration/egovehicle_SE3_sensor.feather",
        ["sensor_name", *pose],
        [["ring_front_center", *CAMERA_WXYZ, *CAMERA_AT], ["up_lidar", 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.8]],
    )
    write(
        "calibration/intrinsics.feather",
        ["sensor_name", "fx_px", "fy_px", "cx_px", "cy_px", "k1", "k2", "k3", "height_px", "width_px"],
        [["ring_front_center", FOCAL, FOCAL, 80.0, 45.0, 0.0, 0.0, 0.0, SIZE[1], SIZE[0]]],
    )
    return log


def nuplan(root, sweeps=61, distortion=(0.0, 0.0, 0.0, 0.0, 0.0)):
    """Write one log of nuPlan; returns the .db file."""
    path = root / "splits" / "mini" / "2021.05.12.log.db"
    path.parent.mkdir(parents=True)
    token = lambda text: text.encode().ljust(8, b"_")[:8]  # noqa: E731
    start, late = 1_620_800_000_000_000, int(LATE_S * 1e6)
    data = sqlite3.connect(path)
    data.executescript("""
        CREATE TABLE log (token BLOB PRIMARY KEY, logfile TEXT);
        CREATE TABLE ego_pose (
            token BLOB PRIMARY KEY, timestamp INTEGER, x FLOAT, y FLOAT, z FLOAT, qw FLOAT,
            qx FLOAT, qy FLOAT, qz FLOAT
        );
        CREATE TABLE camera (
            token BLOB PRIMARY KEY, log_token BLOB, channel TEXT, model TEXT, translation BLOB,
            rotation BLOB, intrinsic BLOB, distortion BLOB, width INTEGER, height INTEGER
        );
        CREATE TABLE image (
            token BLOB PRIMARY KEY, ego_pose_token BLOB, camera_token BLOB, filename_jpg TEXT,
            timestamp INTEGER
        );
        CREATE TABLE scene (token BLOB PRIMARY KEY, log_token BLOB, name TEXT);
        CREATE TABLE lidar_pc (
            token BLOB PRIMARY KEY, scene_token BLOB, ego_pose_token BLOB, timestamp INTEGER
        );
        CREATE TABLE lidar_box (
            token BLOB PRIMARY KEY, lidar_pc_token BLOB, track_token BLOB, x FLOAT, y FLOAT,
            z FLOAT, width FLOAT, length FLOAT, height FLOAT, vx FLOAT, vy FLOAT, vz FLOAT,
            yaw FLOAT, confidence FLOAT
        );
        CREATE TABLE track (
            token BLOB PRIMARY KEY, category_token BLOB, width FLOAT, length FLOAT, height FLOAT
        );
        CREATE TABLE category (token BLOB PRIMARY KEY, name TEXT);
        CREATE TABLE scenario_tag (token BLOB PRIMARY KEY, lidar_pc_token BLOB, type TEXT);
    """)
    insert = lambda table, *row: data.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)  # noqa: E731
    insert("log", token("log"), "2021.05.12.log")
    insert("category", token("cat"), "vehicle")
    insert("scene", token("scn"), token("log"), "scene-1")
    insert(
        "camera",
        token("cam"),
        token("log"),
        "CAM_F0",
        "pinhole",
        pickle.dumps(CAMERA_AT.tolist()),
        pickle.dumps(list(CAMERA_WXYZ)),
        pickle.dumps(np.array(K)),
        pickle.dumps(list(distortion)),
        *SIZE,
    )
    for name in ("trk0", "trk1"):
        insert("track", token(name), token("cat"), *CAR_LWH)
    for i in range(sweeps):
        t = 0.05 * i
        insert("lidar_pc", token(f"pc{i}"), token("scn"), None, start + 50_000 * i)
        for which, motion in enumerate((lambda t: (PARKED, 0.3), driving)):
            place, yaw = motion(t)
            wrong_speed = (99.0, 99.0, 0.0)
            insert(
                "lidar_box",
                token(f"b{which}{i}"),
                token(f"pc{i}"),
                token(f"trk{which}"),
                *place,
                CAR_LWH[1],
                CAR_LWH[0],
                CAR_LWH[2],
                *wrong_speed,
                yaw,
                0.9,
            )
        if i % 2 == 0:
            at = start + 50_000 * i + late
            place, yaw = ego((at - start) / 1e6)
            insert("ego_pose", token(f"eg{i}"), at, *place, *wxyz(yaw))
            name = f"2021.05.12.log/CAM_F0/{token(f'im{i}').hex()}.jpg"
            insert("image", token(f"im{i}"), token(f"eg{i}"), token("cam"), name, at)
            jpeg(root / "sensor_blobs" / name)
    data.commit()
    data.close()
    return path


def egoexo4d(root, seconds=6.0):
    """Write one take of Ego-Exo4D: the wearer walks 8 m on a straight line before a still camera."""
    take = root / "takes" / "made_basketball_1"
    (take / "trajectory").mkdir(parents=True)
    (take / "frame_aligned_videos").mkdir()
    (take / "frame_aligned_videos" / "cam01.mp4").write_bytes(b"\0")
    (root / "takes.json").write_text(
        json.dumps([{"take_uid": "u1", "take_name": take.name, "parent_task_name": "Basketball"}])
    )
    with (take / "trajectory" / "closed_loop_trajectory.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "graph_uid",
                "tracking_timestamp_us",
                "utc_timestamp_ns",
                "tx_world_device",
                "ty_world_device",
                "tz_world_device",
                "qx_world_device",
                "qy_world_device",
                "qz_world_device",
                "qw_world_device",
                "gravity_x_world",
                "gravity_y_world",
                "gravity_z_world",
                "quality_score",
            ]
        )
        for i in range(int(seconds * 200)):  # the true files have 1000 rows a second
            t = i / 200
            bob = 0.03 * np.sin(12 * t)
            writer.writerow(
                [
                    "map1",
                    5_000_000 + i * 5000,
                    0,
                    2.0,
                    -4 + 8 * t / seconds,
                    1.6 + bob,
                    0,
                    0,
                    np.sin(0.3),
                    np.cos(0.3),
                    0,
                    0,
                    -9.81,
                    1.0,
                ]
            )
    with (take / "trajectory" / "gopro_calibs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "cam_uid",
                "graph_uid",
                "tx_world_cam",
                "ty_world_cam",
                "tz_world_cam",
                "qx_world_cam",
                "qy_world_cam",
                "qz_world_cam",
                "qw_world_cam",
                "image_width",
                "image_height",
                "intrinsics_type",
                *[f"intrinsics_{index}" for index in range(8)],
                "start_frame_idx",
                "end_frame_idx",
            ]
        )
        w, x, y, z = CAMERA_WXYZ  # looks along the world's +x
        writer.writerow(
            [
                "cam01",
                "map1",
                -6,
                0,
                1.2,
                x,
                y,
                z,
                w,
                640,
                480,
                "KANNALABRANDTK3",
                300,
                300,
                320,
                240,
                0.02,
                0,
                0,
                0,
                0,
                -1,
            ]
        )
    return root
