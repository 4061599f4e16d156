"""What is scanned and along which way: shapes, files, geometries, and the fast echo against the exact one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saccade.errors import ConfigError, DataError
from saccade.radar import Array, Scene, Waveform, make_path, parse_target, simulate
from saccade.radar.echo import echo
from saccade.radar.echo_kernel import fast_echo
from saccade.radar.path import GEOMETRIES, slow_noise, smooth_field
from saccade.radar.scan import place
from saccade.radar.scene import SHAPES, mesh, random_points, shape, silhouette

WAVE = Waveform.from_bandwidth(77e9, 4e9, 13)
ARRAY = Array.named("awr1x42", WAVE.wavelength)
QUARTER = WAVE.wavelength / 4


class TestPaths:
    @pytest.mark.parametrize("name", GEOMETRIES)
    def test_shapes_and_seeds(self, name):
        first, again, other = (make_path(name, ARRAY, WAVE.wavelength, seed=s) for s in (0, 0, 1))
        assert first.positions.shape == (len(first.times), 3)
        assert np.isfinite(first.positions).all()
        assert np.array_equal(first.positions, again.positions)
        random = name in ("freehand", "uav", "automotive")
        assert random != np.array_equal(first.positions, other.positions)
        if first.rotations is not None:
            assert np.allclose(first.rotations @ first.rotations.transpose(0, 2, 1), np.eye(3))
        assert first.geometry == name

    def test_a_raster_of_the_ti_array_is_a_uniform_virtual_grid(self):
        path = make_path("rectilinear", ARRAY, WAVE.wavelength, nx=4, ny=3)
        tx, rx = place(ARRAY, path.positions)
        y = np.unique(np.round((tx + rx)[..., 1] / 2, 9))
        assert len(y) == 24
        assert np.allclose(np.diff(y), QUARTER)
        assert np.allclose(path.positions.mean(0), 0)

    def test_a_hand_swings_as_far_as_asked_and_the_radar_stays_rigid(self):
        path = make_path("freehand", ARRAY, WAVE.wavelength, swing=0.03)
        spread = np.ptp(path.positions[:, 2])
        assert 0.02 < spread <= 0.03
        assert path.channel_shift is None
        z = path.positions[:, 2].reshape(200, 25)
        assert np.abs(np.diff(z, axis=0)).max() < 0.003  # smooth
        published = make_path("freehand", ARRAY, WAVE.wavelength, swing=0.03, per_channel=True)
        assert published.channel_shift.shape == (5000, 8, 3)
        assert np.ptp(published.channel_shift[..., 2]) == pytest.approx(0.03)
        assert np.allclose(published.positions[:, 2], 0)
        assert published.channel_shift[:, :, 2].std(1).max() > 1e-4

    def test_around_the_axis_the_array_looks_at_it(self):
        path = make_path("cylindrical", ARRAY, WAVE.wavelength, radius=0.4, poses=8, ny=2)
        ahead = path.positions + 0.4 * path.rotations[:, :, 2]
        assert np.allclose(ahead[:, [0, 2]], 0, atol=1e-12)
        assert np.allclose(path.rotations[:, :, 1], [0, 1, 0])
        assert np.allclose(np.hypot(path.positions[:, 0], path.positions[:, 2]), 0.4)

    def test_driving_past(self):
        path = make_path(
            "automotive", ARRAY, WAVE.wavelength, poses=100, speed=2.0, period=1e-3, walk=0.0, sway=0.0
        )
        assert np.allclose(np.diff(path.positions[:, 0]), 2e-3)
        assert np.allclose(path.positions[:, 1:], 0)

    def test_noise_is_slow_and_of_unit_size(self):
        noise = slow_noise(20000, 1, np.random.default_rng(0), length=50)
        assert noise.std() == pytest.approx(1, rel=0.15)
        assert np.corrcoef(noise[:-5, 0], noise[5:, 0])[0, 1] > 0.9
        assert abs(np.corrcoef(noise[:-500, 0], noise[500:, 0])[0, 1]) < 0.2
        field = smooth_field((40, 30), np.random.default_rng(0))
        assert (field.min(), field.max()) == (0, 1)

    @pytest.mark.parametrize(
        ("name", "bad", "word"),
        [
            ("freehnd", {}, "did you mean 'freehand'"),
            ("linear", {"swing": 0.1}, "has no setting 'swing'"),
            ("rectilinear", {"nx": 0}, "expected at least 1"),
            ("freehand", {"swing": -1.0}, "not negative"),
            ("uav", {"tilt": float("nan")}, "finite"),
        ],
    )
    def test_refusals(self, name, bad, word):
        with pytest.raises(ConfigError, match=word):
            make_path(name, ARRAY, WAVE.wavelength, **bad)


class TestScenes:
    @pytest.mark.parametrize("name", SHAPES)
    def test_shapes_lie_in_their_box(self, name):
        flat = shape(name, size=0.06, depth=0.3, pitch=1e-3)
        assert 100 < len(flat.points) <= 3600
        assert np.abs(flat.points[:, :2]).max() <= 0.0305
        assert np.allclose(flat.points[:, 2], 0.3)

    def test_turning_a_shape_turns_its_points(self):
        a, b = shape("key"), shape("key", angle=90.0)
        assert np.allclose(np.stack([-a.points[:, 1], a.points[:, 0]], 1), b.points[:, :2], atol=1e-12)

    def test_the_star_points_up_and_the_triangle_has_its_area(self):
        star = shape("star", size=0.06, pitch=5e-4).points
        assert star[:, 1].max() > -star[:, 1].min()
        triangle = shape("triangle", size=0.06, pitch=5e-4).points
        assert len(triangle) * 25e-8 == pytest.approx(3 * 3**0.5 / 4 * 0.03**2, rel=0.05)

    def test_points_keep_their_distance(self):
        points = random_points(
            20, np.random.default_rng(0), apart=0.01, away_from=np.array([[0, 0, 0.3]])
        ).points
        gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(len(points))
        assert gaps.min() >= 0.01
        assert np.linalg.norm(points - (0, 0, 0.3), axis=1).min() >= 0.01
        with pytest.raises(ConfigError, match="no room"):
            random_points(1, np.random.default_rng(0), apart=9.0, away_from=np.array([[0, 0, 0.3]]))

    def test_silhouette(self, tmp_path):
        image = np.full((40, 60, 3), 255, np.uint8)
        image[5:15, 5:25] = 0  # upper left, metal
        Image.fromarray(image).save(tmp_path / "plate.png")
        plain = silhouette(tmp_path / "plate.png", pixel=1e-3, pitch=1e-3, mirrored=False)
        assert len(plain.points) == 200
        assert plain.points[:, 0].max() < 0 < plain.points[:, 1].min()
        seen = silhouette(tmp_path / "plate.png", pixel=1e-3, pitch=1e-3)
        assert seen.points[:, 0].min() > 0
        assert len(silhouette(tmp_path / "plate.png", pixel=1e-3, pitch=2e-3).points) == 50

    def test_mesh(self, tmp_path):
        trimesh = pytest.importorskip("trimesh")
        trimesh.creation.box((40, 20, 60)).export(tmp_path / "box.stl")  # mm; 60 high
        found = mesh(tmp_path / "box.stl", spacing=1e-3, centre=(0, 0, 0.3))
        # One 40 x 60 mm face looks at the radar: 20 mm deep, so at z = 0.29.
        assert np.allclose(found.points[:, 2], 0.29)
        assert np.ptp(found.points[:, 0]) == pytest.approx(0.04, rel=0.02)
        assert np.ptp(found.points[:, 1]) == pytest.approx(0.06, rel=0.02)
        assert len(found.points) == 2400
        both = mesh(tmp_path / "box.stl", spacing=1e-3, facing=False)
        assert both.points[:, 2].max() > 0.309

    def test_descriptions(self, tmp_path):
        (tmp_path / "points.csv").write_text("x,y,z,a\n0,0,0.3,0.5\n0.01,0,0.3,1\n")
        both = parse_target(f"0,0.02,0.31,0.7+{tmp_path / 'points.csv'}")
        assert both.points.tolist() == [[0, 0.02, 0.31], [0, 0, 0.3], [0.01, 0, 0.3]]
        assert both.reflectivity.tolist() == [0.7, 0.5, 1]
        star = parse_target("points:5+star", seed=3)
        assert np.array_equal(star.points, parse_target("points:5+star", seed=3).points)
        assert len(star.points) == len(shape("star").points) + 5
        assert star.reflectivity[:-5].max() < star.reflectivity[-5:].min()

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("strr", "did you mean 'star'"),
            ("1,2", "no shape, file or"),
            ("nothing.png", "cannot be read"),
            ("nothing.stl", "no such file"),
            ("nothing.csv", "cannot be read"),
            ("nan,0,0.3", "not a finite number"),
        ],
    )
    def test_descriptions_that_say_nothing(self, text, word):
        with pytest.raises((ConfigError, DataError), match=word):
            parse_target(text)

    def test_bad_files(self, tmp_path):
        (tmp_path / "a.csv").write_text("0,0,0.3\n1,2\n")
        (tmp_path / "b.csv").write_text("x,y,z\n")
        (tmp_path / "c.stl").write_bytes(b"solid nothing\nendsolid\n")
        Image.new("RGB", (8, 8), "white").save(tmp_path / "d.png")
        for name, word in (
            ("a.csv", "line 2"),
            ("b.csv", "no points"),
            ("c.stl", "c.stl"),
            ("d.png", "darker"),
        ):
            with pytest.raises(DataError, match=word):
                parse_target(str(tmp_path / name))
        with pytest.raises(DataError, match="as many"):
            Scene(np.zeros((2, 3)), np.ones(3))


class TestFastEcho:
    @given(st.integers(1, 70), st.integers(1, 9), st.booleans(), st.integers(0, 100))
    @settings(max_examples=15, deadline=None)
    def test_it_is_the_exact_one(self, elements, points, loss, seed):
        random = np.random.default_rng(seed)
        tx = random.uniform(-0.1, 0.1, (elements, 3))
        rx = tx + random.uniform(-0.02, 0.02, (elements, 3))
        where = random.uniform((-0.1, -0.1, 0.2), (0.1, 0.1, 1.2), (points, 3))
        strength = random.uniform(-1, 1, points)
        exact = echo(where, strength, WAVE, tx, rx, path_loss=loss)
        found = fast_echo(where, strength, WAVE.frequencies, tx, rx, path_loss=loss)
        assert found.shape == exact.shape
        assert np.abs(found - exact).max() <= 2e-5 * np.abs(strength).sum() * (30 if loss else 1)

    def test_simulate_takes_it(self):
        path = make_path("freehand", ARRAY, WAVE.wavelength, nx=6, ny=3, per_channel=True)
        scene = parse_target("points:4")
        both = [
            simulate(scene.points, scene.reflectivity, WAVE, ARRAY, path.positions,
                     channel_shift=path.channel_shift, fast=fast)
            for fast in (False, True)
        ]  # fmt: skip
        assert both[0].samples.shape == both[1].samples.shape == (18, 8, 13)
        assert np.abs(both[0].samples - both[1].samples).max() < 1e-4
        assert np.allclose((both[0].tx - path.positions[:, None])[..., 2], path.channel_shift[..., 2])

    def test_more_than_memory_holds(self):
        wave = Waveform.named("fmcw_v2")
        array = Array.named("awr1x42", wave.wavelength)
        with pytest.raises(ConfigError, match="take fewer poses"):
            simulate(
                np.array([[0, 0, 0.3]]), np.ones(1), wave, array, np.broadcast_to(np.zeros(3), (10**8, 3))
            )

    def test_a_point_on_an_antenna(self):
        tx = np.zeros((1, 3))
        with pytest.raises(DataError, match="sits on an antenna"):
            fast_echo(np.zeros((1, 3)), np.ones(1), WAVE.frequencies, tx, tx, path_loss=True)
