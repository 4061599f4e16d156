"""Segmentation as a task: metrics by hand, sizes, losses, and what is refused."""

import pytest
import torch
from torchmetrics.functional.segmentation import mean_iou

from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.scenes import scenes_folder
from saccade.errors import ConfigError, DataError
from saccade.tasks import get_task
from saccade.tasks.base import LossContext
from saccade.tasks.dense.task import DenseSettings
from saccade.tasks.segment import task as segment
from saccade.tasks.segment.task import SegmentMetrics, class_map
from saccade.weights import Card


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return str(scenes_folder(counts={"train": 5, "val": 4}, home=tmp_path_factory.mktemp("data") / "scenes"))


def opened(scenes, **data):
    task, card = get_task("segment"), Card("shvit_s1", task="segment")
    found = task.open(DataConfig(source=scenes, **data), AugmentConfig(geometry="crop"), card, seed=0)
    card.labels, card.num_classes, card.preprocess = found.labels, len(found.labels), found.preprocess
    return task, card, found


def batch_of(truths):
    return {
        "truth": truths,
        "size": torch.tensor([t.shape for t in truths]),
        "index": torch.arange(len(truths)),
    }


def test_marks_by_hand():
    truth = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 255]])
    answers = torch.tensor([[0, 0, 1, 0], [0, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(answers, 3).permute(2, 0, 1).float()
    metrics = SegmentMetrics(["a", "b", "c"])
    metrics.update(logits[None], batch_of([truth]))
    values = metrics.compute()
    assert values["aacc"] == pytest.approx(5 / 7)
    assert values["macc"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert values["miou"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert values["count"] == 1
    assert metrics.per_class()[2]["iou"] is None


def test_marks_equal_torchmetrics():
    generator = torch.Generator().manual_seed(2)
    truths = [torch.randint(0, 4, (9, 11), generator=generator) for _ in range(3)]
    logits = torch.randn(3, 4, 9, 11, generator=generator)
    metrics = SegmentMetrics(list("abcd"))
    metrics.update(logits, batch_of(truths))
    joined = torch.cat([truth.flatten() for truth in truths])[None]
    expected = mean_iou(logits.argmax(1).flatten()[None], joined, num_classes=4, input_format="index")
    assert metrics.compute()["miou"] == pytest.approx(float(expected), abs=1e-6)


def test_marks_join():
    generator = torch.Generator().manual_seed(0)
    truths = [torch.randint(0, 3, (6, 6), generator=generator) for _ in range(2)]
    logits = torch.randn(2, 3, 6, 6, generator=generator)
    whole, first, second = (SegmentMetrics(list("abc")) for _ in range(3))
    whole.update(logits, batch_of(truths))
    first.update(logits[:1], batch_of(truths[:1]))
    second.update(logits[1:], batch_of(truths[1:]) | {"index": torch.tensor([1])})
    first.merge([second])
    assert first.compute() == whole.compute()
    assert SegmentMetrics(["a"]).compute() == {"count": 0.0}


def test_the_padding_is_cut_off_and_the_file_size_restored():
    logits = torch.full((2, 64, 64), -5.0)
    logits[0, :40, :50] = 5.0
    logits[1, 40:] = logits[1, :, 50:] = 9.0
    found = class_map(logits, (40, 50), (80, 100))
    assert found.shape == (80, 100)
    assert not found.any()


def test_a_step_of_training_and_rows(scenes):
    task, card, found = opened(scenes, size=64)
    model = task.build(card)
    parts = task.loss(model, task.collate([found.train[i] for i in range(2)]), LossContext(0.0))
    parts["loss"].backward()
    assert torch.isfinite(parts["loss"])
    batch = task.collate([found.val[i] for i in range(2)])
    with torch.no_grad():
        rows = task.rows(model.eval()(batch["image"]), batch, card, DenseSettings())
    assert [row["name"] for row in rows] == batch["name"]
    assert sum(rows[0]["shares"].values()) == pytest.approx(1, abs=0.02)


def test_a_folder_without_parts_is_split(scenes, tmp_path):
    for name, source in (("images", "images/train"), ("masks", "semantic/train")):
        (tmp_path / name).symlink_to(f"{scenes}/{source}")
    (tmp_path / "classes.txt").write_text("\n".join("abcdefgh"))
    _task, _card, found = opened(str(tmp_path))
    assert (len(found.train), len(found.val)) == (4, 1)
    assert found.labels == list("abcdefgh")
    assert found.preprocess["size"] == 128
    (tmp_path / "classes.txt").unlink()
    assert opened(str(tmp_path))[2].labels[:2] == ["class 0", "class 1"]


def test_refuses(scenes, tmp_path):
    task = get_task("segment")
    with pytest.raises(ConfigError, match="mask_rcnn"):
        task.open(DataConfig(source=scenes), AugmentConfig(), Card("shvit_s1", head="mask_rcnn"), seed=0)
    with pytest.raises(DataError, match="no data"):
        task.open(DataConfig(), AugmentConfig(), Card("shvit_s1"), seed=0)
    with pytest.raises(DataError, match=r"8 classes \(sky, \.\.\.\) are not"):
        task.open(DataConfig(source=scenes), AugmentConfig(), Card("shvit_s1", labels=["a"]), seed=0)
    with pytest.raises(DataError, match="no such file or folder"):
        task.open(
            DataConfig(source=scenes, val=str(tmp_path / "gone")), AugmentConfig(), Card("shvit_s1"), seed=0
        )
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "masks" / "train").mkdir(parents=True)
    (tmp_path / "masks" / "train" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="class map of its name"):
        task.open(DataConfig(source=str(tmp_path)), AugmentConfig(), Card("shvit_s1"), seed=0)


def test_numbers_beyond_the_classes_are_named(scenes, tmp_path):
    for name, source in (("images", "images/train"), ("masks", "semantic/train")):
        (tmp_path / name).symlink_to(f"{scenes}/{source}")
    task, card = get_task("segment"), Card("shvit_s1", labels=list("abc"))
    found = task.open(DataConfig(source=str(tmp_path)), AugmentConfig(), card, seed=0)
    assert "is no class; expected 0 to 2 of the 3 classes" in found.val[0]["skipped"][0][1]


def test_class_maps_of_large_files_are_the_same_in_pieces(monkeypatch):
    logits = torch.randn(7, 12, 10, generator=torch.Generator().manual_seed(0))
    whole = class_map(logits, (11, 9), (40, 50))
    monkeypatch.setattr(segment, "MAX_GROWN", 2 * 40 * 50)
    assert torch.equal(class_map(logits, (11, 9), (40, 50)), whole)
