"""Do the tests notice? Plants single faults in functions drawn by seed and runs the tests of their room.

    python tools/mutate.py --count 60 --seed 0 --out faults.jsonl
    python tools/mutate.py --rooms radar engine/train --count 10
    python tools/mutate.py --list --count 20

A fault is one small change of one function: a sign, a number off by one or doubled, height and width or two
arguments swapped, a term dropped, a limit or a refusal removed, a comparison turned. Functions are drawn by their
lines, so long ones come more often; the command line, docstrings, annotations and the words of messages are left
alone.

Each fault is planted in a copy of the tree, where the tests of its room run until the first that fails, those of
files that import the module first. Before it, the same tests run without a fault: a room whose tests fail anyway says
nothing and is named as such. A fault is caught where a test fails, or where they take far longer than they did
without it. Not every fault that survives is a gap: some change nothing that matters. The report lists them all.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import cast

ROOT = Path(__file__).resolve().parent.parent
EXEMPT = ("cli",)
"""Rooms without faults: they hold no work."""
ALSO = {
    "models": ["tests/nn"],
    "nn": ["tests/models"],
    "engine/sessions": ["tests/engine/predict"],
    "engine/predict": ["tests/cli/test_predict_eval_explain.py"],
    "engine/evaluate": ["tests/cli/test_predict_eval_explain.py"],
    "engine/explain": ["tests/cli/test_predict_eval_explain.py"],
    "engine/export": ["tests/cli/test_export.py"],
    "tasks/detect": ["tests/tasks/dense", "tests/tasks/test_detect.py", "tests/engine/export/test_tasks.py"],
    "tasks/segment": [
        "tests/tasks/dense",
        "tests/tasks/test_segment.py",
        "tests/engine/export/test_tasks.py",
    ],
    "tasks/video": ["tests/engine/export/test_tasks.py"],
    "tasks/dense": ["tests/tasks/test_detect.py", "tests/tasks/test_segment.py"],
    "weights": ["tests/cli/test_weights.py"],
    "zoo": ["tests/models", "tests/weights"],
}
"""Tests of a room besides those that lie in its own folder."""
PAIRS = [
    {"height", "width"}, {"high", "wide"}, {"h", "w"}, {"rows", "columns"}, {"row", "column"}, {"x", "y"},
    {"top", "left"}, {"low", "high"}, {"first", "last"}, {"start", "stop"}, {"before", "after"},
]  # fmt: skip
"""Names that are easily taken for each other."""
TURNED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
LIMITS = {"min", "max", "minimum", "maximum", "clip", "clamp", "clamp_min", "clamp_max", "clamp_"}
EVEN = {"min", "max", "minimum", "maximum", "hypot", "gcd", "allclose", "isclose", "equal", "array_equal"}
"""Functions whose arguments may stand in any order."""
TINY = 1e-5
"""Positive numbers below this only keep others from being zero: twice as much is the same."""
PATIENCE = 4.0
"""A fault makes tests slow where they take this many times as long as without it, and a minute more."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
Code = ast.expr | ast.stmt
Change = tuple[str, Code, Code]


@dataclass(frozen=True)
class Fault:
    """One change of the text of one file."""

    room: str
    file: str
    """Below src/saccade."""
    function: str
    line: int
    kind: str
    start: int
    """Bytes of the file that are replaced: the first, ..."""
    stop: int
    """... and one past the last."""
    before: str
    after: str

    def plant(self, data: bytes) -> bytes:
        """Return the file with the fault."""
        return data[: self.start] + self.after.encode() + data[self.stop :]


@dataclass(frozen=True)
class Verdict:
    """What the tests said of a fault."""

    fault: Fault
    state: str
    """caught, slow (caught by its time), survived, or no tests (they fail without a fault, or there are none)."""
    seconds: float
    test: str
    """The first that failed."""


def room_of(file: str) -> str:
    """Return the room of a file below src/saccade: its folder; `.` at the top."""
    return Path(file).parent.as_posix()


