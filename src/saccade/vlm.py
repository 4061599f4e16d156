"""Vision-language models that answer questions about motion: the public names, loaded when first used."""

from typing import Any

from saccade.tasks.answer import vlm as _home


def __getattr__(name: str) -> Any:
    """Return a public name of the package's home."""
    return getattr(_home, name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_home.__all__)
