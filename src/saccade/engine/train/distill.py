"""The teacher of a distillation: any timm model, run folder or weights file, frozen, fed as it was trained.

A teacher has a normalisation, a size and an order of classes of its own. The student's batch is brought to the first
two on the device, and the teacher's answers to the student's order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.tasks import get_task
from saccade.tasks.open import is_name, load_model
from saccade.weights import Card, Source
from saccade.zoo.labels import read_labels
from saccade.zoo.registry import create_model, published_labels

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, as Pillow has them."""
SHOWN = 3
"""So many class names stand in a message."""


class Teacher(nn.Module):
    """A frozen network that takes the student's inputs and answers in the order of the student's classes."""

    mean: Tensor
    std: Tensor
    own_mean: Tensor
    own_std: Tensor
    luma: Tensor
    order: Tensor | None

    def __init__(
        self, net: nn.Module, own: dict[str, Any], student: dict[str, Any], order: list[int] | None = None
    ) -> None:
        """Wrap a network.

        Args:
            net: Maps (batch, C, S, S) pictures, or (batch, T, C, S, S) clips, to (batch, classes).
            own: Its evaluation transform: size, mean, std and, for pictures, interpolation.
            student: The transform by which the batches are made.
            order: For each class of the student, its place among the teacher's; None: the same.
        """
        super().__init__()
        self.net, self.size = net, int(own["size"])
        self.filter = own.get("interpolation", "bicubic")
        mean, std = _statistics(student)
        own_mean, own_std = _statistics(own)
        self.grey = len(own_mean) == 1 and len(mean) == 3
        self.same = torch.equal(mean, own_mean) and torch.equal(std, own_std)
        for name, values in (("mean", mean), ("std", std), ("own_mean", own_mean), ("own_std", own_std)):
            self.register_buffer(name, values.view(-1, 1, 1))
        self.register_buffer("luma", torch.tensor(LUMA).view(-1, 1, 1))
        self.register_buffer("order", None if order is None else torch.tensor(order))

    def forward(self, images: Tensor) -> Tensor:
        """Answer a batch of the student's: (batch, classes) in the student's order."""
        outputs = self.net(self.adapt(images))
        return outputs if self.order is None else outputs[:, self.order]

    def adapt(self, images: Tensor) -> Tensor:
        """Bring a batch to the teacher's normalisation, channels and size; as it is where nothing differs."""
        if not self.same:
            images = images * self.std + self.mean
            if self.grey:
                images = (images * self.luma).sum(-3, keepdim=True)
            images = (images - self.own_mean) / self.own_std
        if images.shape[-2:] == (self.size, self.size):
            return images
        pictures = images.reshape(-1, *images.shape[-3:])
        mode = self.filter if self.filter in ("bilinear", "nearest") else "bicubic"
        smooth = {} if mode == "nearest" else {"antialias": True}
        pictures = F.interpolate(pictures.float(), (self.size, self.size), mode=mode, **smooth)
        return pictures.reshape(*images.shape[:-2], self.size, self.size)


def build_teacher(
    source: str, student: Card, device: torch.device | str, log: Callable[[str], None] = lambda line: None
) -> Teacher:
    """Build a frozen network in evaluation mode on `device`.

    Args:
        source: `timm/NAME` or one of our model names (published weights are fetched), a run folder or a
            weights file, with its model and labels where it does not say them (`saccade.Source`).
        student: Card of the network that learns: task, classes in order, evaluation transform.
        device: Where it runs.
        log: Takes lines for the user.

    Raises:
        ConfigError: The student's task has no distillation, or the teacher does something else or has other classes.
        WeightsError: Its weights cannot be had; a teacher without trained weights teaches nothing.
    """
    task = get_task(student.task)
    if not task.distils:
        raise ConfigError(
            f"loss.distill: the task {student.task} learns from no teacher; set loss.distill to none"
        )
    asked = Source(source)
    if is_name(asked):
        # With the classes of its published head: a fresh head would teach noise.
        net = create_model(asked.weights, pretrained=True)
        card = Card(asked.weights, num_classes=int(getattr(net, "num_classes", student.num_classes)))
        card.labels = published_labels(card.num_classes)
        if set(card.labels) != set(student.labels):
            card.labels = []  # published classes have several ways of being named
        if asked.labels:
            card.labels = read_labels(asked.labels, card.num_classes)
    else:
        net, card = load_model(source)
    if card.task != student.task:
        raise ConfigError(
            f"loss.teacher: {source} is for the task {card.task}, and this run for {student.task}"
        )
    if card.num_classes != student.num_classes:
        raise ConfigError(
            f"loss.teacher: {source} knows {card.num_classes} classes and the data has {student.num_classes}; "
            "fine-tune a teacher on this data first and pass its run folder"
        )
    own, theirs = task.preprocess(card), student.preprocess
    if own.get("frames") != theirs.get("frames"):
        raise ConfigError(
            f"loss.teacher: {source} takes {own.get('frames')} frames and the student {theirs.get('frames')}; "
            "give both as many"
        )
    order = _order(source, card.labels, student.labels, log)
    teacher = Teacher(net, own, theirs, order)
    return teacher.to(device).eval().requires_grad_(False)


def _order(source: str, own: list[str], wanted: list[str], log: Callable[[str], None]) -> list[int] | None:
    """Find each of the student's classes among the teacher's; None where the order is the same or unknown.

    Raises:
        ConfigError: Other names.
    """
    if not own or not wanted:
        shown = ", ".join(wanted[:SHOWN]) + (", ..." if len(wanted) > SHOWN else "")
        log(
            f"{source} does not name its classes as the data does, so they are taken to be in the order of the "
            f"data's: {shown}"
        )
        return None
    if own == wanted:
        return None
    if len(set(own)) != len(own) or set(own) != set(wanted):
        other = sorted(set(own) - set(wanted)) or own
        missing = sorted(set(wanted) - set(own)) or wanted
        raise ConfigError(
            f"loss.teacher: {source} knows other classes ({', '.join(other[:SHOWN])}) than the data "
            f"({', '.join(missing[:SHOWN])}); fine-tune a teacher on this data first and pass its run folder"
        )
    place = {name: number for number, name in enumerate(own)}
    return [place[name] for name in wanted]


def _statistics(transform: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return mean and std of a transform, (C,) each."""
    return torch.tensor(transform["mean"]), torch.tensor(transform["std"])
