"""Predict a folder with a detector or segmenter: one line a picture, and what was found drawn onto the picture."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from saccade.data.coco import pack_mask
from saccade.data.config import DataConfig
from saccade.data.decode import decode_rgb
from saccade.data.opening import open_source
from saccade.data.scenes import scenes_folder
from saccade.data.shards import ShardStream, need_local
from saccade.data.source import Source
from saccade.data.whole import WholePreprocess
from saccade.engine.predict.draw import draw_detections, draw_map
from saccade.engine.predict.journal import Journal, skipped_path
from saccade.engine.predict.run import Prediction, fingerprint, identity
from saccade.engine.sessions.dense import DensePredictor
from saccade.engine.sessions.finite import REASON
from saccade.errors import ConfigError, DataError, NotEnoughMemory, memory_enough
from saccade.files import replacing
from saccade.tasks.dense.nets.paste import to_file
from saccade.tasks.segment.task import class_map

Say = Callable[[str], None]
MAX_MASK_PIXELS = 1 << 31
"""Most pixels of all masks of a picture at its own size, one byte each."""


def predict_dense(
    pictures: str,
    weights: Path | str,
    out: Path | str,
    *,
    backend: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    size: int = 0,
    threshold: float = 0.3,
    draw: bool = True,
    restart: bool = False,
    max_pixels: int = DataConfig.max_pixels,
    notify: Say | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Run a detector or segmenter over pictures.

    Stopped at any moment, the same call goes on where it was.

    Args:
        pictures: Folder (searched to the bottom), one picture, table, shards, or scenes.
        weights: Run folder, weights file or bundle.
        out: Folder: `predictions.jsonl` with one object a picture (of detectors: label, score, box x0 y0 x1 y1 in the
            file's pixels, mask as COCO run lengths), and of segmenters a class map NAME.png in `maps/`; with `draw`
            also the picture with what was found drawn on it, in `drawn/`.
        backend: As of `DensePredictor`.
        threads: Cores to use; None: all.
        device: As of `DensePredictor`.
        size: Shorter side; 0: that of the weights.
        threshold: Detections below this score are left out.
        draw: Whether to draw.
        restart: Forget what an earlier run left.
        max_pixels: Larger pictures count as skipped.
        notify: Called with sentences about the work.
        progress: Called with (pictures done, pictures in all).

    Raises:
        DataError: No pictures.
        ConfigError: A setting out of range, or other settings than the run to be continued.
    """
    say, folder = notify or (lambda _: None), Path(out)
    if folder.suffix or folder.is_file():
        raise ConfigError(
            f"{out}: a detector or segmenter writes into a folder; give --out a name without a suffix"
        )
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold:g}; expected a score from 0 to 1")
    place = str(scenes_folder() / "images" / "val") if pictures == "scenes" else pictures
    need_local(place)
    source = open_source(place, classes=False)
    if isinstance(source, ShardStream) or not len(source):
        raise DataError(f"{pictures}: no pictures on this machine here; expected .jpg, .png and the like")
    predictor = DensePredictor(weights, backend=backend, device=device, threads=threads)
    card = predictor.card
    values = {
        **card.preprocess,
        **({"size": size, "max_size": max(size, round(size * 5 / 3))} if size else {}),
    }
    preprocess = WholePreprocess.from_dict(values)
    settings = {
        "weights": identity(weights, card),
        "preprocess": preprocess.to_dict(),
        "threshold": threshold,
        "draw": draw,
        "pictures": fingerprint(source),
    }
    begin = time.perf_counter()
    with (
        contextlib.closing(predictor),
        Journal(folder / "predictions.jsonl", settings, restart=restart) as journal,
    ):
        if journal.resumed:
            say(f"{journal.path}: {journal.resumed} of {len(source)} pictures are done already, going on")
        left = len(source) - journal.done
        names = _plain_names(source)
        for index in range(journal.done, len(source)):
            try:
                with memory_enough("the picture is too large"):
                    row = _one(
                        predictor,
                        preprocess,
                        source,
                        index,
                        names[index],
                        folder,
                        threshold,
                        draw,
                        max_pixels,
                    )
                journal.append([(index, row)])
            except (DataError, NotEnoughMemory) as error:
                journal.append([], [(index, source.names[index], str(error))])
            if progress is not None:
                progress(journal.done, len(source))
        journal.finish()
        if journal.skipped:
            say(
                f"{len(journal.skipped)} pictures have no answer; they are listed with the reasons in "
                f"{skipped_path(journal.out)}"
            )
        seconds = time.perf_counter() - begin
        setting = {
            "model": card.model,
            "head": card.head,
            "backend": predictor.backend,
            "size": preprocess.size,
        }
        rate = left / seconds if left else 0.0
        count = journal.done - len(journal.skipped)
        return Prediction(journal.out, count, journal.skipped, journal.resumed, seconds, rate, setting)