def functions_of(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield the functions and methods of a module with their names; what is nested belongs to its outermost."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, Function):
                    yield f"{node.name}.{part.name}", part


def changes(function: Function) -> Iterator[Change]:
    """Yield what could go wrong: (kind, node, what stands in its place)."""
    for node in _code(function.body):
        yield from _refusals(node)
        if isinstance(node, ast.expr):
            yield from _signs(node)
            yield from _numbers(node)
            yield from _orders(node)
            yield from _limits(node)


def _code(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Walk through statements but for docstrings, annotations and the words of messages."""
    for node in body:
        if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        yield node
        skipped = {id(getattr(node, name, None)) for name in ("annotation", "returns", "decorator_list")}
        yield from _code(
            child
            for child in ast.iter_child_nodes(node)
            if id(child) not in skipped and not isinstance(child, ast.arg)
        )


def _refusals(node: ast.AST) -> Iterator[Change]:
    if (
        isinstance(node, ast.If)
        and not node.orelse
        and all(isinstance(part, ast.Raise) for part in node.body)
    ):
        yield "refusal removed", node, ast.Pass()
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        test = node.test
        plain = test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else None
        if plain is not None:
            yield "condition turned", test, plain
        elif not isinstance(test, ast.Compare):
            yield "condition turned", test, ast.UnaryOp(ast.Not(), test)
    if isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.Sub)):
        new = copy.deepcopy(node)
        new.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield "sign", node, new


def _signs(node: ast.expr) -> Iterator[Change]:
    if isinstance(node, ast.BinOp) and not _is_text(node):
        swap = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}.get(type(node.op))
        if swap in (ast.Add, ast.Sub):
            yield "sign", node, ast.BinOp(node.left, swap(), node.right)
        if swap is not None:
            yield "term dropped", node, node.left
    if (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and not isinstance(node.operand, ast.Constant)
    ):
        yield "sign", node, node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield "comparison", node, ast.Compare(node.left, [TURNED[type(node.ops[0])]()], node.comparators)
    if isinstance(node, ast.BoolOp):
        rest = node.values[:-1]
        yield "term dropped", node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _is_text(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in ast.walk(node)
    )


def _numbers(node: ast.expr) -> Iterator[Change]:
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield "constant", node, ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield "off by one", node, ast.Constant(node.value + 1)
    elif isinstance(node.value, float) and not 0 < node.value < TINY:
        yield "constant", node, ast.Constant(2 * node.value if node.value else 1.0)


def _orders(node: ast.expr) -> Iterator[Change]:
    parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
    if isinstance(getattr(node, "ctx", None), ast.Store) or any(
        isinstance(part, ast.Starred) for part in parts
    ):
        return
    if isinstance(node, ast.Call) and _called(node) in EVEN:
        return
    for place in range(len(parts) - 1):
        one, two = parts[place : place + 2]
        names = {part.id for part in (one, two) if isinstance(part, ast.Name)}
        if names in PAIRS or (place == 0 and isinstance(node, ast.Call) and ast.dump(one) != ast.dump(two)):
            new = copy.deepcopy(node)
            given = new.args if isinstance(new, ast.Call) else cast("ast.Tuple", new).elts
            given[place], given[place + 1] = given[place + 1], given[place]
            yield "names swapped" if names in PAIRS else "arguments swapped", node, new


def _called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _limits(node: ast.expr) -> Iterator[Change]:
    if not isinstance(node, ast.Call):
        return
    if _called(node) not in LIMITS:
        return
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    of_module = isinstance(owner, ast.Name) and owner.id in ("np", "torch", "math", "F")
    values = [*([owner] if owner is not None and not of_module else []), *node.args]
    kept = [value for value in values if not isinstance(value, ast.Constant)]
    if len(values) > 1 and kept and not isinstance(kept[0], ast.Starred):
        yield "limit removed", node, kept[0]


def faults_of(file: str, data: bytes) -> dict[tuple[str, int], list[Fault]]:
    """Return every fault of a file by (function, its lines)."""
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[tuple[str, int], list[Fault]] = {}
    for name, function in functions_of(ast.parse(data)):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        for kind, node, new in changes(function):
            if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", None), ast.Store):
                continue
            start = starts[node.lineno - 1] + node.col_offset
            stop = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            text = ast.unparse(ast.fix_missing_locations(new))
            if isinstance(new, ast.expr) and not isinstance(new, (ast.Constant, ast.Name)):
                text = f"({text})"
            before = data[start:stop].decode()
            fault = Fault(room_of(file), file, name, node.lineno, kind, start, stop, before, text)
            found.setdefault((name, lines), []).append(fault)
    return found


def compiles(data: bytes) -> bool:
    """Whether it is Python at all."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(data, "fault", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def draw(source: Path, count: int, seed: int, rooms: Sequence[str] = ()) -> list[Fault]:
    """Draw faults: functions by their lines, at most one fault of each, then the kind, then the place.

    Args:
        source: The package.
        count: How many; fewer where there are not as many functions.
        seed: Of the draw.
        rooms: Only these and what lies in them; all by default.
    """
    every: list[tuple[int, list[Fault]]] = []
    for path in sorted(source.rglob("*.py")):
        file = path.relative_to(source).as_posix()
        room = room_of(file)
        inside = [name for name in rooms if room == name or room.startswith(f"{name}/")]
        if room.split("/")[0] not in EXEMPT and (inside or not rooms):
            every += [(lines, faults) for (_, lines), faults in faults_of(file, path.read_bytes()).items()]
    rng, drawn = random.Random(seed), []
    while every and len(drawn) < count:
        place = rng.choices(range(len(every)), [lines for lines, _ in every])[0]
        faults = every.pop(place)[1]
        kind = rng.choice(sorted({fault.kind for fault in faults}))
        fault = rng.choice([fault for fault in faults if fault.kind == kind])
        if compiles(fault.plant((source / fault.file).read_bytes())):
            drawn.append(fault)
    return drawn


def tests_of(file: str, root: Path) -> tuple[list[str], list[str]]:
    """Return the tests of a file's room: files that import the module, which run first, and all of them."""
    room = room_of(file)
    folder = Path("tests") / room
    while not (root / folder).is_dir():
        folder = folder.parent
    alone = folder == Path("tests")  # a room without a folder of tests: those that belong to none
    own = (
        [path.relative_to(root) for path in sorted((root / folder).glob("test_*.py"))] if alone else [folder]
    )
    more = [Path(name) for key, names in ALSO.items() if f"{room}/".startswith(f"{key}/") for name in names]
    whole = [path for path in (*own, *more) if (root / path).exists()]
    module = ".".join(["saccade", *Path(file).with_suffix("").parts]).removesuffix(".__init__")
    imports = re.compile(rf"\b{re.escape(module)}\b(?!\.)")
    near = [
        path.relative_to(root).as_posix()
        for top in whole
        for path in ([root / top] if (root / top).is_file() else sorted((root / top).rglob("test_*.py")))
        if imports.search(path.read_text())
    ]
    return near, [path.as_posix() for path in whole]


class Copy:
    """A copy of the tree in which one fault at a time is planted."""

    def __init__(self, root: Path, home: Path) -> None:
        self.home = home
        left = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "runs", "demo-output")
        shutil.copytree(root, home, ignore=left, symlinks=True)
        self.planted = 0

    def run(
        self, tests: Sequence[str], limit: float, *, faulty: bool = False
    ) -> tuple[int | None, float, str]:
        """Run tests: (exit code, None where they ran past the limit; seconds; the first that failed)."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "--no-header",
            *tests,
        ]
        own = {"PYTHONPATH": str(self.home / "src"), "OMP_NUM_THREADS": "1"}
        # Compiled files are told by second and size, which a fault may leave alike: none are written with one.
        own |= {"PYTHONDONTWRITEBYTECODE": "1"} if faulty else {}
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                command, cwd=self.home, env=os.environ | own, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            output.seek(0)
            failed = [line for line in output if line.startswith(("FAILED", "ERROR"))]
        return code, time.monotonic() - began, failed[0].split(" - ")[0].strip() if failed else ""

    def judge(self, fault: Fault, tests: Sequence[str], limit: float) -> Verdict:
        """Plant a fault, run the tests, and take it back."""
        path = self.home / "src" / "saccade" / fault.file
        data, stat = path.read_bytes(), path.stat()
        self.planted += 1
        try:
            path.write_bytes(fault.plant(data))
            os.utime(path, (stat.st_atime, stat.st_mtime + 10 * self.planted))
            code, seconds, test = self.run(tests, limit, faulty=True)
        finally:
            path.write_bytes(data)
            os.utime(path, (stat.st_atime, stat.st_mtime))
        state = {None: "slow", 0: "survived", 5: "no tests"}.get(code, "caught")
        return Verdict(fault, state, seconds, test)


def sample(
    faults: Sequence[Fault], root: Path, *, tests: Sequence[str] = (), at_once: int = 1, longest: float = 900
) -> Iterator[Verdict]:
    """Judge faults.

    Args:
        faults: From `draw`.
        root: The project.
        tests: What to run in place of the tests of each room.
        at_once: Copies that work at the same time.
        longest: Seconds for the tests of one room.

    Yields:
        Verdicts as they come.
    """
    with tempfile.TemporaryDirectory(prefix="mutate-") as home:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(at_once):
            copies.put(Copy(root, Path(home) / str(number)))
        sound: dict[tuple[str, ...], tuple[int | None, float, str]] = {}

        def work(room: str) -> list[Verdict]:
            place, found = copies.get(), []
            try:
                for fault in (fault for fault in faults if fault.room == room):
                    near, whole = ([], list(tests)) if tests else tests_of(fault.file, place.home)
                    key = tuple(whole)
                    if key not in sound:
                        sound[key] = place.run(whole, longest)
                    code, seconds, failed = sound[key]
                    if code != 0:
                        found.append(Verdict(fault, "no tests", 0.0, failed))
                        continue
                    found.append(place.judge(fault, [*near, *whole], min(longest, PATIENCE * seconds + 60)))
                    show(found[-1])
                return found
            finally:
                copies.put(place)

        with ThreadPoolExecutor(at_once) as pool:
            for verdicts in pool.map(work, dict.fromkeys(fault.room for fault in faults)):
                yield from verdicts


def show(verdict: Verdict) -> None:
    """Print a verdict as a line."""
    fault = verdict.fault
    change = f"{' '.join(fault.before.split())[:50]}  ->  {' '.join(fault.after.split())[:50]}"
    place = f"{fault.file}:{fault.line} {fault.function}"
    print(f"{verdict.state:9} {verdict.seconds:5.0f} s  {place}: {fault.kind}: {change}", flush=True)


def report(verdicts: Sequence[Verdict]) -> str:
    """Return the closing table: rooms, and the share that was caught."""
    lines = ["", f"{'room':28} caught  of"]
    judged = [verdict for verdict in verdicts if verdict.state != "no tests"]
    for room in sorted({verdict.fault.room for verdict in judged}):
        own = [verdict.state != "survived" for verdict in judged if verdict.fault.room == room]
        lines.append(f"{room:28} {sum(own):6} {len(own):3}")
    caught = sum(verdict.state != "survived" for verdict in judged)
    share = f", {100 * caught / len(judged):.0f} %" if judged else ""
    lines.append(f"{caught} of {len(judged)} faults were caught{share}")
    if len(judged) < len(verdicts):
        lines.append(
            f"{len(verdicts) - len(judged)} were not judged: the tests of their room fail without a fault"
        )
    return "\n".join(lines)


def main(tokens: Sequence[str] | None = None) -> int:
    """Draw, plant, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", nargs="*", default=[], help="folders below src/saccade; all by default")
    parser.add_argument("--tests", nargs="*", default=[], help="what to run in place of each room's tests")
    parser.add_argument("--at-once", type=int, default=1, choices=(1, 2), help="faults at the same time")
    parser.add_argument("--longest", type=float, default=900, help="seconds for the tests of one room")
    parser.add_argument("--out", type=Path, help="JSON lines, one a fault")
    parser.add_argument("--list", action="store_true", help="only say which faults are drawn")
    given = parser.parse_args(tokens)
    faults = draw(ROOT / "src" / "saccade", given.count, given.seed, given.rooms)
    if given.list:
        for fault in faults:
            show(Verdict(fault, "drawn", 0.0, ""))
        return 0
    verdicts = []
    for verdict in sample(faults, ROOT, tests=given.tests, at_once=given.at_once, longest=given.longest):
        verdicts.append(verdict)
        if given.out:
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(verdict), "seed": given.seed}) + "\n")
    print(report(verdicts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
