"""What a bundle's file answered when it was exported: a few inputs and outputs, so that anyone can run it again.

`reference.safetensors` holds small blocks of noise, which are blown up to the file's own size, and small pictures,
which go through the preprocessing that the manifest names, where a network takes plain pictures; and of the outputs
an even sample. Months later and on another machine the file should still give them, to within what its precision
allows.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saccade.engine.export.bundle import Manifest
from saccade.engine.export.held_out import Recorder
from saccade.engine.export.session import Session, in_batches, tensors_of
from saccade.engine.export.verify import BF16_LIMIT, CEILING, difference
from saccade.engine.run import run_batches
from saccade.errors import CheckFailed, ConfigError, WeightsError
from saccade.tasks import get_task

REFERENCE = "reference.safetensors"
MAX_BYTES = 64 << 20
BLOCKS, PICTURES, SAMPLE = 24, 2, 1 << 14
"""Blocks of noise a side, inputs of each kind, and outputs kept of each input."""
PICTURE_SIZE = (60, 80)
LIMITS = {"float32": CEILING, "bf16": BF16_LIMIT, "int8": 0.1}
"""How much another machine's arithmetic may change an output of the same file, relative to the largest."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at when a bundle was checked again."""

    what: str
    state: str
    """ok, failed or not checked."""
    detail: str


def write_reference(session: Session, manifest: Manifest, folder: Path, sizes: list[tuple[int, ...]]) -> None:
    """Run a file that was found equal to its network, and keep what went in and what came out.

    Args:
        session: The opened file.
        manifest: What it is.
        folder: Of the bundle.
        sizes: Shapes of inputs that the file takes, without the batch.
    """
    generator = torch.Generator().manual_seed(11)
    tensors: dict[str, Tensor] = {}
    for key, shape in zip(_keys(manifest), sizes, strict=True):
        small = (*shape[:-2], BLOCKS, BLOCKS) if len(shape) > 2 else shape
        tensors[key] = torch.randint(-96, 97, (PICTURES, *small), generator=generator, dtype=torch.int8)
    tensors["size"] = torch.tensor(sizes[0][-2:])
    pixels = torch.randint(0, 256, (PICTURES, *PICTURE_SIZE, 3), generator=generator, dtype=torch.uint8)
    if _pictures(pixels, manifest) is not None:
        tensors["pictures"] = pixels
    outputs = {f"{name}_outputs": outputs for name, outputs in _run(session, manifest, tensors).items()}
    save_file(tensors | outputs, folder / REFERENCE)


def _keys(manifest: Manifest) -> list[str]:
    """Name the noise of each input."""
    return ["blocks" if place == 0 else f"blocks_{place}" for place in range(len(manifest.inputs))]


def check_reference(session: Session, manifest: Manifest, folder: Path) -> list[Check]:
    """Run a file again on what was kept with it.

    Returns:
        One check of the noise and one of the pictures.
    """
    if REFERENCE not in manifest.files:
        return [
            Check(
                "answers",
                "not checked",
                "none were kept with this bundle (made by an older Saccade, or not run)",
            )
        ]
    tensors = _load(folder / REFERENCE, manifest)
    allowed = LIMITS.get(manifest.precision, CEILING)
    rows = []
    for name, got in _run(session, manifest, tensors).items():
        want = tensors[f"{name}_outputs"]
        gap = difference(got, want) if got.shape == want.shape else float("inf")
        what = "answers to noise" if name == "blocks" else "answers to pictures"
        detail = f"differ by {gap:.2g} of the largest output from those at export, allowed are {allowed:.2g}"
        rows.append(Check(what, "ok" if gap <= allowed else "failed", detail))
    if "pictures" not in tensors:
        rows.append(
            Check("answers to pictures", "not checked", "none were kept: this file takes no plain pictures")
        )
    return rows


