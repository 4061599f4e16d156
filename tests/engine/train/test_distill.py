"""Teachers with a transform and an order of classes of their own, as training feeds them."""

import dataclasses

import pytest
import torch

from saccade.engine.train.distill import build_teacher
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe
from saccade.errors import ConfigError
from saccade.tasks import get_task
from saccade.tasks.open import build_model
from saccade.weights import Card
from saccade.zoo.loading import save_weights

OWN = {
    "size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.25, 0.5],
    "crop_pct": 1.0,
    "interpolation": "bicubic",
}
STUDENT = {"size": 48, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.fixture
def teacher(tmp_path):
    """A weights file, and its network: made for 32 pixels, with its own statistics."""
    torch.manual_seed(0)
    card = Card(
        "timm/test_vit2",
        {"img_size": 32},
        num_classes=3,
        labels=["blue", "green", "red"],
        preprocess=dict(OWN),
    )
    net = build_model(card).eval()
    torch.nn.init.normal_(net.head.weight)
    save_weights(net, tmp_path / "teacher.safetensors", card)
    return tmp_path / "teacher.safetensors", net, card


def student(**changes):
    """Describe a student of the same classes with another transform."""
    card = Card("shvit_s1", num_classes=3, labels=["blue", "green", "red"], preprocess=dict(STUDENT))
    return dataclasses.replace(card, **changes)


def normalised(pixels, fields):
    """Normalise pixels in [0, 1], (batch, C, height, width)."""
    mean, std = (torch.tensor(fields[name]).view(-1, 1, 1) for name in ("mean", "std"))
    return (pixels - mean) / std


def test_a_teacher_sees_pixels_by_its_own_statistics(teacher):
    path, net, _ = teacher
    pixels = torch.rand(4, 3, 32, 32)
    built = build_teacher(str(path), student(preprocess={**STUDENT, "size": 32}), "cpu")
    with torch.no_grad():
        found = built(normalised(pixels, STUDENT))
        expected, as_before = net(normalised(pixels, OWN)), net(normalised(pixels, STUDENT))
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(as_before, expected, atol=1e-2)


def test_a_teacher_of_another_size_sees_the_picture_at_its_own(teacher):
    """A transformer of 32 pixels could not even take 48."""
    path, net, _ = teacher
    pixels = torch.rand(4, 3, 12, 12).repeat_interleave(4, 2).repeat_interleave(4, 3)
    small = torch.nn.functional.interpolate(pixels, (32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        found = build_teacher(str(path), student(), "cpu")(normalised(pixels, STUDENT))
        assert torch.allclose(found, net(normalised(small, OWN)), atol=1e-3)


def test_the_same_transform_leaves_the_pixels_alone(teacher):
    path, _, card = teacher
    built = build_teacher(str(path), student(preprocess=dict(card.preprocess)), "cpu")
    images = torch.randn(2, 3, 32, 32)
    assert built.adapt(images) is images


def test_answers_come_in_the_order_of_the_students_classes(teacher):
    path, _, card = teacher
    same = student(preprocess=dict(card.preprocess))
    other = dataclasses.replace(same, labels=["red", "blue", "green"])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        first, second = (build_teacher(str(path), one, "cpu")(images) for one in (same, other))
    assert torch.equal(second, first[:, [2, 0, 1]])


def test_a_teacher_of_other_classes_is_refused(teacher):
    path, *_ = teacher
    with pytest.raises(ConfigError, match=r"knows other classes \(green, red\) than the data \(cat, dog\)"):
        build_teacher(str(path), student(labels=["blue", "cat", "dog"]), "cpu")
    with pytest.raises(ConfigError, match="knows 3 classes and the data has 2"):
        build_teacher(str(path), student(labels=["blue", "red"], num_classes=2), "cpu")


def test_a_teacher_without_names_is_said_to_be_taken_in_order(teacher, tmp_path):
    _, net, card = teacher
    save_weights(net, tmp_path / "unnamed.safetensors", dataclasses.replace(card, labels=[]))
    said = []
    build_teacher(str(tmp_path / "unnamed.safetensors"), student(), "cpu", said.append)
    (line,) = said
    assert line.endswith("taken to be in the order of the data's: blue, green, red")


def test_grey_and_coloured_networks_teach_each_other(tmp_path):
    labels, grey = ["a", "b"], {"size": 32, "mean": [0.4], "std": [0.2]}
    colour = {"size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    pixels = torch.rand(2, 1, 32, 32)
    for chans, own, theirs in ((3, colour, grey), (1, grey, colour)):
        torch.manual_seed(0)
        card = Card("timm/test_vit2", {"img_size": 32}, 2, chans, labels=labels, preprocess=own)
        net = build_model(card).eval()
        torch.nn.init.normal_(net.head.weight)
        path = tmp_path / f"{chans}.safetensors"
        save_weights(net, path, card)
        built = build_teacher(str(path), student(labels=labels, num_classes=2, preprocess=theirs), "cpu")
        shown = pixels.expand(-1, len(theirs["mean"]), -1, -1)  # a grey picture is the same in both
        with torch.no_grad():
            expected = net(normalised(pixels.expand(-1, chans, -1, -1), own))
            assert torch.allclose(built(normalised(shown, theirs)), expected, atol=1e-4)


def test_only_tasks_that_learn_from_a_teacher_take_one(teacher):
    path, *_ = teacher
    with pytest.raises(
        ConfigError, match=r"the task detect learns from no teacher; set loss\.distill to none"
    ):
        build_teacher(str(path), student(task="detect"), "cpu")
    assert [name for name in ("classify", "video", "segment") if get_task(name).distils] == [
        "classify",
        "video",
    ]
    with pytest.raises(ConfigError, match="is for the task classify, and this run for video"):
        build_teacher(str(path), student(task="video"), "cpu")


def test_training_feeds_the_teacher_so(settings_for, tmp_path):
    """A transformer of 32 pixels teaches a network of 48, with its classes in another order."""
    torch.manual_seed(1)
    card = Card(
        "timm/test_vit2", {"img_size": 32}, num_classes=2, labels=["red", "blue"], preprocess=dict(OWN)
    )
    net = build_model(card).eval()
    save_weights(net, tmp_path / "teacher.safetensors", card)
    said = []
    flags = {"loss__distill": "soft", "loss__teacher": str(tmp_path / "teacher.safetensors")}
    small = settings_for(**flags, run__max_steps=2, model__name="shvit_s1", model__options={}, data__size=48)
    result = train(build_recipe("", "", small)[0], tmp_path / "run", log=said.append)
    assert result.steps == 2
    assert "loss_teacher" in (tmp_path / "run/log.jsonl").read_text()
