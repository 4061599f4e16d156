"""A network that sharpens beside what needs no network and beside a black image, pair by pair.

Every method is scaled by the same rules, which the published table did not do: PSNR with peak 1 on outputs clipped to
[0, 1], SSIM, RMSE and MAE; images without a scale of their own once by their minimum and maximum and once by the
single factor that fits the truth best.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.data.radar_pairs import FACTS, RadarPairs, read_manifest
from saccade.page import table
from saccade.radar.quality import compare, rescale
from saccade.shown import markdown
from saccade.tasks.base import Batch, Section
from saccade.weights.card import Card

SHOWN = 4
"""Pairs that are kept as pictures."""
METRICS = ("psnr", "ssim", "rmse", "mae")
METHOD = "method:"
"""Before the name of a method: the key of its images in samples and batches."""


class JudgedPairs:
    """Pairs with the images of every method that is stored with them."""

    def __init__(self, pairs: RadarPairs) -> None:
        self.pairs = pairs
        self.methods = ("empm", *read_manifest(pairs.folder)["config"].get("methods", ()))
        self.names = [f"pair-{place + pairs.offset:06d}" for place in range(len(pairs))]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> dict[str, Any]:
        images = {METHOD + name: self.pairs.images(place, name) for name in self.methods}
        return {**self.pairs[place], **images, "facts": torch.tensor(list(self.pairs.facts(place).values()))}


def compared(samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Join what `JudgedPairs` adds to samples."""
    names = [name for name in samples[0] if name == "facts" or name.startswith(METHOD)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in names}


class Baselines:
    """Looks at every pair and marks the network, every method, and a black image on it."""

    def __init__(self, card: Card, keep: int) -> None:
        self.model, self.keep = card.model, min(keep, SHOWN)
        self.samples: list[dict[str, Any]] = []
        """One row for each pair, method and scaling."""
        self.pictures: list[list[np.ndarray]] = []
        """The first pairs: as formed, sharpened, truth."""

    def look(self, batch: Batch, outputs: Tensor) -> None:
        """Take in pairs and what the network made of them, (batch, 1, height, width)."""
        methods = [name for name in batch if name.startswith(METHOD)]
        for number, name in enumerate(batch["name"]):
            truth = batch["target"][number, 0].numpy().astype(np.float64)
            sharp = outputs[number, 0].float().cpu().numpy()
            found = {
                (self.model, "none"): compare(sharp, truth),
                ("all zero", "none"): compare(0 * truth, truth),
            }
            for method in methods:
                values = batch[method][number].numpy()
                for scaling in ("minmax", "best"):
                    found[method.removeprefix(METHOD), scaling] = compare(
                        rescale(values, truth, scaling), truth
                    )
            facts = dict(zip(FACTS, batch["facts"][number].tolist(), strict=True))
            self.samples += [
                {"pair": name, "method": method, "scaling": scaling, **metrics, **facts}
                for (method, scaling), metrics in found.items()
            ]
            if len(self.pictures) < self.keep:
                image = batch["image"][number, 0].numpy()
                self.pictures.append([image / max(image.max(), 1e-30), sharp, truth.astype(np.float32)])

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each method and scaling: means over the pairs, and the spread of PSNR."""
        rows = []
        for method, scaling in dict.fromkeys((row["method"], row["scaling"]) for row in self.samples):
            own = [row for row in self.samples if row["method"] == method and row["scaling"] == scaling]
            means = {name: statistics.fmean(row[name] for row in own) for name in METRICS}
            spread = statistics.stdev(row["psnr"] for row in own) if len(own) > 1 else 0.0
            rows.append({"method": method, "scaling": scaling, **means, "psnr_sd": spread, "pairs": len(own)})
        return rows

    def plot(self, path: Path | str) -> None:
        """Draw the first pairs in rows (.png, .svg or .pdf): as formed, sharpened, truth."""
        from saccade.radar.pictures import plot_rows

        plot_rows(self.pictures, ["as formed (EMPM)", "sharpened", "truth"], path)


def sections_of(baselines: Baselines) -> list[Section]:
    """Make the sections of a page."""
    rows = baselines.table()
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| "
        + " | ".join(
            f"{value:.4f}" if isinstance(value, float) else markdown(value) for value in row.values()
        )
        + " |"
        for row in rows
    ]
    words = (
        "Scaling minmax brings an image to [0, 1] by its own minimum and maximum, best multiplies it by the one "
        "factor that fits the truth best (which a user cannot know), none takes it as it is."
    )
    html = f"<section><h2>Beside what needs no network</h2><p>{words}</p>{table(rows)}</section>"
    return [Section("Beside what needs no network", html, "\n".join(lines))]
