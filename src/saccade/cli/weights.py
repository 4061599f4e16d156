"""`saccade weights`: convert between key layouts, fetch published weights, verify a file."""

from pathlib import Path
from typing import Literal

import cyclopts

from saccade.cli import show

app = cyclopts.App(name="weights", help="Convert, fetch and verify weights.")


@app.command
def convert(
    source: str,
    /,
    *,
    to: Literal["official", "timm", "saccade"],
    out: Path,
    json: bool = False,
) -> None:
    """Rewrite weights in the layout of the authors, of timm, or our own.

    Example: saccade weights convert shvit_s1.pth --to saccade --out shvit_s1.safetensors

    Args:
        source: A .pth or .safetensors file in any of the three layouts, a run folder, or a hub id.
        to: Whose tensor names and shapes to write; only "saccade" keeps the card.
        out: File to write, .safetensors or .pth.
        json: Print one JSON object.
    """
    from saccade.engine.weights import convert_weights

    card = convert_weights(source, to, out)
    show.result({"model": card.model, "layout": to, "file": str(out)}, as_json=json)


@app.command
def fetch(name: str, /, *, out: Path | None = None, json: bool = False) -> None:
    """Fetch published weights from the Hugging Face hub, once, into its cache.

    Example: saccade weights fetch shvit_s1

    Args:
        name: A model name, model.tag of `saccade models show`, or a hub id.
        out: Also write them there, .safetensors with a card.
        json: Print one JSON object.
    """
    from saccade.engine.weights import convert_weights
    from saccade.hub import fetch_file
    from saccade.zoo.facts import find_published

    hub_id, file = find_published(name)
    path = fetch_file(hub_id, file)
    if out is not None:
        convert_weights(path, "saccade", out)
    show.result({"hub_id": hub_id, "file": str(out or path)}, as_json=json)


@app.command
def verify(source: str, /, *, model: str = "", verbose: bool = False, json: bool = False) -> None:
    """Check that a weights file is whole, finite and fits its model; exit code 1 when not.

    Example: saccade weights verify shvit_s1.pth --model shvit_s1

    Args:
        source: A .pth or .safetensors file, a run folder, or a hub id.
        model: Model name; left out, the card or the tensors say which.
        verbose: List every tensor that does not fit, not only the first ones of each kind.
        json: Print one JSON object.
    """
    import dataclasses

    from saccade.engine.weights import KINDS, check_weights
    from saccade.errors import CheckFailed

    verdict = check_weights(source, model)
    about = {**dataclasses.asdict(verdict), "fits": verdict.fits}
    if json:
        show.result(about, as_json=True)
    else:
        wrong = {kind: about.pop(kind) for kind in KINDS}
        show.result({**about, **{kind: len(found) for kind, found in wrong.items()}}, as_json=False)
        shown = [
            (kind, name) for kind, found in wrong.items() for name in (found if verbose else found[:FEW])
        ]
        show.rows([{"problem": kind, "tensor": name} for kind, name in shown], as_json=False)
        if left := sum(map(len, wrong.values())) - len(shown):
            show.note(f"and {left} more; --verbose lists them all")
    if not verdict.fits:
        raise CheckFailed(
            f"{verdict.file}: these weights are not those of a whole {verdict.model}; the list says why"
        )


FEW = 5
"""Tensors of each kind that are shown unasked."""
