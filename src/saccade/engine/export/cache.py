"""The user's cache folder: bundles made on the way, choices of backend, environments of foreign exporters."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.errors import ConfigError
from saccade.files import cache_dir, read_json, write_text


def recall(name: str) -> dict[str, Any] | None:
    """Read a small JSON object that `remember` wrote; None when absent or unreadable."""
    try:
        return read_json(cache_dir() / f"{name}.json", dict[str, Any], error=ConfigError, max_bytes=1 << 20)
    except ConfigError:
        return None


def remember(name: str, value: dict[str, Any]) -> None:
    """Write a small JSON object; a cache that cannot be written is no error."""
    try:
        write_text(cache_dir() / f"{name}.json", json.dumps(value))
    except (OSError, ConfigError):  # the second where the folder cannot be made
        return


LIMIT_GB = 4.0
"""Bundles made on the way may take so much, unless SACCADE_CACHE_GB says otherwise."""


@dataclass
class Kept:
    """One folder of the cache."""

    name: str
    """Relative to the cache folder."""
    megabytes: float
    days: float
    """Since it was used."""
    path: Path


def list_cache() -> list[Kept]:
    """List the folders of the cache, the longest unused first."""
    home, found = cache_dir(), []
    for kind in sorted(home.iterdir()) if home.is_dir() else []:
        deep = kind.name in ("bundles", "environments") and kind.is_dir() and not kind.is_symlink()
        for path in sorted(kind.iterdir()) if deep else [kind]:
            if path.is_dir():
                age = max(0.0, time.time() - path.stat().st_mtime) / 86400
                found.append(Kept(str(path.relative_to(home)), _bytes(path) / 1e6, round(age, 1), path))
    return sorted(found, key=lambda kept: -kept.days)


def prune_bundles(limit_gb: float | None = None, *, keep: Path | None = None) -> list[Kept]:
    """Remove bundles made on the way, the longest unused first, until they fit.

    Args:
        limit_gb: What they may take in all, in GB; None: SACCADE_CACHE_GB, else `LIMIT_GB`.
        keep: One that is in use.

    Returns:
        What was removed.

    Raises:
        ConfigError: SACCADE_CACHE_GB is no number from 0.
    """
    limit = cache_limit() if limit_gb is None else limit_gb
    kept = [one for one in list_cache() if one.path.parent.name == "bundles"]
    total, removed = sum(one.megabytes for one in kept), []
    for one in kept:
        if total <= limit * 1e3:
            break
        if keep is None or one.path != keep:
            shutil.rmtree(one.path, ignore_errors=True)
            total -= one.megabytes
            removed.append(one)
    return removed


def cache_limit() -> float:
    """Return what bundles made on the way may take, in GB.

    Raises:
        ConfigError: SACCADE_CACHE_GB is no number from 0.
    """
    text = os.environ.get("SACCADE_CACHE_GB", str(LIMIT_GB))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise ConfigError(f"SACCADE_CACHE_GB is {text!r}; expected a number of GB from 0")
    return value


def _bytes(folder: Path) -> int:
    """Add up the files of a folder, without following links."""
    total = 0
    for home, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(home) / name).lstat().st_size
            except OSError:
                continue
    return total
