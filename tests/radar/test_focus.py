"""Focusing: derivatives against differences, what it recovers, and what it refuses."""

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

from saccade.cli.main import main
from saccade.errors import ConfigError, DataError
from saccade.radar import Array, Grid, Waveform, simulate
from saccade.radar.backproject import project
from saccade.radar.files import read_scan, write_scan
from saccade.radar.focusing import brightest, derivatives, focus, moved, slow
from saccade.radar.left_out import agrees, halves
from saccade.radar.path import make_path
from saccade.radar.scene import random_points, shape

WAVE = Waveform.from_bandwidth(77e9, 4e9, 16)
ARRAY = Array.named("awr1x42", WAVE.wavelength)
AXIS = np.arange(-0.045, 0.0451, 0.0015)
GRID = Grid.plane(AXIS, AXIS, 0.3)


@cache
def scanned(seed=0, error=5e-4, path_loss=False):
    path = make_path("freehand", ARRAY, WAVE.wavelength, nx=60, ny=9, swing=0.01, seed=seed)
    scene = random_points(
        6, np.random.default_rng(seed), low=(-0.03, -0.03, 0.3), high=(0.03, 0.03, 0.3), apart=0.01
    )
    scan = simulate(
        scene.points, scene.reflectivity, WAVE, ARRAY, path.positions,
        position_error=error, snr_db=20, path_loss=path_loss, fast=True, seed=seed,
    )  # fmt: skip
    return scan, scene


def at_targets(scan, scene, tx, rx):
    samples = scan.samples.reshape(-1, scan.samples.shape[2])
    return np.abs(project(samples, tx.reshape(-1, 3), rx.reshape(-1, 3), WAVE.frequencies, scene.points))


@pytest.mark.parametrize("path_loss", [False, True])
def test_derivatives_are_those_of_back_projection(path_loss):
    scan, scene = scanned(path_loss=path_loss)
    random = np.random.default_rng(1)
    goal = random.standard_normal(6) + 1j * random.standard_normal(6)
    at = 1e-4 * random.standard_normal((len(scan.samples), 3))
    value, gradient, hessian = derivatives(scan, at, scene.points, goal)
    part = moved(scan, at)
    whole = project(*part.flatten(), WAVE.frequencies, scene.points, path_loss=path_loss)
    assert value.sum() == pytest.approx(float(np.vdot(goal, whole).real), rel=1e-3)
    step = 2e-6
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        up, down = (derivatives(scan, at + sign * shift, scene.points, goal) for sign in (1, -1))
        slope = (up[0] - down[0]) / (2 * step)
        # With path loss the weight's own, tiny slope is left out.
        assert np.linalg.norm(slope - gradient[:, axis]) < 0.03 * np.linalg.norm(slope)
        bend = (up[1] - down[1]) / (2 * step)
        assert np.linalg.norm(bend - hessian[:, axis]) < 0.1 * np.linalg.norm(bend)
    assert np.allclose(hessian, hessian.transpose(0, 2, 1))


def test_most_of_the_coherence_comes_back_on_a_scene_never_seen():
    scan, scene = scanned(1)
    best = at_targets(scan, scene, scan.true_tx, scan.true_rx)
    assert np.mean(at_targets(scan, scene, scan.tx, scan.rx) / best) < 0.35
    seen = []
    found, report = focus(scan, GRID, iterations=27, progress=seen.append)
    assert np.mean(at_targets(found, scene, found.tx, found.rx) / best) > 0.85
    assert seen[-1] == 27
    assert report.focused
    assert report.gain > 2
    assert report.offsets.shape == (540, 3)
    assert np.abs(report.offsets.mean(0)).max() < 1e-9
    assert np.allclose(found.tx - scan.tx, report.offsets[:, None])


def test_errors_that_drift_are_found_but_for_where_the_image_lies():
    scan, scene = scanned(3, error=0.0)
    wrong = np.cumsum(np.random.default_rng(3).standard_normal((len(scan.samples), 3)), 0)
    wrong = 5e-4 * (wrong - wrong.mean(0)) / wrong.std(0)
    best = at_targets(scan, scene, scan.tx, scan.rx)
    scan = dataclasses.replace(scan, tx=scan.tx - wrong[:, None], rx=scan.rx - wrong[:, None])
    found, _ = focus(scan, GRID, iterations=27)
    # A tilt of the whole scan moves the image and cannot be told from the echoes: look for the targets nearby.
    side = np.arange(-0.012, 0.0121, 0.0015)
    near = np.stack(np.meshgrid(side, side, [0.0], indexing="ij"), -1).reshape(-1, 1, 3)
    share = []
    for part in (scan, found):
        places = (scene.points + near).reshape(-1, 3)
        peaks = np.abs(project(*part.flatten(), WAVE.frequencies, places)).reshape(len(near), -1)
        share.append(float((peaks @ best).max() / (best @ best)))
    assert share[0] < 0.65
    assert share[1] > 0.9


def test_slow_functions_are_orthonormal_and_leave_out_what_is_taken():
    taken = np.linalg.qr(np.stack([np.ones(50), np.arange(50.0)], 1))[0]
    waves = slow(50, 8, taken)
    assert np.allclose(waves.T @ waves, np.eye(8))
    assert np.abs(taken.T @ waves).max() < 1e-12


def test_a_scan_without_error_stays_as_it_is():
    scan, scene = scanned(2, error=0.0)
    found, report = focus(scan, GRID, iterations=10)
    best = at_targets(scan, scene, scan.true_tx, scan.true_rx)
    assert (at_targets(found, scene, found.tx, found.rx) / best).min() > 0.97
    assert not report.offsets.any()  # next to nothing was to be gained


