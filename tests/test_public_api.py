"""The public face: names, documentation, types; and that looking at it costs nothing."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import saccade

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "src" / "saccade").rglob("*.py"))
# Stable names that checks from outside rely on. Removing one is a breaking change: say so in CHANGELOG.md.
PUBLIC = {
    "Source",
    "__version__",
    "create_model",
    "fold",
    "list_models",
    "load_model",
    "open_predictor",
    "load_weights",
    "register_task",
    "save_weights",
    "sparsify",
    "bench",
    "evaluate",
    "export",
    "verify",
    "train",
    "predict",
}


def test_public_names_are_exactly_these():
    assert set(saccade.__all__) == PUBLIC
    assert set(dir(saccade)) == PUBLIC | {"kinematics", "radar", "vlm", "worlds"}  # public packages


def test_every_list_of_public_names_agrees():
    """The names are written three times in __init__: for readers, for type checkers, for loading."""
    tree = ast.parse((ROOT / "src/saccade/__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    for_types = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert for_types == saccade._HOMES
    assert set(for_types) == PUBLIC - {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_public_names_resolve_and_are_documented(name):
    value = getattr(saccade, name)
    assert inspect.getdoc(value), name
    assert value.__module__.startswith("saccade."), name


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'creat_model'"):
        _ = saccade.creat_model


@pytest.mark.parametrize(
    "module",
    ["saccade.weights", "saccade.data", "saccade.tasks", "saccade.engine.sessions", "saccade.engine.export"],
)
def test_dunder_all_of_rooms_is_true(module):
    room = __import__(module, fromlist=["x"])
    for name in getattr(room, "__all__", []):
        assert hasattr(room, name), f"{module}.{name}"


def public_functions(file: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the public functions and methods of a file, nested functions left out."""

    def walk(
        body: list[ast.stmt], prefix: str
    ) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                yield prefix + node.name, node

    yield from walk(ast.parse(file.read_text(encoding="utf-8")).body, "")


def test_public_functions_are_fully_typed():
    untyped = []
    for file in FILES:
        for name, node in public_functions(file):
            args = node.args
            named = [*args.posonlyargs, *args.args, *args.kwonlyargs]
            named += [arg for arg in (args.vararg, args.kwarg) if arg]
            bare = [arg.arg for arg in named if arg.annotation is None and arg.arg not in ("self", "cls")]
            if bare or node.returns is None:
                untyped.append(f"{file.relative_to(ROOT)}:{node.lineno} {name} {bare or 'return'}")
    assert not untyped, "\n".join(untyped)


def modules_after(code: str) -> set[str]:
    """Run code in a new interpreter; returns the top names of all modules it loaded."""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\nimport sys\nprint(*{{m.split('.')[0] for m in sys.modules}}, sep='\\n', file=sys.stderr)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stderr.split())


HEAVY = {"torch", "torchvision", "timm", "accelerate", "numpy", "PIL", "huggingface_hub", "onnx", "openvino"}


def test_import_loads_nothing_heavy():
    assert not modules_after("import saccade; saccade.__version__; dir(saccade)") & (
        HEAVY | {"rich", "cyclopts"}
    )


def test_help_and_version_load_nothing_heavy():
    code = "from saccade.cli.main import main; main(['--help']); main(['--version'])"
    assert not modules_after(code) & HEAVY
