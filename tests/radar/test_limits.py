"""Weights of a sum and of a prior, which no picture shows at first sight."""

import dataclasses

import numpy as np
import pytest

from saccade.radar import Array, Grid, Waveform, simulate
from saccade.radar.focusing import focus
from saccade.radar.migrate import depth_waves, focus_spectrum
from saccade.radar.path import make_path


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_plane_wave_weighs_the_same_at_every_angle(share):
    """Summed over k_z, a wave at an angle gives what it gives when summed over the sweep."""
    wavenumbers = np.linspace(1500.0, 1700.0, 128)
    bump = np.exp(-(((wavenumbers - 1600) / 30) ** 2))
    kx = np.array([0.0, share * 3200.0, 0.0])
    spectrum = np.zeros((3, 1, 128), np.complex64)
    grid = Grid(np.zeros(1), np.zeros(1), np.array([0.5]))
    kz = depth_waves(wavenumbers, 0.0, grid, 2.0, (3, 1))
    values = []
    for place in (0, 1):
        one = spectrum.copy()
        one[place, 0] = bump
        # Antennas in the plane of the image: no phase is left, only weights.
        image = focus_spectrum(one, (kx, np.zeros(1)), wavenumbers, (0.0, 0.0, 0.5), grid, kz)
        values.append(abs(complex(image.reshape(-1)[0])))
    assert values[1] == pytest.approx(values[0], rel=0.02)
    assert values[0] == pytest.approx(bump.sum(), rel=0.02)


@pytest.fixture(scope="module")
def scan():
    wave = Waveform.from_bandwidth(77e9, 4e9, 16)
    array = Array.named("awr1x42", wave.wavelength)
    path = make_path("freehand", array, wave.wavelength, nx=40, ny=7, swing=0.01, seed=0)
    points = np.array([[0.0, 0.0, 0.3], [0.02, -0.01, 0.3]])
    # A slow drift: what the first iterations, along slow functions, are for.
    drift = 4e-4 * np.sin(np.linspace(0, 9, len(path.positions)))[:, None, None] * np.array([1.0, 0.5, -1.0])
    true = simulate(points, np.ones(2), wave, array, path.positions, position_error=0.0, fast=True, seed=0)
    return dataclasses.replace(true, tx=true.tx + drift, rx=true.rx + drift)


def test_a_heavy_prior_holds_every_iteration_and_a_light_one_none(scan):
    axis = np.arange(-0.03, 0.0301, 0.002)
    grid = Grid.plane(axis, axis, 0.3)
    free, held = (focus(scan, grid, iterations=9, prior=prior)[1].sharpness[:6] for prior in (0.0, 1e7))
    assert free[-1] > 1.1 * free[0]
    assert np.allclose(held, held[0], rtol=0.01)


def test_an_expectation_of_small_errors_holds_as_a_heavy_prior_does(scan):
    axis = np.arange(-0.03, 0.0301, 0.002)
    held = focus(scan, Grid.plane(axis, axis, 0.3), iterations=9, sigma=1e-8)[1].sharpness[:6]
    assert np.allclose(held, held[0], rtol=0.01)
