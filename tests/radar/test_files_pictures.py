"""Scans and images on disk, what files from elsewhere meet, pictures, and metrics."""

import dataclasses
import json
import math

import numpy as np
import pytest

from saccade.errors import ConfigError, DataError, ShapeError
from saccade.radar import (
    Array,
    Grid,
    RadarImage,
    Waveform,
    make_path,
    read_image,
    read_scan,
    simulate,
    write_image,
    write_scan,
)  # fmt: skip
from saccade.radar.grid import parse_axis
from saccade.radar.pictures import plot_image, plot_panel, plot_rows, plot_scan
from saccade.radar.quality import best_scale, compare, rescale, ssim

h5py = pytest.importorskip("h5py")
WAVE = Waveform.from_bandwidth(77e9, 4e9, 5)
ARRAY = Array.named("awr1x42", WAVE.wavelength)


@pytest.fixture(scope="module")
def scan():
    path = make_path("freehand", ARRAY, WAVE.wavelength, nx=4, ny=3)
    scan = simulate(
        np.array([[0, 0, 0.3]]), np.ones(1), WAVE, ARRAY, path.positions, position_error=1e-4, seed=1
    )
    scan.meta = {"depth": np.float64(0.3), "target": "0,0,0.3"}
    return scan


def picture(depths=1):
    values = np.random.default_rng(0).standard_normal((6, 4, depths)) * (1 + 2j)
    grid = Grid(np.arange(6) * 1e-3, np.arange(4) * 2e-3, 0.3 + 0.01 * np.arange(depths))
    return RadarImage(values[..., 0] if depths == 1 else values, grid, "empm", {"plane": 0.0})


