"""Tasks: what differs between classification and whatever comes after it, one file each."""

import importlib

from saccade.errors import ConfigError, did_you_mean
from saccade.tasks.base import Batch, LossContext, Marks, Task, TaskData

TASKS = {"classify": "saccade.tasks.classify:Classify", "restore": "saccade.tasks.restore:Restore"}


def get_task(name: str) -> Task:
    """Make the task of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}{did_you_mean(name, TASKS)}")
    module, _, kind = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), kind)()


__all__ = ["TASKS", "Batch", "LossContext", "Marks", "Task", "TaskData", "get_task"]