def _one(
    predictor: DensePredictor,
    preprocess: WholePreprocess,
    source: Source,
    index: int,
    name: str,
    folder: Path,
    threshold: float,
    draw: bool,
    max_pixels: int,
) -> dict[str, Any]:
    """Run one picture, write what belongs to it, return its row."""
    pixels = decode_rgb(source.read(index), max_pixels=max_pixels)
    size = (pixels.shape[0], pixels.shape[1])
    image = preprocess.normalise(preprocess.resize(pixels))
    shown = (image.shape[1], image.shape[2])
    output = predictor(preprocess.pad([image]))
    if predictor.not_finite:
        raise DataError(f"{source.names[index]}: {REASON}")
    labels, picture = predictor.card.labels, Image.fromarray(pixels)
    row: dict[str, Any] = {"name": source.names[index], "height": size[0], "width": size[1]}
    if predictor.card.task == "segment":
        classes = class_map(output[0], shown, size)
        numbers = classes.numpy().astype("uint8" if len(labels) < 255 else "uint16")
        _save(Image.fromarray(numbers), folder / "maps" / name)
        shares = torch.bincount(classes.flatten(), minlength=len(labels)) / classes.numel()
        named = zip(labels, shares.tolist(), strict=True)
        row |= {
            "map": f"maps/{name}",
            "shares": {label: round(share, 4) for label, share in named if share > 0.001},
        }
        drawn = draw_map(picture, classes, labels)
    else:
        kept = output[0]["scores"] >= threshold
        found = {key: value[kept] for key, value in output[0].items()}
        if "masks" in found and len(found["masks"]) * size[0] * size[1] > MAX_MASK_PIXELS:
            raise DataError(
                f"{source.names[index]}: {len(found['masks'])} masks of {size[1]} x {size[0]} pixels are too large "
                "to draw; raise the threshold or use a smaller copy"
            )
        found = to_file(found, shown, size)
        row["detections"] = list(_entries(found, labels))
        drawn = draw_detections(picture, found, labels, threshold=threshold)
    if draw:
        _save(drawn, folder / "drawn" / name)
    return row


def _entries(found: dict[str, Tensor], labels: list[str]) -> Iterator[dict[str, Any]]:
    """Turn detections into JSON objects, best first."""
    for number, box in enumerate(found["boxes"].tolist()):
        entry: dict[str, Any] = {
            "label": labels[int(found["labels"][number])],
            "score": round(float(found["scores"][number]), 4),
            "box": [round(edge, 2) for edge in box],
        }
        if "masks" in found:
            entry["mask"] = pack_mask(found["masks"][number].numpy())
        yield entry


def _plain_names(source: Source) -> list[str]:
    """Give every picture a PNG name of its own, free of folders."""
    taken: dict[str, int] = {}
    names = []
    for name in source.names:
        stem = "_".join(part for part in Path(name).with_suffix("").parts if part not in ("/", "..", "."))
        count = taken.get(stem, 0)
        taken[stem] = count + 1
        names.append(f"{stem}.png" if not count else f"{stem}-{count + 1}.png")
    return names


def _save(picture: Image.Image, path: Path) -> None:
    """Write a PNG in one piece."""
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", compress_level=3)
