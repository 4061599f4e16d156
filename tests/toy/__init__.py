"""A task of one's own, of a size to be read at once: how many dots a picture has.

It stands outside the package and enters through the public door, so what it needs is what any task needs.
"""

from saccade import register_task
from toy.task import Count


def register() -> None:
    """Let Saccade know the task `count`."""
    register_task(Count.name, Count)
