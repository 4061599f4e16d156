"""A storm of damaged and hostile files over the commands. Not timed; not among the default tests.

    python tools/storm.py --seed 1 --cases 500 --out failures.jsonl

It makes sound inputs (a run, a bundle, weights, pictures, sets; kept in --inputs), and for each case copies one,
damages one or two of its files by chance, and runs a command on it in a process of its own with limits of time and
memory. Cases are forked from one process that has imported everything, so that one takes a second and not five.

What may come of a case: `ok` (exit 0), `refused` (exit 1, 2, 130 or 143 and one sentence). What may not: `traceback`,
`unforeseen` (exit 3, the last net), `words` (refused, but not in one sentence, or with a terminal escape), `hang`,
`memory` (more than --memory-gb, or killed), `silent` (exit 0 where the damage has to be noticed, code of a file that
ran, an address of a file that was fetched). Needs Linux or macOS, and the extras that the inputs need.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # threads do not survive a fork
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

sys.path.insert(0, str(Path(__file__).resolve().parent))

from storm_cases import READERS, Reader  # noqa: E402
from storm_damage import KINDS, Trap  # noqa: E402
from storm_inputs import NEEDS, make_inputs  # noqa: E402

SOUND = ("ok", "refused")
REFUSALS = (1, 2, 130, 143)
CRASHED = 70
"""Exit status of a case whose command raised; commands themselves never return it."""
TRIES = 30
"""Draws of a reader, file and kind that go together."""


@dataclasses.dataclass
class Result:
    """One case."""

    number: int
    reader: str
    kind: str
    file: str
    outcome: str
    why: str
    seconds: float
    peak_mib: int
    exit: int | None
    tokens: list[str]
    said: str


def main() -> int:
    """Run the storm; exit status 1 when anything came out as it may not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first case; one number is one case"
    )
    parser.add_argument("--kinds", default="", help=f"damages, comma-separated, of {', '.join(KINDS)}")
    parser.add_argument("--readers", default="", help="names of readers, or parts of them, comma-separated")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit of one case")
    parser.add_argument(
        "--memory-gb", type=float, default=4.0, help="limit of one case beyond what is imported"
    )
    parser.add_argument(
        "--inputs", type=Path, help="folder to keep sound inputs in; a temporary one when left out"
    )
    parser.add_argument("--out", type=Path, help="JSON lines of everything that failed")
    parser.add_argument("--keep", type=Path, help="folder that the files of failed cases are kept in")
    parser.add_argument("--make", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.make:
        make_inputs(chosen.inputs, set(chosen.make.split(",")))
        return 0
    kinds = [name for name in chosen.kinds.split(",") if name] or list(KINDS)
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    parts = [part for part in chosen.readers.split(",") if part]
    readers = [reader for reader in READERS if not parts or any(part in reader.name for part in parts)]
    if not readers:
        parser.error(f"no such reader; there are {', '.join(reader.name for reader in READERS)}")
    with tempfile.TemporaryDirectory(prefix="storm-") as scratch:
        home = (chosen.inputs or Path(scratch) / "inputs").resolve()
        storm = Storm(home, Path(scratch).resolve(), chosen.seconds, chosen.memory_gb, chosen.keep)
        storm.prepare(readers)
        storm.control(readers)
        results = []
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for number in range(chosen.first, chosen.first + chosen.cases):
                results.append(storm.run(number, chosen.seed, readers, kinds))
                _tell(results[-1], len(results), chosen.cases)
        except KeyboardInterrupt:
            print("stopped early; the table is of the cases so far", file=sys.stderr)
    bad = [result for result in results if result.outcome not in SOUND]
    if chosen.out:
        chosen.out.write_text("".join(json.dumps(dataclasses.asdict(result)) + "\n" for result in bad))
    _report(results)
    return 1 if bad else 0


class Storm:
    """Sound inputs, a place for copies, and a process to fork.

    Args:
        home: Of sound inputs.
        scratch: Of copies.
        seconds: Limit of one case.
        memory_gb: Limit of one case, beyond what was imported.
        keep: Where the files of failed cases go; None: nowhere.
    """

    def __init__(
        self, home: Path, scratch: Path, seconds: float, memory_gb: float, keep: Path | None
    ) -> None:
        self.home, self.scratch, self.seconds, self.memory_gb, self.keep = (
            home,
            scratch,
            seconds,
            memory_gb,
            keep,
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.trap = Trap(scratch / "canary", f"http://127.0.0.1:{self.listener.getsockname()[1]}/x.tar")

    def prepare(self, readers: Sequence[Reader]) -> None:
        """Make the inputs in a process of their own (training starts threads), then import what commands need."""
        wanted = {reader.source for reader in readers} | {"photos"}
        wanted |= set().union(*(NEEDS.get(name, set()) for name in wanted))
        command = [sys.executable, __file__, "--make", ",".join(sorted(wanted)), "--inputs", str(self.home)]
        subprocess.run(
            command, check=True, stdout=sys.stderr, env={**os.environ, "SACCADE_CACHE": str(self.scratch)}
        )
        import torch

        torch.set_num_threads(1)
        modules = [
            "timm",
            "saccade.cli.main",
            "saccade.engine.train.loop",
            "saccade.engine.predict.predict",
            "saccade.engine.evaluate.evaluate",
            "saccade.radar.imaging",
        ]
        modules += (
            ["onnxruntime", "h5py", "matplotlib.figure"] if "radar" in wanted or "bundle" in wanted else []
        )
        modules += ["transformers", "saccade.vlm.answering", "peft"] if "vlm" in wanted else []
        for module in modules:
            with contextlib.suppress(ImportError):
                __import__(module)

    def control(self, readers: Sequence[Reader]) -> None:
        """Run every command on its sound input, which has to end well, or the storm would say nothing.

        Raises:
            SystemExit: One does not.
        """
        bad = []
        for reader in readers:
            with tempfile.TemporaryDirectory(prefix="sound-", dir=self.scratch) as place:
                here = Path(place) / "files"
                self._copy(reader, here)
                result = self._judge(-1, reader, "sound", "", False, self._tokens(reader, here), Path(place))
            if result.outcome != "ok":
                bad.append(
                    f"{reader.name} on a sound input: {result.outcome} {result.why} {result.said[-500:]}"
                )
        if bad:
            raise SystemExit("\n".join(bad))

    def _copy(self, reader: Reader, here: Path) -> None:
        """Copy a reader's input."""
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(self.home / reader.source, here, symlinks=True)
        _repoint(here, self.home / reader.source)

    def _tokens(self, reader: Reader, here: Path) -> list[str]:
        """Make the words of a command."""
        photos = self.home / "photos" / "photos"
        return [token.format(here=here, photos=photos) for token in reader.tokens]

    def run(self, number: int, seed: int, readers: Sequence[Reader], kinds: Sequence[str]) -> Result:
        """Draw and run one case; it depends on seed and number only."""
        chance = random.Random(f"{seed}/{number}")
        with tempfile.TemporaryDirectory(prefix=f"case-{number}-", dir=self.scratch) as place:
            here = Path(place) / "files"
            for _ in range(TRIES):
                reader = chance.choices(readers, [reader.weight for reader in readers])[0]
                self._copy(reader, here)
                if found := self._damage(here, reader, chance, kinds):
                    break
            else:
                return Result(number, "none", "none", "", "ok", "no damage fits", 0.0, 0, 0, [], "")
            kind, file, notice = found
            result = self._judge(number, reader, kind, file, notice, self._tokens(reader, here), Path(place))
            if self.keep and result.outcome not in SOUND:
                with contextlib.suppress(OSError, shutil.Error):
                    shutil.copytree(here, self.keep / f"{seed}-{number}", symlinks=True, dirs_exist_ok=True)
        return result

    def _damage(
        self, here: Path, reader: Reader, chance: random.Random, kinds: Sequence[str]
    ) -> tuple[str, str, bool] | None:
        """Damage one file, sometimes twice; returns the kinds, the file, and whether it must be noticed."""
        found = {file for pattern in reader.files for file in here.glob(pattern)}
        files = sorted(file for file in found if file.is_file() and not file.is_symlink())
        if not files:
            return None
        file = chance.choice(files)
        before = _digest(file)
        done, notice = [], False
        for _ in range(1 + (chance.random() < 0.15)):
            kind = chance.choice(kinds)
            if not file.is_file() or file.is_symlink():  # the first damage made it something else
                break
            try:
                notice |= KINDS[kind](file, chance, self.trap) == "notice"
                done.append(kind)
            except Exception:  # a kind that does not suit what the first one left
                continue
        after = _digest(file)
        if not done or before == after:
            return None
        return "+".join(done), str(file.relative_to(here)), (notice or reader.sealed) and len(done) == 1

    def _judge(
        self, number: int, reader: Reader, kind: str, file: str, notice: bool, tokens: list[str], place: Path
    ) -> Result:
        """Run a command in a fork and say what came of it."""
        self.trap.canary.unlink(missing_ok=True)
        self._visited()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._child(tokens, place)
        exit_code, peak, ended = self._wait(child, began + self.seconds)
        said = _tail(place / "stderr")
        outcome, why = _outcome(exit_code, ended, said, _tail(place / "stdout"))
        if peak > self.memory_gb * 1024 + self.base_mib:
            outcome, why = "memory", f"{peak} MiB"
        if self.trap.canary.exists():
            outcome, why = "silent", "code or a command of the file ran"
        elif self._visited():
            outcome, why = "silent", "an address of the file was fetched"
        elif outcome == "ok" and notice and not _mentions(said + _tail(place / "stdout")):
            outcome, why = "silent", "exit 0 without a word, and this damage has to be noticed"
        seconds = round(time.monotonic() - began, 2)
        return Result(
            number, reader.name, kind, file, outcome, why, seconds, peak, exit_code, tokens, said[-2000:]
        )

    @property
    def base_mib(self) -> int:
        """Memory of the process that is forked."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MAXRSS_UNIT

    def _child(self, tokens: list[str], place: Path) -> None:
        """Run the command with limits; never returns."""
        code = CRASHED
        try:
            os.setsid()
            with contextlib.suppress(
                OSError, AttributeError
            ):  # Linux: end with the storm, should it be killed
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
                os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), stream.fileno())
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            (place / "cwd").mkdir()
            os.chdir(place / "cwd")
            os.environ |= {
                "HOME": str(place),
                "SACCADE_CACHE": str(place / "cache"),
                "HF_HOME": str(place / "hf"),
            }
            os.environ.pop("SACCADE_DEBUG", None)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            limit = _address_space() + int(self.memory_gb * (1 << 30) * 1.5)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            from saccade.cli.main import main as command

            code = int(command(tokens))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:  # what reaches the user as a traceback
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _wait(self, child: int, deadline: float) -> tuple[int | None, int, str]:
        """Wait for a child; returns its exit status (None when killed), peak memory in MiB, and how it ended."""
        ended, pause = "", 0.005
        while True:
            pid, status, usage = os.wait4(child, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                ended = "hang"
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child, signal.SIGKILL)
                _, status, usage = os.wait4(child, 0)
                break
            time.sleep(pause)
            pause = min(0.1, pause * 1.5)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # workers that it left behind
        peak = usage.ru_maxrss // _MAXRSS_UNIT
        if ended:
            return None, peak, ended
        if os.WIFSIGNALED(status):
            return None, peak, f"signal {os.WTERMSIG(status)}"
        return os.WEXITSTATUS(status), peak, ""

    def _visited(self) -> bool:
        """Whether somebody called at the address since last time."""
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        self._visited()
        return True


_MAXRSS_UNIT = 1 << 20 if sys.platform == "darwin" else 1 << 10


def _repoint(here: Path, source: Path) -> None:
    """Let the records of a copy name the copy, and not the input that it was made from."""
    for file in here.rglob("*"):
        if file.suffix in (".yaml", ".json", ".jsonl", ".csv", ".part") and file.is_file():
            text = file.read_text(encoding="utf-8")
            if str(source) in text:
                file.write_text(text.replace(str(source), str(here)), encoding="utf-8")
                seal = file.with_suffix(".sha256")
                if seal.is_file():  # of a checkpoint's state or a bundle's manifest
                    seal.write_text(f"{_digest(file)}  {file.name}\n", encoding="utf-8")


def _digest(file: Path) -> str:
    """Tell a file from what it was before; what is none any more has no digest."""
    if not file.is_file() or file.is_symlink():
        return "gone"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _address_space() -> int:
    """Bytes of address space that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 16 << 30


def _tail(file: Path) -> str:
    """Read the end of what a command printed."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 20_000))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _mentions(said: str) -> bool:
    """Whether a command that went on says that something is wrong."""
    words = (
        "skipped",
        "broken",
        "unreadable",
        "left out",
        "cannot be read",
        "damaged",
        "rejected",
        "error",
        "ignored",
    )
    return any(word in said.lower() for word in words)


def _outcome(exit_code: int | None, ended: str, said: str, printed: str) -> tuple[str, str]:
    """Classify how a command ended and what it said."""
    if ended == "hang":
        return "hang", "no end within the limit"
    if exit_code is None:
        return "memory" if ended == "signal 9" else "traceback", ended
    if "MemoryError" in said or "Cannot allocate memory" in said or "can't allocate memory" in said:
        return "memory", "out of memory"
    if exit_code == CRASHED or "Traceback (most recent call last)" in said:
        lines = [line for line in said.splitlines() if line.strip()]
        return "traceback", lines[-1][:300] if lines else ""
    if exit_code == 3:
        return "unforeseen", said.strip().splitlines()[-1][:300] if said.strip() else ""
    if any(letter in said + printed for letter in ("\x1b[2J", "\x07", "\u202e")):
        return "words", "a terminal escape of the file was printed"
    if exit_code == 0:
        return "ok", ""
    if exit_code not in REFUSALS:
        return "traceback", f"exit {exit_code}"
    lines = [line for line in said.splitlines() if line.strip()]
    sentences = [line for line in lines if line.startswith("saccade: ")]
    if len(sentences) != 1 or lines[-1] != sentences[0]:
        return (
            ("refused", "")
            if exit_code == 1 and printed.strip()
            else ("words", "not refused in one last sentence")
        )
    return "refused", ""


def _tell(result: Result, done: int, cases: int) -> None:
    """Print what failed, and now and then how far it is."""
    if result.outcome not in SOUND:
        what = f"{result.reader}, {result.kind} of {result.file}"
        print(
            f"case {result.number}: {result.outcome}: {what}: {result.why}"[:300]
            .encode("unicode_escape")
            .decode()
        )
    if done % 50 == 0 or done == cases:
        print(f"{done}/{cases}", file=sys.stderr, flush=True)


def _report(results: Sequence[Result]) -> None:
    """Print a table of kinds by outcomes."""
    outcomes = ["ok", "refused", "traceback", "unforeseen", "words", "hang", "memory", "silent"]
    table: dict[str, Counter[str]] = {}
    for result in results:
        for name in (result.kind.partition("+")[0], "all"):
            table.setdefault(name, Counter())[result.outcome] += 1
    print(f"{'kind':16}" + "".join(f"{name:>12}" for name in outcomes))
    for name in [*sorted(set(table) - {"all"}), "all"]:
        print(f"{name:16}" + "".join(f"{table[name][outcome]:12}" for outcome in outcomes))
    seconds = sorted(result.seconds for result in results)
    if seconds:
        peak = max(result.peak_mib for result in results)
        print(
            f"median {seconds[len(seconds) // 2]:.2f} s a case, longest {seconds[-1]:.1f} s, most memory {peak} MiB"
        )


if __name__ == "__main__":
    sys.exit(main())
