"""From a trained network to a bundle: fold, export, run against PyTorch, and only then put it in place."""

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

from saccade.data.preprocess import Preprocess
from saccade.data.whole import WholePreprocess
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
from saccade.engine.export.form import JoinedBoxes, Portable, example, is_dense, one_output, portable
from saccade.engine.export.pictures import Pictures
from saccade.engine.export.reference import write_reference
from saccade.engine.export.session import Session
from saccade.engine.export.workers import can_run
from saccade.errors import CheckFailed, ConfigError, did_you_mean
from saccade.files import replacing, writing
from saccade.tasks import check_classifies, get_task
from saccade.tasks.classify.task import preprocess_of
from saccade.tasks.open import load_model
from saccade.weights import Card

Say = Callable[[str], None]
STEP = 64
"""Sides of the pictures of dense networks' files are multiples of this: the coarsest stride of our backbones."""


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
    """What `export_bundle` made."""

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
            "boxes",
            "agreement",
            "mark",
            "before",
            "after",
            "pictures",
        )
        row |= {name: checks[name] for name in names if checks.get(name) is not None}
        if "delegated_share" in details:
            row["delegated_share"] = details["delegated_share"]
        return row


def export_bundle(
    source: Path | str | tuple[nn.Module, Card],
    to: str = "onnx",
    *,
    precision: str = "float32",
    data: str = "",
    size: int | None = None,
    dynamic: bool = False,
    out: Path | str | None = None,
    say: Say = lambda text: None,
) -> Shipped:
    """Export a network as a bundle that was run against PyTorch.

    Args:
        source: Run folder, weights file, model name, or a network in evaluation mode with its card.
        to: Format: onnx, openvino, torch, executorch, litert or coreml.
        precision: float32, bf16 or int8, as far as the format has it.
        data: Real pictures, as for `saccade train --data`: calibrates int8 (required there) and measures
            what the precision does to the metrics.
        size: Side of the square pictures, in pixels; None: what the weights were trained for.
        dynamic: Leave height and width of the pictures free.
        out: Folder to put the bundle's folder in; None: `export/` in the run folder, or here.
        say: Called with lines about the work.

    Returns:
        The bundle's folder and manifest.

    Raises:
        CheckFailed: The file differs from PyTorch by more than its precision allows; nothing is left behind.
        ConfigError: A format, precision or option that does not exist or does not go together.
    """
    form = _check_request(to, precision, data, dynamic)
    model, card = source if isinstance(source, tuple) else _load(source)
    step = 1
    if is_dense(model):
        card, preprocess, step = _dense_card(card, to, precision, data, size, dynamic)
    elif card.task == "restore":
        card, preprocess = _radar_images(card, to, precision, data, size, dynamic)
    else:
        check_classifies(card, "export")
        card, preprocess = _card_for(card, size)
    side = (preprocess.size, preprocess.size)
    stem = f"{card.model}_{card.head}" if card.head else card.model
    name = bundle_name(stem, None if dynamic else side, to, precision)
    folder = Path(out) if out else _home(source) / "export"
    image = example(card.in_chans, side)
    module = portable(model, image)
    job_name = f"exporting {name}"
    with writing(folder / name, job_name, beside=True), replacing(folder / name) as temporary:
        temporary.mkdir()
        run = _home(source)
        pictures = Pictures.open(data, card, preprocess.size, run) if data else None
        reference = one_output(model)
        job = Job(
            module, reference, card, preprocess, image, temporary, to, precision, dynamic, pictures, say, step
        )
        details = job.write()
        write_contract(job.file, to, contract(card, to, precision))
        manifest = Manifest(
            card=card,
            format=to,
            precision=precision,
            inputs=[{"name": "image", "dtype": "float32", "shape": job.input_shape(details)}],
            outputs=[{"name": "output", "dtype": "float32", "shape": ["batch", *_tail(module, image)]}],
            versions=_versions(form) | details.pop("versions", {}),
            details=details,
        )
        checks = job.check(manifest, name)
        manifest.tolerance, manifest.checks = checks.pop("tolerance"), checks
        write_manifest(temporary, manifest)
    return Shipped(folder / name, manifest)


