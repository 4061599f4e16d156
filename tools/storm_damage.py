"""Kinds of damage for tools/storm.py: each takes a file or folder of an input and a random generator.

A damage returns what may happen next: "any" (ok or refused, both are right) or "notice" (exit 0 without a word would
be silently wrong). It raises `NotHereError` where it cannot be done.
"""

from __future__ import annotations

import json
import os
import random as random_module
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Damage = Callable[[Path, random_module.Random, "Trap"], str]


class NotHereError(Exception):
    """This kind of damage says nothing about this kind of file."""


class Trap:
    """What hostile content would touch if it were obeyed.

    Args:
        canary: File that a command in a stored record would make.
        address: Of a port on this machine that listens: fetching from it is seen.
    """

    def __init__(self, canary: Path, address: str) -> None:
        self.canary, self.address = canary, address


HUGE = [10**400, -(10**30), 2**63, 1e308, -1, 0, 1e-320]
ODD = [None, True, "", "x" * 100_000, [], {}, [[]], {"a": {"b": 1}}, "\x00", "nan", 3.5]
ESCAPES = [
    "\x1b[2J\x1b[31mred",
    "line\nsaccade: all is well",
    "a\rb",
    "\u202egnp.exe",
    "\x07bell",
    "<script>x</script>",
]
EXECUTABLE = (".json", ".yaml", ".csv", ".jsonl")


