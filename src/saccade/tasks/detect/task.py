"""Detection and instance segmentation: a picture in, boxes with classes (and masks) out. COCO's metrics."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from saccade.data.coco import CocoIndex
from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.dense import ObjectDataset
from saccade.data.dense_augment import build_dense_augmentation
from saccade.data.labels.formats import find_objects, read_objects
from saccade.data.outlines import pack_mask
from saccade.errors import ConfigError, DataError
from saccade.extras import require
from saccade.files import within
from saccade.tasks.base import Batch, Exported, LossContext, Metrics, Net, PredictSettings, TaskData
from saccade.tasks.dense.draw import draw_detections
from saccade.tasks.dense.exported import PaddedFile, Size
from saccade.tasks.dense.nets import HEADS
from saccade.tasks.dense.nets.paste import to_file
from saccade.tasks.dense.nets.retinanet import RetinaNet
from saccade.tasks.dense.task import (
    DenseSettings,
    DenseTask,
    file_size,
    save_picture,
    shortest,
    split_indices,
)
from saccade.tasks.detect.export import JoinedBoxes, count_lost, split_boxes
from saccade.weights.card import Card

SUMMARY = {
    "ap": (None, "all"),
    "ap50": (0.5, "all"),
    "ap75": (0.75, "all"),
    "ap_small": (None, "small"),
    "ap_medium": (None, "medium"),
    "ap_large": (None, "large"),
}
"""Metrics by name: overlap threshold (None: mean over 0.50, 0.55, ... 0.95) and size of the objects."""
AREAS = ("all", "small", "medium", "large")


MAX_MASK_PIXELS = 1 << 31
"""Most pixels of all masks of a picture at its own size, one byte each."""


@dataclass
class DetectSettings(DenseSettings):
    """What a detector can be asked."""

    threshold: Annotated[float, within(0, 1)] = 0.3
    """Detections below this score are left out."""


class Detect(DenseTask):
    """Objects of `card.labels`."""

    name = "detect"
    main_metric = "ap"
    metric_names: ClassVar = {
        f"{prefix}{name}": f"{title} %"
        for prefix, what in (("", ""), ("mask_", "Mask "))
        for name, title in {
            "ap": f"{what}AP",
            "ap50": f"{what}AP at 0.50",
            "ap75": f"{what}AP at 0.75",
            "ap_small": f"{what}AP, small",
            "ap_medium": f"{what}AP, medium",
            "ap_large": f"{what}AP, large",
            "recall": f"{what}Recall",
        }.items()
    }
    kind = "detect"
    default_head = "mask_rcnn"
    default_size = 800
    # Scores that are nearly equal change places in the last digit; of lower precision the metric says more.
    agreement: ClassVar[Mapping[str, float]] = {"float32": 0.98, "bf16": 0.0, "int8": 0.0}
    rest = (
        "the output has a box (x0, y0, x1, y1 as shares of width and height) and a score a class for every anchor; "
        "what remains is to drop weak scores and overlapping boxes of a class"
    )
    free_outputs: ClassVar[Mapping[int, str]] = {1: "anchors"}
    predict_settings: ClassVar[type[PredictSettings]] = DetectSettings

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Open COCO annotations.

        Args:
            data: `source` (and `val`): a folder in one of the layouts of `data.layout`, an annotation file, or
                `scenes`. Without validation annotations a part of the pictures is kept.
            augment: Its `geometry`, mirrors and `photometric`.
            card: Its labels, when it has any, fix the classes; its head says whether masks are read.
            seed: Of the split, when one is made.
            train: False: open only validation pictures.

        Raises:
            DataError: No such data, or data that cannot be used.
        """
        self.complete(card)
        masks = HEADS[card.head].masks
        indices = open_coco(
            self.place(data.source), self.place(data.val), data, card.labels or None, seed, train
        )
        # Both sides of one file carry the same list, of the whole.
        lists = {id(index.notes): index.notes for index in indices.values()}
        notes = [note for kept in lists.values() for note in kept]
        val = indices["val"]
        shown = indices.get("train", val)
        preprocess = self._preprocess(card, data, shown.sizes)
        held = ObjectDataset(val, preprocess, masks=masks, max_pixels=data.max_pixels)
        if not train:
            return TaskData(None, held, list(val.labels), preprocess.to_dict(), notes)
        learned = indices["train"]
        if all(found.crowd.all() for found in learned.annotations):
            raise DataError(
                f"{learned.where}: every object is a crowd region (iscrowd), and those are not learned"
            )
        if not data.keep_empty:
            learned = learned.subset(i for i, found in enumerate(learned.annotations) if (~found.crowd).any())
        if masks and not any(shape is not None for found in learned.annotations for shape in found.shapes):
            raise DataError(
                f"{learned.where}: no object has an outline, and head {card.head} learns masks; "
                "use --head faster_rcnn or --head retinanet"
            )
        dataset = ObjectDataset(
            learned,
            preprocess,
            masks=masks,
            augment=build_dense_augmentation(augment, preprocess),
            max_pixels=data.max_pixels,
        )
        return TaskData(dataset, held, list(learned.labels), preprocess.to_dict(), notes)

    def open_held_out(self, data: DataConfig, card: Card, *, seed: int, kept_back: bool) -> TaskData:
        """Open annotated pictures to judge weights by."""
        self.complete(card)
        part = find_held_out(self.place(data.source), data, card.labels or None, seed, kept_back)
        preprocess = self._preprocess(card, data, part.sizes)
        samples = ObjectDataset(part, preprocess, masks=HEADS[card.head].masks, max_pixels=data.max_pixels)
        return TaskData(None, samples, list(part.labels), preprocess.to_dict(), list(part.notes))

    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Sum the head's losses."""
        device = batch["image"].device
        targets = [{name: value.to(device) for name, value in target.items()} for target in batch["targets"]]
        parts: dict[str, Tensor] = model(batch["image"], batch["size"], targets)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def exportable(self, model: nn.Module) -> nn.Module:
        """Return boxes and scores of every anchor.

        Raises:
            ConfigError: A detector with region proposals.
        """
        if not isinstance(model, RetinaNet):
            raise ConfigError(
                "a detector with region proposals does not export; train with --head retinanet to export a detector"
            )
        return JoinedBoxes(model)

    def exported(self, session: Exported, card: Card) -> Net:
        """Return what selects the boxes of a file as the network does."""
        from saccade.tasks.open import build_model

        with torch.device("meta"):
            net = build_model(card).eval()
        assert isinstance(net, RetinaNet)

        def finish(outputs: Tensor, ran: Size, shown: Size) -> list[dict[str, Tensor]]:
            boxes, scores = split_boxes(outputs, ran)
            return net.select(boxes, scores, [shown] * len(outputs), net.count_anchors(*ran))

        return PaddedFile(session, finish)

    def compare(self, got: list[dict[str, Tensor]], want: list[dict[str, Tensor]]) -> tuple[int, int]:
        """Count the boxes of both, and those without one of their class in nearly their place."""
        return count_lost(got, want)

    def metrics(self, card: Card) -> DetectMetrics:
        """Make an empty accumulator."""
        return DetectMetrics(card.labels)

    def rows(
        self, outputs: list[dict[str, Tensor]], batch: Batch, card: Card, settings: Any
    ) -> list[dict[str, Any]]:
        """Turn detections into rows: the picture's size, and label, score, box and mask of everything found.

        Boxes are x0, y0, x1, y1 in the file's pixels, masks COCO run lengths; the best comes first.

        Raises:
            DataError: The masks are too large at the size of the file.
        """
        rows = []
        for number, name in enumerate(batch["name"]):
            height, width = file_size(batch, number)
            found = self._in_file(outputs[number], batch, number, settings.threshold)
            entries = list(_entries(found, card.labels))
            rows.append({"name": name, "height": height, "width": width, "detections": entries})
        return rows

    def write(
        self,
        outputs: list[dict[str, Tensor]],
        batch: Batch,
        card: Card,
        settings: Any,
        folder: Path,
    ) -> None:
        """Draw what was found, in drawn/."""
        for number, name in enumerate(batch["file"] if settings.draw else []):
            found = self._in_file(outputs[number], batch, number, settings.threshold)
            picture = Image.fromarray(batch["pixels"][number])
            drawn = draw_detections(picture, found, card.labels, threshold=settings.threshold)
            save_picture(drawn, folder / "drawn" / f"{name}.png")

    def _in_file(
        self, found: dict[str, Tensor], batch: Batch, number: int, threshold: float
    ) -> dict[str, Tensor]:
        """Bring the detections from a threshold on into the file's pixels; once, for rows and drawing."""
        known = batch.setdefault("in_file", {})
        if number in known:
            return known[number]
        size = file_size(batch, number)
        kept = found["scores"] >= threshold
        found = {key: value[kept] for key, value in found.items()}
        if "masks" in found and len(found["masks"]) * size[0] * size[1] > MAX_MASK_PIXELS:
            raise DataError(
                f"{batch['name'][number]}: {len(found['masks'])} masks of {size[1]} x {size[0]} pixels are too large "
                "to draw; raise the threshold or use a smaller copy"
            )
        height, width = batch["size"][number].tolist()
        known[number] = to_file(found, (height, width), size)
        return known[number]