@dataclass
class Job:
    """One export under way."""

    module: Portable
    model: nn.Module
    card: Card
    preprocess: Preprocess
    image: Tensor
    folder: Path
    to: str
    precision: str
    dynamic: bool
    pictures: Pictures | None
    say: Say
    step: int = 1
    """Sides of a file with free size are multiples of this."""

    @property
    def file(self) -> Path:
        """The model file under construction."""
        return self.folder / FORMATS[self.to].model_file

    def write(self) -> dict[str, Any]:
        """Write the model file; return what only this format has to say."""
        from saccade.engine.export import int8
        from saccade.engine.export.onnx import write_onnx
        from saccade.engine.export.openvino import write_openvino
        from saccade.engine.export.torch_export import write_torch
        from saccade.engine.export.workers import HOMES, convert

        if self.to == "torch":
            write_torch(
                self.module,
                self.image,
                self.file,
                dynamic=self.dynamic,
                precision=self.precision,
                step=self.step,
            )
            return {}
        if self.to in HOMES:
            return convert(self.to, self.module, self.image, self.file, self.say)
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "model.onnx"
            if self.precision != "int8":
                target = self.file if self.to == "onnx" else plain
                write_onnx(self.module, self.image, target, dynamic=self.dynamic, step=self.step)
                if self.to == "openvino":
                    write_openvino(target, self.file)
                return {}
            assert self.pictures is not None
            write_onnx(self.module, self.image, plain, dynamic=self.dynamic)
            images = self.pictures.calibration()
            self.say(f"finding the ranges of int8 on {len(images)} training pictures")
            if self.to == "onnx":
                int8.quantise_onnx(plain, images, self.file)
            else:
                write_openvino(plain, plain.with_suffix(".xml"))
                int8.quantise_openvino(plain.with_suffix(".xml"), images, self.file)
            return {"calibration_pictures": len(images)}

    def input_shape(self, details: dict[str, Any]) -> list[int | str]:
        """Write the input's shape; names mark what may vary."""
        side: list[int | str] = ["height", "width"] if self.dynamic else [self.preprocess.size] * 2
        return [details.get("batch", "batch"), self.card.in_chans, *side]

    def check(self, manifest: Manifest, name: str) -> dict[str, Any]:
        """Run the file against PyTorch; return what the manifest shall say."""
        if not can_run(self.to):
            self.say(f"{name}: converted but not checked; {self.to} files run on macOS only")
            return {"verified": False, "tolerance": 0.0}
        session = open_session(Bundle(self.folder, dataclasses.replace(manifest, files={self.file.name: {}})))
        try:
            found: dict[str, Any] = {"verified": True}
            cases = self._cases(manifest)
            report = verify.compare(session, self.model, cases, precision=self.precision)
            found |= {"tolerance": report.limit, **report.to_dict()}
            if isinstance(self.model, JoinedBoxes):
                found["boxes"] = verify.check_boxes(session, self.model, cases[:4])
            if self.precision == "int8":
                verify.check_batches(session, cases[-1].images)
            if self.pictures is not None:
                found |= self._check_on_pictures(session, manifest.batch)
            write_reference(session, manifest, self.folder)
            return found
        except CheckFailed as error:
            raise CheckFailed(f"{name}: {error}; the file was removed") from None
        finally:
            session.close()

    def _cases(self, manifest: Manifest) -> list[verify.Case]:
        """Make the batches to compare on; int8's ranges fit real pictures only, so only those say anything."""
        if self.precision == "int8":
            assert self.pictures is not None
            real = torch.cat(self.pictures.calibration(32))
            return [verify.Case(f"pictures x{n}", real[:n]) for n in (1, 2, 5, len(real))]
        return verify.make_cases(
            self.card.in_chans,
            (self.preprocess.size, self.preprocess.size),
            mean=self.preprocess.mean,
            std=self.preprocess.std,
            dynamic=self.dynamic,
            batch=manifest.batch,
            step=self.step,
        )

    def _check_on_pictures(self, session: Session, batch: int | None) -> dict[str, Any]:
        """Compare metrics and answers on the validation pictures with the network's own."""
        assert self.pictures is not None

        def run(images: Tensor) -> Tensor:
            return torch.cat([session(piece) for piece in images.split(batch or len(images))])

        self.say(f"measuring on {len(self.pictures.val)} validation pictures")
        metrics, same = self.pictures.measure({"before": self.model, "after": run})
        main = self.pictures.task.main_metric
        before, after = metrics["before"][main], metrics["after"][main]
        verify.check_marks(self.precision, before, after, same["after"])
        return {
            "mark": main,
            "before": round(before, 6),
            "after": round(after, 6),
            "agreement": round(same["after"], 6),
            "pictures": int(metrics["before"].get("count", len(self.pictures.val))),
        }


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
    from saccade.engine.export.workers import HOMES, WorkerSession

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


