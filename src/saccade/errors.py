"""Every error that Saccade raises for a user to read, and how the command line ends on it.

    SaccadeError (exit 2)
    ├── ConfigError      a name, option, flag or recipe key that cannot be right
    ├── DataError        an image, folder, table or shard that cannot be read as asked
    ├── WeightsError     a checkpoint that is unsafe, damaged, or for another model
    ├── ShapeError       a tensor of a shape the function does not take
    ├── NotEnoughMemory  of a device or of the machine
    ├── MissingExtraError  an optional package that is not installed
    └── CheckFailed      (exit 1) the work was done and its own check says it is wrong

    Stopped              (exit 130 or 143) Ctrl-C, or SIGTERM from a scheduler: no error, a `KeyboardInterrupt`

A message is one sentence that names the file or field, what was expected, and the way out.
"""

import contextlib
import difflib
import signal
from collections.abc import Iterable, Iterator


class SaccadeError(Exception):
    """Base of all errors meant for the user; `exit_code` is what the command line returns."""

    exit_code = 2


class ConfigError(SaccadeError, ValueError):
    """A name, option, flag or recipe key that cannot be right."""


class DataError(SaccadeError, ValueError):
    """Input data that cannot be read as asked."""


class WeightsError(SaccadeError, ValueError):
    """A checkpoint that is unsafe, damaged, or made for another model."""


class ShapeError(SaccadeError, ValueError):
    """A tensor of a shape the function does not take."""


class MissingExtraError(SaccadeError, ImportError):
    """An optional package that is not installed."""


class NotEnoughMemory(SaccadeError):
    """The memory of a device or of the machine was not enough."""


class CheckFailed(SaccadeError):
    """The work was done, and its own check says the result is wrong."""

    exit_code = 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a device or of the machine, was not enough."""
    # By name, since importing this file does not import torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(part in str(error) for part in ("can't allocate memory", "_ALLOC_FAILED"))


class Stopped(KeyboardInterrupt):
    """The user or a scheduler wants the job to end; whoever handles Ctrl-C in good order handles this too."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.exit_code = 128 + number


@contextlib.contextmanager
def memory_enough(way_out: str) -> Iterator[None]:
    """Turn a device's memory running out, of a GPU or of the machine, into a sentence.

    Args:
        way_out: What the user can do, as the end of the sentence.

    Raises:
        NotEnoughMemory: There was not enough.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise NotEnoughMemory(f"the device's memory is not enough; {way_out}") from None


def did_you_mean(name: str, choices: Iterable[str], count: int = 3) -> str:
    """Write the end of an error message: the nearest of `choices`, or all when they are few.

    Args:
        name: What the user wrote.
        choices: What would have been right.
        count: At most so many suggestions.

    Returns:
        A clause that starts with "; " ready to append, or "" when there are no choices.
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=count, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    if 0 < len(choices) <= 12:
        return f"; choose from {', '.join(choices)}"
    return f"; there are {len(choices)} choices, such as {', '.join(choices[:count])}" if choices else ""
