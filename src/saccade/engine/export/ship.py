"""From a trained network to a bundle: fold, export, run against PyTorch, and only then put it in place."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.engine.export import verify
from saccade.engine.export.bundle import (
    BUNDLE_FORMAT,
    Bundle,
    Manifest,
    bundle_name,
    is_bundle,
    write_manifest,
)
from saccade.engine.export.contract import contract, write_contract
from saccade.engine.export.environment import pins_digest
from saccade.engine.export.form import portable, shapes
from saccade.engine.export.held_out import CALIBRATION, HeldOut, Recorder
from saccade.engine.export.reference import write_reference
from saccade.engine.export.session import OpenedFile, Session, size_of
from saccade.engine.export.workers import HOMES, can_run
from saccade.engine.source import open_for
from saccade.errors import CheckFailed, ConfigError, did_you_mean
from saccade.files import replacing, writing
from saccade.tasks import Task
from saccade.tasks.base import ExportForm
from saccade.weights import Card, Source

Log = Callable[[str], None]


@dataclass(frozen=True)
class Format:
    """One row of the table of formats."""

    precisions: tuple[str, ...]
    model_file: str
    """Name of the file that its runtime opens."""
    packages: tuple[str, ...]
    """Whose versions the manifest names."""
    dynamic: bool = True
    """Height and width may be left free."""


FORMATS: dict[str, Format] = {
    "onnx": Format(("float32", "int8"), "model.onnx", ("torch", "onnx", "onnxruntime")),
    "openvino": Format(("float32", "bf16", "int8"), "model.xml", ("torch", "onnx", "openvino", "nncf")),
    "torch": Format(("float32", "bf16"), "model.pt2", ("torch",)),
    "executorch": Format(("float32",), "model.pte", (), dynamic=False),
    "litert": Format(("float32",), "model.tflite", (), dynamic=False),
    "coreml": Format(("float32",), "model.mlpackage.zip", (), dynamic=False),
}


@dataclass(frozen=True)
class Shipped:
    """What `export` made."""

    path: Path
    manifest: Manifest

    @property
    def bytes(self) -> int:
        """Length of all model files together."""
        return sum(entry["bytes"] for entry in self.manifest.files.values())

    def row(self) -> dict[str, Any]:
        """Return one flat row for a table: where, how large, how different."""
        checks, details = self.manifest.checks, self.manifest.details
        row: dict[str, Any] = {"bundle": str(self.path), "megabytes": round(self.bytes / 1e6, 2)}
        names = (
            "verified",
            "max_difference",
            "limit",
            "answers",
            "agreement",
            "metric",
            "before",
            "after",
            "pictures",
        )
        row |= {name: checks[name] for name in names if checks.get(name) is not None}
        if "delegated_share" in details:
            row["delegated_share"] = details["delegated_share"]
        return row


def export(
    source: Path | str | tuple[nn.Module, Card],
    to: str = "onnx",
    *,
    precision: str = "float32",
    data: str = "",
    size: int | None = None,
    dynamic: bool = False,
    out: Path | str | None = None,
    log: Log = lambda text: None,
) -> Shipped:
    """Export a network as a bundle that was run against PyTorch.

    Args:
        source: Run folder, weights file, model name, or a network in evaluation mode with its card.
        to: Format: onnx, openvino, torch, executorch, litert or coreml.
        precision: float32, bf16 or int8, as far as the format has it.
        data: Real data, as for `saccade train --data`: calibrates int8 (required there) and measures
            what the precision does to the metrics.
        size: Side of the square pictures, in pixels, of detectors and segmenters the shorter side; None: what the
            weights were trained for.
        dynamic: Leave height and width of the pictures free.
        out: Folder to put the bundle's folder in; None: `export/` in the run folder, or here.
        log: Called with lines about the work.

    Returns:
        The bundle's folder and manifest.

    Raises:
        CheckFailed: The file differs from PyTorch by more than its precision allows; nothing is left behind.
        ConfigError: A format, precision or option that does not exist or does not go together, or a network whose
            task cannot be exported.
    """
    _check_request(to, precision, data, dynamic)
    task, model, card = _open(source)
    if to in HOMES and not task.phones:
        raise ConfigError(
            f"{card.model} is for the task {task.name}, which exports to onnx, openvino and torch, not to {to}"
        )
    card = task.sized(card, size or 0)
    form = portable(task, model, card, dynamic=dynamic)
    inputs, outputs = shapes(form)
    stem = f"{card.model}_{card.head}" if card.head else card.model
    name = bundle_name(stem, size_of(inputs[0]["shape"]), to, precision)
    home = Path() if isinstance(source, tuple) else Path(Source(source).weights)
    home = home if home.is_dir() else Path()
    folder = Path(out) if out else home / "export"
    with writing(folder / name, f"exporting {name}", beside=True), replacing(folder / name) as temporary:
        temporary.mkdir()
        held_out = HeldOut.open(data, task, card, home) if data else None
        manifest = Manifest(
            card, to, precision, inputs, outputs, rest=form.rest, versions=_versions(FORMATS[to])
        )
        Job(task, model, form, manifest, temporary, held_out, log).run(name)
        write_manifest(temporary, manifest)
    return Shipped(folder / name, manifest)


@dataclass
class Job:
    """One export under way."""

    task: Task
    model: nn.Module
    """As loaded."""
    form: ExportForm
    """From `portable`."""
    manifest: Manifest
    folder: Path
    held_out: HeldOut | None
    log: Log

    @property
    def file(self) -> Path:
        """The model file under construction."""
        return self.folder / FORMATS[self.manifest.format].model_file

    def run(self, name: str) -> None:
        """Write the file, run it against PyTorch, and complete the manifest."""
        manifest = self.manifest
        manifest.details = self._write()
        manifest.versions |= manifest.details.pop("versions", {})
        if batch := manifest.details.get("batch"):
            for port in (*manifest.inputs, *manifest.outputs):
                port["shape"][0] = batch
        write_contract(
            self.file, manifest.format, contract(manifest.card, manifest.format, manifest.precision)
        )
        if not can_run(manifest.format):
            self.log(f"{name}: converted but not checked; {manifest.format} files run on macOS only")
            manifest.checks = {"verified": False}
            return
        bundle = Bundle(self.folder, dataclasses.replace(manifest, files={self.file.name: {}}))
        file = open_file(bundle)
        try:
            self._check(file)
        except CheckFailed as error:
            raise CheckFailed(f"{name}: {error}; the file was removed") from None
        finally:
            file.close()

    def _write(self) -> dict[str, Any]:
        """Write the model file; return what only this format has to say."""
        from saccade.engine.export import int8
        from saccade.engine.export.onnx import write_onnx
        from saccade.engine.export.openvino import write_openvino
        from saccade.engine.export.torch_export import write_torch
        from saccade.engine.export.workers import convert

        to, precision = self.manifest.format, self.manifest.precision
        if to == "torch":
            write_torch(self.form, self.file, precision=precision)
            return {}
        if to in HOMES:
            return convert(to, self.form, self.file, self.log)
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "model.onnx"
            if precision != "int8":
                target = self.file if to == "onnx" else plain
                write_onnx(self.form, target)
                if to == "openvino":
                    write_openvino(target, self.file)
                return {}
            write_onnx(self.form, plain)
            samples = [
                dict(zip(self.form.inputs, one, strict=True)) for one in self._calibration(CALIBRATION)
            ]
            self.log(f"finding the ranges of int8 on {len(samples)} training samples")
            if to == "onnx":
                int8.quantise_onnx(plain, samples, self.file)
            else:
                write_openvino(plain, plain.with_suffix(".xml"))
                int8.quantise_openvino(plain.with_suffix(".xml"), samples, self.file)
            return {"calibration_pictures": len(samples)}

    def _calibration(self, count: int) -> list[tuple[Tensor, ...]]:
        """Return real inputs of the file, one sample each."""
        assert self.held_out is not None
        recorder = Recorder(self.form.module, self.manifest.card, self.manifest.size)
        return self.held_out.calibration(recorder, count)

    def _check(self, file: OpenedFile) -> None:
        """Run the file against PyTorch; write down what was found."""
        manifest, card = self.manifest, self.manifest.card
        whole = self.task.export_form(self.model, card, dynamic=manifest.free)
        cases = self._cases()
        report = verify.compare(file.session, whole.module, cases, precision=manifest.precision)
        manifest.tolerance, manifest.checks = report.limit, {"verified": True, **report.to_dict()}
        if self.form.rest and len(self.form.inputs) == 1 and manifest.precision == "float32":
            manifest.checks["answers"] = verify.check_answers(self.task, file, self.model, card, cases[:4])
        if manifest.precision == "int8":
            verify.check_batches(file.session, cases[-1].inputs)
        if self.held_out is not None:
            manifest.checks |= self._measure(file, self.held_out)
        sizes = [tuple(value.shape[1:]) for value in self.form.inputs.values()]
        write_reference(file.session, manifest, self.folder, sizes)

    def _cases(self) -> list[verify.Case]:
        """Make the batches to compare on; int8's ranges fit real data only, so only those say anything."""
        if self.manifest.precision != "int8":
            return cases_for(self.form, self.task, self.manifest.card, self.manifest.batch)
        found = self._calibration(32)
        real = tuple(torch.cat(values) for values in zip(*found, strict=True))
        counts = sorted({min(count, len(found)) for count in (1, 2, 5, len(found))})
        return [verify.Case(f"real x{count}", tuple(value[:count] for value in real)) for count in counts]

    def _measure(self, file: OpenedFile, held_out: HeldOut) -> dict[str, Any]:
        """Compare metrics and answers on the validation data with the network's own."""
        task, card = self.task, self.manifest.card
        self.log(f"measuring on {len(held_out.val)} validation samples")
        found, other, agreement = held_out.measure(self.model, task.exported(file, card))
        before, after = found[task.main_metric], other[task.main_metric]
        verify.check_metric(task, self.manifest.precision, before, after, agreement)
        shared = {} if agreement is None else {"agreement": round(agreement, 6)}
        return {
            "metric": task.main_metric,
            "before": round(before, 6),
            "after": round(after, 6),
            **shared,
            "pictures": int(found.get("count", len(held_out.val))),
        }


