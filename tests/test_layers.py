"""Who may import whom: docs/architecture.md, checked on every import statement of the package."""

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "saccade"
FILES = sorted(SOURCE.rglob("*.py"))
# Of the required packages, these are heavy or wide; only the named files and rooms may use them.
RESERVED = {
    "timm": {
        "zoo",  # builds timm/NAME, converts its networks
        "data/augment.py",  # RandAugment, random erasing
        "data/mix.py",  # mixup and cutmix
        "engine/train",  # optimiser parts, schedule, version
        "cli/models.py",  # lists timm/NAME
    },
    "torchvision": {"data", "tasks/dense", "tasks/detect", "engine/predict", "engine/doctor.py"},
    "accelerate": {"engine/train"},
    "huggingface_hub": {"hub.py", "engine/doctor.py"},
    "cyclopts": {"cli"},
    "rich": {"cli", "engine/train/log.py"},
    "msgspec": {"files", "settings", "kinematics/schema.py", "kinematics/validation.py"},
    "filelock": {"files"},
}
CORE = {"torch", "numpy", "PIL", "yaml", "safetensors", *RESERVED}
OPTIONAL = {
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "simplejpeg",
    "sklearn",
    "webdataset",
    "matplotlib",
    "tensorboard",
    "numba",
    "llvmlite",
    "pyarrow",
    "av",
    "cv2",
    "transformers",
    "peft",
    "tokenizers",
    "ray",
    "torchmetrics",
    "faster_coco_eval",
}
# An optional package that has a plain substitute where it is missing is imported by a statement after a look.
WITH_SUBSTITUTE = {("simplejpeg", "data/decode.py"), ("simplejpeg", "data/check.py")}
# Run as a script in an environment of its own, where Saccade is not installed: its packages are not ours.
FOREIGN = {"engine/export/worker.py"}


@dataclass(frozen=True)
class Import:
    """One imported name."""

    file: Path
    line: int
    target: str
    """Dotted path; for `from a import b` it is a.b."""
    at_import: bool
    """Whether importing the file runs it: at module level and not under TYPE_CHECKING."""

    @property
    def where(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.target}"


def imports_of(file: Path) -> Iterator[Import]:
    """Yield every import of a file, those inside functions and under TYPE_CHECKING included."""

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inner = at_import and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                inner = False
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, inner)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}:{child.lineno}: relative import"
                for alias in child.names:
                    yield Import(file, child.lineno, f"{child.module}.{alias.name}", inner)
            yield from walk(child, inner)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), True)


IMPORTS = [found for file in FILES for found in imports_of(file)]
OURS = [found for found in IMPORTS if found.target.split(".")[0] == "saccade"]


def room_of(dotted: str) -> str:
    """Return the room of "saccade.room.file.name"; the package itself is the room ""."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and not parts[1].startswith("__") else ""


def room_of_file(file: Path) -> str:
    first = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def levels() -> dict[str, int]:
    """Read the table of the architecture page."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| [^|]+ \| ([^|]+) \|$", text, flags=re.MULTILINE)
    return {room: int(level) for level, cell in rows for room in re.findall(r"`(\w+)`", cell)}


LEVELS = levels()


def test_the_table_names_every_room_and_no_other():
    rooms = {room_of_file(file) for file in FILES} - {""}
    assert rooms <= set(LEVELS), f"not in docs/architecture.md: {sorted(rooms - set(LEVELS))}"
    empty = {
        room for room in LEVELS if not (SOURCE / room).is_dir() and not (SOURCE / f"{room}.py").is_file()
    }
    assert not empty


def test_no_room_imports_a_higher_one():
    for found in OURS:
        importer, target = room_of_file(found.file), room_of(found.target)
        if importer and target and target != importer:
            assert LEVELS[target] <= LEVELS[importer], found.where


def test_nobody_imports_the_command_line():
    assert not [f.where for f in OURS if room_of(f.target) == "cli" and room_of_file(f.file) != "cli"]


def test_models_know_only_blocks_and_errors():
    for found in IMPORTS:
        if room_of_file(found.file) == "models":
            top = found.target.split(".")[0]
            ours = top == "saccade" and room_of(found.target) in ("nn", "errors")
            assert ours or top == "torch" or top in sys.stdlib_module_names, found.where


def test_the_ground_stands_on_torch_alone():
    for found in IMPORTS:
        if LEVELS.get(room_of_file(found.file), 9) == 0:
            top = found.target.split(".")[0]
            ground = {"torch", "saccade"}
            if room_of_file(found.file) == "files":
                ground |= {"msgspec", "yaml", "filelock", "PIL", "safetensors", "numpy"}
            if room_of_file(found.file) == "settings":
                ground |= {"msgspec", "yaml"}
            if room_of_file(found.file) in ("page", "rotations"):
                ground |= {"numpy"}
            assert top in ground or top in sys.stdlib_module_names, found.where


