"""What a bundle's file answered when it was exported: a few inputs and outputs, so that anyone can run it again.

`reference.safetensors` holds small blocks of noise, which are blown up to the file's own size, and small pictures,
which go through the preprocessing that the manifest names; and of the outputs an even sample. Months later and on
another machine the file should still give them, to within what its precision allows.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.data.whole import WholePreprocess
from saccade.engine.export.bundle import Manifest
from saccade.engine.export.session import Session
from saccade.engine.export.verify import BF16_LIMIT, CEILING, difference
from saccade.errors import CheckFailed, ConfigError, WeightsError
from saccade.tasks.classify.task import preprocess_of
from saccade.weights.card import Card

REFERENCE = "reference.safetensors"
MAX_BYTES = 64 << 20
BLOCKS, PICTURES, SAMPLE = 24, 2, 1 << 14
"""Blocks of noise a side, inputs of each kind, and outputs kept of each input."""
PICTURE_SIZE = (60, 80)
LIMITS = {"float32": CEILING, "bf16": BF16_LIMIT, "int8": 0.1}
"""How much another machine's arithmetic may change an output of the same file, relative to the largest."""
STEP = 64
"""Sides of dense networks' inputs are multiples of this."""


def input_size(manifest: Manifest) -> tuple[int, int]:
    """Height and width to run a file at: its own, else that of its card, else the least that dense networks take.

    Raises:
        WeightsError: Preprocessing that is none.
    """
    if manifest.size is not None:
        return manifest.size
    if manifest.card.task in ("detect", "segment"):
        return 4 * STEP, 4 * STEP
    side = _checked(manifest.card).size
    return side, side


def write_reference(session: Session, manifest: Manifest, folder: Path) -> None:
    """Run a file that was found equal to its network, and keep what went in and what came out."""
    generator = torch.Generator().manual_seed(11)
    shape = (PICTURES, manifest.card.in_chans, BLOCKS, BLOCKS)
    tensors = {"blocks": torch.randint(-96, 97, shape, generator=generator, dtype=torch.int8)}
    tensors["size"] = torch.tensor(input_size(manifest))
    pixels = torch.randint(0, 256, (PICTURES, *PICTURE_SIZE, 3), generator=generator, dtype=torch.uint8)
    if _pictures(pixels, manifest) is not None:
        tensors["pictures"] = pixels
    outputs = {f"{name}_outputs": outputs for name, outputs in _run(session, manifest, tensors).items()}
    save_file(tensors | outputs, folder / REFERENCE)


def check_reference(session: Session, manifest: Manifest, folder: Path) -> list[dict[str, Any]]:
    """Run a file again on what was kept with it.

    Returns:
        A row for the blocks and one for the pictures: what, state (ok, failed or not checked), detail.
    """
    if REFERENCE not in manifest.files:
        return [
            row(
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
        rows.append(row(what, "ok" if gap <= allowed else "failed", detail))
    if "pictures" not in tensors:
        rows.append(
            row("answers to pictures", "not checked", "none were kept: this file takes no plain pictures")
        )
    return rows


def row(what: str, state: str, detail: str) -> dict[str, Any]:
    """Make one row of a report."""
    return {"what": what, "state": state, "detail": detail}


def _run(session: Session, manifest: Manifest, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Answer the blocks and the pictures: (inputs, sample of the outputs and their largest)."""
    height, width = (int(side) for side in tensors["size"])
    high, wide = -(-height // BLOCKS), -(-width // BLOCKS)
    blown = tensors["blocks"].repeat_interleave(high, 2).repeat_interleave(wide, 3)[:, :, :height, :width]
    inputs = {"blocks": blown.float() / 32}
    if "pictures" in tensors:
        images = _pictures(tensors["pictures"], manifest)
        if images is None:
            raise CheckFailed(
                "the card's preprocessing does not take the pictures that were kept with the bundle"
            )
        inputs["pictures"] = images
    return {name: _sample(_batched(session, images, manifest.batch)) for name, images in inputs.items()}


def _batched(session: Session, images: Tensor, batch: int | None) -> Tensor:
    """Run a few pictures, whatever batch the file takes."""
    if batch is None:
        return session(images.contiguous())
    return torch.cat([session(image.expand(batch, -1, -1, -1).contiguous())[:1] for image in images.split(1)])


def _sample(outputs: Tensor) -> Tensor:
    """Keep outputs spread evenly, and the largest: what differences are measured by."""
    flat = outputs.float().flatten(1)
    return torch.cat(
        [flat[:, :: -(-flat.shape[1] // SAMPLE)], flat.abs().amax(1, keepdim=True)], 1
    ).contiguous()


def _pictures(pixels: Tensor, manifest: Manifest) -> Tensor | None:
    """Send pictures through the preprocessing of a card; None where a network takes no plain pictures."""
    card = manifest.card
    if card.task not in ("classify", "detect", "segment") or card.in_chans not in (1, 3):
        return None
    files = [Image.fromarray(np.ascontiguousarray(one.numpy())) for one in pixels]
    if card.task == "classify":
        preprocess = _checked(card)
        return (
            torch.stack([preprocess.fast(file) for file in files])
            if preprocess.channels == card.in_chans
            else None
        )
    whole = WholePreprocess.from_dict(card.preprocess)
    images = [whole.fast(file)[0] for file in files]
    size = manifest.size or tuple(max(3, -(-side // STEP)) * STEP for side in images[0].shape[1:])
    padded = torch.zeros(len(images), card.in_chans, *size)
    for one, image in zip(padded, images, strict=True):
        one[:, : image.shape[1], : image.shape[2]] = image[:, : size[0], : size[1]]
    return padded


def _checked(card: Card) -> Any:
    """Return the preprocessing of a classifier's card."""
    try:
        return preprocess_of(card)
    except ConfigError as error:
        raise WeightsError(f"{card.model}: {error}") from None


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
    blocks, size, pixels = (tensors.get(name) for name in ("blocks", "size", "pictures"))
    good = blocks is not None and blocks.dtype == torch.int8 and blocks.ndim == 4
    good = good and blocks.shape[1:] == (manifest.card.in_chans, BLOCKS, BLOCKS) and len(blocks) <= PICTURES  # pyright: ignore
    good = (
        good and size is not None and size.shape == (2,) and 1 <= int(size.min()) <= int(size.max()) <= 16384
    )
    if pixels is not None:
        good = (
            good
            and pixels.dtype == torch.uint8
            and pixels.shape[1:] == (*PICTURE_SIZE, 3)
            and len(pixels) <= PICTURES
        )
    for name in ("blocks", *(("pictures",) if pixels is not None else ())):
        kept = tensors.get(f"{name}_outputs")
        good = good and kept is not None and kept.dtype == torch.float32 and kept.ndim == 2
    if not good:
        raise WeightsError(f"{path}: not the answers that `saccade export` keeps; export the bundle again")
    return tensors
