"""The metric scale of a clip, and geometry under it."""

import json
from pathlib import Path

import numpy as np
import pytest

from saccade.errors import DataError, ShapeError
from saccade.kinematics import geometry
from saccade.kinematics.scale import clip_scale
from saccade.rotations import rotation

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "stkit_kinematics.json").read_text())


def test_worked_example():
    example = next(example for example in GOLDEN["examples"] if example["kind"] == "scale")
    recon, metric = np.array(example["depth_recon"]), np.array(example["depth_metric"])
    found = clip_scale([recon], [metric])
    assert found.n_used == example["expected"]["n_used"]
    assert found.scale == pytest.approx(example["expected"]["scale_median"], rel=1e-3)
    squares = float(metric @ recon / (recon @ recon))
    assert squares == pytest.approx(example["expected"]["scale_lsq_for_contrast"], rel=1e-3)


def test_noise_and_gross_outliers():
    random = np.random.default_rng(1)
    recon = random.uniform(1, 20, (9, 40, 30))
    metric = 2.7 * recon * random.normal(1, 0.08, recon.shape)
    wrong = random.random(recon.shape) < 0.1
    metric[wrong] *= random.uniform(2, 6, wrong.sum())
    found = clip_scale(list(recon), list(metric), max_depth_m=1000)
    assert found.scale == pytest.approx(2.7, rel=0.02)
    assert found.status == "ok"


def test_pixels_that_do_not_count():
    recon = np.array([1.0, 1, 1, 1, 1, 1, 1, 0, np.nan])
    metric = np.array([2.0, 2, 90, 9, np.inf, -1, 9, 2, 2])
    moving = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0], bool)
    sure = np.array([9.0, 8, 7, 6, 5, 4, 1, 1, 1])
    found = clip_scale([recon], [metric], [moving], [sure])
    assert found.scale == 2.0
    assert (
        clip_scale([recon], [metric], [moving], [np.ones(9)]).n_used == 3
    )  # a constant confidence says nothing


def test_frames_that_disagree_are_refused():
    ones = np.ones((4, 4))
    frames = [ones * scale for scale in (1.0, 1.0, 2.0, 3.0, 4.0)]
    assert clip_scale([ones] * 5, frames).status == "unsteady"
    assert clip_scale([ones], [ones * np.nan]).status == "no_pixels"
    with pytest.raises(ShapeError, match="depth_metric"):
        clip_scale([ones], [np.ones(3)])
    with pytest.raises(ShapeError, match="one of each"):
        clip_scale([ones], [])


def test_quaternions_are_rotations():
    quaternion = geometry.unit_quaternion([2, 0, 0, 2], "q")  # a quarter turn about z, of any length
    assert np.allclose(rotation(quaternion) @ [1, 0, 0], [0, 1, 0])
    random = geometry.unit_quaternion(np.random.default_rng(0).normal(size=(20, 4)), "q")
    turns = rotation(random)
    assert np.allclose(turns @ np.swapaxes(turns, 1, 2), np.eye(3))
    assert np.allclose(np.linalg.det(turns), 1)
    motion = geometry.rigid(random, np.arange(60).reshape(20, 3))
    assert np.allclose(motion @ geometry.inverse(motion), np.eye(4), atol=1e-12)
    for wrong, words in (
        ([0, 0, 0, 0], "length 0"),
        ([1, 0, 0], "four finite"),
        ([1, 0, 0, np.nan], "four finite"),
    ):
        with pytest.raises(DataError, match=f"calib.json: rotation.*{words}"):
            geometry.unit_quaternion(wrong, "calib.json: rotation")


def test_projection_and_boxes():
    lens = geometry.Lens(np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), 100, 80)
    pixels, front = lens.project(np.array([[1.0, 2, 10], [0, 0, -1]]))
    assert pixels[0].tolist() == [60, 60]
    assert front.tolist() == [True, False]
    assert lens.sees(np.array([0, 0, 1.0]))
    assert not lens.sees(np.array([6.0, 0, 10]))
    # A cube of 2 m whose near face is 9 m away, straight ahead.
    cube = geometry.corners(np.array([0, 0, 10.0]), (2, 2, 2), np.eye(3))
    half = 100 / 9
    assert lens.box(cube) == pytest.approx([50 - half, 40 - half, 50 + half, 40 + half])
    assert lens.box(cube - np.array([0, 0, 20])) is None
    assert lens.box(cube + np.array([50, 0, 0])) is None
    # A wall that reaches from behind the camera to in front of it fills the image's right side.
    wall = geometry.corners(np.array([2.0, 0, 0]), (0.1, 4, 20), np.eye(3))
    box = lens.box(wall)
    assert box[2:] == [100, 80]
    assert 60 < box[0] < 75


def test_lenses_that_bend():
    camera = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    point = np.array([1.0, 0, 1.0])
    fisheye = geometry.Lens(camera, 200, 80, (0.0, 0, 0, 0))
    assert fisheye.project(point)[0] == pytest.approx(
        [50 + 100 * np.pi / 4, 40]
    )  # pixels grow with the angle
    brown = geometry.Lens(camera, 200, 80, (-0.1, 0, 0, 0, 0))
    assert brown.project(0.5 * point + np.array([0, 0, 0.5]))[0] == pytest.approx([50 + 50 * (1 - 0.025), 40])
    far = brown.project(np.array([[2.0, 0, 1], [9, 0, 1]]))[0]
    assert far[1, 0] >= far[0, 0]  # what lies farther out is not folded back
    assert brown.to_dict("front")["distortion"] == [-0.1, 0, 0, 0, 0]
