"""The bundle: a folder with a model file and a `manifest.json` that says what goes in and what comes out.

A bundle may come from a stranger. Reading one checks the manifest's kinds and sizes, its own SHA-256 (a line in
`manifest.sha256`), that every file lies in the folder itself, every file's length and SHA-256, and that the model
file was exported with these labels and this preprocessing, before any runtime sees a byte. All this guards against
damage, mix-ups and edits of the manifest; it does not say who made the bundle.
"""

import dataclasses
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.engine.export.contract import PLACES, contract, read_contract
from saccade.engine.export.session import size_of
from saccade.errors import WeightsError
from saccade.files import convert, read_json, sha256
from saccade.weights.card import Card

BUNDLE_FORMAT = 2
"""1: manifests without a digest of their own, model files without one of what they were made for."""
MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"
"""One line as `sha256sum` writes it: the digest of the manifest, which lists those of all other files."""
MAX_MANIFEST_BYTES = 8 << 20
MAX_FILE_BYTES = 8 << 30
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass
class Manifest:
    """What a bundle says of itself; JSON values only."""

    card: Card
    """Model, labels, preprocessing, metrics."""
    format: str
    """onnx, openvino, torch, executorch, litert or coreml."""
    precision: str
    """float32, bf16 or int8."""
    inputs: list[dict[str, Any]]
    """One entry an input: name, dtype, shape; a name instead of a number stands for a size that may vary."""
    outputs: list[dict[str, Any]]
    """Likewise."""
    tolerance: float = 0.0
    """Largest difference from PyTorch that the check allowed, relative to the largest output."""
    checks: dict[str, Any] = field(default_factory=dict)
    """What the check measured: differences by case, agreement, metrics before and after."""
    versions: dict[str, str] = field(default_factory=dict)
    """Packages that made the file."""
    rest: str = ""
    """What remains to be done outside the file, in words."""
    details: dict[str, Any] = field(default_factory=dict)
    """What only this format has, such as the delegated share."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """File name to {"bytes": length, "sha256": hex digest}."""
    bundle_format: int = BUNDLE_FORMAT

    def to_json(self) -> str:
        """Serialise to indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, sort_keys=True)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the pictures that go in; None when any size may, or no pictures do."""
        return size_of(self.inputs[0]["shape"])

    @property
    def free(self) -> bool:
        """Whether height and width may vary."""
        return any("height" in port["shape"] for port in self.inputs)

    @property
    def batch(self) -> int | None:
        """Images per call; None when any number may."""
        batch = self.inputs[0]["shape"][0]
        return batch if isinstance(batch, int) else None


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    path: Path
    manifest: Manifest
    digest: str = ""
    """SHA-256 of the manifest."""
    unchecked: tuple[str, ...] = ()
    """What nobody can check, because the bundle was made before it was recorded or the format has no place for it."""

    @property
    def model(self) -> Path:
        """The file that a runtime opens."""
        names = list(self.manifest.files)
        name = next((n for n in names if n.startswith("model.") and not n.endswith(".bin")), names[0])
        return self.path / name


def bundle_name(model: str, size: int | tuple[int, int] | None, form: str, precision: str) -> str:
    """Name a bundle's folder: NAME-SIZE-FORMAT-PRECISION, such as shvit_s1-224-onnx-float32."""
    if size is None:
        text = "any"
    elif isinstance(size, int) or size[0] == size[1]:
        text = str(size if isinstance(size, int) else size[0])
    else:
        text = f"{size[0]}x{size[1]}"
    return f"{re.sub(r'[^A-Za-z0-9._]+', '_', model)}-{text}-{form}-{precision}"


