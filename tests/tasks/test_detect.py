"""Detection as a task: COCO's metrics against pycocotools, losses, splits, and what is refused."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.scenes import scenes_folder
from saccade.errors import ConfigError, DataError
from saccade.tasks import get_task
from saccade.tasks.base import LossContext
from saccade.tasks.dense.nets.paste import to_file
from saccade.tasks.detect.task import DetectMetrics, DetectSettings
from saccade.weights import Card

SMALL = {"width": 16, "fc_width": 16, "mask_width": 8, "mask_convs": 1, "samples": 8, "proposals": 20}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return str(scenes_folder(counts={"train": 5, "val": 6}, home=tmp_path_factory.mktemp("data") / "scenes"))


def opened(scenes, head="mask_rcnn", **data):
    task, card = get_task("detect"), Card("shvit_s1", task="detect", head=head)
    found = task.open(DataConfig(source=scenes, size=64, **data), AugmentConfig(), card, seed=0)
    card.labels, card.num_classes, card.preprocess = found.labels, len(found.labels), found.preprocess
    return task, card, found


def noisy_answers(batch, rng):
    """The truth, moved, lost, doubled and mislabelled at random."""
    answers = []
    for truth, size in zip(batch["truth"], batch["size"].tolist(), strict=True):
        scale = np.array([size[1] / truth["size"][1], size[0] / truth["size"][0]] * 2)
        keep = np.flatnonzero(rng.random(len(truth["labels"])) < 0.8)
        keep = np.concatenate([keep, keep[:1]])
        boxes = truth["boxes"][keep] * scale + rng.normal(0, 0.6, (len(keep), 4))
        labels = np.where(
            rng.random(len(keep)) < 0.85, truth["labels"][keep], (truth["labels"][keep] + 1) % 4
        )
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        found = {"boxes": boxes, "scores": rng.random(len(keep)), "masks": rng.random((len(keep), 28, 28))}
        answer = {name: torch.tensor(value, dtype=torch.float32) for name, value in found.items()}
        answers.append(answer | {"labels": torch.tensor(labels)})
    return answers


def test_marks_equal_pycocotools(scenes):
    task, card, found = opened(scenes)
    metrics = task.metrics(card)
    rng = np.random.default_rng(3)
    for start in (0, 3):
        batch = task.collate([found.val[i] for i in range(start, start + 3)])
        metrics.update(noisy_answers(batch, rng), batch)
    values = metrics.compute()
    reference = COCO()
    reference.dataset = json.loads(
        json.dumps(
            {
                "images": metrics.pictures,
                "annotations": [{"id": n + 1, **entry} for n, entry in enumerate(metrics.truth)],
                "categories": [{"id": n, "name": name} for n, name in enumerate(card.labels)],
            }
        )
    )
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        for kind, prefix in (("bbox", ""), ("segm", "mask_")):
            run = COCOeval(reference, reference.loadRes([dict(entry) for entry in metrics.found]), kind)
            run.evaluate()
            run.accumulate()
            run.summarize()
            for name, value in zip(names, run.stats[:6], strict=True):
                if value > -1:
                    assert values[prefix + name] == pytest.approx(value, abs=1e-9)
                else:
                    assert prefix + name not in values
            assert values[f"{prefix}recall"] == pytest.approx(run.stats[8], abs=1e-9)
    assert 0.1 < values["ap50"] < 1
    rows = metrics.per_class()
    assert [row["label"] for row in rows] == card.labels
    present = [row["ap"] for row in rows if row["ap"] is not None]
    assert np.mean(present) == pytest.approx(values["ap"])


def test_perfect_answers_get_full_marks_and_none_get_none(scenes):
    task, card, found = opened(scenes, head="retinanet")
    batch = task.collate([found.val[i] for i in range(4)])
    perfect, nothing = [], []
    for truth in batch["truth"]:
        boxes = torch.from_numpy(truth["boxes"]) / 2
        perfect.append(
            {"boxes": boxes, "labels": torch.from_numpy(truth["labels"]), "scores": torch.ones(len(boxes))}
        )
        nothing.append(
            {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
        )
    for answers, ap in ((perfect, 1.0), (nothing, 0.0)):
        metrics = task.metrics(card)
        metrics.update(answers, batch)
        values = metrics.compute()
        assert values["ap"] == pytest.approx(ap)
        assert values["count"] == 4


def test_marks_of_two_processes_join_and_count_a_picture_once(scenes):
    task, card, found = opened(scenes, head="retinanet")
    whole, parts = task.metrics(card), [task.metrics(card), task.metrics(card)]
    rng = np.random.default_rng(0)
    for number, indices in enumerate([(0, 1), (2, 3)]):
        batch = task.collate([found.val[i] for i in indices])
        answers = noisy_answers(batch, rng)
        for answer in answers:
            answer.pop("masks")
        whole.update(answers, batch)
        parts[number].update(answers, batch)
        if number == 0:
            parts[1].update(answers, batch)
    parts[0].merge(parts[1:])
    assert parts[0].compute() == pytest.approx(whole.compute())


def test_masks_and_boxes_go_back_to_the_file():
    detection = {
        "boxes": torch.tensor([[10.0, 5.0, 30.0, 25.0], [35.0, 25.0, 60.0, 50.0]]),
        "labels": torch.tensor([0, 1]),
        "scores": torch.tensor([0.9, 0.8]),
        "masks": torch.ones(2, 28, 28),
    }
    moved = to_file(detection, (40, 50), (80, 100))
    assert moved["boxes"].tolist() == [[20, 10, 60, 50], [70, 50, 100, 80]]
    assert moved["masks"].shape == (2, 80, 100)
    assert moved["masks"][0, 12:48, 22:58].all()
    assert not moved["masks"][0, :8].any()
    empty = {name: value[:0] for name, value in detection.items()}
    assert to_file(empty, (40, 50), (80, 100))["masks"].shape == (0, 80, 100)


def test_a_step_of_training(scenes):
    task, card, found = opened(scenes)
    card.head_options = SMALL
    model = task.build(card)
    batch = task.collate([found.train[i] for i in range(2)])
    parts = task.loss(model, batch, LossContext(0.0))
    total = sum(value for name, value in parts.items() if name != "loss")
    assert float(parts["loss"].detach()) == pytest.approx(float(total.detach()), rel=1e-5)
    parts["loss"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    one = task.collate([found.val[0]])
    (row,) = task.rows(noisy_answers(one, np.random.default_rng(1)), one, card, DetectSettings(threshold=0.0))
    assert row["name"] == found.val.names[0]
    assert (row["height"], row["width"]) == one["truth"][0]["size"]
    assert {entry["label"] for entry in row["detections"]} <= set(card.labels)
    scores = [entry["score"] for entry in row["detections"]]
    assert len(scores) == len(one["truth"][0]["boxes"]) or len(scores) > 0


def test_one_file_is_split(scenes, tmp_path):
    path = f"{scenes}/annotations/instances_train.json"
    task, card, found = opened(path)
    assert (len(found.train), len(found.val)) == (4, 1)
    assert not set(found.train.names) & set(found.val.names)
    held = task.open(DataConfig(source=path), AugmentConfig(), card, seed=0, train=False)
    assert held.train is None
    assert list(held.val.names) == list(found.val.names)


def test_sizes_follow_the_pictures(scenes):
    task, card = get_task("detect"), Card("shvit_s1", task="detect")
    assert task.open(DataConfig(source=scenes), AugmentConfig(), card, seed=0).preprocess["size"] == 128
    card.preprocess = {"size": 96, "max_size": 200}
    found = task.open(DataConfig(source=scenes), AugmentConfig(), card, seed=0)
    assert (found.preprocess["size"], found.preprocess["max_size"]) == (96, 200)


def test_refuses(scenes, tmp_path):
    task = get_task("detect")
    for head, words in (("semantic_fpn", "no head 'semantic_fpn'"), ("retina", "retinanet")):
        with pytest.raises(ConfigError, match=words):
            task.open(DataConfig(source=scenes), AugmentConfig(), Card("shvit_s1", head=head), seed=0)
    with pytest.raises(DataError, match="no data"):
        task.open(DataConfig(), AugmentConfig(), Card("shvit_s1"), seed=0)
    with pytest.raises(DataError, match="no such file or folder; the built-in data of detect is scenes"):
        task.open(DataConfig(source="scene"), AugmentConfig(), Card("shvit_s1"), seed=0)
    path = tmp_path / "boxes_only.json"
    content = json.loads(Path(f"{scenes}/annotations/instances_train.json").read_text())
    for entry in content["annotations"]:
        del entry["segmentation"]
    path.write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(f"{scenes}/images/train")
    with pytest.raises(DataError, match="no object has an outline"):
        task.open(DataConfig(source=str(path)), AugmentConfig(), Card("shvit_s1"), seed=0)
    assert len(
        task.open(
            DataConfig(source=str(path)), AugmentConfig(), Card("shvit_s1", head="retinanet"), seed=0
        ).val
    )
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="every object is a crowd region"):
        task.open(DataConfig(source=str(path)), AugmentConfig(), Card("shvit_s1", head="retinanet"), seed=0)


def test_adopts_a_classifier(scenes):
    from saccade import create_model

    task, card, _ = opened(scenes, head="retinanet")
    old = create_model("shvit_s1", num_classes=7)
    model = task.build(card)
    task.adopt(model, old, Card("shvit_s1", num_classes=7))
    wanted = old.state_dict()
    shared = {name: value for name, value in model.backbone.state_dict().items() if name in wanted}
    assert len(shared) > 100
    assert all(torch.equal(value, wanted[name]) for name, value in shared.items())
    with pytest.raises(ConfigError, match="restore"):
        task.adopt(model, old, Card("srvit_swift", task="restore"))


def test_no_marks_without_pictures():
    assert DetectMetrics(["a"]).compute()["count"] == 0
