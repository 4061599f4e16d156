"""Training pairs: the ideal image, their shards, and the task that learns from them."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import golden

import saccade
from saccade.data.dataset import SampleKey
from saccade.data.radar_pairs import MANIFEST, RadarPairs, make_pairs, read_manifest
from saccade.engine.evaluate.evaluate import evaluate
from saccade.engine.predict.sharpen import enhance, shipped_weights
from saccade.errors import ConfigError, DataError, ShapeError, WeightsError
from saccade.radar import Grid, RadarImage, Scene, read_image, write_image
from saccade.radar.dataset import PairConfig, draw_scene, ideal_image, make_pair
from saccade.radar.sharpening import pixel_notes
from saccade.tasks.base import LossContext
from saccade.tasks.open import load_model
from saccade.tasks.restore.task import Restore
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model

SMALL = PairConfig(nx=12, ny=2, size=48, points=(1, 3), solid_size=(0.01, 0.02))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    make_pairs(path, dataclasses.replace(SMALL, methods=("rma",)), 6, shard_size=4)
    return path


class TestIdeal:
    def test_golden(self):
        figures = golden.load("radar_ideal")
        axis = -0.1 + 0.001 * np.arange(200)
        points = np.pad(np.array(figures["points_m"]), ((0, 0), (0, 1)))
        found = ideal_image(Scene(points, np.array(figures["reflectivity"])), axis, axis, figures["o_m"][0])
        assert found.sum() == pytest.approx(figures["sum"], rel=1e-12)
        assert np.linalg.norm(found) == pytest.approx(figures["l2"], rel=1e-12)
        assert found.max() == figures["max"]
        for entry in figures["largest"]:
            assert found[entry["ix"], entry["iy"]] == pytest.approx(entry["v"], abs=1e-12)

    def test_a_point_is_two_millimetres_wide_and_far_points_vanish(self):
        axis = np.arange(-0.01, 0.01, 1e-5)
        line = ideal_image(
            Scene(np.array([[0.0, 0, 0.3], [5.0, 5.0, 0.3]]), np.array([0.8, 1.0])), axis, np.zeros(1)
        )
        assert line.max() == pytest.approx(0.8)
        assert (line > 0.4).sum() * 1e-5 == pytest.approx(1.2e-3 * 2 * np.log(2) ** 0.5, rel=0.01)

    def test_a_solid_has_the_level_it_was_drawn_with(self):
        config = PairConfig(solid_share=1.0, points=(0, 0), solid_level=(0.6, 0.6), solid_size=(0.06, 0.06))
        _, truth, depth = draw_scene(config, np.random.default_rng(0))
        image = ideal_image(truth, config.axis(), config.axis())
        inside = image[image > 0.5]
        assert np.median(inside) == pytest.approx(0.6 * 9 / 8, rel=0.02)
        assert 0.27 <= depth <= 0.33


class TestPairs:
    def test_a_pair_depends_on_seed_and_index_alone(self):
        a, b, c = (make_pair(SMALL, *key) for key in ((0, 3), (0, 3), (0, 4)))
        assert np.array_equal(a["empm"], b["empm"])
        assert not np.array_equal(a["ideal"], c["ideal"])
        assert a["empm"].shape == a["ideal"].shape == (48, 48)
        assert 0 <= a["ideal"].min() <= a["ideal"].max() <= 1

    def test_both_images_show_the_same_thing_at_the_same_place(self):
        config = PairConfig(
            nx=100,
            ny=13,
            solid_share=0.0,
            points=(1, 1),
            position_error=(0.0, 0.0),
            swing=(0.0, 0.0),
            snr_db=(60, 60),
        )
        for index in range(3):
            pair = make_pair(config, 7, index)
            seen, ideal = (np.unravel_index(abs(pair[n]).argmax(), (200, 200)) for n in ("empm", "ideal"))
            assert np.abs(np.subtract(seen, ideal)).max() <= 1

    def test_shards_are_resumed_enlarged_and_checked(self, tmp_path):
        seen = []
        assert make_pairs(tmp_path, SMALL, 4, shard_size=2, done=seen.append) == 4
        first = (tmp_path / "pairs-00000.safetensors").read_bytes()
        (tmp_path / "pairs-00001.safetensors").write_bytes(b"damaged")
        assert make_pairs(tmp_path, SMALL, 5, shard_size=2) == 3
        assert make_pairs(tmp_path, SMALL, 5, shard_size=2) == 0
        assert (tmp_path / "pairs-00000.safetensors").read_bytes() == first
        assert seen == [2, 2]
        pairs = RadarPairs(tmp_path)
        pairs.check()
        assert len(pairs) == 5
        content = load_file(tmp_path / "pairs-00000.safetensors")
        save_file({**content, "ideal": content["ideal"] * 0}, tmp_path / "pairs-00000.safetensors")
        with pytest.raises(DataError, match="differs from its checksum"):
            pairs.check()

    def test_two_processes_make_what_one_makes(self, tmp_path):
        make_pairs(tmp_path / "a", SMALL, 4, shard_size=2)
        make_pairs(tmp_path / "b", SMALL, 4, shard_size=2, workers=2)
        assert (tmp_path / "a" / MANIFEST).read_text() == (tmp_path / "b" / MANIFEST).read_text()

    def test_samples(self, folder):
        pairs = RadarPairs(folder)
        sample = pairs[5]
        assert sample["image"].shape == sample["target"].shape == (1, 48, 48)
        assert sample["name"] == "pair-000005"
        assert pairs.images(0, "rma").is_complex()
        assert set(pairs.facts(0)) == {"depth", "position_error", "swing", "snr_db", "points"}
        part = RadarPairs(folder, (0.5, 1.0))
        assert torch.equal(part[0]["image"], pairs[3]["image"])
        assert part[0]["name"] == "pair-000003"
        flipped = RadarPairs(folder, flip=True)[SampleKey(0, 3)]
        assert torch.equal(flipped["image"], pairs[0]["image"].flip(1, 2))
        assert torch.equal(flipped["target"], pairs[0]["target"].flip(1, 2))

    def test_refusals(self, folder, tmp_path):
        with pytest.raises(ConfigError, match="another seed"):
            make_pairs(folder, dataclasses.replace(SMALL, methods=("rma",)), 6, seed=1, shard_size=4)
        with pytest.raises(ConfigError, match="another config"):
            make_pairs(folder, SMALL, 6, shard_size=4)
        with pytest.raises(DataError, match="of its 6 pairs holds none"):
            RadarPairs(folder, (0.99, 1.0))
        with pytest.raises(DataError, match="did you mean 'empm'"):
            RadarPairs(folder, method="epm")
        with pytest.raises(DataError, match="no manifest"):
            RadarPairs(tmp_path)
        (tmp_path / "x").write_text("")
        with pytest.raises(ConfigError, match="is a file"):
            make_pairs(tmp_path / "x", SMALL, 2)
        with pytest.raises(ConfigError, match="not empty"):
            make_pairs(tmp_path, SMALL, 2)
        for text in ("[]", "{", '{"format": 1}', json.dumps({**read_manifest(folder), "format": 2})):
            (tmp_path / MANIFEST).write_text(text)
            with pytest.raises(DataError, match="not a manifest"):
                RadarPairs(tmp_path)
        # A name that leaves the folder is no shard.
        outside = {**read_manifest(folder), "shards": {"../pairs-00000.safetensors": "0"}}
        (tmp_path / MANIFEST).write_text(json.dumps(outside))
        with pytest.raises(DataError, match="not a manifest"):
            RadarPairs(tmp_path)
        (tmp_path / MANIFEST).write_text(json.dumps(read_manifest(folder)))
        with pytest.raises(DataError, match="absent"):
            RadarPairs(tmp_path)
        with pytest.raises(ConfigError, match="smaller number first"):
            PairConfig(depth=(0.4, 0.3))


class TestTask:
    card = Card("srvit_s", task="restore", num_classes=0, in_chans=1)

    def batch(self, folder):
        pairs = RadarPairs(folder)
        return Restore().collate([pairs[i] for i in range(3)])

    def test_loss_and_marks(self, folder):
        task, batch = Restore(), self.batch(folder)
        parts = task.loss(lambda x: batch["target"] + 0.5, batch, LossContext(0.0))
        assert parts["loss_absolute"].item() == pytest.approx(0.5)
        assert parts["loss"].item() == pytest.approx(0.5 + 4 * 0.25)
        metrics, other = task.metrics(self.card), task.metrics(self.card)
        assert metrics.compute() == {"count": 0.0}
        metrics.update(batch["target"], batch)
        other.update(torch.zeros_like(batch["target"]), batch)
        perfect, black = metrics.compute(), other.compute()
        assert perfect["psnr"] == 100
        assert perfect["count"] == 3
        assert black["psnr"] < 40
        assert black["gain"] < perfect["gain"]
        metrics.merge([other])
        assert metrics.compute()["psnr"] == pytest.approx((100 + black["psnr"]) / 2)
        rows = task.rows(batch["target"], batch, self.card, None)
        assert rows[0]["name"] == "pair-000000"
        assert rows[0]["psnr"] == 100
        with pytest.raises(ShapeError, match="image for an image"):
            metrics.update(batch["target"][:, :, :3], batch)
        assert task.show_metric(31.234) == "31.23 dB"
        assert task.example(self.card, batch=2)[0].shape == (2, 1, 200, 200)

    def test_other_networks_are_refused(self, folder):
        from saccade.data.config import AugmentConfig, DataConfig

        with pytest.raises(ConfigError, match="does not sharpen"):
            Restore().open(DataConfig(source=str(folder)), AugmentConfig(), Card("shvit_s1"), seed=0)

    def test_it_learns(self, folder, tmp_path):
        from saccade.engine.train.loop import train
        from saccade.engine.train.recipe import build_recipe

        flags = {"data.source": str(folder), "data.val": str(folder), "data.batch": 3, "schedule.epochs": 12,
                 "augment.hflip": 0.0, "ema.decay": 0.0, "run.threads": 1, "run.device": "cpu"}  # fmt: skip
        recipe, _ = build_recipe("radar_sharpen", "", flags)
        lines = []
        result = train(recipe, tmp_path / "run", log=lines.append)
        assert result.metrics["psnr"] > 20
        assert any(" dB" in line for line in lines)
        first = float(next(line for line in lines if "epoch 1/12" in line).split("psnr ")[1].split()[0])
        assert result.metrics["psnr"] > first + 1
        found = evaluate(tmp_path / "run", str(folder))
        ours = next(row for row in found.gallery.table() if row["method"] == "srvit_swift")
        assert found.metrics["psnr"] == pytest.approx(ours["psnr"], abs=1e-4)
        assert ours["psnr"] == pytest.approx(result.metrics["psnr"], abs=1e-3)
        assert load_model(tmp_path / "run")[1].task == "restore"


class TestEnhance:
    def image(self, shape=(40, 30), scale=1.0):
        values = np.random.default_rng(0).standard_normal(shape) * (1 + 1j) * scale
        axes = [np.arange(n) * 1e-3 for n in shape]
        grid = Grid(axes[0], axes[1], np.array([0.3]) if len(shape) == 2 else 0.3 + axes[2])
        return RadarImage(values, grid, "empm")

    def test_weights_ship_small_and_sharpen_at_any_scale(self):
        assert shipped_weights().stat().st_size < 2_000_000
        a, b = enhance(self.image()), enhance(self.image(scale=1e-6))
        assert a.values.shape == (40, 30)
        assert 0 <= a.values.min() <= a.values.max() <= 1
        assert np.allclose(a.values, b.values, atol=1e-4)
        assert a.method == "empm, srvit_swift"
        _, card = load_model(shipped_weights())
        assert card.licence == "Apache-2.0"
        assert card.numbers["psnr"] > 25

    def test_volumes_go_depth_by_depth(self):
        whole = self.image((32, 32, 2))
        found = enhance(whole)
        one = enhance(RadarImage(whole.values[..., 1], Grid.plane(whole.grid.x, whole.grid.y, 0.3), "empm"))
        share = np.abs(whole.values[..., 1]).max() / np.abs(whole.values).max()
        assert np.allclose(found.values[..., 1], share * one.values, rtol=1e-5)

    def test_a_depth_that_holds_little_stays_dark(self):
        axis = np.arange(32) * 1e-3
        values = np.zeros((32, 32, 2))
        values[12:20, 12:20, 0], values[12:20, 12:20, 1] = 1.0, 0.1
        sharp = enhance(RadarImage(values, Grid(axis, axis, np.array([0.2, 0.3])), "rma")).values
        assert sharp[..., 1].max() == pytest.approx(0.1 * sharp[..., 0].max(), rel=1e-5)

    @pytest.mark.parametrize(("model", "peak"), [("srvit_s", 2e-3), ("srvit_swift", 1.0)])
    def test_every_network_gets_images_at_its_own_scale(self, tmp_path, model, peak):
        network = create_model(model).eval()
        save_weights(network, tmp_path / "s.safetensors")
        image = self.image((40, 32), scale=123)
        size = np.abs(image.values).astype(np.float32)
        found = enhance(image, tmp_path / "s.safetensors")
        with torch.no_grad():
            want = network(torch.from_numpy(size / size.max() * np.float32(peak))[None, None])[0, 0].numpy()
        assert np.allclose(found.values, want, atol=1e-5)
        assert found.method == f"empm, {model}"
        dark = dataclasses.replace(image, values=np.zeros((20, 32)))
        assert not enhance(dark, tmp_path / "s.safetensors").values.any()
        save_weights(
            network, tmp_path / "p.safetensors", Card(model, task="restore", preprocess={"peak": -1.0})
        )
        with pytest.raises(WeightsError, match=r"the peak -1\.0"):
            enhance(image, tmp_path / "p.safetensors")

    def test_refusals_and_notes(self, tmp_path):
        save_weights(create_model("shvit_s1", num_classes=2), tmp_path / "c.safetensors")
        with pytest.raises(ConfigError, match="does not sharpen"):
            enhance(self.image(), tmp_path / "c.safetensors")
        with pytest.raises(WeightsError, match="no such"):
            enhance(self.image(), tmp_path / "d.safetensors")
        bad = self.image()
        bad.values[0, 0] = np.nan
        with pytest.raises(DataError, match="NaN"):
            enhance(bad)
        assert pixel_notes(self.image()) == []
        wide = Grid.plane(np.arange(4) * 5e-3, np.arange(4) * 1e-3, 0.3)
        assert "5.00 mm along x" in pixel_notes(RadarImage(np.ones((4, 4)), wide, "empm"))[0]


@pytest.mark.parametrize(("model", "peak"), [("srvit_s", 2e-3), ("srvit_swift", 1.0)])
def test_training_evaluation_and_prediction_see_one_scale(folder, tmp_path, monkeypatch, model, peak):
    """Pairs lie at the scale that EMPM gives them, which is none of the networks' own."""
    pytest.importorskip("h5py")
    seen: dict[str, set[float]] = {}
    forward = type(create_model(model)).forward
    stage = "train"

    def watch(self, x):
        which = stage if self.training or stage != "train" else "validate"
        seen.setdefault(which, set()).update(x.amax((1, 2, 3)).tolist())
        return forward(self, x)

    monkeypatch.setattr(type(create_model(model)), "forward", watch)
    saccade.train(
        folder, model=model, task="restore", val=str(folder), out=tmp_path / "run", epochs=1, batch=3, device="cpu",
        threads=1,
    )  # fmt: skip
    _, card = load_model(tmp_path / "run")
    assert card.preprocess == {"size": 48, "peak": peak}
    stage = "evaluate"
    evaluate(tmp_path / "run", str(folder), threads=1)
    stage = "predict"
    pairs = RadarPairs(folder)
    axis = np.arange(48) * 1e-3
    write_image(
        RadarImage(pairs.images(0, "empm").numpy(), Grid.plane(axis, axis, 0.3), "empm"), tmp_path / "i.h5"
    )
    saccade.predict(tmp_path / "i.h5", tmp_path / "run", tmp_path / "out", threads=1)
    assert not any(float(pairs[i]["image"].max()) == pytest.approx(peak, rel=0.05) for i in range(6))
    assert list(seen) == ["train", "validate", "evaluate", "predict"]
    assert all(value == pytest.approx(peak, rel=1e-6) for values in seen.values() for value in values)


