"""Files that are exported on the way, because a runtime needs one: kept in the cache, proved anew when opened."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from saccade.engine.export import Bundle, export, is_bundle, open_file, read_bundle
from saccade.engine.export.cache import prune_bundles
from saccade.engine.export.contract import contract
from saccade.engine.export.session import tensors_of
from saccade.engine.export.ship import exporter_versions
from saccade.engine.export.verify import difference, limit
from saccade.errors import SaccadeError
from saccade.files import cache_dir, writing
from saccade.tasks import get_task
from saccade.weights import Card

EXPORT_PATIENCE = 1800.0
"""Seconds to wait for another process that exports the same network into the cache."""
Log = Callable[[str], None]


def made_bundle(model: nn.Module, card: Card, form: str, precision: str, log: Log) -> Bundle:
    """Return a verified bundle of a network from the cache, exporting it on first use."""
    home = cache_dir() / "bundles" / fingerprint(model, card, form)[:16]
    with writing(home, f"exporting {card.model} for later", beside=True, patience=EXPORT_PATIENCE):
        kept = next((path for path in home.glob(f"*-{form}-{precision}") if is_bundle(path)), None)
        bundle = _cached(kept, model, card, log) if kept else None
        if bundle is None:
            log(f"exporting {card.model} to {form} ({precision}) once, into {home}")
            made = export((model, card), form, precision=precision, out=home, log=log)
            bundle = read_bundle(made.path)
        with contextlib.suppress(OSError):
            os.utime(home)  # used last now
    prune_bundles(keep=home)
    bundle.manifest.card = card
    return bundle


def _cached(path: Path, model: nn.Module, card: Card, log: Log) -> Bundle | None:
    """Return a bundle of the cache after running it on one sample beside the network; None where it is no good."""
    try:
        bundle = read_bundle(path)
        file = open_file(bundle, threads=1)
    except SaccadeError as error:
        log(f"the cached bundle is made again: {error}")
        return None
    try:
        form = get_task(card.task).export_form(model, bundle.manifest.card)
        given = tuple(value[:1] for value in form.inputs.values())
        with torch.no_grad():
            wanted = tensors_of(form.module(*given))
        allowed = limit(bundle.manifest.precision, 2e-6)
        pairs = list(zip(tensors_of(file(*given)), wanted, strict=True))
        if all(got.shape == want.shape and difference(got, want) <= allowed for got, want in pairs):
            return bundle
        log(f"the cached bundle {path} does not answer as the network does; it is made again")
    except SaccadeError as error:
        log(f"the cached bundle is made again: {error}")
    finally:
        file.close()
    return None


def fingerprint(model: nn.Module, card: Card, form: str = "") -> str:
    """Hex digest of what a network computes and of what would export it.

    Args:
        model: Its tensors, their names, and its layers with their settings.
        card: Its options and preprocessing; not its labels, origin and metrics.
        form: Of an exported file: adds the versions of what makes that format, or the pins of its environment.
    """
    facts = {
        "structure": repr(model),
        "card": contract(dataclasses.replace(get_task(card.task).sized(card), labels=[]), form, ""),
        "tools": exporter_versions(form) if form else {},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim
                      else str(tensor.item()).encode())  # fmt: skip
    return digest.hexdigest()
