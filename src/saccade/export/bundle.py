"""The bundle: a folder with a model file and a `manifest.json` that says what goes in and what comes out.

A bundle may come from a stranger. Reading one checks the manifest's kinds and sizes, that every file lies in the
folder itself, and every file's length and SHA-256, before any runtime sees a byte. The hashes guard against damage
and mix-ups; they do not say who made the bundle.
"""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.errors import WeightsError
from saccade.files import sha256
from saccade.weights.card import Card

BUNDLE_FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 8 << 20
MAX_FILE_BYTES = 8 << 30
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass
class Manifest:
    """What a bundle says of itself; JSON values only."""

    card: Card
    """Model, labels, preprocessing, marks."""
    format: str
    """onnx, openvino, torch, executorch, litert or coreml."""
    precision: str
    """float32, bf16 or int8."""
    inputs: list[dict[str, Any]]
    """One entry an input: name, dtype, shape; a name instead of a number marks a size that may vary."""
    outputs: list[dict[str, Any]]
    """Likewise."""
    tolerance: float = 0.0
    """Largest difference from PyTorch that the check allowed, relative to the largest output."""
    checks: dict[str, Any] = field(default_factory=dict)
    """What the check measured: differences by case, agreement, marks before and after."""
    versions: dict[str, str] = field(default_factory=dict)
    """Packages that made the file."""
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
        """Height and width of the pictures that go in; None when any size may."""
        height, width = self.inputs[0]["shape"][2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

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
    """Record every file in `folder`, then write its manifest."""
    manifest.files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


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
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise WeightsError(
            f"{file}: {file.stat().st_size} bytes; a manifest has at most {MAX_MANIFEST_BYTES}"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"{file}: not valid JSON ({error}); export the bundle again") from None
    manifest = _parse(values, str(file))
    for name, entry in manifest.files.items():
        _check_file(path, name, entry)
    return Bundle(path, manifest)


def _parse(values: Any, where: str) -> Manifest:
    """Check the kinds of all fields."""
    if not isinstance(values, dict) or not isinstance(values.get("card"), dict):
        raise WeightsError(f"{where}: not a manifest; expected a bundle written by `saccade export`")
    number = values.get("bundle_format")
    if not isinstance(number, int) or number < 1:
        raise WeightsError(f"{where}: bundle_format is {number!r}; expected a whole number from 1")
    if number > BUNDLE_FORMAT:
        raise WeightsError(
            f"{where}: bundle format {number}, this Saccade reads up to {BUNDLE_FORMAT}; upgrade Saccade"
        )
    kinds = {
        "format": str, "precision": str, "inputs": list, "outputs": list, "tolerance": (int, float),
        "checks": dict, "versions": dict, "details": dict, "files": dict,
    }  # fmt: skip
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            word = kind.__name__ if isinstance(kind, type) else "number"
            raise WeightsError(f"{where}: field {name!r} should be a {word}; export the bundle again")
    for entry in [*values["inputs"], *values["outputs"]]:
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(
            isinstance(n, str) or (isinstance(n, int) and 0 < n <= 1 << 20) for n in shape
        ):
            raise WeightsError(f"{where}: an input or output has no sensible shape; export the bundle again")
    if len(values["inputs"]) != 1 or len(values["inputs"][0]["shape"]) != 4 or not values["outputs"]:
        raise WeightsError(f"{where}: expected one input (batch, channels, height, width) and an output")
    if not values["files"]:
        raise WeightsError(f"{where}: lists no files; export the bundle again")
    names = {f.name for f in dataclasses.fields(Manifest)} - {"card"}
    card = Card.from_json(json.dumps(values["card"]), where)
    return Manifest(card=card, **{name: values[name] for name in names if name in values})


def _check_file(folder: Path, name: str, entry: Any) -> None:
    """Check that a listed file is a plain file of this folder with the length and hash it should have."""
    file = folder / name
    if not _PLAIN_NAME.fullmatch(name) or file.resolve().parent != folder.resolve():
        raise WeightsError(
            f"{folder}: the manifest lists {name!r}, which is not a file of the bundle's own folder"
        )
    if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int):
        raise WeightsError(f"{folder}: the manifest gives no length for {name}; export the bundle again")
    if not file.is_file():
        raise WeightsError(f"{file}: listed in the manifest but missing; export or copy the bundle again")
    length = file.stat().st_size
    if length != entry["bytes"] or length > MAX_FILE_BYTES:
        raise WeightsError(
            f"{file}: {length} bytes, the manifest says {entry['bytes']}; copy the bundle again"
        )
    if sha256(file) != entry.get("sha256"):
        raise WeightsError(f"{file}: its SHA-256 is not the manifest's; the file was damaged or replaced")
