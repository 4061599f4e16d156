"""Vision-language models that answer questions about motion: the public names, loaded when first used.

`answers` and `compare` let a model answer a file of questions, on the engine's prediction, and score it.
"""

from typing import Any

from saccade.tasks.answer import vlm as _home

TASK = "answer"
"""What recipes and cards call it."""


def __getattr__(name: str) -> Any:
    """Return a public name of the package's home."""
    return getattr(_home, name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_home.__all__)
