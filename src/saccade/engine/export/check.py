"""Check a bundle again: is it whole, does it say what it was exported with, does it still answer the same?"""

from pathlib import Path
from typing import Any

from saccade.engine.export import verify
from saccade.engine.export.bundle import read_bundle
from saccade.engine.export.form import one_output
from saccade.engine.export.reference import check_reference, input_size, row
from saccade.engine.export.ship import STEP, open_session
from saccade.engine.export.workers import can_run
from saccade.errors import SaccadeError, WeightsError
from saccade.tasks.open import load_model


def check_bundle(path: Path | str, weights: Path | str = "") -> list[dict[str, Any]]:
    """Rerun what can be rerun of a bundle's proof.

    Args:
        path: The bundle's folder.
        weights: What it was exported from, where that is at hand: compared with the file as at export.

    Returns:
        Rows of what, state (ok, failed or not checked) and detail.
    """
    try:
        bundle = read_bundle(path)
    except WeightsError as error:
        return [row("bundle", "failed", str(error))]
    rows = [
        row("files", "ok", f"the manifest (SHA-256 {bundle.digest}) and the files that it lists are whole")
    ]
    rows += [row("contents", "not checked", what) for what in bundle.unchecked]
    if not bundle.unchecked:
        rows.append(
            row("contents", "ok", "the model file was exported with these labels and this preprocessing")
        )
    manifest = bundle.manifest
    if not can_run(manifest.format):
        return [*rows, row("answers", "not checked", f"{manifest.format} files do not run on this machine")]
    try:
        session = open_session(bundle)
    except SaccadeError as error:
        return [*rows, row("answers", "failed", str(error))]
    try:
        rows += check_reference(session, manifest, bundle.path)
        if not weights:
            return [
                *rows,
                row("network", "not checked", "name the weights with --weights to compare with PyTorch"),
            ]
        model, _ = load_model(weights)
        if manifest.precision == "int8":
            return [*rows, row("network", "not checked", "int8 is compared on real pictures, at export only")]
        step = STEP if manifest.card.task in ("detect", "segment") else 1
        free, channels = manifest.size is None, manifest.card.in_chans
        cases = verify.make_cases(
            channels, input_size(manifest), dynamic=free, batch=manifest.batch, step=step
        )
        report = verify.compare(session, one_output(model), cases, precision=manifest.precision)
        rows.append(
            row(
                "network", "ok", f"differs from PyTorch by {report.worst:.2g}, allowed are {report.limit:.2g}"
            )
        )
    except SaccadeError as error:
        rows.append(row("answers", "failed", str(error)))
    finally:
        session.close()
    return rows