def _entries(found: dict[str, Tensor], labels: list[str]) -> Iterator[dict[str, Any]]:
    """Turn detections into JSON objects, best first."""
    scores = shortest(found["scores"])
    for number, box in enumerate(found["boxes"]):
        entry: dict[str, Any] = {
            "label": labels[int(found["labels"][number])],
            "score": scores[number],
            "box": shortest(box),
        }
        if "masks" in found:
            entry["mask"] = pack_mask(found["masks"][number].numpy())
        yield entry


def open_coco(
    source: str, val: str, data: DataConfig, labels: list[str] | None, seed: int, train: bool
) -> dict[str, CocoIndex]:
    """Open the training and validation annotations of two places.

    Returns:
        "val", and "train" when asked for, under the same class names.

    Raises:
        DataError: They cannot be found or used.
    """
    if not source and not (val and not train):
        raise DataError("no data was given; name a folder with COCO annotations, or scenes, with --data")
    parts = find_objects(source) if source else {}
    found: dict[str, CocoIndex] = {}

    other = find_objects(val) if val else parts
    held = other.get("val") or (other.get("all") or other.get("train") if val else None)
    first = parts.get("train") or parts.get("all")
    if not train:
        held = held or first or parts.get("val")
        assert held is not None
        whole = held is first and not val and "all" in parts
        index = read_objects(held, labels)
        return {
            "val": index.subset(split_indices(len(index.files), data.val_fraction, seed)[1])
            if whole
            else index
        }
    if first is None:
        raise DataError(
            f"{source}: only validation annotations are here; training needs instances_train.json"
        )
    found["train"] = read_objects(first, labels)
    names = found["train"].labels
    if held is not None:
        return found | {"val": read_objects(held, names)}
    whole = found["train"]
    if not 0 < data.val_fraction < 1 or len(whole.files) < 2:
        raise ConfigError(
            f"data.val_fraction is {data.val_fraction:g} of {len(whole.files)} pictures; name data.val"
        )
    kept, out = split_indices(len(whole.files), data.val_fraction, seed)
    whole.notes.append(f"validation: {len(out)} of {len(whole.files)} pictures kept back (seed {seed})")
    return {"train": whole.subset(kept), "val": whole.subset(out)}


