"""The local engine: a few processes, each with one clip at a time, so that it is known which clip killed which.

Each worker has a pipe of its own. When this process is killed the pipes close, and the workers end after the clip
they are at; the part they then write is one that the next run finds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from saccade.kinematics.engine import Done, Job, Stage, attempt, finish, write_part
from saccade.kinematics.records import Rejected

TRIES = 2
"""Deaths of a worker over the same clip before the clip is given up: the first may have been another's fault."""


def run(jobs: list[Job], stages: list[Stage], folder: Path, workers: int) -> Iterator[Done]:
    """Work on clips; yields what became of each as it is done.

    Args:
        jobs: Clips.
        stages: The pipeline.
        folder: Where parts go.
        workers: Processes; 0 works in this one.

    Raises:
        RuntimeError: A worker ended before it could begin, such as for want of memory.
    """
    if workers == 0:
        states = [stage.start() if stage.start else None for stage in stages]
        for job in jobs:
            yield one(job, stages, states, folder)
        return
    # Spawned and not forked: threads of this process, such as torch's, do not survive a fork.
    context = multiprocessing.get_context("spawn")
    left, deaths = deque(jobs), Counter[str]()
    processes: dict[Connection, Any] = {}
    busy: dict[Connection, Job | None] = {}
    """What each is at; None while it starts."""

    def enter() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, stages, folder), daemon=True)
        process.start()
        theirs.close()
        processes[ours], busy[ours] = process, None

    try:
        for _ in range(min(workers, len(jobs))):
            enter()
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                job = busy.pop(pipe)
                try:
                    found = pipe.recv()
                except (EOFError, OSError):
                    process = processes.pop(pipe)
                    process.join()
                    pipe.close()
                    code = process.exitcode
                    why = f"ended with {f'signal {-code}' if code < 0 else f'code {code}'}"
                    if job is None:
                        raise RuntimeError(f"a worker process {why} before it could begin") from None
                    deaths[job.clip_id] += 1
                    if deaths[job.clip_id] < TRIES:
                        left.append(job)
                    else:
                        why = f"the process that worked on this clip {why}, {TRIES} times"
                        row = Rejected(job.clip_id, "worker", why)
                        yield write_part(folder, Done(job.clip_id, rejected=(row,), failed=True))
                    if left:
                        enter()
                    continue
                if isinstance(found, BaseException):
                    raise found
                if left:
                    busy[pipe] = left.popleft()
                    with contextlib.suppress(OSError):  # died meanwhile; noticed above
                        pipe.send(busy[pipe])
                if found is not None:
                    yield found
    finally:
        for pipe, process in processes.items():
            if pipe in busy:
                process.terminate()
            pipe.close()
        for process in processes.values():
            process.join()


def one(job: Job, stages: list[Stage], states: list[Any], folder: Path) -> Done:
    """Take one clip through all stages and write its part."""
    value = job.spec
    for stage, state in zip(stages, states, strict=True):
        value, ended = attempt(stage, state, job.clip_id, value)
        if ended:
            return write_part(folder, ended)
    return finish(folder, job.clip_id, value)


def _serve(pipe: Connection, stages: list[Stage], folder: Path) -> None:
    """Work on clips until the other end of the pipe closes."""
    # Control-C reaches the whole group of processes; the one that started us says when it is over, by SIGTERM, which
    # ends us as an exception does, so that a part that is half written is removed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    try:
        states = [stage.start() if stage.start else None for stage in stages]
        pipe.send(None)
        while True:
            pipe.send(one(pipe.recv(), stages, states, folder))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send(error)


def _leave(number: int, frame: object) -> NoReturn:
    """End this process from wherever it is, and let nothing cut that short."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
