"""Tasks: what differs between classification and whatever comes after it, one file each."""

import importlib

from saccade.errors import ConfigError, did_you_mean
from saccade.tasks.base import Batch, LossContext, Metrics, Task, TaskData

TASKS: dict[str, type[Task] | str] = {
    "classify": "saccade.tasks.classify.task:Classify",
    "detect": "saccade.tasks.detect.task:Detect",
    "segment": "saccade.tasks.segment.task:Segment",
    "restore": "saccade.tasks.restore.task:Restore",
    "video": "saccade.tasks.video.task:Video",
    "answer": "saccade.tasks.answer.task:Answer",
}


def list_tasks() -> list[str]:
    """List the names of the tasks, in the order in which they are asked whose a foreign checkpoint is."""
    return list(TASKS)


def register_task(name: str, kind: type[Task] | str) -> None:
    """Let a task of your own walk through train, evaluate, predict, export and bench by its name.

    Register it wherever its name may come up: before `saccade.train`, and before opening what it trained.

    Args:
        name: As in recipes and cards; a name that is taken by another class is refused.
        kind: A subclass of `Task` that takes no arguments, or where it is, "module:Class", imported on first use.

    Raises:
        ConfigError: Neither, or a name that is taken.
    """
    if not (isinstance(kind, type) and issubclass(kind, Task)) and not (
        isinstance(kind, str) and all(kind.partition(":"))
    ):
        raise ConfigError(f"task {name!r} is {kind!r}; expected a subclass of Task or 'module:Class'")
    if TASKS.get(name, kind) != kind:
        raise ConfigError(f"a task {name!r} is here already; register yours under another name")
    TASKS[name] = kind


def get_task(name: str) -> Task:
    """Make the task of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in TASKS:
        near = did_you_mean(name, TASKS) or "; if it is your own, call saccade.register_task first"
        raise ConfigError(f"unknown task {name!r}{near}")
    kind = TASKS[name]
    if isinstance(kind, str):
        module, _, attribute = kind.partition(":")
        kind = getattr(importlib.import_module(module), attribute)
    return kind()


__all__ = [
    "TASKS",
    "Batch",
    "LossContext",
    "Metrics",
    "Task",
    "TaskData",
    "get_task",
    "list_tasks",
    "register_task",
]
