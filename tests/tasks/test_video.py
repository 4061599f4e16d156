"""Task video end to end: train, resume with other weights, evaluate with views, predict; what is refused."""

import csv
import json

import numpy as np
import pytest
import torch

from saccade.cli.main import main
from saccade.data.config import AugmentConfig, DataConfig
from saccade.engine.evaluate.evaluate import evaluate
from saccade.engine.evaluate.probe import probe
from saccade.engine.predict import predict
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe
from saccade.errors import ConfigError, DataError
from saccade.models.video_swin import VideoSwin
from saccade.tasks import LossContext, get_task
from saccade.tasks.open import load_model
from saccade.tasks.video.task import VideoSettings, video_preprocess_of
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model

from ..data.videos import write_video

SMALL = {"dim": 24, "depths": [1, 1], "heads": [1, 2], "window": [4, 4, 4]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos that grow brighter or darker from the same range of greys: no frame tells which; one is damaged."""
    root = tmp_path_factory.mktemp("videos")
    times = [k / 10 for k in range(8)]
    for kind, way in (("up", 1), ("down", -1)):
        for n in range(6):
            side = "val" if n > 3 else "train"
            write_video(
                root / side / kind / f"{n}.mp4", times,
                level=lambda k, way=way, n=n: 100 + 3 * n + way * 12 * (2 * k - 7) // 2,
            )  # fmt: skip
    (root / "val" / "up" / "9.mp4").write_bytes(b"not a video")
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A network of clips trained on them, by the command."""
    out = tmp_path_factory.mktemp("run") / "run"
    flags = ["--model.options", json.dumps(SMALL), "--data.workers", "0", "--batch", "4", "--epochs", "12"]
    flags += ["--augment.scale", "[1.0, 1.0]", "--optim.lr", "3e-3", "--threads", "1", "--device", "cpu"]
    flags += ["--ema.decay", "0", "--loss.label_smoothing", "0", "--model.pretrained", "no", "--seed", "1"]
    command = [
        "train",
        "--task",
        "video",
        "--data",
        str(folder),
        "--model",
        "video_swin_tiny",
        "--frames",
        "4",
    ]
    assert main([*command, "--size", "16", "--out", str(out), *flags]) == 0
    return out


def test_learns_what_no_frame_shows(run):
    _, card = load_model(run)
    assert (card.task, card.labels) == ("video", ["down", "up"])
    assert (card.preprocess["frames"], card.preprocess["size"]) == (4, 16)
    assert card.numbers["top1"] == 1.0
    assert card.numbers["count"] == 4
    assert (run / "skipped.csv").read_text().count("\nup/9.mp4,") == 1


def test_eval_and_its_views(run, folder, capsys):
    assert main(["eval", "--weights", str(run), "--views", "4x3", "--threads", "1", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["top1"], values["count"], values["views"]) == (1.0, 4, "4x3")
    assert (run / "report.html").is_file()
    with pytest.raises(DataError, match="not one of the 2 classes"):
        evaluate(run, str(folder.parent), threads=1)
    with pytest.raises(ConfigError, match="run with torch; for onnx, export them first"):
        evaluate(run, backend="onnx")
    with pytest.raises(ConfigError, match="training samples come augmented only"):
        probe(run, str(folder))


def test_views_are_averaged_as_probabilities(run, folder):
    model, card = load_model(run)
    task = get_task("video")
    data = task.open(DataConfig(source=str(folder), views="4x3"), AugmentConfig(), card, seed=0, train=False)
    batch = task.collate([data.val[0], data.val[2]])
    assert batch["image"].shape == (24, 4, 3, 16, 16)
    with torch.no_grad():
        joined = task.run(model, batch)
        shares = model(batch["image"]).softmax(1).view(2, 12, 2).mean(1)
    assert torch.allclose(joined.exp(), shares, atol=1e-6)
    metrics = task.metrics(card)
    metrics.update(joined, batch)
    assert metrics.compute()["count"] == 2
    assert [row["label"] for row in task.rows(joined, batch, card, VideoSettings())] == ["down", "up"]


def test_predict_writes_a_row_for_each_video_and_resumes(run, folder, tmp_path, monkeypatch):
    out = tmp_path / "rows.csv"
    calls = []

    def stop(done, total):
        calls.append((done, total))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(str(folder / "val"), run, out, batch=2, threads=1, progress=stop)
    done = predict(str(folder / "val"), run, out, batch=2, threads=1, topk=1)
    assert (done.resumed, done.rows) == (4, 4)
    assert [name for name, _ in done.skipped] == ["up/9.mp4"]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["name"].startswith(row["label"]) for row in rows)
    assert (
        main(["predict", str(folder / "val"), "--weights", str(run), "--out", str(tmp_path / "r.npz")]) == 0
    )
    with np.load(tmp_path / "r.npz") as found:
        assert found["logits"].shape == (4, 2)


def test_a_run_continues_from_a_classifier(folder, tmp_path):
    torch.manual_seed(0)
    picture = create_model("shvit_s1", num_classes=7)
    save_weights(picture, tmp_path / "picture.safetensors")
    flags = {"task": "video", "data.source": str(folder), "data.size": 32, "data.frames": 2, "data.batch": 4}
    flags |= {
        "model.weights": str(tmp_path / "picture.safetensors"),
        "model.name": "shvit_s1",
        "run.max_steps": 1,
    }
    flags |= {"data.workers": 0, "optim.lr": 1e-9, "ema.decay": 0.0, "run.device": "cpu", "run.threads": 1}
    said = []
    train(build_recipe("video_small", "", flags)[0], tmp_path / "run", log=said.append)
    assert any("gives the backbone" in line for line in said)
    model, card = load_model(tmp_path / "run")
    assert (card.head, card.head_options) == ("transformer", {"frames": 2})
    learned = model.backbone.net.stem[0].conv.weight
    assert torch.allclose(learned, picture.stem[0].conv.weight, atol=1e-6)
    with pytest.raises(ConfigError, match="train with --model shvit_s1"):
        train(build_recipe("video_small", "", flags | {"model.name": "shvit_s2"})[0], tmp_path / "no")


def test_weights_of_the_image_form_are_spread_over_time():
    task = get_task("video")
    card = Card(
        "stvit_video_swin_tiny", {"dim": 24, "heads": [1, 2, 4, 8], "image_blocks": 4}, 3, task="video"
    )
    model = task.build(card)
    assert isinstance(model, VideoSwin)
    found = Card("stvit_swin_tiny", {}, 3)
    assert task.takes(found, card)
    assert not task.takes(Card("stvit_swin_small", {}, 3), card)
    assert not task.takes(Card("shvit_s1", {}, 3), card)
    with torch.device("meta"):
        usual = create_model("stvit_swin_tiny")
        clips = create_model("stvit_video_swin_tiny")
    with pytest.raises(ConfigError, match="behind 4 blocks and the network of clips behind 3"):
        task.adopt(clips, usual, found)
    with pytest.raises(ConfigError, match="for the task detect cannot start"):
        task.adopt(clips, usual, Card("stvit_swin_tiny", task="detect"))


def test_rates_loss_and_example_inputs():
    task = get_task("video")
    card = Card("video_swin_tiny", {**SMALL, "head_rate": 10.0}, 3, task="video")
    card.preprocess = {"size": 16, "frames": 6}
    (x,) = task.example(card, batch=2)
    assert x.shape == (2, 6, 3, 16, 16)
    model = task.build(card)
    assert model.rate_scales() == {"head.weight": 10.0, "head.bias": 10.0}
    loss = task.loss(model, {"image": x, "label": torch.tensor([0, 2])}, LossContext(0.0))["loss"]
    assert loss.item() == pytest.approx(float(np.log(3)), abs=0.2)
    mixed = task.mix({"image": x, "label": torch.tensor([0, 2])}, AugmentConfig(cutmix=1.0), card, seed=1)
    assert mixed["image"].shape == x.shape
    assert mixed["target"].sum(1).tolist() == pytest.approx([1, 1])


def test_defaults_follow_the_network_and_the_user():
    assert video_preprocess_of(Card("video_swin_small")).frames == 32
    fields = video_preprocess_of(Card("stvit_deit_small"), DataConfig(frames=8, sampling="dense", step_s=0.5))
    assert (fields.frames, fields.size, fields.sampling, fields.step_s) == (8, 224, "dense", 0.5)
    kept = video_preprocess_of(Card("shvit_s1", preprocess={"frames": 5, "sampling": "dense"}), DataConfig())
    assert (kept.frames, kept.sampling) == (5, "dense")
    task = get_task("video")
    for card, words in (
        (Card("video_swin_tiny", head="mean"), "has no model.head"),
        (Card("shvit_s1", head="meen"), "did you mean 'mean'"),
    ):
        with pytest.raises(ConfigError, match=words):
            task.complete(card)
