"""Worker processes that write files, and leave none half written when the job is ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NoReturn


@contextlib.contextmanager
def writers(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes for jobs that write files; an error or a signal in here ends those that are under way too.

    They are spawned, not forked: threads of torch and numba do not survive a fork.

    Args:
        workers: How many.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_in_order)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown()


def _end_in_order() -> None:
    """Leave Ctrl-C to the main process, and take its SIGTERM as an exception, so that what is half written goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # nothing may cut the tidying short
    raise SystemExit(128 + number)
