"""Classification: one label a picture. Its losses, its metrics, its rows."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from saccade.data.augment import build_augmentation
from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.dataset import ImageDataset, collate
from saccade.data.loader import make_dataset
from saccade.data.mix import mix_batch
from saccade.data.opening import is_divided, kind_of, open_pair, open_source
from saccade.data.preprocess import Preprocess
from saccade.data.shards import ShardStream, need_local
from saccade.data.source import NO_LABEL, Source
from saccade.errors import ConfigError, DataError, ShapeError
from saccade.files import within
from saccade.nn.modules import Headed
from saccade.tasks.base import (
    Batch,
    LossContext,
    Metrics,
    PredictSettings,
    Samples,
    Section,
    Task,
    TaskData,
    unnamed,
)
from saccade.tasks.classify.measures import BINS, class_table, macro_f1, metric_intervals
from saccade.tasks.classify.report import Mistakes, sections_of
from saccade.tasks.evaluation import Evaluation
from saccade.tasks.intervals import Interval
from saccade.weights.card import Card
from saccade.zoo.loading import identify
from saccade.zoo.registry import create_model

TOP = 5
"""How many answers a row lists and `top5` looks at."""


@dataclass
class ClassifySettings(PredictSettings):
    """What a classifier can be asked."""

    topk: Annotated[int, within(1, TOP)] = 1
    """Answers in each row, 1 to 5."""
    max_pixels: Annotated[int, within(1)] = DataConfig.max_pixels
    """Larger pictures are skipped."""


class Classify(Task):
    """Picture in, one of `card.labels` out."""

    name = "classify"
    main_metric = "top1"
    distils = True
    text_lists = True
    phones = True
    measured = True
    sparsifies = True
    labelled_pictures = True
    predict_settings: ClassVar[type[PredictSettings]] = ClassifySettings

    def shipped_recipe(self, data: str, model: str | None) -> str:
        """Digits must not be mirrored; anything else is a small folder of photographs."""
        return "digits" if data == "digits" else "finetune_small"

    metric_names: ClassVar = {
        "top1": "Top-1 accuracy %",
        "top5": "Top-5 accuracy %",
        "macro_f1": "Macro F1",
        "class_mean": "Mean recall",
        "ece": "Calibration error %",
        "loss": "Log loss",
    }

    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the fields of a `Preprocess`."""
        return preprocess_of(card).to_dict()

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Find and split the pictures.

        Args:
            data: Where they are. Its `size`, when set, takes the place of the card's.
            augment: What is done to training pictures.
            card: Its `labels`, when it has any, fix the classes; its `preprocess` the evaluation transform.
            seed: Of the split, when one has to be made.
            train: False: open only validation pictures (`data.val`, else the validation side of `source`).
        """
        preprocess = preprocess_of(card, data.size)
        labels = card.labels or None
        if not train:
            val = open_source(data.val or data.source, part="val", labels=labels)
            dataset = make_dataset(val, preprocess, max_pixels=data.max_pixels)
            return TaskData(None, dataset, list(labels or val.labels), preprocess.to_dict(), list(val.notes))
        pair = open_pair(data, seed=seed, labels=labels)
        return TaskData(
            train=make_dataset(
                pair.train,
                preprocess,
                augment=build_augmentation(augment, preprocess),
                max_pixels=data.max_pixels,
            ),
            val=make_dataset(pair.val, preprocess, max_pixels=data.max_pixels),
            labels=list(pair.labels),
            preprocess=preprocess.to_dict(),
            notes=list(pair.notes),
            plain=make_dataset(pair.train, preprocess, max_pixels=data.max_pixels),
        )

    def open_inputs(self, where: str, card: Card, settings: Any) -> Samples:
        """Open a folder (searched to the bottom), one picture, a table, shards or a built-in name."""
        return ImageDataset(open_pictures(where), preprocess_of(card), max_pixels=settings.max_pixels)

    def from_pictures(self, pictures: Sequence[Image.Image], card: Card) -> Batch | None:
        """Bring pictures through the evaluation transform of a card."""
        preprocess = preprocess_of(card)
        if preprocess.channels != card.in_chans:
            return None
        images = torch.stack([preprocess.fast(picture) for picture in pictures])
        return {"image": images, **unnamed(len(images))}

    def open_held_out(self, data: DataConfig, card: Card, *, seed: int, kept_back: bool) -> TaskData:
        """Open pictures to judge weights by: classes are matched by name, never by position.

        Raises:
            DataError: A class that the model does not know (with the nearest that it does), pictures without a class,
                a stream, or, for weights that carry no names, another number of classes.
        """
        need_local(data.source)
        kind_of(data.source)
        labels, notes = self._names(card), []
        if kept_back and not is_divided(data.source):
            source: Source = open_pair(data, seed=seed, labels=labels).val
            notes.append(
                f"Measured on the {len(source)} images that training kept back, not on those it learned."
            )
        else:
            source = open_source(data.source, part="val", labels=labels)
        if isinstance(source, ShardStream):
            raise DataError(
                f"{data.source}: shards at an address are read front to back only; copy them to this machine first"
            )
        missing = int((source.targets == NO_LABEL).sum())
        if missing:
            raise DataError(
                f"{data.source}: {missing} of {len(source)} images have no label; give every image one"
            )
        self._match(card, list(source.labels), data.source)
        notes = [*source.notes, *notes]
        if not card.labels:
            notes.append("The weights carry no class names: classes were matched to outputs in sorted order.")
        present = len(set(source.targets.tolist()))
        if present < card.num_classes:
            notes.append(f"The data holds {present} of the model's {card.num_classes} classes.")
        preprocess = preprocess_of(card, data.size)
        samples = ImageDataset(source, preprocess, max_pixels=data.max_pixels)
        return TaskData(None, samples, list(source.labels), preprocess.to_dict(), notes)

    def _names(self, card: Card) -> list[str] | None:
        """Return the names of the outputs, where the weights carry them."""
        if card.labels and len(card.labels) != card.num_classes:
            raise DataError(
                f"the card of {card.model} lists {len(card.labels)} class names for {card.num_classes} outputs; "
                "convert or train the weights again"
            )
        return card.labels or None

    def _match(self, card: Card, labels: list[str], where: str) -> None:
        """Refuse data of another number of classes."""
        if len(labels) != card.num_classes:
            raise DataError(
                f"{where}: {len(labels)} classes, but the model has {card.num_classes} outputs and its "
                "weights carry no class names to match by; use data with the same classes"
            )

    def gallery(self, card: Card, keep: int) -> Mistakes:
        """Keep the worst mistakes."""
        return Mistakes(preprocess_of(card).denormalise, keep)

    def report(self, found: Evaluation) -> list[Section]:
        """Return confusion, calibration, the classes, and the worst mistakes."""
        assert isinstance(found.gathered, ClassifyMetrics)
        return sections_of(found, found.gathered)

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples into a batch; `label` is (batch,) int64."""
        return collate(samples)

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network with `card.num_classes` outputs."""
        return create_model(
            card.model,
            pretrained=pretrained,
            num_classes=card.num_classes,
            in_chans=card.in_chans,
            **dict(card.options),
        )

    def mix(self, batch: Batch, augment: AugmentConfig, card: Card, *, seed: int) -> Batch:
        """Apply mixup or cutmix; a mixed batch has `target`, (batch, classes) shares that sum to 1.

        Label smoothing is left to the loss: it is linear, so the order does not matter.
        """
        if not (augment.mixup or augment.cutmix):
            return batch
        return mix_batch(batch, augment, num_classes=card.num_classes, seed=seed)

    def recognise(self, state: Mapping[str, Tensor], where: str) -> Card | None:
        """Recognise our networks by their tensors, in any layout of theirs."""
        return identify(state, self.name, where=where)

    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Cross-entropy or BCE with optional smoothing, mixing, a teacher (DeiT) and self-distillation (MESA).

        A network with two heads returns a pair in training: the first head learns from the labels, the
        second from the teacher; without a teacher both learn from the labels. With one head, teacher and
        labels share it.

        Returns:
            {"loss": total} and its parts.

        Raises:
            ConfigError: Distillation without a teacher, MESA without an average, or a teacher with
                another number of classes.
        """
        outputs = model(batch["image"])
        logits, distilled = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        target = batch.get("target", batch["label"])
        base = _label_loss(logits.float(), target, context)
        parts = {"loss_label": base}
        if context.distill != "none":
            taught = _teacher_loss(distilled.float(), batch["image"], context)
            parts["loss_teacher"] = taught
            total = (1 - context.distill_alpha) * base + context.distill_alpha * taught
        elif distilled is not logits:
            total = (base + _label_loss(distilled.float(), target, context)) / 2
        else:
            total = base
        if context.mesa and context.progress >= context.mesa_start:
            if context.ema is None:
                raise ConfigError("loss.mesa needs the average of the weights; set ema.decay above 0")
            with torch.no_grad():
                average = context.ema(batch["image"]).float().softmax(1)
            parts["loss_mesa"] = F.cross_entropy(logits.float(), average)
            total = total + context.mesa * parts["loss_mesa"]
        return {"loss": total, **parts} if len(parts) > 1 else {"loss": total}

    def metrics(self, card: Card) -> ClassifyMetrics:
        """Make an empty accumulator."""
        return ClassifyMetrics(card.num_classes, card.labels)

    def rows(self, outputs: Tensor, batch: Batch, card: Card, settings: Any) -> list[dict[str, Any]]:
        """Turn logits (batch, classes) into rows: name, label, confidence and the runners-up.

        Confidences are softmax probabilities in [0, 1]; further answers are label_2, confidence_2 and on.
        """
        values, places = outputs.detach().float().softmax(1).topk(min(settings.topk, outputs.shape[1]))
        rows = []
        for name, row_values, row_places in zip(batch["name"], values.tolist(), places.tolist(), strict=True):
            row: dict[str, Any] = {"name": name}
            for rank, (value, place) in enumerate(zip(row_values, row_places, strict=True), start=1):
                suffix = "" if rank == 1 else f"_{rank}"
                row[f"label{suffix}"] = card.labels[place] if place < len(card.labels) else str(place)
                row[f"confidence{suffix}"] = value
            rows.append(row)
        return rows

    def compare(self, got: Tensor, want: Tensor) -> tuple[int, int]:
        """Count the samples, and those with another first answer."""
        return len(want), int((got.argmax(1) != want.argmax(1)).sum())

    def vector_width(self, card: Card) -> int:
        """Return the number of classes."""
        return card.num_classes

    def vectors(self, outputs: Tensor) -> Tensor | None:
        """Return the logits."""
        return outputs

    def embedding(self, model: nn.Module, card: Card) -> nn.Module:
        """Return a copy without its classifier, as timm's protocol has it: the pooled features come out."""
        if not isinstance(model, Headed):
            return super().embedding(model, card)
        model = copy.deepcopy(model)
        model.reset_classifier(0)
        assert isinstance(model, nn.Module)
        return model

    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make normal noise (batch, in_chans, size, size), about what normalised pictures look like."""
        size = preprocess_of(card).size
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(batch, card.in_chans, size, size, generator=generator),)


def open_pictures(where: str) -> Source:
    """Open pictures to predict on: no classes are needed.

    Raises:
        DataError: None there, or a stream.
    """
    need_local(where)
    source = open_source(where, classes=False)
    if isinstance(source, ShardStream):
        raise DataError(f"{where}: shards at an address are read front to back only; copy them here first")
    if not len(source):
        raise DataError(f"{where}: no pictures here; expected .jpg, .png and the like")
    return source


def preprocess_of(card: Card, size: int | None = None) -> Preprocess:
    """Return the evaluation transform of a card, else the default of its model, at `size` when that is set."""
    if card.preprocess:
        preprocess = Preprocess.from_dict(card.preprocess)
        return dataclasses.replace(preprocess, size=size) if size else preprocess
    with torch.device("meta"):  # attributes only, no tensors
        model = create_model(card.model, in_chans=card.in_chans, **dict(card.options))
    published: Any = getattr(model, "pretrained_cfg", None) or {}
    fields = {
        name: published[name] for name in ("mean", "std", "crop_pct", "interpolation") if name in published
    }
    return Preprocess.from_dict({**fields, "size": size or int(getattr(model, "default_size", 224))})


class ClassifyMetrics(Metrics):
    """Answers of a whole data set, one entry a sample, and the metrics they add up to."""

    def __init__(self, num_classes: int, labels: Sequence[str] = ()) -> None:
        self.num_classes, self.labels = num_classes, list(labels)
        self.columns: dict[str, list[Tensor]] = {
            name: [] for name in ("index", "label", "answer", "confidence", "in_top5", "loss")
        }

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in logits (batch, classes) and the batch's `label` and `index`.

        Raises:
            ShapeError: The network's outputs are not one logit for each class.
        """
        label = batch["label"].cpu()
        if outputs.ndim != 2 or outputs.shape[1] != self.num_classes or len(outputs) != len(label):
            raise ShapeError(
                f"outputs of shape {tuple(outputs.shape)} for {len(label)} samples of "
                f"{self.num_classes} classes; expected one logit for each class"
            )
        log_shares = outputs.detach().cpu().double().log_softmax(1)
        confidence, answer = log_shares.max(1)
        top = log_shares.topk(min(TOP, self.num_classes)).indices
        new = {
            "index": batch["index"].cpu(),
            "label": label,
            "answer": answer,
            "confidence": confidence.exp(),
            "in_top5": (top == label[:, None]).any(1),
            "loss": -log_shares.gather(1, label[:, None]).squeeze(1),
        }
        for name, values in new.items():
            self.columns[name].append(values)

    def merge(self, others: list[Metrics]) -> None:
        """Append what other processes saw."""
        for other in others:
            assert isinstance(other, ClassifyMetrics)
            for name, parts in other.columns.items():
                self.columns[name].extend(parts)

    def column(self, name: str) -> Tensor:
        """Return one column, (samples,), in the order of `index`.

        Names: index, label, answer (int64), confidence (of the answer), in_top5 (bool), loss
        (cross-entropy; exp(-loss) is the probability of the truth).
        """
        if not self.columns["index"]:
            return torch.empty(0, dtype=torch.float64 if name in ("confidence", "loss") else torch.int64)
        order = torch.cat(self.columns["index"]).argsort(stable=True)
        return torch.cat(self.columns[name])[order]

    def confusion(self) -> Tensor:
        """Count (classes, classes): row is the truth, column the answer."""
        places = self.column("label") * self.num_classes + self.column("answer")
        counts = torch.bincount(places, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    def compute(self) -> dict[str, float]:
        """Return top1, top5, class_mean (mean recall of the classes that occur), loss, ece and count.

        All but loss and count are fractions in [0, 1]; an empty accumulator gives {"count": 0}.
        """
        label, answer = self.column("label"), self.column("answer")
        if not len(label):
            return {"count": 0.0}
        hit = label == answer
        confusion = self.confusion()
        occurs = confusion.sum(1) > 0
        recall = confusion.diagonal()[occurs].double() / confusion.sum(1)[occurs]
        return {
            "top1": hit.double().mean().item(),
            "top5": self.column("in_top5").double().mean().item(),
            "class_mean": recall.mean().item(),
            "loss": self.column("loss").mean().item(),
            "ece": calibration_error(self.column("confidence"), hit),
            "count": float(len(label)),
        }

    def summary(self) -> dict[str, float]:
        """Return what `compute` does, and macro_f1, the mean F1 of the classes that occur."""
        values = self.compute()
        if values["count"]:
            values["macro_f1"] = macro_f1(self.confusion().numpy())
        return {name: values[name] for name in (*Classify.metric_names, "count") if name in values}

    def intervals(self, *, seed: int = 0, resamples: int = 500) -> dict[str, Interval]:
        """Return 95 % intervals of all metrics; see `metric_intervals`."""
        names = ("label", "answer", "confidence", "loss", "in_top5")
        columns = {name: self.column(name).numpy() for name in names}
        return metric_intervals(columns, self.num_classes, seed=seed, resamples=resamples)

    def hits(self) -> np.ndarray:
        """Return (samples,) whether each first answer is right, in the order of the data."""
        return (self.column("label") == self.column("answer")).numpy()

    def per_class(self) -> list[dict[str, Any]]:
        """Return one row for each class that occurs; see `class_table`."""
        labels = self.labels or [str(number) for number in range(self.num_classes)]
        return class_table(self.confusion().numpy(), labels)


def calibration_error(confidence: Tensor, hit: Tensor, bins: int = BINS) -> float:
    """Expected calibration error over `bins` equal bins of (0, 1] (Guo et al., 2017, arXiv 1706.04599).

    Args:
        confidence: (samples,) probability of the answer, in [0, 1].
        hit: (samples,) whether it was right.
        bins: Number of bins.
    """
    place = ((confidence.double() * bins).ceil().long() - 1).clamp(0, bins - 1)
    # In a bin, count * |mean confidence - share of hits| is the absolute sum of (confidence - hit).
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, confidence.double() - hit.double())
    return (gaps.abs().sum() / len(confidence)).item()