def cases_for(form: ExportForm, task: Task, card: Card, batch: int | None) -> list[verify.Case]:
    """Make the batches that a file of a network is compared with PyTorch on."""
    facts = task.preprocess(card)
    free = any("height" in axes.values() for axes in form.free.values())
    return verify.make_cases(
        form.inputs,
        mean=tuple(facts.get("mean", (0.0,))),
        std=tuple(facts.get("std", (1.0,))),
        free=free,
        batch=batch,
        step=form.step,
    )


def open_file(bundle: Bundle, *, threads: int | None = None, backend: str | None = None) -> OpenedFile:
    """Open a bundle's file as `Task.exported` takes it; see `open_session`."""
    session = open_session(bundle, threads=threads, backend=backend)
    manifest = bundle.manifest
    return OpenedFile(session, manifest.card, [port["shape"] for port in manifest.inputs])


def open_session(bundle: Bundle, *, threads: int | None = None, backend: str | None = None) -> Session:
    """Open a bundle's file in its runtime.

    Args:
        bundle: From `read_bundle`.
        threads: Threads of one call; None: all cores.
        backend: Another runtime that can open the format (openvino for ONNX files); None: its own.

    Raises:
        ConfigError: A format or backend that this Saccade does not know.
    """
    from saccade.engine.export.onnx import OnnxSession
    from saccade.engine.export.openvino import OpenVinoSession
    from saccade.engine.export.torch_export import TorchSession
    from saccade.engine.export.workers import WorkerSession

    form, precision = bundle.manifest.format, bundle.manifest.precision
    backend = backend or form
    if form in ("onnx", "openvino") and backend == "openvino":
        return OpenVinoSession(bundle.model, precision=precision, threads=threads)
    if form == backend == "onnx":
        return OnnxSession(bundle.model, threads=threads)
    if form == backend == "torch":
        return TorchSession(bundle.model, threads=threads)
    if form == backend and form in HOMES:
        return WorkerSession(form, bundle.model, threads=threads)
    if form not in FORMATS:
        raise ConfigError(f"{bundle.path}: unknown format {form!r}{did_you_mean(form, FORMATS)}")
    raise ConfigError(f"{bundle.path}: a bundle of format {form} does not run with the backend {backend!r}")


