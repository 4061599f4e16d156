"""Our side of the environments of their own: hand a program to the worker, and run its files through a process."""

import contextlib
import json
import math
import platform
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from saccade.engine.export.deadline import Watch, call_limit, too_long
from saccade.engine.export.environment import environment
from saccade.engine.export.torch_export import write_torch
from saccade.errors import CheckFailed, ConfigError, SaccadeError, ShapeError, WeightsError
from saccade.files import convert as convert_values
from saccade.files import count_threads, parse_json
from saccade.tasks.base import ExportForm

HOMES = {"executorch": "executorch", "coreml": "executorch", "litert": "litert"}
"""Which environment makes and runs which format: executorch brings coremltools."""
MAX_OUTPUTS = 1 << 30
"""Numbers in one answer."""
_WORKER = Path(__file__).with_name("worker.py")


def can_run(form: str) -> bool:
    """Say whether this machine can run files of a format; Core ML runs on macOS only."""
    return form != "coreml" or platform.system() == "Darwin"


def convert(to: str, form: ExportForm, path: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """Write a file in another environment, from a torch.export program.

    Args:
        to: executorch, litert or coreml.
        form: From `portable`.
        path: File to write.
        log: Told what is being made.

    Returns:
        What the exporter has to say: batch, versions, delegated share.

    Raises:
        CheckFailed: The exporter failed; the sentence has its message.
        MissingExtraError: The environment cannot be made.
    """
    python = environment(HOMES[to], log)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.pt2"
        write_torch(form, program)
        log(f"converting to {to}")
        done = subprocess.run(
            [str(python), "-I", "-W", "ignore", str(_WORKER), "convert", to, str(program), str(path)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    answer = _parse(done.stdout)
    if not answer.pop("ok", False):
        tail = done.stderr.decode(errors="replace").strip().splitlines()
        raise CheckFailed(
            f"{to}: the conversion failed ({answer.get('error') or (tail or ['no message'])[-1][:300]})"
        )
    return answer


class WorkerSession:
    """A file run by a process in its own environment; one call at a time.

    Args:
        form: executorch, litert or coreml.
        path: The file.
        threads: Threads of one call; None: all cores.
        log: Told when an environment has to be made first.
    """

    def __init__(
        self,
        form: str,
        path: Path,
        *,
        threads: int | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        if not can_run(form):
            raise ConfigError(f"{path}: {form} files run on macOS only; export to onnx for this machine")
        self.threads = count_threads(threads)
        self._form, self._path = form, path
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        command = [str(environment(HOMES[form], log)), "-I", "-W", "ignore", str(_WORKER)]
        self._process = subprocess.Popen(
            [*command, "serve", form, str(path), str(self.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip
        self._limit, self._late, self._watch = call_limit(), False, Watch()
        self._close = weakref.finalize(self, _stop, self._process, self._log)
        with self._in_time():
            self._read()

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """End the process when an answer takes too long."""
        self._watch.begin(self._limit, self._kill)
        try:
            yield
        except SaccadeError:
            if self._late:
                raise WeightsError(too_long(str(self._path), self._limit)) from None
            raise
        finally:
            self._watch.done()

    def _kill(self) -> None:
        self._late = True
        self._process.kill()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Map the one float32 input to the one output.

        Raises:
            WeightsError: The file does not come to an end.
        """
        (only,) = inputs
        with self._in_time():
            return self._call(only)

    def _call(self, images: Tensor) -> Tensor:
        """Send one request and read the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        array = images.detach().to(torch.float32).contiguous().numpy()
        try:
            self._process.stdin.write(json.dumps({"shape": list(array.shape)}).encode() + b"\n")
            self._process.stdin.write(array.tobytes())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CheckFailed(f"{self._path}: the {self._form} process ended: {self._last_words()}") from None
        where = f"{self._path}: the {self._form} process"
        shape = convert_values(self._read().get("shape"), list[int], where=where, error=CheckFailed)
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_OUTPUTS:
            raise CheckFailed(f"{where} answered with the shape {shape[:8]}; expected a batch of outputs")
        data = self._process.stdout.read(4 * math.prod(shape))
        if len(data) != 4 * math.prod(shape):
            raise CheckFailed(f"{where} ended: {self._last_words()}")
        return torch.frombuffer(bytearray(data), dtype=torch.float32).view(shape)

    def close(self) -> None:
        """End the process."""
        self._close()

    def _read(self) -> dict[str, Any]:
        """Read one answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CheckFailed(f"{self._path}: the {self._form} process ended: {self._last_words()}")
        answer = _parse(line)
        if not answer.get("ok"):
            raise ShapeError(
                f"{self._path}: {self._form} cannot run this ({answer.get('error', 'no message')})"
            )
        return answer

    def _last_words(self) -> str:
        """Return the last line of what the process wrote to standard error."""
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"exit code {self._process.returncode}"


def _stop(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """End a worker: its input closed, then by force."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    log.close()


def _parse(data: bytes) -> dict[str, Any]:
    """Read one JSON object; an empty one when there is none."""
    try:
        return parse_json(data, dict[str, Any], where="the answer", error=CheckFailed)
    except CheckFailed:
        return {}