def _label_loss(logits: Tensor, target: Tensor, context: LossContext) -> Tensor:
    """Loss of logits (batch, classes) against class numbers (batch,) or shares (batch, classes).

    bce takes every class as a question of its own (Wightman et al., 2021, arXiv 2110.00476, section 2); smoothing
    makes its targets 1 - s + s / classes and s / classes.
    """
    if context.kind == "cross_entropy":
        return F.cross_entropy(logits, target, label_smoothing=context.label_smoothing)
    classes = logits.shape[1]
    shares = F.one_hot(target, classes).to(logits) if target.ndim == 1 else target.to(logits)
    shares = shares * (1 - context.label_smoothing) + context.label_smoothing / classes
    if context.target_threshold:
        shares = (shares > context.target_threshold).to(logits)
    return F.binary_cross_entropy_with_logits(logits, shares)


def _teacher_loss(logits: Tensor, images: Tensor, context: LossContext) -> Tensor:
    """Distillation as in DeiT (Touvron et al., 2021, arXiv 2012.12877): hard labels or soft shares.

    Soft: KL(teacher || student) at temperature tau, summed over the classes, mean over the batch, times tau ** 2, so
    that its gradient keeps its size as tau grows (Hinton et al., 2015, arXiv 1503.02531, section 2). DeiT's code
    divides by the classes as well, which at 1,000 of them leaves a thousandth; its published models, as SHViT's and
    EfficientViM's, are distilled hard.
    """
    if context.teacher is None:
        raise ConfigError(f"loss.distill is {context.distill!r} but there is no teacher; set loss.teacher")
    with torch.no_grad():
        taught = context.teacher(images).float()
    if taught.shape != logits.shape:
        raise ConfigError(
            f"the teacher has {taught.shape[1]} classes and the model {logits.shape[1]}; "
            "choose a teacher trained on the same classes"
        )
    if context.distill == "hard":
        return F.cross_entropy(logits, taught.argmax(1))
    tau = context.distill_tau
    student, teacher = (logits / tau).log_softmax(1), (taught / tau).log_softmax(1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * tau**2
