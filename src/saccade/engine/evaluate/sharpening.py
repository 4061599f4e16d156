"""Metrics of a sharpening network on radar pairs, always beside what needs no network and beside a black image.

Every method is scaled by the same rules, which the published table did not do: PSNR with peak 1 on outputs clipped to
[0, 1], SSIM, RMSE and MAE; images without a scale of their own once by their minimum and maximum and once by the
single factor that fits the truth best.
"""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.data.radar_pairs import RadarPairs, read_manifest
from saccade.engine.predict.sharpen import load_sharpener, sharpen
from saccade.files import write_text
from saccade.radar.pictures import plot_rows
from saccade.radar.quality import compare, rescale

SHOWN = 4
"""Pairs of a picture."""
MARKS = ("psnr", "ssim", "rmse", "mae")


@dataclass
class Sharpening:
    """What came out."""

    table: list[dict[str, Any]]
    """One row for each method and scaling: means over the pairs, and the spread of PSNR."""
    samples: list[dict[str, Any]]
    """One row for each pair, method and scaling."""
    seconds: float
    """Median time of the network for one image."""

    def write_samples(self, path: Path | str) -> None:
        """Write the per-sample table as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.samples[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.samples)
        write_text(path, text.getvalue())


def mark_pairs(
    folder: Path | str, weights: Path | str | None = None, *, done: Callable[[int], None] | None = None
) -> Sharpening:
    """Mark a network and the plain images on every pair of a data set.

    Args:
        folder: Made by `saccade radar dataset`; checked against its checksums.
        weights: As of `load_sharpener`.
        done: Called with the number of pairs done.

    Raises:
        DataError: Not a data set, or a damaged one.
    """
    pairs = RadarPairs(folder)
    pairs.check()
    network, card = load_sharpener(weights)
    methods = ("empm", *read_manifest(folder)["config"].get("methods", ()))
    samples: list[dict[str, Any]] = []
    seconds: list[float] = []
    for index in range(len(pairs)):
        sample = pairs[index]
        truth, image = sample["target"][0].numpy().astype(np.float64), sample["image"][0].numpy()
        began = time.perf_counter()
        sharp = sharpen(network, card, image)
        seconds.append(time.perf_counter() - began)
        found = {(card.model, "none"): compare(sharp, truth), ("all zero", "none"): compare(0 * truth, truth)}
        for method in methods:
            values = pairs.images(index, method).numpy()
            for scaling in ("minmax", "best"):
                found[method, scaling] = compare(rescale(values, truth, scaling), truth)
        samples += [
            {"pair": sample["name"], "method": method, "scaling": scaling, **metrics, **pairs.facts(index)}
            for (method, scaling), metrics in found.items()
        ]
        if done:
            done(index + 1)
    table = []
    for method, scaling in dict.fromkeys((row["method"], row["scaling"]) for row in samples):
        rows = [row for row in samples if row["method"] == method and row["scaling"] == scaling]
        means = {name: statistics.fmean(row[name] for row in rows) for name in MARKS}
        spread = statistics.stdev(row["psnr"] for row in rows) if len(rows) > 1 else 0.0
        table.append({"method": method, "scaling": scaling, **means, "psnr_sd": spread, "pairs": len(rows)})
    return Sharpening(table, samples, statistics.median(seconds))


def plot_pairs(folder: Path | str, weights: Path | str | None, path: Path | str) -> None:
    """Draw the first pairs in rows: as formed, sharpened, truth.

    Args:
        folder: Made by `saccade radar dataset`.
        weights: As of `load_sharpener`.
        path: .png, .svg or .pdf to write.
    """
    pairs = RadarPairs(folder)
    network, card = load_sharpener(weights)
    rows = []
    for index in range(min(SHOWN, len(pairs))):
        sample = pairs[index]
        image = sample["image"][0].numpy()
        rows.append(
            [image / max(image.max(), 1e-30), sharpen(network, card, image), sample["target"][0].numpy()]
        )
    plot_rows(rows, ["as formed (EMPM)", "sharpened", "truth"], path)