class TestFiles:
    def test_a_scan_comes_back(self, scan, tmp_path):
        write_scan(scan, tmp_path / "scan.h5")
        found = read_scan(tmp_path / "scan.h5")
        assert np.array_equal(found.samples, scan.samples.astype(np.complex64))
        for name in ("tx", "rx", "true_tx", "true_rx"):
            assert np.array_equal(getattr(found, name), getattr(scan, name))
        assert found.waveform == scan.waveform
        assert (found.geometry, found.path_loss) == (scan.geometry, scan.path_loss)
        assert found.meta == {"depth": 0.3, "target": "0,0,0.3"}
        assert [item.name for item in tmp_path.iterdir()] == ["scan.h5"]

    @pytest.mark.parametrize("factor", [1e39, 1e300, 2.5e38, 1e-60])
    def test_what_single_precision_cannot_hold_is_refused_before_it_is_written(self, scan, tmp_path, factor):
        size = float(np.abs(scan.samples).max())
        large = dataclasses.replace(scan, samples=scan.samples.astype(np.complex128) / size * factor)
        image = picture()
        image.values = image.values / np.abs(image.values).max() * factor
        for write, what in ((write_scan, large), (write_image, image)):
            with pytest.raises(DataError, match="single precision"):
                write(what, tmp_path / "out.h5")
        assert not list(tmp_path.iterdir())

    def test_the_largest_values_come_back(self, tmp_path):
        image = picture()
        image.values = image.values / np.abs(image.values).max() * 1.6e38
        write_image(image, tmp_path / "image.h5")
        assert np.isfinite(read_image(tmp_path / "image.h5").magnitude).all()

    @pytest.mark.parametrize("depths", [1, 3])
    def test_an_image_comes_back_with_its_axes(self, depths, tmp_path):
        image = picture(depths)
        write_image(image, tmp_path / "image.h5")
        found = read_image(tmp_path / "image.h5")
        assert np.array_equal(found.values, image.values.astype(np.complex64))
        assert all(np.array_equal(getattr(found.grid, a), getattr(image.grid, a)) for a in "xyz")
        assert (found.method, found.meta) == ("empm", {"plane": 0.0})
        write_image(RadarImage(image.magnitude, image.grid, "x"), tmp_path / "image.h5")
        assert read_image(tmp_path / "image.h5").values.dtype == np.float32

    def change(self, path, how):
        with h5py.File(path, "r+") as file:
            how(file)

    def damage(self, name, tmp_path):
        def drop(file):
            del file["tx"]

        def foreign(file):
            del file.attrs["saccade"]

        def link(file):
            del file["tx"]
            file["tx"] = h5py.ExternalLink("/etc/other.h5", "tx")

        def soft(file):
            del file["rx"]
            file["rx"] = h5py.SoftLink("/tx")

        def outside(file):
            del file["tx"]
            file.create_dataset("tx", (12, 8, 3), "f8", external=[("/etc/passwd", 0, 2304)])

        def text(file):
            del file["tx"]
            file["tx"] = "where"

        def shape(file):
            del file["tx"]
            file["tx"] = np.zeros((2, 8, 3))

        def nan(file):
            file["samples"][3] = np.nan

        def facts(file):
            file.attrs["facts"] = "[]"

        def wave(file):
            known = json.loads(file.attrs["facts"])
            file.attrs["facts"] = json.dumps(known | {"waveform": {"start_hz": -1}})

        def newer(file):
            file.attrs["version"] = 99

        def other(file):
            file.attrs["saccade"] = "image"

        return locals()[name]

    @pytest.mark.parametrize(
        ("name", "word"),
        [
            ("drop", "field tx is missing"),
            ("foreign", "from elsewhere"),
            ("link", "points somewhere else"),
            ("soft", "points somewhere else"),
            ("outside", "points somewhere else"),
            ("text", "expected at most"),
            ("shape", r"tx has shape \(2, 8, 3\); expected \(12, 8, 3\)"),
            ("nan", "first at pose 3"),
            ("facts", "facts is not"),
            ("wave", "field waveform"),
            ("newer", "version 99"),
            ("other", "a radar scan is expected"),
        ],
    )
    def test_damaged_and_hostile_files(self, scan, tmp_path, name, word):
        path = tmp_path / "scan.h5"
        write_scan(scan, path)
        self.change(path, self.damage(name, tmp_path))
        with pytest.raises(DataError, match=word):
            read_scan(path)

    def test_no_hdf5_at_all(self, tmp_path):
        (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
        (tmp_path / "b.h5").write_text("x")
        for name in ("a.h5", "b.h5"):
            with pytest.raises(DataError, match="cannot be read as HDF5"):
                read_image(tmp_path / name)
        with pytest.raises(DataError, match="no such file"):
            read_scan(tmp_path / "c.h5")

    def test_an_image_whose_axes_disagree(self, tmp_path):
        write_image(picture(), tmp_path / "i.h5")
        with h5py.File(tmp_path / "i.h5", "r+") as file:
            del file["x"]
            file["x"] = np.arange(5.0)
        with pytest.raises(DataError, match="the axes say"):
            read_image(tmp_path / "i.h5")

    def test_what_is_there_stays_when_writing_fails(self, scan, tmp_path):
        write_scan(scan, tmp_path / "scan.h5")
        scan.meta["odd"] = {1, 2}  # written as text, not refused
        write_scan(scan, tmp_path / "scan.h5")
        del scan.meta["odd"]
        bad = read_scan(tmp_path / "scan.h5")
        bad.samples[0] = np.nan
        before = (tmp_path / "scan.h5").read_bytes()
        with pytest.raises(DataError):
            write_scan(bad, tmp_path / "scan.h5")
        assert (tmp_path / "scan.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "values"),
    [("0.3", [0.3]), ("-0.1:0.1:0.1", [-0.1, 0, 0.1]), ("0:0.25:0.1", [0, 0.1, 0.2]), ("1:1:1", [1])],
)
def test_axes_are_read(text, values):
    assert np.allclose(parse_axis(text, "x"), values)


@pytest.mark.parametrize(
    "text", ["", "a", "1:2", "0:1:0", "0:1:-1", "2:1:0.1", "nan", "0:1:1e-9", "0:inf:1", "0:0.01:999"]
)
def test_axes_that_are_none(text):
    with pytest.raises(ConfigError, match=r"^x "):
        parse_axis(text, "x")


def test_a_grid_that_no_memory_holds():
    with pytest.raises(ConfigError, match="use a larger step"):
        Grid(np.arange(2000.0), np.arange(2000.0), np.arange(2000.0))


class TestPictures:
    def test_each_kind_is_written(self, scan, tmp_path):
        plot_image(picture(), tmp_path / "a.png")
        plot_image(picture(3), tmp_path / "b.png")
        plot_panel([picture(), picture()], ["before", "after"], tmp_path / "c.svg")
        plot_rows([[np.eye(4), np.eye(4)]], ["in", "out"], tmp_path / "d.pdf")
        plot_scan(scan, tmp_path / "e.png")
        assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (tmp_path / "c.svg").read_text()
        assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir())

    def test_a_thin_volume_is_one_picture(self, tmp_path):
        from PIL import Image

        axis = np.arange(8) * 1e-3
        for name, x, y in (("thin", axis, axis[:1]), ("thick", axis, axis)):
            values = np.random.default_rng(0).random((len(x), len(y), 6))
            plot_image(RadarImage(values, Grid(x, y, 0.3 + axis[:6]), "rma"), tmp_path / f"{name}.png")
        with Image.open(tmp_path / "thin.png") as thin, Image.open(tmp_path / "thick.png") as thick:
            assert thin.width < 0.5 * thick.width

    def test_refusals(self, tmp_path):
        with pytest.raises(ConfigError, match=r"\.png, \.svg or \.pdf"):
            plot_image(picture(), tmp_path / "a.gif")
        with pytest.raises(ConfigError, match="as many titles"):
            plot_panel([picture()], [], tmp_path / "a.png")
        assert list(tmp_path.iterdir()) == []


