"""Check a bundle again: is it whole, does it say what it was exported with, does it still answer the same?"""

from __future__ import annotations

from pathlib import Path

from saccade.engine.export.bundle import Bundle, read_bundle
from saccade.engine.export.reference import Check, check_reference
from saccade.engine.export.session import Session
from saccade.engine.export.ship import cases_for, open_session
from saccade.engine.export.verify import compare
from saccade.engine.export.workers import can_run
from saccade.engine.source import open_for
from saccade.errors import SaccadeError, WeightsError


def verify(bundle: Path | str, weights: Path | str = "") -> list[Check]:
    """Rerun what can be rerun of a bundle's proof.

    Args:
        bundle: The bundle's folder.
        weights: What it was exported from, where that is at hand: compared with the file as at export.

    Returns:
        What was looked at; a bundle is to be trusted as far as nothing in the list has failed.
    """
    try:
        found = read_bundle(bundle)
    except WeightsError as error:
        return [Check("bundle", "failed", str(error))]
    whole = f"the manifest (SHA-256 {found.digest}) and the files that it lists are whole"
    checks = [Check("files", "ok", whole)]
    checks += [Check("contents", "not checked", what) for what in found.unchecked]
    if not found.unchecked:
        said = "the model file was exported with these labels and this preprocessing"
        checks.append(Check("contents", "ok", said))
    manifest = found.manifest
    if not can_run(manifest.format):
        return [
            *checks,
            Check("answers", "not checked", f"{manifest.format} files do not run on this machine"),
        ]
    try:
        session = open_session(found)
    except SaccadeError as error:
        return [*checks, Check("answers", "failed", str(error))]
    try:
        checks += check_reference(session, manifest, found.path)
        checks.append(_check_network(found, session, weights))
    except SaccadeError as error:
        checks.append(Check("answers", "failed", str(error)))
    finally:
        session.close()
    return checks


def _check_network(bundle: Bundle, session: Session, weights: Path | str) -> Check:
    """Compare a file with the network that it was exported from, as at export."""
    manifest = bundle.manifest
    if not weights:
        hint = "name the weights with --weights to compare with PyTorch"
        return Check("network", "not checked", hint)
    if manifest.precision == "int8":
        return Check("network", "not checked", "int8 is compared on real data, at export only")
    task, model, _ = open_for(weights, "export")
    form = task.export_form(model, manifest.card, dynamic=manifest.free)
    cases = cases_for(form, task, manifest.card, manifest.batch)
    report = compare(session, form.module, cases, precision=manifest.precision)
    said = f"differs from PyTorch by {report.worst:.2g}, allowed are {report.limit:.2g}"
    return Check("network", "ok", said)