@pytest.mark.parametrize("package", RESERVED)
def test_reserved_packages_stay_where_they_belong(package):
    for found in IMPORTS:
        if found.target.split(".")[0] == package:
            path = found.file.relative_to(SOURCE)
            assert {str(path), *map(str, path.parents)} & RESERVED[package], found.where


def test_optional_packages_come_in_through_extras():
    """An import statement for one would be a traceback where it is not installed."""
    for found in IMPORTS:
        top = found.target.split(".")[0]
        if str(found.file.relative_to(SOURCE)) in FOREIGN:
            assert top != "saccade", found.where
            continue
        if (top, str(found.file.relative_to(SOURCE))) in WITH_SUBSTITUTE:
            continue
        assert top not in OPTIONAL, f"{found.where}; use extras.require"
        assert top in CORE or top == "saccade" or top in sys.stdlib_module_names, (
            f"{found.where}: unknown package"
        )


def test_no_circles():
    names = {}
    for file in FILES:
        parts = ("saccade", *file.relative_to(SOURCE).with_suffix("").parts)
        names[".".join(part for part in parts if part != "__init__")] = file
    of_file = {file: name for name, file in names.items()}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for found in OURS:
        if found.at_import:
            target = found.target if found.target in names else found.target.rpartition(".")[0]
            if target in names and target != of_file[found.file]:
                graph[of_file[found.file]].add(target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError and names the circle


def room_graph() -> dict[str, set[str]]:
    """Return what each room imports of the others, lazily or for types alone included."""
    graph: dict[str, set[str]] = {room_of_file(file): set() for file in FILES}
    for found in OURS:
        importer, target = room_of_file(found.file), room_of(found.target)
        if importer and target in graph and target not in ("", importer):
            graph[importer].add(target)
    graph.pop("", None)  # the public face names everything, lazily
    return graph


def test_no_circles_between_rooms():
    graphlib.TopologicalSorter(room_graph()).prepare()  # raises CycleError and names the circle


def test_at_most_ten_floors():
    graph, floors = room_graph(), 0
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    while sorter.is_active():
        ready = sorter.get_ready()
        sorter.done(*ready)
        floors += 1
    assert floors <= 10


TASK_NAMES = {"classify", "detect", "segment", "restore", "answer", "motion", "motion_answer"}
"""As strings; "video" is also a word for what is seen, and is looked for in comparisons only."""
# Tables and defaults that say what a network or an old card is for; answers of STKit; the public names of a task.
NAMES_THEM = {"weights/card.py", "zoo/registry.py", "kinematics", "vlm"}
# Still to be removed; the test below fails when one of them is clean.
YET_TO_GO = {
    "cli/vlm_ask.py",
}


def names_of_tasks(file: Path) -> Iterator[str]:
    """Yield where a file names a task by a string, imports one, or asks whether something is one."""
    where = file.relative_to(ROOT)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in TASK_NAMES:
            yield f"{where}:{node.lineno} says {node.value!r}"
        if isinstance(node, ast.Compare) and "video" in [
            part.value for part in ast.walk(node) if isinstance(part, ast.Constant)
        ]:
            yield f"{where}:{node.lineno} compares with 'video'"
    for found in imports_of(file):
        if re.match(r"saccade\.tasks\.(?!base\b|open\b|evaluation\b|intervals\b)[a-z_]+\.", found.target):
            yield found.where


@pytest.mark.parametrize("file", [str(file.relative_to(SOURCE)) for file in FILES])
def test_no_task_is_named_outside_its_folder(file):
    room = file.split("/")[0].removesuffix(".py")
    if room == "tasks" or {file, room} & NAMES_THEM:
        return
    found = list(names_of_tasks(SOURCE / file))
    if file in YET_TO_GO:
        assert found, f"{file} names no task any more; take it off the list"
    else:
        assert not found, found[:5]


def test_no_text_reaches_a_shell_or_an_interpreter():
    """A string that a shell reads could come from a file; `pipe:` of webdataset is guarded in data/shards.py."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, where = ast.unparse(node.func), f"{file.relative_to(ROOT)}:{node.lineno}"
            assert name not in ("os.system", "os.popen", "eval", "exec", "subprocess.getoutput"), where
            shell = [word for word in node.keywords if word.arg == "shell"]
            assert not shell, f"{where} has shell="
            assert not name.endswith(".gopen") or str(file.relative_to(SOURCE)) == "data/shards.py", where