def _check_request(to: str, precision: str, data: str, dynamic: bool) -> Format:
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
    return form


def _load(source: Path | str) -> tuple[nn.Module, Card]:
    """Load what a source names, refusing bundles with a sentence."""
    if is_bundle(source):
        raise ConfigError(f"{source}: already a bundle; export from the run folder or weights it was made of")
    return load_model(source)


def _home(source: Path | str | tuple[nn.Module, Card]) -> Path:
    """Return the run folder of a source, else the working folder."""
    return Path(source) if not isinstance(source, tuple) and Path(source).is_dir() else Path()


def _dense_card(
    card: Card, to: str, precision: str, data: str, size: int | None, dynamic: bool
) -> tuple[Card, Preprocess, int]:
    """Settle the size of a dense network's file; refuse what dense networks do not export to.

    Returns:
        The card (its own evaluation transform stays), the square that a file of fixed size takes, and the step of
        sides of a file of free size.
    """
    if to not in ("onnx", "openvino", "torch") or precision != "float32" or data:
        raise ConfigError(
            "detectors and segmenters export to onnx, openvino and torch in float32, without --data; "
            f"asked for was {to} in {precision}"
        )
    whole = WholePreprocess.from_dict(card.preprocess) if card.preprocess else WholePreprocess()
    if size:
        whole = dataclasses.replace(whole, size=size, max_size=max(size, whole.max_size))
    side = max(-(-(whole.size if dynamic else whole.max_size) // STEP), 3 if dynamic else 1) * STEP
    square = Preprocess(size=side, crop_pct=1.0, mean=whole.mean, std=whole.std)
    return dataclasses.replace(card, preprocess=whole.to_dict()), square, STEP


def _radar_images(
    card: Card, to: str, precision: str, data: str, size: int | None, dynamic: bool
) -> tuple[Card, Preprocess]:
    """Settle the size of a file that sharpens radar images; refuse what these do not export to."""
    if to not in ("onnx", "openvino", "torch") or precision != "float32" or data or dynamic:
        raise ConfigError(
            "networks that sharpen radar images export to onnx, openvino and torch in float32, at one size and "
            f"without --data; asked for was {to} in {precision}{', of free size' if dynamic else ''}"
        )
    side = size or int(get_task(card.task).preprocess(card)["size"])
    card = dataclasses.replace(card, in_chans=1, preprocess={"size": side})
    return card, Preprocess(size=side, crop_pct=1.0, mean=(0.0,), std=(1.0,))


def _card_for(card: Card, size: int | None) -> tuple[Card, Preprocess]:
    """Complete a card's preprocessing and set the size that was asked for."""
    preprocess = preprocess_of(card, size or 0)
    return dataclasses.replace(card, preprocess=preprocess.to_dict()), preprocess


def _tail(module: Portable, image: Tensor) -> list[int]:
    """Shape of one output without the batch."""
    with torch.no_grad():
        return list(module(image).shape[1:])


def exporter_versions(to: str) -> dict[str, str]:
    """Name what decides how a network is exported to a format: versions, or the pins of an environment."""
    from saccade.engine.export.workers import HOMES

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