def test_each_step_climbs_while_the_voxels_stay():
    scan, _ = scanned(0)
    _, report = focus(scan, GRID, iterations=5, prior=0.0)
    assert all(b > a for a, b in zip(report.sharpness, report.sharpness[1:], strict=False))


def test_the_same_scan_gives_the_same_offsets():
    scan, _ = scanned(0)
    a, b = (focus(scan, GRID, iterations=3, threads=count)[1].offsets for count in (1, 2))
    assert np.array_equal(a, b)


def test_smoothness_holds_neighbours_together():
    scan, _ = scanned(0)
    rough, smooth = (focus(scan, GRID, iterations=8, smoothness=w)[1].offsets for w in (0.0, 5.0))
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.6 * np.abs(np.diff(rough, axis=0)).mean()


def test_brightest_voxels_are_bright_and_few():
    scan, scene = scanned(2, error=0.0)
    points = brightest(scan, GRID, 40)
    assert len(points) <= 40
    # The first six are the six scatterers; side lobes follow.
    assert np.linalg.norm(points[:6, None] - scene.points, axis=2).min(1).max() < 0.002


def test_refusals():
    scan, _ = scanned(0)
    for name, value in (
        ("sigma", 0.0),
        ("sigma", np.inf),
        ("prior", np.nan),
        ("smoothness", np.nan),
        ("voxels", 0),
    ):
        wrong: Any = {name: value}
        with pytest.raises(ConfigError, match="finite positive"):
            focus(scan, GRID, **wrong)
    with pytest.raises(ConfigError, match="how far"):
        focus(scan)
    with pytest.raises(DataError, match="at least three"):
        focus(dataclasses.replace(scan, samples=scan.samples[:2], tx=scan.tx[:2], rx=scan.rx[:2], true_tx=None,
                                  true_rx=None), GRID)  # fmt: skip
    with pytest.raises(DataError, match="zero"):
        focus(dataclasses.replace(scan, samples=0 * scan.samples), GRID)


@cache
def solid():
    """A star without any error, whose focusing makes bright spots of it."""
    path = make_path("freehand", ARRAY, WAVE.wavelength, nx=40, ny=6, swing=0.01, seed=2)
    star = shape("star", size=0.06, pitch=1.2e-3)
    return simulate(star.points, star.reflectivity, WAVE, ARRAY, path.positions, snr_db=20, fast=True, seed=2)


def test_a_solid_whose_image_would_only_be_torn_into_spots_is_left_as_it_is(tmp_path, capsys):
    scan = solid()
    found, report = focus(scan, GRID, iterations=18)
    assert report.gain > 1.2  # what was to be believed before
    assert not report.focused
    assert not report.offsets.any()
    assert found is scan
    write_scan(scan, tmp_path / "scan.h5")
    command = ["radar", "focus", str(tmp_path / "scan.h5"), "--out", str(tmp_path / "out.h5"), "--depth", "0.3",
               "--x", "-0.045:0.045:0.0015", "--y", "-0.045:0.045:0.0015", "--iterations", "18"]  # fmt: skip
    assert main(command) == 0
    assert "not focused, the positions are as they were" in capsys.readouterr().err
    written = read_scan(tmp_path / "out.h5")
    assert np.array_equal(written.tx, scan.tx)
    assert "focused" not in written.meta


def test_the_command_corrects_what_left_out_channels_confirm(tmp_path, capsys):
    scan, scene = scanned(1)
    write_scan(scan, tmp_path / "scan.h5")
    command = ["radar", "focus", str(tmp_path / "scan.h5"), "--out", str(tmp_path / "out.h5"), "--depth", "0.3",
               "--x", "-0.045:0.045:0.0015", "--y", "-0.045:0.045:0.0015", "--iterations", "18"]  # fmt: skip
    assert main(command) == 0
    assert "mm rms; in the half of the channels that was left out" in capsys.readouterr().err
    found = read_scan(tmp_path / "out.h5")
    assert found.meta["focused"] is True
    best = at_targets(scan, scene, scan.true_tx, scan.true_rx)
    assert np.mean(at_targets(scan, scene, found.tx, found.rx) / best) > 0.8


def test_left_out_channels_judge_by_energy_and_contrast():
    assert agrees(11.4, 4.6, 4.1)  # points, independent errors
    assert agrees(3.85, 1.87, 2.5)  # points, drifting errors
    assert not agrees(2.9, 1.36, 2.0)  # a solid torn into spots
    assert not agrees(8.3, 9.5, 0.23)  # a solid blown up to fog
    assert not agrees(1.0, 1.0, 1.0)


def test_half_of_the_sweep_is_left_out_of_a_single_channel():
    scan, _ = scanned(0)
    one = dataclasses.replace(scan, samples=scan.samples[:, :1], tx=scan.tx[:, :1], rx=scan.rx[:, :1],
                              true_tx=None, true_rx=None)  # fmt: skip
    low, high = halves(one)
    both = np.concatenate([low.waveform.frequencies, high.waveform.frequencies])
    assert np.allclose(both, one.waveform.frequencies)
    assert np.array_equal(np.concatenate([low.check().samples, high.check().samples], 2), one.samples)
    used, left = halves(scan)
    assert used.check().samples.shape[1] == left.check().samples.shape[1] == 4
    wave = dataclasses.replace(WAVE, num_samples=1)
    with pytest.raises(DataError, match="one channel of one sample"):
        halves(dataclasses.replace(one, samples=one.samples[..., :1], waveform=wave))