def find_held_out(
    source: str, data: DataConfig, labels: list[str] | None, seed: int, kept_back: bool
) -> CocoIndex:
    """Open the annotations to judge by: those to validate with; without any, what training kept back, or all.

    Raises:
        DataError: They cannot be found or used.
    """
    parts = find_objects(source)
    held = parts.get("val")
    part = held or parts.get("train") or parts["all"]
    index = read_objects(part, labels)
    if held is not None or not kept_back:
        return index
    return index.subset(split_indices(len(index.files), data.val_fraction, seed)[1])


class DetectMetrics(Metrics):
    """Gathers detections and truth in the file's pixels; average precision by faster-coco-eval."""

    def __init__(self, labels: list[str]) -> None:
        self.labels = list(labels)
        self.pictures: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []
        self.masks = False

    def update(self, outputs: list[dict[str, Tensor]], batch: Batch) -> None:
        """Take in the detections of a batch."""
        for number, detection in enumerate(outputs):
            truth, index = batch["truth"][number], int(batch["index"][number])
            high, wide = (int(side) for side in batch["size"][number])
            self.masks = self.masks or "masks" in detection
            moved = to_file(detection, (high, wide), truth["size"])
            self.pictures.append({"id": index, "height": truth["size"][0], "width": truth["size"][1]})
            for place, box in enumerate(truth["boxes"].tolist()):
                entry = {
                    "image_id": index,
                    "category_id": int(truth["labels"][place]),
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": float(truth["areas"][place]),
                    "iscrowd": int(truth["crowd"][place]),
                }
                if "runs" in truth:
                    entry["segmentation"] = truth["runs"][place] or _box_runs(box, truth["size"])
                self.truth.append(entry)
            for place, box in enumerate(moved["boxes"].tolist()):
                entry = {
                    "image_id": index,
                    "category_id": int(moved["labels"][place]),
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": float(moved["scores"][place]),
                }
                if "masks" in moved:
                    entry["segmentation"] = pack_mask(moved["masks"][place].numpy())
                self.found.append(entry)

    def merge(self, others: list[Metrics]) -> None:
        """Take in what other processes gathered; a picture that several saw counts once."""
        for other in others:
            assert isinstance(other, DetectMetrics)
            known = {picture["id"] for picture in self.pictures}
            new = {picture["id"] for picture in other.pictures} - known
            self.pictures += [picture for picture in other.pictures if picture["id"] in new]
            self.truth += [entry for entry in other.truth if entry["image_id"] in new]
            self.found += [entry for entry in other.found if entry["image_id"] in new]
            self.masks = self.masks or other.masks

    def compute(self) -> dict[str, float]:
        """Return average precisions of boxes (and `mask_...` of masks) in [0, 1], mean recall, and the count.

        Sizes that no object has are left out.
        """
        values: dict[str, float] = {}
        for kind, prefix in (("bbox", ""), ("segm", "mask_")) if self.masks else (("bbox", ""),):
            table, recall = self._evaluate(kind)
            for name, (overlap, size) in SUMMARY.items():
                mean = _mean(table, overlap, size)
                if mean is not None:
                    values[prefix + name] = mean
            values[f"{prefix}recall"] = _valid_mean(recall[..., 0, -1]) or 0.0
        values.setdefault("ap", 0.0)
        return {**values, "count": float(len(self.pictures))}

    def per_class(self) -> list[dict[str, Any]]:
        """Return one row a class: objects, and average precisions (None: no such object)."""
        counts = np.bincount(
            [t["category_id"] for t in self.truth if not t["iscrowd"]], minlength=len(self.labels)
        )
        rows: list[dict[str, Any]] = [
            {"label": label, "objects": int(count)} for label, count in zip(self.labels, counts, strict=False)
        ]
        for kind, prefix in (("bbox", ""), ("segm", "mask_")) if self.masks else (("bbox", ""),):
            table, _ = self._evaluate(kind)
            for number, row in enumerate(rows):
                for name in ("ap", "ap50", "ap75"):
                    row[prefix + name] = _mean(table[:, :, number : number + 1], *SUMMARY[name])
        return rows

    def _evaluate(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Run the evaluation: precision (10, 101, classes, 4 sizes, 3 counts) and recall (10, classes, 4, 3)."""
        coco: Any = require("faster_coco_eval", "dense", "for COCO's average precision")
        categories = [{"id": number, "name": label} for number, label in enumerate(self.labels)]
        truth = [{"id": number + 1, **entry} for number, entry in enumerate(self.truth)]
        # Both sides get areas and ids of their own, so each is handed copies.
        with contextlib.redirect_stdout(io.StringIO()):
            known = coco.COCO({"images": self.pictures, "annotations": truth, "categories": categories})
            if not self.found or not truth:
                return np.zeros((10, 101, len(categories), 4, 3)), np.zeros((10, len(categories), 4, 3))
            answers = known.loadRes([dict(entry) for entry in self.found])
            run = coco.COCOeval_faster(known, answers, kind, print_function=lambda *_: None)
            run.evaluate()
            run.accumulate()
        shape = (10, 101, len(categories), 4, 3)
        precision = np.asarray(run.eval["precision"]).reshape(shape)
        return precision, np.asarray(run.eval["recall"]).reshape((10, len(categories), 4, 3))


def _box_runs(box: list[float], size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of a box, for objects without an outline."""
    mask = np.zeros(size, np.uint8)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    mask[y0:y1, x0:x1] = 1
    return pack_mask(mask)


def _mean(table: np.ndarray, overlap: float | None, size: str) -> float | None:
    """Mean precision over thresholds, recalls and classes that occur."""
    chosen = table[:, :, :, AREAS.index(size), -1]
    if overlap is not None:
        row = round((overlap - 0.5) / 0.05)
        chosen = chosen[row : row + 1]
    return _valid_mean(chosen)


def _valid_mean(values: np.ndarray) -> float | None:
    """Mean of the entries that are not -1, which stands for classes without objects."""
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else None
