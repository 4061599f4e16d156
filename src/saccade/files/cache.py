"""Where downloads and exported files are kept between runs."""

import os
import platform
from pathlib import Path


def cache_dir() -> Path:
    """Return the user's cache folder: SACCADE_CACHE, else the platform's own. It may not exist yet."""
    if chosen := os.environ.get("SACCADE_CACHE"):
        return Path(chosen)
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "saccade"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saccade"
