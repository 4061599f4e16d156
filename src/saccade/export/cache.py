"""The user's cache folder: bundles made on the way, choices of backend, environments of foreign exporters."""

import json
from typing import Any

from saccade.errors import ConfigError
from saccade.files import cache_dir, write_text


def recall(name: str) -> dict[str, Any] | None:
    """Read a small JSON object that `remember` wrote; None when absent or unreadable."""
    try:
        value = json.loads((cache_dir() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def remember(name: str, value: dict[str, Any]) -> None:
    """Write a small JSON object; a cache that cannot be written is no error."""
    try:
        write_text(cache_dir() / f"{name}.json", json.dumps(value))
    except (OSError, ConfigError):  # the second where the folder cannot be made
        return