class TestMetrics:
    def test_equal_images_and_known_errors(self):
        truth = np.random.default_rng(0).uniform(0, 1, (32, 24))
        same = compare(truth, truth)
        assert (same["psnr"], same["rmse"], same["mae"]) == (100.0, 0.0, 0.0)
        assert same["ssim"] == pytest.approx(1)
        off = compare(np.full((20, 20), 0.6), np.full((20, 20), 0.5))
        assert off["psnr"] == pytest.approx(20)
        assert off["rmse"] == pytest.approx(0.1)
        assert compare(np.full((20, 20), 7.0), np.ones((20, 20)))["psnr"] == 100.0  # clipped

    def test_ssim_is_torchmetrics(self):
        metrics = pytest.importorskip("torchmetrics.functional.image")
        torch = pytest.importorskip("torch")
        random = np.random.default_rng(0)
        a, b = random.uniform(0, 1, (2, 40, 52))
        theirs = metrics.structural_similarity_index_measure(
            torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None], data_range=1.0
        )
        # Theirs mirrors the image at its edges; ours takes the part where the window fits.
        assert ssim(*(np.pad(x, 5, "reflect") for x in (a, b))) == pytest.approx(float(theirs), abs=1e-5)
        assert math.isnan(ssim(a[:5], b[:5]))

    def test_scalings(self):
        truth = np.random.default_rng(0).uniform(0, 1, (16, 16))
        assert best_scale(truth / 400, truth) == pytest.approx(400)
        assert best_scale(0 * truth, truth) == 0
        assert best_scale(-truth, truth) == 0
        assert np.allclose(rescale(truth * 5, truth, "best"), truth)
        assert np.ptp(rescale(truth * 5 + 1, truth, "minmax")) == 1
        assert np.array_equal(rescale(truth * 1j, truth, "none"), truth)
        assert not rescale(0 * truth, truth, "minmax").any()

    def test_shapes(self):
        with pytest.raises(ShapeError, match="of one shape"):
            compare(np.ones((3, 4)), np.ones((4, 3)))
