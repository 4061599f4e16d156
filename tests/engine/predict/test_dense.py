"""Folders predicted by detectors and segmenters: rows, maps and drawings, resuming, odd and unreadable files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.data.outlines import run_lengths
from saccade.engine.predict import predict
from saccade.errors import ConfigError, DataError
from saccade.tasks.dense.draw import colour_of, draw_detections, draw_map
from saccade.tasks.dense.nets import build_dense
from saccade.weights import Card
from saccade.zoo.loading import save_weights

SMALL = {"width": 8, "fc_width": 8, "mask_width": 8, "mask_convs": 1, "proposals": 10, "score_threshold": 0.0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for head, task, options in (("mask_rcnn", "detect", SMALL), ("semantic_fpn", "segment", {"width": 8})):
        torch.manual_seed(0)
        card = Card(
            "shvit_s1", num_classes=3, task=task, labels=["a", "b", "c"], head=head, head_options=options
        )
        card.preprocess = {"size": 64, "max_size": 128}
        save_weights(build_dense("shvit_s1", head, 3, **options), folder / f"{task}.safetensors", card)
    return folder


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    home = tmp_path / "pictures"
    (home / "more").mkdir(parents=True)
    for name, size in (("one.png", (50, 80)), ("more/one.jpg", (90, 60)), ("zwei.png", (64, 64))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(home / name)
    (home / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    return home


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_detections(weights, pictures, tmp_path):
    out = tmp_path / "out"
    done = predict(str(pictures), weights / "detect.safetensors", out, threshold=0.0)
    assert (done.rows, len(done.skipped)) == (3, 1)
    rows = lines(out / "predictions.jsonl")
    assert len(rows) == 3
    for row in rows:
        assert row["detections"]
        for found in row["detections"]:
            assert found["label"] in "abc"
            x0, y0, x1, y1 = found["box"]
            assert 0 <= x0 <= x1 <= row["width"]
            assert 0 <= y0 <= y1 <= row["height"]
            assert run_lengths(found["mask"], (row["height"], row["width"])) is not None
    assert len(list((out / "drawn").glob("*.png"))) == 3
    assert not (out / "maps").exists()


def test_class_maps(weights, pictures, tmp_path):
    out = tmp_path / "out"
    predict(str(pictures), weights / "segment.safetensors", out)
    for row in lines(out / "predictions.jsonl"):
        classes = np.array(Image.open(out / row["map"]))
        assert classes.shape == (row["height"], row["width"])
        assert classes.max() < 3
        assert sum(row["shares"].values()) == pytest.approx(1, abs=0.01)


def test_goes_on_where_it_stopped(weights, pictures, tmp_path):
    out, seen = tmp_path / "out", []

    def stop(done, total):
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    call = {"weights": weights / "segment.safetensors", "out": out, "draw": False}
    with pytest.raises(KeyboardInterrupt):
        predict(str(pictures), progress=stop, **call)
    assert not (out / "predictions.jsonl").exists()
    with pytest.raises(ConfigError):
        predict(str(pictures), **{**call, "draw": True})
    done = predict(str(pictures), **call)
    assert done.resumed == 2
    assert len(lines(out / "predictions.jsonl")) == 3


def test_refuses(weights, pictures, tmp_path):
    source = weights / "detect.safetensors"
    with pytest.raises(ConfigError, match="without a suffix"):
        predict(str(pictures), source, tmp_path / "rows.csv")
    with pytest.raises(ConfigError, match="threshold"):
        predict(str(pictures), source, tmp_path / "out", threshold=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        predict(str(tmp_path / "empty"), source, tmp_path / "out")


def test_drawings():
    picture = Image.new("RGB", (600, 500), (0, 0, 0))
    mask = torch.zeros(1, 500, 600, dtype=torch.bool)
    mask[0, 200:300, 200:300] = True
    found = {"boxes": torch.tensor([[200.0, 200, 300, 300]]), "labels": torch.tensor([1]), "masks": mask}
    drawn = np.array(draw_detections(picture, found | {"scores": torch.tensor([0.9])}, ["a", "b"]))
    assert drawn.shape == (500, 600, 3)
    assert tuple(drawn[299, 250]) == colour_of(1)
    inside = drawn[280, 280].astype(float)
    assert np.allclose(inside, 0.45 * np.array(colour_of(1)), atol=1)
    hidden = draw_detections(picture, found | {"scores": torch.tensor([0.1])}, ["a", "b"])
    assert not np.array(hidden).any()
    small = draw_map(Image.new("RGB", (40, 30)), torch.ones(30, 40, dtype=torch.int64), ["a", "b"])
    assert min(small.size) >= 480
    assert np.allclose(np.array(small)[-1, -1], 0.55 * np.array(colour_of(1)), atol=1)
    assert len({colour_of(number) for number in range(150)}) > 100