class TestPredict:
    def images(self, folder):
        rng, axis = np.random.default_rng(1), np.arange(48) * 1e-3
        volume = Grid(axis[:24], axis[:20], np.array([0.2, 0.25, 0.3]))
        write_image(RadarImage(rng.random((24, 20, 3)) * 7 + 1j, volume, "rma"), folder / "deep" / "v.h5")
        wide = Grid.plane(axis[:40] * 3, axis[:20], 0.3)
        write_image(RadarImage(rng.standard_normal((40, 20)), wide, "empm"), folder / "a.h5")
        (folder / "b.h5").write_bytes(b"no image")
        (folder / "notes.txt").write_text("not asked")

    def test_a_folder_of_images_and_volumes(self, tmp_path):
        pytest.importorskip("h5py")
        (tmp_path / "in" / "deep").mkdir(parents=True)
        self.images(tmp_path / "in")
        found = saccade.predict(tmp_path / "in", shipped_weights(), tmp_path / "out", threads=1, batch=3)
        assert (found.rows, [name for name, _ in found.skipped]) == (2, ["b.h5"])
        rows = [
            json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
        ]
        assert [(row["name"], row["nx"], row["ny"], row["nz"]) for row in rows] == [
            ("a.h5", 40, 20, 1), ("deep/v.h5", 24, 20, 3),
        ]  # fmt: skip
        assert "3.00 mm along x" in rows[0]["notes"]
        assert rows[1]["notes"] == ""
        for row in rows:
            before, after = (
                read_image(tmp_path / "in" / row["name"]),
                read_image(tmp_path / "out" / row["sharp"]),
            )
            one = enhance(before, threads=1)
            assert np.array_equal(after.values, one.values)
            assert (after.method, after.meta) == (one.method, one.meta)

    def test_refusals(self, tmp_path):
        (tmp_path / "in").mkdir()
        with pytest.raises(DataError, match="no radar image here"):
            saccade.predict(tmp_path / "in", shipped_weights(), tmp_path / "out")
        with pytest.raises(ConfigError, match="leave the size out"):
            saccade.predict(tmp_path / "in", shipped_weights(), tmp_path / "out", size=64)
        with pytest.raises(ConfigError, match="floor"):
            saccade.predict(tmp_path / "in", shipped_weights(), tmp_path / "out", floor=3.0)
        assert not (tmp_path / "out").exists()


def test_marks_are_given_beside_what_needs_no_network(folder, tmp_path):
    done = []
    found = evaluate(
        shipped_weights(), str(folder), batch=4, progress=lambda count, total: done.append((count, total))
    )
    assert done == [(4, 6), (6, 6)]
    table = found.gallery.table()
    assert {(row["method"], row["scaling"]) for row in table} == {
        ("srvit_swift", "none"), ("all zero", "none"), ("empm", "minmax"), ("empm", "best"), ("rma", "minmax"),
        ("rma", "best"),
    }  # fmt: skip
    rows = {(row["method"], row["scaling"]): row for row in table}
    assert rows["empm", "best"]["psnr"] >= rows["all zero", "none"]["psnr"] - 1e-9
    assert all(row["pairs"] == 6 for row in table)
    assert len(found.gallery.samples) == 6 * 6
    assert "rma" in found.sections[0].html
    found.gallery.plot(tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size > 5000
