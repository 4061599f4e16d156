"""Prediction of every task through one function and from Python: rows, raw outputs, early refusals."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.cli.main import main
from saccade.errors import ConfigError, DataError, ShapeError
from saccade.tasks.dense.nets import build_dense
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Weights of a classifier, a detector and a segmenter, and two pictures that are not square."""
    folder = tmp_path_factory.mktemp("room")
    torch.manual_seed(0)
    card = Card("shvit_s1", num_classes=3, labels=["a", "b", "c"], preprocess={"size": 32})
    save_weights(create_model("shvit_s1", num_classes=3), folder / "classify.safetensors", card)
    for head, task in (("retinanet", "detect"), ("semantic_fpn", "segment")):
        options = {"width": 8} | ({"score_threshold": 0.0} if task == "detect" else {})
        card = Card(
            "shvit_s1", num_classes=3, task=task, labels=["a", "b", "c"], head=head, head_options=options
        )
        card.preprocess = {"size": 64, "max_size": 128}
        save_weights(build_dense("shvit_s1", head, 3, **options), folder / f"{task}.safetensors", card)
    (folder / "pictures").mkdir()
    for number, size in enumerate(((40, 60), (70, 50))):
        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    return folder


def test_paths_pictures_arrays_and_tensors_get_the_same_answers(room):
    file = room / "pictures" / "0.png"
    with saccade.open_predictor(
        room / "classify.safetensors", backend="torch", threads=1, topk=2
    ) as predictor:
        picture = Image.open(file).convert("RGB")
        (row,) = predictor(file)
        assert list(row) == ["name", "label", "confidence", "label_2", "confidence_2"]
        rows = predictor([picture, np.array(picture), room / "pictures"])
        assert [one["name"] for one in rows[2:]] == ["0.png", "1.png"]
        for one in rows[:3]:
            assert (one["label"], one["confidence"]) == (
                row["label"],
                pytest.approx(row["confidence"], abs=1e-6),
            )
        images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        logits = predictor.outputs(images)
        assert logits.shape == (5, 3)
        assert torch.allclose(predictor.outputs(images[2]), logits[2:3], atol=1e-5)
        assert len(predictor(images)) == 5
        for wrong in (
            torch.zeros(5, 1, 32, 32),
            torch.zeros(3, 32, 32, dtype=torch.uint8),
            torch.zeros(3),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((4, 4)),
        ):
            with pytest.raises(ShapeError, match="expected"):
                predictor(wrong)
        with pytest.raises(DataError, match="no such file"):
            predictor(room / "nothing.png")


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_dense_rows_say_everything(room, task):
    file = room / "pictures" / "1.png"
    asked = {"threshold": 0.0} if task == "detect" else {}
    with saccade.open_predictor(room / f"{task}.safetensors", threads=1, **asked) as predictor:
        (row,) = predictor(file)
        (other,) = predictor(Image.open(file))
        assert (row["height"], row["width"]) == (70, 50)
        assert {**row, "name": ""} == {**other, "name": ""}
        if task == "detect":
            raw = predictor.outputs(file)[0]
            assert len(row["detections"]) > 1
            # Digits that are cut make ties, and with them another average precision than `eval` has.
            assert [np.float32(entry["score"]) for entry in row["detections"]] == raw["scores"].tolist()
        else:
            assert sum(row["shares"].values()) == pytest.approx(1, abs=0.01)


def test_predict_from_python(room, tmp_path):
    done = saccade.predict(
        room / "pictures", room / "detect.safetensors", tmp_path / "out", threads=2, threshold=0.0, draw=False
    )
    assert (done.rows, done.skipped, done.setting["workers"]) == (2, [], 2)
    rows = [json.loads(line) for line in done.out.read_text().splitlines()]
    assert [(row["height"], row["width"]) for row in rows] == [(40, 60), (70, 50)]
    assert not (tmp_path / "out" / "drawn").exists()


@pytest.mark.parametrize(
    ("task", "flags", "words"),
    [
        ("detect", ["--topk", 3], "unknown flag --topk"),
        ("detect", ["--frames", 3], "unknown flag --frames"),
        ("detect", ["--treshold", 0.5], "did you mean 'threshold'"),
        ("detect", ["--threshold", 1.5], "between 0 and 1"),
        ("detect", ["--precision", "int8"], "needs calibration"),
        ("detect", ["--backend", "onnx"], "saccade export"),
        ("segment", ["--threshold", 0.5], "unknown flag --threshold"),
        ("classify", ["--views", "4x3"], "unknown flag --views"),
        ("classify", ["--topk", 9], "between 1 and 5"),
        ("classify", ["--batch", -7], "batch is -7"),
        ("classify", ["--size", -7], "size is -7"),
        ("classify", ["--threads", -1], "--threads is -1"),
    ],
)
def test_what_a_task_does_not_have_is_refused_before_any_work(room, tmp_path, capsys, task, flags, words):
    out = tmp_path / ("out.csv" if task == "classify" else "out")
    weights = room / f"{task}.safetensors"
    argv = ["predict", room / "pictures", "--weights", weights, "--out", out, *flags]
    assert main([str(part) for part in argv]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_settings_of_another_task_from_python(room, tmp_path):
    with pytest.raises(ConfigError, match="the task detect has no setting topk"):
        saccade.predict(room / "pictures", room / "detect.safetensors", tmp_path / "out", topk=3)
    with pytest.raises(ConfigError, match="the task classify has no setting draw"):
        saccade.open_predictor(room / "classify.safetensors", backend="torch", draw=True)
