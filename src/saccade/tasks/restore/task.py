"""Restoration: an image in, the image it should have been out. Here: radar images made sharp."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.radar_pairs import RadarPairs
from saccade.errors import ConfigError, ShapeError, WeightsError
from saccade.radar.grid import RadarImage
from saccade.radar.quality import best_scale, compare
from saccade.tasks.base import (
    Batch,
    ExportForm,
    LossContext,
    Metrics,
    Net,
    Samples,
    Section,
    Task,
    TaskData,
    device_of,
    unnamed,
)  # fmt: skip
from saccade.tasks.evaluation import Evaluation
from saccade.tasks.restore.images import RadarImages, RestoreSettings, depths_of, row_of, sharpen, write_sharp
from saccade.tasks.restore.report import Baselines, JudgedPairs, compared, sections_of
from saccade.trust import check_place
from saccade.weights.card import Card
from saccade.zoo.loading import identify
from saccade.zoo.registry import create_model, task_of

PEAK = 2e-3
"""Largest value of the images that the published networks were trained on, which are tied to that scale."""
OWN_SCALE = "srvit_swift"
"""The network that divides by its maximum itself."""
SQUARED = 4.0
"""Weight of the squared error beside the absolute one: it draws the few bright points to their full height."""


class Restore(Task):
    """Magnitude image in, ideal image in [0, 1] out."""

    name = "restore"
    main_metric = "psnr"
    metric_loss = 0.5
    """Decibels."""
    unsupported: ClassVar[Mapping[str, str]] = {
        "explain": "use `saccade radar enhance` or `saccade radar eval`",
        "check": "use `saccade radar eval`, which compares pairs with their checksums",
    }
    predict_settings = RestoreSettings
    predict_batch = 1  # images of different sizes
    into_folder = True
    resizes = False
    text_lists = True

    def shipped_recipe(self, data: str, model: str | None) -> str:
        """The one for pairs of radar images."""
        return "radar_sharpen"

    held_out_settings = ()
    samples = "pairs"
    metric_names: ClassVar = {
        "psnr": "PSNR (dB)",
        "ssim": "SSIM",
        "rmse": "RMSE",
        "mae": "MAE",
        "gain": "Gain over the input at its best scale (dB)",
    }

    def show_metric(self, value: float) -> str:
        """Print decibels."""
        return f"{value:.2f} dB"

    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the side that the network was published for, and the largest value that images are brought to.

        Images of any size go in as they are. Training, evaluation and prediction all bring them to the same `peak`.

        Raises:
            WeightsError: A peak that is none.
        """
        found = {"peak": 1.0 if card.model == OWN_SCALE else PEAK, **card.preprocess}
        if not card.preprocess:
            with torch.device("meta"):
                found["size"] = int(getattr(create_model(card.model), "default_size", 256))
        peak = found["peak"]
        if not isinstance(peak, int | float) or not 0 < peak < math.inf:
            raise WeightsError(
                f"the card of {card.model} says that images have the peak {peak!r}; expected a number above 0"
            )
        return found

    def sized(self, card: Card, size: int = 0) -> Card:
        """Return the card of a network of magnitudes, at `size` pixels a side when that is set."""
        return dataclasses.replace(super().sized(card, size), in_chans=1)

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Open pairs made by `saccade radar dataset`.

        Args:
            data: `source` (and `val`): their folders. Without `val` the last `val_fraction` of `source` is kept.
            augment: Mirrors when `hflip` is above 0; nothing else applies to radar.
            card: Its model has to be one that sharpens.
            seed: Not used: pairs are random already.
            train: False: open only validation pairs.

        Raises:
            ConfigError: A network that was not made for this.
            DataError: Not such a folder.
        """
        if task_of(card.model) != self.name:
            raise ConfigError(
                f"{card.model} does not sharpen images; choose srvit_swift or another srvit model"
            )
        share = 1.0 if data.val else 1 - data.val_fraction
        peak = self.preprocess(card)["peak"]
        part = (0.0 if data.val or not train else share, 1.0)
        val = RadarPairs(data.val or data.source, part, peak=peak)
        fitting = {"size": int(val[0]["image"].shape[-1]), "peak": peak}
        if not train:
            return TaskData(None, val, [], fitting)
        pairs = RadarPairs(data.source, (0.0, share), flip=augment.hflip > 0, peak=peak)
        note = f"{len(pairs)} pairs to train on, {len(val)} to validate, {fitting['size']} pixels a side"
        return TaskData(pairs, val, [], fitting, [note])

    def open_held_out(self, data: DataConfig, card: Card, *, seed: int, kept_back: bool) -> TaskData:
        """Open pairs to judge weights by, checked against their checksums.

        Raises:
            DataError: Not such a folder, or a damaged one.
        """
        check_place(data.source)
        peak = self.preprocess(card)["peak"]
        pairs = RadarPairs(data.source, (1 - data.val_fraction if kept_back else 0.0, 1.0), peak=peak)
        pairs.check()
        notes = []
        if kept_back:
            notes.append(
                f"Measured on the {len(pairs)} pairs that training kept back, not on those it learned."
            )
        fitting = {"size": int(pairs[0]["image"].shape[-1]), "peak": peak}
        return TaskData(None, JudgedPairs(pairs), [], fitting, notes)

    def open_inputs(self, where: str, card: Card, settings: Any) -> Samples:
        """Open an image written by `saccade radar image`, or a folder of them."""
        return RadarImages(where, self.preprocess(card)["peak"], settings)

    def from_memory(self, one: Any, card: Card) -> Batch | None:
        """Make a batch of a `RadarImage`.

        Raises:
            DataError: It holds NaN or infinite values.
        """
        if not isinstance(one, RadarImage):
            return None
        return {"radar": [one], "depths": [depths_of(one, self.preprocess(card)["peak"])], **unnamed(1)}

    def gallery(self, card: Card, keep: int) -> Baselines:
        """Mark every method that needs no network on the same pairs."""
        return Baselines(card, keep)

    def report(self, found: Evaluation) -> list[Section]:
        """Return the table of all methods."""
        assert isinstance(found.gallery, Baselines)
        return sections_of(found.gallery)

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples into a batch; `target` is (batch, 1, height, width). Images to sharpen stay lists, by size."""
        batch = {
            "index": torch.tensor([sample["index"] for sample in samples], dtype=torch.int64),
            "name": [sample["name"] for sample in samples],
            "skipped": [entry for sample in samples for entry in sample["skipped"]],
        }
        if "radar" in samples[0]:
            return batch | {name: [sample[name] for sample in samples] for name in ("radar", "depths")}
        pairs = {name: torch.stack([sample[name] for sample in samples]) for name in ("image", "target")}
        return batch | pairs | compared(samples)

    def run(self, net: Net, batch: Batch) -> Any:
        """Sharpen pairs (batch, 1, height, width), or a list of images, each (depths, height, width)."""
        if "radar" not in batch:
            return super().run(net, batch)
        return [
            sharpen(net, image, depths, device_of(net))
            for image, depths in zip(batch["radar"], batch["depths"], strict=True)
        ]

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network."""
        return create_model(card.model, pretrained=pretrained, **dict(card.options))

    def recognise(self, state: Mapping[str, Tensor], where: str) -> Card | None:
        """Recognise our networks by their tensors, in any layout of theirs."""
        return identify(state, self.name, where=where)

    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Mean absolute error plus a share of the squared one."""
        gap = model(batch["image"]).float() - batch["target"]
        absolute, squared = gap.abs().mean(), gap.square().mean()
        return {"loss": absolute + SQUARED * squared, "loss_absolute": absolute, "loss_squared": squared}

    def metrics(self, card: Card) -> RestoreMetrics:
        """Make an empty accumulator."""
        return RestoreMetrics()

    def rows(self, outputs: Any, batch: Batch, card: Card, settings: Any) -> list[dict[str, Any]]:
        """Turn outputs into rows: of images their size and file, of pairs metrics against the target."""
        if "radar" in batch:
            return [row_of(batch, number) for number in range(len(batch["radar"]))]
        rows = []
        for number, name in enumerate(batch["name"]):
            row: dict[str, Any] = {"name": name}
            if "target" in batch:
                row |= compare(outputs[number, 0].cpu().numpy(), batch["target"][number, 0].cpu().numpy())
            rows.append(row)
        return rows

    def write(self, outputs: Any, batch: Batch, card: Card, settings: Any, folder: Path) -> None:
        """Write every sharpened image into sharp/, and a picture of it beside what it was into drawn/ when asked."""
        for number, name in enumerate(batch["file"]):
            write_sharp(batch["radar"][number], outputs[number].numpy(), card.model, settings, folder, name)

    def export_form(self, model: nn.Module, card: Card, *, dynamic: bool = False) -> ExportForm:
        """Return image in, image out, at one size.

        Raises:
            ConfigError: `dynamic`.
        """
        if dynamic:
            raise ConfigError(f"{card.model} is exported at one size; leave out --dynamic, or set --size")
        return super().export_form(model, card)

    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make magnitudes of noise with one bright square, (batch, 1, size, size)."""
        found = self.preprocess(card)
        size = int(found["size"])
        x = 0.1 * torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(seed))
        x[:, :, size // 3 : size // 2, size // 3 : size // 2] = 1.0
        return (x * found["peak"],)


class RestoreMetrics(Metrics):
    """Metrics of each image; their means over images are the metrics of the data set."""

    def __init__(self) -> None:
        self.table: list[dict[str, float]] = []

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in outputs (batch, 1, height, width) and the batch's `image` and `target`.

        Raises:
            ShapeError: Outputs of another shape than the targets.
        """
        if outputs.shape != batch["target"].shape:
            raise ShapeError(
                f"outputs of shape {tuple(outputs.shape)} for targets of {tuple(batch['target'].shape)}; "
                "expected an image for an image"
            )
        images, targets = (batch[name].detach().cpu().double().numpy()[:, 0] for name in ("image", "target"))
        for index, image, output, target in zip(
            batch["index"].tolist(),
            images,
            outputs.detach().cpu().double().numpy()[:, 0],
            targets,
            strict=True,
        ):
            found = compare(output, target)
            before = compare(image * best_scale(image, target), target)
            self.table.append({"index": index, **found, "input_psnr": before["psnr"]})

    def merge(self, others: list[Metrics]) -> None:
        """Append what other processes saw."""
        for other in others:
            assert isinstance(other, RestoreMetrics)
            self.table.extend(other.table)

    def compute(self) -> dict[str, float]:
        """Return mean psnr, ssim, rmse, mae, gain (psnr over the input at its best scale), loss and count."""
        if not self.table:
            return {"count": 0.0}
        mean = {
            name: sum(row[name] for row in self.table) / len(self.table)
            for name in ("psnr", "ssim", "rmse", "mae", "input_psnr")
        }
        gain = mean["psnr"] - mean.pop("input_psnr")
        return {**mean, "gain": gain, "loss": mean["mae"], "count": float(len(self.table))}
