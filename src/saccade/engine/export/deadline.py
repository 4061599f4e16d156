"""A time limit for calls of exported files: a file of a stranger may hold a loop that never ends."""

import os
import threading
import time
from collections.abc import Callable

from saccade.errors import ConfigError

LIMIT_SECONDS = 600.0
"""One call may take so long, unless SACCADE_CALL_SECONDS says otherwise."""
POLL_SECONDS = 0.5


def call_limit() -> float:
    """Return how long one call of an exported file may take, in seconds.

    Raises:
        ConfigError: SACCADE_CALL_SECONDS is no number above 0.
    """
    text = os.environ.get("SACCADE_CALL_SECONDS", str(LIMIT_SECONDS))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ConfigError(f"SACCADE_CALL_SECONDS is {text!r}; expected a number of seconds above 0")
    return value


def too_long(what: str, seconds: float) -> str:
    """Say that a call was ended, and how to allow more."""
    return (
        f"{what}: one call took more than {seconds:g} s and was ended; the file may hold a loop that never ends, "
        "else allow more seconds with the environment variable SACCADE_CALL_SECONDS"
    )


class Watch:
    """Ends calls that take too long. One thread looks at all of them twice a second, so that a call pays nothing."""

    _calls: dict[int, tuple[float, Callable[[], None]]] = {}  # noqa: RUF012 (shared on purpose)
    _thread: threading.Thread | None = None
    _lock = threading.Lock()

    def begin(self, seconds: float, end: Callable[[], None]) -> None:
        """Start a call that `end` ends after so many seconds."""
        Watch._calls[id(self)] = (time.monotonic() + seconds, end)
        thread = Watch._thread
        if thread is None or not thread.is_alive():  # after a fork too
            with Watch._lock:
                Watch._thread = threading.Thread(
                    target=_look, args=(Watch._calls,), daemon=True, name="saccade-watch"
                )
                Watch._thread.start()

    def done(self) -> None:
        """Take note that the call came back."""
        Watch._calls.pop(id(self), None)


def _look(calls: dict[int, tuple[float, Callable[[], None]]]) -> None:
    """End what is late, for ever."""
    while True:
        time.sleep(POLL_SECONDS)
        now = time.monotonic()
        for late, end in list(calls.values()):
            if now > late:
                end()