def truncate(file: Path, random: random_module.Random, _: Trap) -> str:
    """Cut the end off, down to nothing."""
    data = file.read_bytes()
    file.write_bytes(
        data[: random.choice([0, 1, len(data) // 2, max(0, len(data) - 1), random.randrange(len(data) + 1)])]
    )
    return "any"


def flip_bits(file: Path, random: random_module.Random, _: Trap) -> str:
    """Change a few bits."""
    data = bytearray(file.read_bytes())
    if not data:
        raise NotHereError
    for _number in range(random.choice([1, 1, 8, 64])):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    file.write_bytes(data)
    return "any"


def overwrite(file: Path, random: random_module.Random, _: Trap) -> str:
    """Replace a stretch by bytes of chance, zeros or 0xff."""
    data = bytearray(file.read_bytes())
    if not data:
        raise NotHereError
    start = random.randrange(len(data))
    length = min(random.choice([4, 64, 4096]), len(data) - start)
    filling = random.choice([bytes(length), b"\xff" * length, random.randbytes(length)])
    data[start : start + length] = filling
    file.write_bytes(data)
    return "any"


def other_content(file: Path, random: random_module.Random, _: Trap) -> str:
    """Put another kind of file under this name."""
    shapes = [
        b"\x89PNG\r\n\x1a\n" + random.randbytes(99), b"{}", b"[]", b"null", b"PK\x03\x04" + bytes(64),
        b"\xff\xd8\xff\xe0",
        b"\x80\x04\x95" + random.randbytes(30), b"\xff\xfe\x00a", b"\x89HDF\r\n\x1a\n" + bytes(200), bytes(5000),
        b"PAR1" * 9,
        struct.pack("<Q", 2**62) + b"{}", b"%YAML 9.9\n--- !!python/object/apply:os.getcwd []\n", b"\n" * 3000,
    ]  # fmt: skip
    file.write_bytes(random.choice(shapes))
    # An empty recipe is one that says nothing.
    return "notice" if file.suffix in (".json", ".h5", ".pth", ".safetensors", ".onnx") else "any"


def remove(file: Path, _: random_module.Random, __: Trap) -> str:
    """Delete it."""
    file.unlink()
    return "any"


def fifo(file: Path, _: random_module.Random, __: Trap) -> str:
    """Put a pipe in its place: whoever opens it waits for ever."""
    file.unlink()
    os.mkfifo(file)
    return "any"


def link_loop(file: Path, random: random_module.Random, _: Trap) -> str:
    """Put a link to itself, to nowhere, to an endless device, or a folder that holds itself in its place."""
    file.unlink()
    kind = random.choice(["self", "nowhere", "endless", "folder"])
    if kind == "folder":
        file.mkdir()
        (file / "again").symlink_to(file.parent, target_is_directory=True)
    else:
        file.symlink_to({"self": file.name, "nowhere": "not/there", "endless": "/dev/zero"}[kind])
    return "any"


def _records(file: Path) -> tuple[Any, Callable[[Any], None]]:
    """Read JSON, JSON lines or YAML, and give what writes it again."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return json.loads(text), lambda value: file.write_text(json.dumps(value))
    if file.suffix in (".jsonl", ".part"):
        rows = [json.loads(line) for line in text.splitlines() if line]
        return rows, lambda rows: file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if file.suffix == ".yaml":
        return yaml.safe_load(text), lambda value: file.write_text(yaml.safe_dump(value))
    raise NotHereError


def _places(value: Any, limit: int = 4000) -> list[tuple[Any, Any]]:
    """List every container and key below a value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < limit:
        item = waiting.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        for key in keys:
            found.append((item, key))
            waiting.append(item[key])
    return found


def _change(file: Path, random: random_module.Random, make: Callable[[Any], Any]) -> None:
    """Replace one value of a record by another."""
    value, write = _records(file)
    places = _places(value)
    if not places:
        raise NotHereError
    box, key = random.choice(places)
    box[key] = make(box[key])
    write(value)


def swap_type(file: Path, random: random_module.Random, _: Trap) -> str:
    """Give a field another type."""
    _change(file, random, lambda old: random.choice([odd for odd in ODD if type(odd) is not type(old)]))
    return "any"


def huge_number(file: Path, random: random_module.Random, _: Trap) -> str:
    """Put a number out of every range."""
    value, write = _records(file)
    places = [(box, key) for box, key in _places(value) if type(box[key]) in (int, float)]
    if not places:
        raise NotHereError
    box, key = random.choice(places)
    box[key] = random.choice(HUGE)
    if file.suffix == ".yaml" and isinstance(box[key], int) and abs(box[key]) > 10**300:
        box[key] = 10**80
    write(value)
    return "any"


def not_a_number(file: Path, random: random_module.Random, _: Trap) -> str:
    """Put NaN or an infinity where a number stands."""
    value, write = _records(file)
    places = [(box, key) for box, key in _places(value) if type(box[key]) in (int, float)]
    if not places:
        raise NotHereError
    box, key = random.choice(places)
    box[key] = random.choice([float("nan"), float("inf"), -float("inf")])
    write(value)
    return "any"


def delete_field(file: Path, random: random_module.Random, _: Trap) -> str:
    """Leave a field out."""
    value, write = _records(file)
    places = _places(value)
    if not places:
        raise NotHereError
    box, key = random.choice(places)
    del box[key]
    write(value)
    return "any"


def nest(file: Path, random: random_module.Random, _: Trap) -> str:
    """Nest a hundred thousand levels deep, or write a number of as many digits."""
    depth = 100_000
    texts = [
        "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "9" * depth,
        '{"a": ' + "9" * depth + "}", "[" * depth, "&a [*a]",
    ]  # fmt: skip
    if file.suffix not in (".json", ".jsonl", ".yaml", ".part"):
        raise NotHereError
    file.write_text(random.choice(texts))
    return "notice"


def hostile_name(file: Path, random: random_module.Random, _: Trap) -> str:
    """Write terminal escapes, line ends or markup into a text field, or into the file's own name."""
    if file.suffix in (".json", ".jsonl", ".yaml"):
        value, write = _records(file)
        places = [(box, key) for box, key in _places(value) if isinstance(box[key], str)]
        if places:
            box, key = random.choice(places)
            box[key] = random.choice(ESCAPES)
            write(value)
            return "any"
    name = random.choice(ESCAPES).replace("/", "-")
    file.rename(file.with_name(f"{name}{file.suffix}"))
    return "any"


def command_field(file: Path, random: random_module.Random, trap: Trap) -> str:
    """Write a shell command, an address or a path outside into a text field, or a wish to run code into a card."""
    hostile = [
        f"pipe:touch {trap.canary}", f"pipe:touch {trap.canary}; cat x.tar", trap.address, f"$(touch {trap.canary})",
        f"| touch {trap.canary}", "/etc/passwd", "../../../../etc/passwd", f"file://{trap.canary}",
    ]  # fmt: skip
    value, write = _records(file)
    places = [(box, key) for box, key in _places(value) if isinstance(box[key], str)]
    likely = [
        (box, key)
        for box, key in places
        if key in ("source", "val", "data", "name", "labels", "pictures", "file")
    ]
    if not places:
        raise NotHereError
    box, key = random.choice(likely if likely and random.random() < 0.7 else places)
    box[key] = random.choice(hostile)
    write(value)
    return "any"


def trust_wish(file: Path, random: random_module.Random, trap: Trap) -> str:
    """Have a stored record ask for code of its own to be run, and put such code beside it."""
    if file.suffix not in (".json", ".yaml"):
        raise NotHereError
    value, write = _records(file)
    if not isinstance(value, dict):
        raise NotHereError
    (file.parent / "own_code.py").write_text(
        f"import pathlib\npathlib.Path({str(trap.canary)!r}).touch()\nclass Own: pass\n"
    )
    kinds = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoProcessor")
    value["auto_map"] = dict.fromkeys(kinds, "own_code.Own")
    value["trust_remote_code"] = True
    model = value.get("model")
    if isinstance(model, dict):
        model["options"] = {**(model.get("options") or {}), "trust_remote_code": True}
    if file.name == "tokenizer_config.json":
        value["tokenizer_class"] = "Own"
        value["auto_map"] = {"AutoTokenizer": ["own_code.Own", None]}
    write(value)
    return "any"


def picture_bomb(file: Path, random: random_module.Random, _: Trap) -> str:
    """Put a picture that is small on disk and huge or one pixel high in memory."""
    from storm_inputs import picture_bytes

    if file.suffix not in (".png", ".jpg", ".webp", ".bmp", ".gif", ".tif", ".ppm"):
        raise NotHereError
    width, height = random.choice([(60_000, 1), (1_000_000, 1), (1, 200_000), (40_000, 40_000), (30_000, 2)])
    file.write_bytes(picture_bytes(width, height))
    return "any"


def zip_bomb(file: Path, _: random_module.Random, __: Trap) -> str:
    """Store the members of a .pth compressed, a gigabyte and a half of zeros among them."""
    if file.suffix != ".pth" or not zipfile.is_zipfile(file):
        raise NotHereError
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            if name.endswith("data/0"):
                with archive.open(name, "w", force_zip64=True) as member:
                    for _number in range(1500):
                        member.write(bytes(1 << 20))
            else:
                archive.writestr(name, data)
    return "notice"


def text_bomb(file: Path, _: random_module.Random, __: Trap) -> str:
    """YAML whose aliases double thirty times, or one line of many megabytes."""
    if file.suffix == ".yaml":
        lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 31)]
        file.write_text("\n".join(lines))
        return "notice"
    if file.suffix in (".csv", ".txt", ".jsonl"):
        file.write_text("x" * 30_000_000)
        return "any"
    raise NotHereError


def nan_weights(file: Path, random: random_module.Random, _: Trap) -> str:
    """Make weights that are not numbers."""
    if file.suffix != ".safetensors":
        raise NotHereError
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        facts = stored.metadata()
    floats = [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()]
    if not floats:
        raise NotHereError
    for name in random.sample(floats, min(3, len(floats))):
        tensors[name].fill_(float("nan"))
    save_file(tensors, file, metadata=facts)
    return "notice"


def double_lines(file: Path, random: random_module.Random, _: Trap) -> str:
    """Double, swap or drop lines of a journal or table."""
    if file.suffix not in (".jsonl", ".csv", ".part"):
        raise NotHereError
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if len(lines) < 3:
        raise NotHereError
    place = random.randrange(1, len(lines) - 1)
    kind = random.choice(["double", "swap", "drop"])
    if kind == "double":
        lines.insert(place, lines[place])
    elif kind == "swap":
        lines[place], lines[place + 1] = lines[place + 1], lines[place]
    else:
        del lines[place]
    file.write_text("".join(lines), encoding="utf-8")
    return "notice" if file.suffix == ".part" else "any"


def bad_checksum(file: Path, random: random_module.Random, _: Trap) -> str:
    """Change a PNG's size field and mend its checksum, so that only the contents disagree."""
    data = bytearray(file.read_bytes())
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise NotHereError
    data[16:24] = struct.pack(">II", random.choice([0, 1, 2**31 - 1, 70_000]), random.choice([1, 40, 65_535]))
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    file.write_bytes(data)
    return "any"


def long_digits(file: Path, random: random_module.Random, _: Trap) -> str:
    """Write thousands of digits for one number of a text file."""
    if file.suffix not in EXECUTABLE:
        raise NotHereError
    text = file.read_text(encoding="utf-8")
    numbers = list(re.finditer(r"\d+", text[:200_000]))
    if not numbers:
        raise NotHereError
    chosen = random.choice(numbers)
    file.write_text(text[: chosen.start()] + "7" * 6000 + text[chosen.end() :], encoding="utf-8")
    return "any"


KINDS: dict[str, Damage] = {
    kind.__name__.replace("_", "-"): kind
    for kind in (
        truncate, flip_bits, overwrite, other_content, remove, fifo, link_loop, swap_type, huge_number, not_a_number,
        delete_field, nest, hostile_name, command_field, trust_wish, picture_bomb, zip_bomb, text_bomb, nan_weights,
        double_lines, bad_checksum, long_digits,
    )
}  # fmt: skip
