"""Every imaging method against exact back-projection, and what physics demands of each."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

from saccade.errors import ConfigError, DataError
from saccade.radar import Array, Grid, Waveform, reconstruct, simulate
from saccade.radar.backproject import project, reference
from saccade.radar.backproject_torch import exact_torch, project_torch
from saccade.radar.nufft import cell_areas
from saccade.radar.path import make_path
from saccade.radar.planar import at_positions, plane_image
from saccade.radar.polar import polar
from saccade.radar.range_compressed import project_profiles
from saccade.radar.windows import WINDOWS, taper, window_at

WAVE = Waveform.from_bandwidth(77e9, 4e9, 24)
ARRAY = Array.named("awr1x42", WAVE.wavelength)
POINT = np.array([[0.012, -0.008, 0.25]])
GRID = Grid(np.arange(-0.03, 0.0301, 0.002), np.arange(-0.03, 0.0301, 0.002), np.arange(0.21, 0.291, 0.01))


@cache
def scanned(geometry, points=None, irregular=0.0, **settings):
    points = POINT if points is None else np.array(points)
    array = Array.named("monostatic", WAVE.wavelength) if geometry == "circular" else ARRAY
    path = make_path(geometry, array, WAVE.wavelength, **settings)
    positions = path.positions
    if irregular:
        positions = positions + np.random.default_rng(0).uniform(-1, 1, positions.shape) * irregular
    return simulate(
        points, np.ones(len(points)), WAVE, array, positions, path.rotations, fast=True, geometry=geometry
    )


def alike(a, b):
    """Coherent correlation of two images, in [0, 1]."""
    return abs(np.vdot(a.values, b.values)) / np.linalg.norm(a.values) / np.linalg.norm(b.values)


def peak(image):
    values = image.magnitude.reshape(image.grid.shape)
    place = np.unravel_index(values.argmax(), values.shape)
    return np.array(
        [axis[i] for axis, i in zip((image.grid.x, image.grid.y, image.grid.z), place, strict=True)]
    )


@pytest.mark.parametrize(
    ("method", "settings", "least"),
    [
        ("range-compressed", {"swing": 0.03}, 0.999999),
        ("rma", {"swing": 0.0}, 0.99),
        ("rma", {"swing": 0.01}, 0.98),
        ("nufft", {"swing": 0.0}, 0.99),
        ("nufft", {"swing": 0.0, "irregular": 8e-4}, 0.97),
    ],
)
def test_planar_volumes_are_those_of_back_projection(method, settings, least):
    scan = scanned("freehand", nx=48, ny=6, **settings)
    exact, found = reconstruct(scan, GRID), reconstruct(scan, GRID, method)
    assert alike(exact, found) > least
    assert np.abs(peak(found) - POINT[0]).max() <= 0.01
    assert np.abs(peak(found) - peak(exact))[:2].max() <= 0.0021


def test_one_depth_of_the_volume_is_the_plane_transform():
    scan = scanned("freehand", nx=48, ny=6, swing=0.0)
    plane = Grid.plane(GRID.x, GRID.y, float(GRID.z[4]))
    a, b = reconstruct(scan, plane, "empm"), reconstruct(scan, plane, "rma")
    assert alike(a, b) > 0.999
    assert np.abs(a.values).max() / np.abs(b.values).max() == pytest.approx(1, abs=0.1)


def test_depth_axis_of_range_migration_counts_from_the_plane():
    # The published code reads one step, 1.85 mm here, too large.
    # (A small aperture shifts depth too: the method of stationary phase holds for many Fresnel zones.)
    for depth in (0.2, 0.2437):
        scan = scanned("rectilinear", ((0.0, 0.0, depth),), nx=160, ny=20)
        line = Grid(np.array([0.0]), np.array([0.0]), depth + np.arange(-0.02, 0.0201, 0.0005))
        found = reconstruct(scan, line, "rma").magnitude.reshape(-1)
        assert line.z[found.argmax()] == pytest.approx(depth, abs=0.00101)


def test_a_line_of_antennas_gives_a_slice():
    scan = scanned("linear", ((0.0, 0.02, 0.27),), ny=8)
    grid = Grid(np.array([0.0]), np.arange(-0.04, 0.041, 0.002), np.arange(0.23, 0.31, 0.005))
    assert alike(reconstruct(scan, grid), reconstruct(scan, grid, "rma")) > 0.97


@pytest.mark.parametrize(
    ("geometry", "settings", "least"),
    [
        ("cylindrical", {"poses": 360, "ny": 2}, 0.98),
        ("cylindrical", {"poses": 120, "max_angle": 120.0, "ny": 2}, 0.98),
        ("circular", {"poses": 360}, 0.999),
    ],
)
def test_polar_format_is_back_projection_around_the_target(geometry, settings, least):
    height = 0.0 if geometry == "circular" else 0.004
    scan = scanned(geometry, ((0.014, height, -0.01),), radius=0.2, **settings)
    grid = Grid(np.arange(-0.02, 0.0205, 0.001), np.array([height]), np.arange(-0.02, 0.0205, 0.001))
    exact, found = reconstruct(scan, grid), reconstruct(scan, grid, "polar")
    assert alike(exact, found) > least
    assert np.allclose(peak(found), (0.014, height, -0.01), atol=0.0011)


def test_range_profiles_keep_their_stated_error():
    random = np.random.default_rng(0)
    tx = random.uniform(-0.1, 0.1, (256, 3)) * (1, 1, 0.1)
    rx = tx + np.array([0, 0.01, 0])
    points = np.concatenate([random.uniform(-0.1, 0.1, (500, 2)), random.uniform(0.2, 1.4, (500, 1))], 1)
    for count in (2, 5, 24, 64):
        wave = Waveform.from_bandwidth(77e9, 4e9, count)
        samples = random.standard_normal((256, count)) + 1j * random.standard_normal((256, count))
        for loss in (False, True):
            exact = project(samples, tx, rx, wave.frequencies, points, path_loss=loss)
            found = project_profiles(samples, tx, rx, wave.frequencies, points, path_loss=loss)
            assert np.abs(found - exact).max() <= 5e-4 * np.abs(exact).max()


class TestTorch:
    def parts(self, count=40):
        random = np.random.default_rng(0)
        tx = random.uniform(-0.1, 0.1, (count, 3)) * (1, 1, 0.1)
        rx = tx + np.array([0, 0.01, 0])
        points = random.uniform((-0.05, -0.05, 0.2), (0.05, 0.05, 0.4), (33, 3))
        samples = random.standard_normal((count, 24)) + 1j * random.standard_normal((count, 24))
        return samples, tx, rx, points

    @pytest.mark.parametrize("loss", [False, True])
    def test_it_is_the_formula(self, loss):
        samples, tx, rx, points = self.parts()
        exact = reference(samples, tx, rx, WAVE.wavenumbers, points, path_loss=loss)
        tensors = [torch.from_numpy(a) for a in (tx, rx, WAVE.frequencies, points)]
        for kind, error in ((torch.complex128, 1e-11), (torch.complex64, 2e-5)):
            found = project_torch(
                torch.from_numpy(samples).to(kind), *tensors, path_loss=loss, pairs=100
            ).numpy()
            assert np.abs(found - exact).max() <= error * np.abs(exact).max()

    def test_gradients_reach_positions(self):
        samples, tx, rx, points = self.parts(4)
        shift = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
        fixed = torch.from_numpy(samples), torch.from_numpy(WAVE.frequencies), torch.from_numpy(points[:5])

        def energy(move):
            both = (torch.from_numpy(side) + move for side in (tx, rx))
            return project_torch(fixed[0], *both, fixed[1], fixed[2]).abs().square().sum()

        assert torch.autograd.gradcheck(energy, (shift,), eps=1e-9, atol=1.0, rtol=1e-4)

    def test_reconstruct_takes_a_device(self):
        scan = scanned("freehand", nx=48, ny=6, swing=0.0)
        plane = Grid.plane(GRID.x[::4], GRID.y[::4], 0.25)
        found = exact_torch(scan, plane, "cpu")
        exact = reconstruct(scan, plane)
        assert np.abs(found.values - exact.values).max() <= 5e-5 * np.abs(exact.values).max()
        if not torch.cuda.is_available():
            with pytest.raises(ConfigError, match="cuda is not available"):
                reconstruct(scan, plane, device="cuda")
        with pytest.raises(ConfigError, match="runs on the CPU"):
            reconstruct(scan, plane, "empm", device="cuda")

    @pytest.mark.gpu
    def test_on_cuda(self):
        scan = scanned("freehand", nx=48, ny=6, swing=0.03)
        exact, found = reconstruct(scan, GRID), reconstruct(scan, GRID, device="cuda")
        assert np.abs(found.values - exact.values).max() <= 5e-5 * np.abs(exact.values).max()


def test_progress_ends_at_the_last_voxel():
    scan = scanned("freehand", nx=48, ny=6, swing=0.03)
    for method in ("backprojection", "range-compressed", "empm"):
        seen = []
        grid = Grid.plane(GRID.x, GRID.y, 0.25)
        reconstruct(scan, grid, method, progress=seen.append)
        assert seen[-1] == grid.size
        assert seen == sorted(seen)


class TestWindows:
    @pytest.mark.parametrize("name", WINDOWS)
    def test_shape(self, name):
        place = np.linspace(0, 1, 201)
        values = window_at(name, place)
        assert values[100] == pytest.approx(1)
        assert np.allclose(values, values[::-1])
        assert values.min() >= -1e-9

    def test_taylor_is_scipys(self):
        windows = pytest.importorskip("scipy.signal.windows")
        place = (np.arange(64) + 0.5) / 64
        theirs = windows.taylor(64, nbar=4, sll=30, norm=False)
        ours = window_at("taylor", place)
        assert np.allclose(ours / ours.max(), theirs / theirs.max(), atol=1e-9)

    def test_side_lobes_fall_and_the_peak_widens(self):
        scan = scanned("rectilinear", ((0.0, 0.0, 0.25),), nx=48, ny=6)
        line = Grid(np.arange(-0.05, 0.0501, 0.0005), np.array([0.0]), np.array([0.25]))
        levels, widths = {}, {}
        for name in ("none", "hann", "taylor"):
            found = reconstruct(scan, line, window=name, magnitude=True).values.reshape(-1)
            found = found / found.max()
            widths[name] = (found > 0.5).sum()
            levels[name] = found[np.abs(line.x) > 0.024].max()
        assert levels["hann"] < levels["taylor"] < levels["none"]
        assert widths["none"] <= widths["taylor"] <= widths["hann"]

    def test_around_a_target_only_heights_are_tapered(self):
        scan = scanned("cylindrical", ((0.01, 0.0, 0.0),), poses=36, ny=2, radius=0.2)
        ratio = np.abs(taper(scan, "hann").samples[..., 12] / scan.samples[..., 12]).reshape(36, -1)
        assert np.allclose(ratio, ratio[:1], rtol=1e-3)
        assert ratio.std() > 0.1


class TestRefusals:
    def test_what_does_not_fit(self):
        flat = scanned("freehand", nx=48, ny=6, swing=0.0)
        around = scanned("cylindrical", ((0.01, 0.0, 0.0),), poses=36, ny=2, radius=0.2)
        volume = GRID
        with pytest.raises(ConfigError, match="no imaging method 'rna'; did you mean 'rma'"):
            reconstruct(flat, volume, "rna")
        with pytest.raises(ConfigError, match="no window"):
            reconstruct(flat, volume, window="han")
        with pytest.raises(ConfigError, match="images one depth"):
            reconstruct(flat, volume, "empm")
        with pytest.raises(ConfigError, match="planar scans and this one is cylindrical"):
            reconstruct(around, volume, "rma")
        with pytest.raises(DataError, match="do not lie on a cylinder"):
            polar(flat, volume)
        with pytest.raises(ConfigError, match="in front of them"):
            reconstruct(flat, Grid.plane(GRID.x, GRID.y, -0.1))
        with pytest.raises(DataError, match="evenly spaced along x"):
            reconstruct(scanned("freehand", nx=48, ny=6, swing=0.0, irregular=8e-4), volume, "rma")
        with pytest.raises(DataError, match="on one line"):
            reconstruct(scanned("linear", ((0.0, 0.02, 0.27),), ny=8), volume, "nufft")
        with pytest.raises(ConfigError, match="image a smaller part"):
            reconstruct(flat, Grid(np.arange(-40.0, 40, 0.01), GRID.y, GRID.z), "rma")

    @pytest.mark.parametrize("method", ["rma", "nufft", "range-compressed"])
    def test_one_frequency_is_too_few(self, method):
        scan = scanned("freehand", nx=48, ny=6, swing=0.0)
        wave = dataclasses.replace(WAVE, num_samples=1)
        with pytest.raises(DataError, match="two"):
            reconstruct(dataclasses.replace(scan, samples=scan.samples[..., :1], waveform=wave), GRID, method)

    def test_angles_that_are_not_even(self):
        scan = scanned("cylindrical", ((0.01, 0.0, 0.0),), poses=36, ny=2, radius=0.2)
        kept = np.r_[0:10, 13:72]
        part = dataclasses.replace(
            scan, samples=scan.samples[kept], tx=scan.tx[kept], rx=scan.rx[kept], true_tx=None, true_rx=None
        )
        with pytest.raises(DataError, match="full grid"):
            reconstruct(part, Grid.plane(GRID.x, GRID.y, 0.0), "polar")


def test_voronoi_areas_of_a_square_lattice_are_its_cells():
    x, y = np.meshgrid(np.arange(8) * 0.002, np.arange(6) * 0.001, indexing="ij")
    areas = cell_areas(np.stack([x.reshape(-1), y.reshape(-1)], 1))
    assert np.allclose(areas, 2e-6, rtol=1e-6)
    doubled = cell_areas(np.tile(np.stack([x.reshape(-1), y.reshape(-1)], 1), (2, 1)))
    assert np.allclose(doubled, 1e-6, rtol=1e-6)


def test_summing_plane_waves_anywhere_is_the_inverse_transform_on_the_grid():
    random = np.random.default_rng(0)
    spectrum = random.standard_normal((12, 5)) + 1j * random.standard_normal((12, 5))
    waves = 2 * np.pi * np.fft.fftfreq(12, 0.01)
    assert np.allclose(
        at_positions(spectrum, waves, np.arange(12) * 0.01, 0), 12 * np.fft.ifft(spectrum, axis=0)
    )


def test_single_precision_plane_transform_is_close_to_double():
    random = np.random.default_rng(0)
    samples = random.standard_normal((20, 24, 8)) + 1j * random.standard_normal((20, 24, 8))
    waves = WAVE.wavenumbers[:8]
    double, _, _ = plane_image(samples, waves, (1e-3, 1e-3), 0.3)
    single, _, _ = plane_image(samples.astype(np.complex64), waves, (1e-3, 1e-3), 0.3)
    assert np.abs(single - double).max() <= 2e-5 * np.abs(double).max()
