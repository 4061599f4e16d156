"""Radar: waveforms, arrays, echoes and images against reference figures, and what physics demands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import golden

from saccade.errors import ConfigError, DataError
from saccade.radar import Array, Grid, RadarImage, Scan, Waveform, reconstruct, simulate
from saccade.radar.backproject import project, reference
from saccade.radar.echo import echo
from saccade.radar.planar import excess_path, plane_image, to_plane, uniform_axes
from saccade.radar.scan import euler, place

SCENE = golden.load("radar_scene")
WAVE = Waveform(SCENE["f0_hz"], SCENE["slope_hz_per_s"], SCENE["fs_hz"], SCENE["samples"])
ARRAY = Array(SCENE["tx_offsets_m"], SCENE["rx_offsets_m"])
POSES, TARGETS = np.array(SCENE["poses_m"]), np.array(SCENE["targets_m"])
AMPLITUDE = np.array(SCENE["reflectivity"])
VOXELS = np.array(SCENE["voxels_m"])


def complex_of(pairs):
    return np.array(pairs) @ [1, 1j]


class TestWaveform:
    def test_published_numbers(self):
        assert Waveform.named("fmcw_v1").max_range == pytest.approx(2.996845715542405, rel=1e-12)
        assert Waveform.named("77ghz").max_range == pytest.approx(2.9229764655, rel=1e-9)
        assert Waveform.named("77ghz").range_resolution == pytest.approx(37.47405725e-3, rel=1e-9)
        assert Waveform.named("empm").wavelength == pytest.approx(3.794841240506329e-3, rel=1e-12)
        assert Waveform.named("fmcw_v2").bandwidth == pytest.approx(3.937e9, rel=1e-3)
        assert pytest.approx(SCENE["k_first_last"], rel=1e-13) == [WAVE.wavenumbers[0], WAVE.wavenumbers[-1]]

    def test_bandwidth_reaches_the_last_sample(self):
        wave = Waveform.from_bandwidth(77e9, 4e9, 64)
        assert wave.frequencies[-1] == pytest.approx(81e9, rel=1e-12)

    @pytest.mark.parametrize(("name", "word"), [("fmcw_v3", "fmcw_v"), ("x", "no waveform")])
    def test_unknown_names(self, name, word):
        with pytest.raises(ConfigError, match=word):
            Waveform.named(name)

    def test_impossible_numbers(self):
        with pytest.raises(ConfigError, match="slope is -1"):
            Waveform(77e9, -1, 2e6, 64)
        with pytest.raises(ConfigError, match="num_samples"):
            Waveform.from_bandwidth(77e9, 4e9, 1)


class TestArray:
    def test_ti_array_is_the_references(self):
        array = Array.named("awr1x42", WAVE.wavelength)
        assert np.allclose(array.tx, ARRAY.tx, atol=1e-9)
        assert np.allclose(array.rx, ARRAY.rx, atol=1e-9)

    @pytest.mark.parametrize(
        ("name", "count", "least", "most"), [("awr1x42", 8, 1.0, 14.28), ("empm", 8, 5.0, 18.28)]
    )
    def test_virtual_elements_are_a_quarter_wavelength_apart(self, name, count, least, most):
        array = Array.named(name, WAVE.wavelength)
        assert array.num_channels == count
        assert array.is_linear
        assert np.allclose(np.diff(np.sort(array.virtual[:, 1])), WAVE.wavelength / 4)
        assert np.allclose(array.virtual.mean(0), 0, atol=1e-12)
        apart = np.abs(array.offsets[:, 1]) * 1e3
        assert (apart.min(), apart.max()) == pytest.approx((least, most), abs=0.01)

    def test_bad_shapes(self):
        with pytest.raises(ConfigError, match=r"tx has shape \(2,\)"):
            Array(np.zeros(2), np.zeros((1, 3)))


class TestEcho:
    @pytest.mark.parametrize("path_loss", [False, True])
    def test_golden_samples(self, path_loss):
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES, path_loss=path_loss)
        samples = scan.flatten()[0]
        for row in SCENE["beat_samples"]:
            want = complex_of(row["s_pathloss" if path_loss else "s"])
            assert samples[row["l"], row["n"]] == pytest.approx(want, rel=1e-9, abs=1e-9)
        energy = SCENE["beat_energy_pathloss" if path_loss else "beat_energy"]
        assert np.sum(np.abs(samples) ** 2) == pytest.approx(energy, rel=1e-10)

    def test_golden_rotated_array(self):
        rotated = SCENE["rotated"]
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES, euler(rotated["euler_rad_xyz"]))
        samples, tx, rx = scan.flatten()
        key = next(
            key for key in rotated if isinstance(rotated[key], list) and isinstance(rotated[key][0], dict)
        )
        for row in rotated[key]:
            assert samples[row["l"], row["n"]] == pytest.approx(complex_of(row["s"]), rel=1e-9, abs=1e-9)
        image = reference(samples, tx, rx, WAVE.wavenumbers, VOXELS)
        assert np.allclose(image, complex_of(rotated["image"]), rtol=1e-9, atol=1e-6)

    def test_energy_of_one_point(self):
        samples = echo(np.array([[0, 0.01, 0.3]]), np.array([0.7]), WAVE, *place(ARRAY, POSES))
        assert np.sum(np.abs(samples) ** 2) == pytest.approx(0.49 * samples.size, rel=1e-12)

    def test_phase_centre_is_one_antenna_in_the_middle(self):
        tx, rx = place(ARRAY, POSES)
        both = echo(TARGETS, AMPLITUDE, WAVE, tx, rx, phase_centre=True)
        assert np.allclose(both, echo(TARGETS, AMPLITUDE, WAVE, (tx + rx) / 2, (tx + rx) / 2))

    def test_noise_has_the_power_asked_for_and_position_error_leaves_beliefs_alone(self):
        clean = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES, position_error=5e-4, seed=1)
        noisy = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES, snr_db=10, position_error=5e-4, seed=1)
        noise = np.mean(np.abs(noisy.samples - clean.samples) ** 2) / np.mean(np.abs(clean.samples) ** 2)
        assert noise == pytest.approx(0.1, rel=0.05)
        assert np.array_equal(noisy.tx, simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES).tx)
        error = noisy.true_tx - noisy.tx
        assert np.allclose(error, error[:, :1])  # the array is rigid
        assert error.std() == pytest.approx(5e-4, rel=0.3)
        again = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES, snr_db=10, position_error=5e-4, seed=1)
        assert np.array_equal(again.samples, noisy.samples)

    @given(
        st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=3),
        st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    )
    @settings(max_examples=20, deadline=None)
    def test_moving_and_turning_the_world_changes_nothing(self, shift, angles):
        turn = euler(np.array([angles]))[0]
        tx, rx = place(ARRAY, POSES[:3])
        before = echo(TARGETS, AMPLITUDE, WAVE, tx, rx)
        moved = [part @ turn.T + shift for part in (TARGETS, tx, rx)]
        assert np.allclose(echo(moved[0], AMPLITUDE, WAVE, moved[1], moved[2]), before, atol=1e-8)

    def test_refusals(self):
        with pytest.raises(DataError, match=r"reflectivity \(2,\)"):
            echo(TARGETS, np.ones(2), WAVE, *place(ARRAY, POSES))
        with pytest.raises(DataError, match="sits on an antenna"):
            echo(ARRAY.tx[:1], np.ones(1), WAVE, *place(ARRAY, np.zeros((1, 3))), path_loss=True)


class TestBackProjection:
    @pytest.mark.parametrize("path_loss", [False, True])
    def test_golden_image(self, path_loss):
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES, path_loss=path_loss)
        samples, tx, rx = scan.flatten()
        want = complex_of(SCENE["image_pathloss" if path_loss else "image"])
        found = reference(samples, tx, rx, WAVE.wavenumbers, VOXELS, path_loss=path_loss)
        assert np.allclose(found, want, rtol=1e-9, atol=1e-6)
        fast = project(samples, tx, rx, WAVE.frequencies, VOXELS, path_loss=path_loss, threads=1)
        assert np.abs(fast - want).max() <= 5e-5 * np.abs(want).max()

    def test_golden_image_with_wrong_poses(self):
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES)
        error = np.array(SCENE["pose_error_m"])[:, None]
        scan.tx, scan.rx = scan.tx + error, scan.rx + error
        found = reference(*scan.flatten(), WAVE.wavenumbers, VOXELS)
        assert np.allclose(found, complex_of(SCENE["image_with_wrong_poses"]), rtol=1e-9, atol=1e-6)

    @given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 200), st.integers(0, 99))
    @settings(max_examples=15, deadline=None)
    def test_fast_kernel_at_any_size(self, elements, length, voxels, seed):
        random = np.random.default_rng(seed)
        wave = Waveform(77e9, 100e12, 2e6, length)
        samples = random.standard_normal((elements, length)) + 1j * random.standard_normal((elements, length))
        tx, rx = random.uniform(-0.1, 0.1, (2, elements, 3))
        points = random.uniform(-0.1, 0.1, (voxels, 3)) + np.array([0, 0, 0.4])
        want = reference(samples, tx, rx, wave.wavenumbers, points)
        found = project(samples, tx, rx, wave.frequencies, points)
        assert np.abs(found - want).max() <= 5e-5 * np.abs(samples).sum()

    @pytest.mark.parametrize("case", [0])
    def test_golden_point_spread(self, case):
        figures = golden.load("radar_psf")["cases"][case]
        wave = Waveform.from_bandwidth(77e9, figures["bandwidth_hz"], figures["samples"])
        axis = (np.arange(figures["grid"]) - (figures["grid"] - 1) / 2) * figures["step_m"]
        places = np.stack(np.meshgrid(axis, axis, [0.0], indexing="ij"), -1).reshape(-1, 3)
        target = np.array([[0, 0, figures["z_m"]]])
        samples = echo(target, np.ones(1), wave, places, places)
        for name, direction, reach, step in (("x", 0, 0.012, 1e-4), ("z", 2, 0.06, 5e-4)):
            along = np.arange(-round(reach / step), round(reach / step) + 1) * step
            points = target + along[:, None] * np.eye(3)[direction]
            cut = np.abs(project(samples, places, places, wave.frequencies, points))
            assert cut.max() == pytest.approx(figures["peak"], rel=1e-4)
            above = cut >= cut.max() / np.sqrt(2)
            assert above.sum() * step == pytest.approx(figures[name]["minus3dB_width"], abs=2 * step)

    def test_grid_behind_the_array_and_unknown_methods(self):
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES)
        with pytest.raises(ConfigError, match="in front of"):
            reconstruct(scan, Grid.plane([0.0], [0.0], -0.3))
        with pytest.raises(ConfigError, match="did you mean"):
            reconstruct(scan, Grid.plane([0.0], [0.0], 0.3), "backprojecton")

    def test_image_peaks_at_the_targets(self):
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES)
        axis = np.linspace(-0.03, 0.03, 61)
        image = reconstruct(scan, Grid.plane(axis, axis, 0.3))
        top = np.unravel_index(image.magnitude.argmax(), image.magnitude.shape)
        assert np.hypot(axis[top[0]], axis[top[1]]) < 2e-3
        assert image.values.shape == (61, 61)


class TestPlanar:
    def test_golden_excess_path_and_samples(self):
        figures = SCENE["empm"]
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES)
        beta = excess_path(scan.tx, scan.rx, figures["Z0_m"], figures["Zref_m"]).ravel()
        assert np.allclose(beta[:8], figures["beta_first8_m"], atol=1e-15)
        assert beta.sum() == pytest.approx(figures["beta_sum_m"], rel=1e-12)
        moved = to_plane(scan, figures["Z0_m"], figures["Zref_m"]).reshape(len(beta), -1)
        for row in figures["samples"]:
            assert moved[row["l"], row["n"]] == pytest.approx(complex_of(row["s"]), rel=1e-9, abs=1e-9)

    def test_golden_plane_transform(self):
        figures = golden.load("radar_plane")
        wave = Waveform.from_bandwidth(figures["f0_hz"], figures["bandwidth_hz"], figures["samples"])
        axes = [(np.arange(n) - (n - 1) / 2) * d for n, d in
                ((figures["Nx"], figures["dx_m"]), (figures["Ny"], figures["dy_m"]))]  # fmt: skip
        places = np.stack(np.meshgrid(*axes, [0.0], indexing="ij"), -1)[:, :, 0]
        samples = echo(
            np.array(figures["targets_m"]), np.array(figures["reflectivity"]), wave, places, places
        )
        for row in figures["signal_samples"]:
            assert samples[row["ix"], row["iy"], row["n"]] == pytest.approx(
                complex_of(row["s"]), rel=1e-9, abs=1e-9
            )
        steps = (figures["dx_m"], figures["dy_m"])
        image, x, y = plane_image(samples, wave.wavenumbers, steps, figures["z0_m"], size=figures["nFFT"])
        for row in figures["pixels"]:
            assert (x[row["ix"]], y[row["iy"]]) == pytest.approx((row["x_m"], row["y_m"]))
            assert abs(image[row["ix"], row["iy"]]) == pytest.approx(row["abs"], rel=1e-9)
        assert np.abs(image).sum() == pytest.approx(figures["image_abs_sum"], rel=1e-9)
        assert np.sum(np.abs(image) ** 2) == pytest.approx(figures["image_energy"], rel=1e-9)

    def test_compensated_phase_on_boresight_is_exact(self):
        target, place_z = 0.4, 0.013
        scan = simulate(np.array([[0, 0, target]]), np.ones(1), WAVE, Array.named("monostatic", WAVE.wavelength),
                        np.array([[0, 0, place_z]]))  # fmt: skip
        moved = to_plane(scan, 0.0, target)[0, 0]
        assert np.allclose(moved, np.exp(2j * WAVE.wavenumbers * target))

    def test_empm_agrees_with_back_projection_where_it_should(self):
        wave = Waveform.from_bandwidth(77e9, 4e9, 16)
        array = Array.named("awr1x42", wave.wavelength)
        random = np.random.default_rng(0)
        step = wave.wavelength / 4
        x, y = (np.arange(64) - 31.5) * step, (np.arange(8) - 3.5) * 8 * step
        poses = np.stack(np.meshgrid(x, y, [0.0], indexing="ij"), -1).reshape(-1, 3)
        poses[:, 2] = 2e-3 * random.standard_normal(len(poses))
        scan = simulate(np.array([[0.003, -0.002, 0.35]]), np.ones(1), wave, array, poses)
        axis = np.linspace(-0.02, 0.02, 41)
        images = [
            reconstruct(scan, Grid.plane(axis, axis, 0.35), method).magnitude
            for method in ("backprojection", "empm")
        ]
        tops = [np.unravel_index(image.argmax(), image.shape) for image in images]
        assert np.abs(np.subtract(*tops)).max() <= 1
        assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.97

    def test_scans_off_a_grid_are_refused(self):
        scan = simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES)
        with pytest.raises(DataError, match="backprojection"):
            reconstruct(scan, Grid.plane([0.0], [0.0], 0.3), "empm")
        with pytest.raises(DataError, match="do not fill"):
            uniform_axes(np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0]], float))


class TestBadInput:
    def scan(self):
        return simulate(TARGETS, AMPLITUDE, WAVE, ARRAY, POSES)

    def test_nan_samples_name_the_pose(self):
        scan = self.scan()
        scan.samples[3, 1, 5] = np.nan
        with pytest.raises(DataError, match="first at pose 3"):
            scan.check("hand.h5")

    def test_shapes(self):
        scan = self.scan()
        with pytest.raises(DataError, match="78 samples a chirp and the waveform says 79"):
            Scan(scan.samples[:, :, :-1], scan.tx, scan.rx, WAVE).check()
        with pytest.raises(DataError, match=r"tx has shape \(19, 8, 3\)"):
            Scan(scan.samples, scan.tx[1:], scan.rx, WAVE).check()
        scan.rx[0, 0, 0] = np.inf
        with pytest.raises(DataError, match="rx holds NaN"):
            scan.check()

    def test_grids(self):
        with pytest.raises(ConfigError, match="growing"):
            Grid(np.array([0.0, 0.0]), np.array([0.0]), np.array([0.3]))

    def test_decibels(self):
        grid = Grid.plane([0.0, 1.0, 2.0], [0.0], 0.3)
        image = RadarImage(np.array([[1.0], [0.1], [0.0]]), grid, "test")
        assert image.decibels(-25).ravel().tolist() == [0.0, -20.0, -25.0]
        assert (RadarImage(np.zeros((3, 1)), grid, "test").decibels() == -25).all()