def _run(session: Session, manifest: Manifest, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Answer the noise and the pictures: (inputs, sample of the outputs and their largest)."""
    height, width = (int(side) for side in tensors["size"][-2:]) if len(tensors["size"]) > 1 else (0, 0)
    high, wide = -(-height // BLOCKS), -(-width // BLOCKS)

    def blown(blocks: Tensor) -> Tensor:
        if blocks.ndim > 3:
            blocks = blocks.repeat_interleave(high, -2).repeat_interleave(wide, -1)[..., :height, :width]
        return blocks.float() / 32

    inputs = {"blocks": tuple(blown(tensors[key]) for key in _keys(manifest))}
    if "pictures" in tensors:
        images = _pictures(tensors["pictures"], manifest)
        if images is None:
            raise CheckFailed(
                "the card's preprocessing does not take the pictures that were kept with the bundle"
            )
        inputs["pictures"] = images
    return {name: _sample(in_batches(session, values, manifest.batch)) for name, values in inputs.items()}


def _sample(outputs: Any) -> Tensor:
    """Keep outputs spread evenly, and the largest: what differences are measured by."""
    flat = torch.cat([value.float().flatten(1) for value in tensors_of(outputs)], 1)
    return torch.cat(
        [flat[:, :: -(-flat.shape[1] // SAMPLE)], flat.abs().amax(1, keepdim=True)], 1
    ).contiguous()


def _pictures(pixels: Tensor, manifest: Manifest) -> tuple[Tensor, ...] | None:
    """Return what the file is given for plain pictures; None where its network takes something else.

    Raises:
        WeightsError: Preprocessing that is none.
    """
    task, card = get_task(manifest.card.task), manifest.card
    try:
        batch = task.from_pictures(
            [Image.fromarray(np.ascontiguousarray(one.numpy())) for one in pixels], card
        )
    except ConfigError as error:
        raise WeightsError(f"{card.model}: {error}") from None
    if batch is None:
        return None
    recorder = Recorder(_Nothing(), card, manifest.size)
    with contextlib.suppress(_Recorded):
        for _ in run_batches(task, [{"": task.exported(recorder, card)}], [lambda: batch]):
            pass
    return recorder.inputs[0]


class _Recorded(Exception):
    """What goes into the file is known; what comes out is of no interest."""


class _Nothing(nn.Module):
    """Stands for a network where only its inputs count."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Stop."""
        raise _Recorded


def _load(path: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Read what was kept and check its kinds and sizes.

    Raises:
        WeightsError: Not what `write_reference` writes.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no such file is")
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({str(error)[:100]})") from None
    if not _fits(tensors, manifest):
        raise WeightsError(f"{path}: not the answers that `saccade export` keeps; export the bundle again")
    return tensors


def _fits(tensors: dict[str, Tensor], manifest: Manifest) -> bool:
    """Whether kept tensors have the kinds and sizes that `write_reference` gives them."""
    size, pixels = tensors.get("size"), tensors.get("pictures")
    good = size is not None and 1 <= len(size) <= 2 and 1 <= int(size.min()) <= int(size.max()) <= 16384
    for key, port in zip(_keys(manifest), manifest.inputs, strict=True):
        noise, shape = tensors.get(key), list(port["shape"][1:])
        small = [*shape[:-2], BLOCKS, BLOCKS] if len(shape) > 2 else shape
        good = good and noise is not None and noise.dtype == torch.int8 and len(noise) <= PICTURES
        good = good and noise is not None and list(noise.shape[1:]) == small
    if pixels is not None:
        good = good and pixels.dtype == torch.uint8 and len(pixels) <= PICTURES
        good = good and pixels.shape[1:] == (*PICTURE_SIZE, 3)
    for name in ("blocks", *(("pictures",) if pixels is not None else ())):
        kept = tensors.get(f"{name}_outputs")
        good = good and kept is not None and kept.dtype == torch.float32 and kept.ndim == 2
    return bool(good)
