"""Tasks: what differs between classification and whatever comes after it, one file each."""

import importlib

from saccade.errors import ConfigError, did_you_mean
from saccade.tasks.base import Batch, LossContext, Metrics, Task, TaskData
from saccade.weights.card import Card

TASKS = {
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


def register_task(name: str, where: str) -> None:
    """Let `name` be the task that `where` ("module:Class") makes, as anyone's own is; see `tasks/base.py`.

    Raises:
        ConfigError: The name is another task's already.
    """
    if TASKS.setdefault(name, where) != where:
        raise ConfigError(f"task {name!r} is {TASKS[name]} already; choose another name")


def get_task(name: str) -> Task:
    """Make the task of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}{did_you_mean(name, TASKS)}")
    module, _, kind = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), kind)()


def check_classifies(card: Card, what: str) -> None:
    """Refuse a network that gives no class answers.

    Args:
        card: Of the network.
        what: What only classifiers can do so far, as the subject of a sentence.

    Raises:
        ConfigError: A network of another task, with the command that suits it.
    """
    if card.task != "classify":
        way = {
            "restore": "; use `saccade radar enhance` or `saccade radar eval`",
            "answer": "; use `saccade vlm ask` or `saccade vlm score`",
        }.get(card.task, "")
        raise ConfigError(f"{what} takes classifiers, and {card.model} is for the task {card.task}{way}")


__all__ = [
    "TASKS",
    "Batch",
    "LossContext",
    "Metrics",
    "Task",
    "TaskData",
    "check_classifies",
    "get_task",
    "register_task",
]