def is_bundle(path: Path | str) -> bool:
    """Say whether a path is a bundle's folder, by its manifest's presence alone."""
    return (Path(path) / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Record every file in `folder`, then write its manifest and the line with its digest."""
    manifest.files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, DIGEST)
    }
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sign(folder)


def sign(folder: Path) -> None:
    """Write the line with the manifest's digest."""
    (folder / DIGEST).write_text(f"{sha256(folder / MANIFEST)}  {MANIFEST}\n", encoding="ascii")


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle and check that it is whole.

    Args:
        path: The folder.

    Raises:
        WeightsError: Not a bundle, a manifest that is not one of ours, a file that is missing, changed,
            too large or outside the folder.
    """
    path = Path(path)
    file = path / MANIFEST
    if not file.is_file():
        raise WeightsError(f"{path}: no {MANIFEST} here; expected a bundle written by `saccade export`")
    values = read_json(file, error=WeightsError, max_bytes=MAX_MANIFEST_BYTES, finite=True)
    manifest = _parse(values, str(file))
    digest, unchecked = _check_digest(path, manifest)
    for name, entry in manifest.files.items():
        _check_file(path, name, entry)
    bundle = Bundle(path, manifest, digest)
    unchecked += _check_contract(bundle)
    return dataclasses.replace(bundle, unchecked=tuple(unchecked))


def _check_digest(folder: Path, manifest: Manifest) -> tuple[str, list[str]]:
    """Compare the manifest with its detached digest; return the digest and what cannot be checked."""
    digest, line = sha256(folder / MANIFEST), folder / DIGEST
    if not line.is_file():
        if manifest.bundle_format > 1:
            raise WeightsError(f"{line}: missing; copy the bundle again, or export it again")
        return digest, ["the manifest has no digest of its own (made by an older Saccade)"]
    with line.open("rb") as file:
        written = file.read(64)
    if written != digest.encode():
        raise WeightsError(
            f"{folder / MANIFEST}: its SHA-256 is not the one in {DIGEST}; it was damaged or edited, copy "
            "the bundle again"
        )
    return digest, []


def _check_contract(bundle: Bundle) -> list[str]:
    """Compare the manifest with what the model file says it was exported with; return what cannot be checked."""
    manifest = bundle.manifest
    if manifest.format not in PLACES:
        return [f"{manifest.format} files have no place for a digest of their labels and preprocessing"]
    found = read_contract(bundle.model, manifest.format) if bundle.model.is_file() else None
    if found is None and manifest.bundle_format > 1:
        raise WeightsError(
            f"{bundle.model}: does not say what it was exported with, as files of bundle format "
            f"{manifest.bundle_format} do; it was replaced, export it again"
        )
    if found is None:
        return [
            "the model file does not say which labels and preprocessing it is for (made by an older Saccade)"
        ]
    if found != contract(manifest.card, manifest.format, manifest.precision):
        raise WeightsError(
            f"{bundle.path / MANIFEST}: network, labels, preprocessing or precision are not those that the model "
            "file was exported with; the manifest was edited, export the bundle again"
        )
    return []


@dataclass
class _Port:
    """One input or output as it is stored."""

    shape: list[int | str]
    name: str = ""
    dtype: str = "float32"


@dataclass
class _File:
    """One file as it is stored."""

    bytes: int
    sha256: str


@dataclass
class _Stored:
    """A manifest as it is stored, but for the card, which checks itself."""

    card: dict[str, Any]
    bundle_format: int
    format: str
    precision: str
    inputs: list[_Port]
    outputs: list[_Port]
    tolerance: float
    checks: dict[str, Any]
    versions: dict[str, str]
    details: dict[str, Any]
    files: dict[str, _File]
    rest: str = ""


def _parse(values: Any, where: str) -> Manifest:
    """Check the kinds of all fields."""
    number = values.get("bundle_format") if isinstance(values, dict) else None
    if isinstance(number, int) and number < 1:
        raise WeightsError(f"{where}: bundle_format is {number!r}; expected a whole number from 1")
    if isinstance(number, int) and number > BUNDLE_FORMAT:
        raise WeightsError(
            f"{where}: bundle format {number}, this Saccade reads up to {BUNDLE_FORMAT}; upgrade Saccade"
        )
    stored = convert(values, _Stored, where=f"{where}: not a manifest of ours", error=WeightsError)
    sides = [side for port in (*stored.inputs, *stored.outputs) for side in port.shape]
    if not all(isinstance(side, str) or 0 < side <= 1 << 20 for side in sides):
        raise WeightsError(f"{where}: an input or output has no sensible shape; export the bundle again")
    ports = (*stored.inputs, *stored.outputs)
    if not (stored.inputs and stored.outputs and all(len(port.shape) > 1 for port in ports)):
        raise WeightsError(f"{where}: expected inputs and outputs of a batch and at least one more axis")
    if not stored.files:
        raise WeightsError(f"{where}: lists no files; export the bundle again")
    card = Card.from_json(json.dumps(stored.card), where)
    fields: dict[str, Any] = dataclasses.asdict(stored) | {"card": card}
    return Manifest(**fields)


def _check_file(folder: Path, name: str, entry: dict[str, Any]) -> None:
    """Check that a listed file is a plain file of this folder with the length and hash it should have."""
    file = folder / name
    if not _PLAIN_NAME.fullmatch(name) or Path(os.path.realpath(file)).parent != Path(
        os.path.realpath(folder)
    ):
        raise WeightsError(
            f"{folder}: the manifest lists {name!r}, which is not a file of the bundle's own folder"
        )
    if not file.is_file():
        raise WeightsError(f"{file}: listed in the manifest but missing; export or copy the bundle again")
    length = file.stat().st_size
    if length != entry["bytes"] or length > MAX_FILE_BYTES:
        raise WeightsError(
            f"{file}: {length} bytes, the manifest says {entry['bytes']}; copy the bundle again"
        )
    if sha256(file) != entry["sha256"]:
        raise WeightsError(f"{file}: its SHA-256 is not the manifest's; the file was damaged or replaced")
