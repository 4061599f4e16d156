"""Radar: from the echoes of a hand-held millimetre-wave scan to an image.

Public names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.radar.array import Array
    from saccade.radar.echo import simulate
    from saccade.radar.files import read_image, read_scan, write_image, write_scan
    from saccade.radar.focusing import FocusReport, focus
    from saccade.radar.grid import Grid, RadarImage
    from saccade.radar.imaging import reconstruct
    from saccade.radar.importing import import_scan
    from saccade.radar.path import Path, make_path
    from saccade.radar.scan import Scan
    from saccade.radar.scene import Scene, parse_target
    from saccade.radar.waveform import Waveform

    enhance: Any  # of a higher level: a network does it

_HOMES = {
    "Array": "saccade.radar.array",
    "FocusReport": "saccade.radar.focusing",
    "Grid": "saccade.radar.grid",
    "Path": "saccade.radar.path",
    "RadarImage": "saccade.radar.grid",
    "Scan": "saccade.radar.scan",
    "Scene": "saccade.radar.scene",
    "Waveform": "saccade.radar.waveform",
    "focus": "saccade.radar.focusing",
    "import_scan": "saccade.radar.importing",
    "make_path": "saccade.radar.path",
    "parse_target": "saccade.radar.scene",
    "read_image": "saccade.radar.files",
    "read_scan": "saccade.radar.files",
    "reconstruct": "saccade.radar.imaging",
    "simulate": "saccade.radar.echo",
    "write_image": "saccade.radar.files",
    "write_scan": "saccade.radar.files",
    "enhance": "saccade.engine.predict.sharpen",
}

__all__ = [
    "Array",
    "FocusReport",
    "Grid",
    "Path",
    "RadarImage",
    "Scan",
    "Scene",
    "Waveform",
    "enhance",
    "focus",
    "import_scan",
    "make_path",
    "parse_target",
    "read_image",
    "read_scan",
    "reconstruct",
    "simulate",
    "write_image",
    "write_scan",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'saccade.radar' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