def _check_request(to: str, precision: str, data: str, dynamic: bool) -> None:
    """Refuse what does not exist or does not go together."""
    if to not in FORMATS:
        raise ConfigError(f"unknown format {to!r}{did_you_mean(to, FORMATS)}")
    form = FORMATS[to]
    if precision not in form.precisions:
        others = ", ".join(f for f, row in FORMATS.items() if precision in row.precisions)
        raise ConfigError(
            f"{to} bundles come in {', '.join(form.precisions)}, not in {precision!r}; "
            + (f"formats that do: {others}" if others else "no format does")
        )
    if precision == "int8" and not data:
        raise ConfigError(
            "int8 needs real pictures to find its ranges; add --data with the training pictures"
        )
    if dynamic and not form.dynamic:
        raise ConfigError(f"{to} files have a fixed height and width; leave out --dynamic")


def _open(source: Path | str | tuple[nn.Module, Card]) -> tuple[Task, nn.Module, Card]:
    """Open what a source names, refusing bundles and tasks that cannot be exported."""
    if not isinstance(source, tuple) and is_bundle(source):
        raise ConfigError(f"{source}: already a bundle; export from the run folder or weights it was made of")
    return open_for(source, "export")


def exporter_versions(to: str) -> dict[str, str]:
    """Name what decides how a network is exported to a format: versions, or the pins of an environment."""
    found = _versions(FORMATS[to]) | {"format": str(BUNDLE_FORMAT)}
    if to in HOMES:
        found["environment"] = pins_digest(HOMES[to])
    for name in ("onnxscript", "onnx", "torch"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _versions(form: Format) -> dict[str, str]:
    """Versions of the packages that make a format, as far as they are installed."""
    import saccade

    found = {"saccade": saccade.__version__, "python": platform.python_version()}
    for name in form.packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
