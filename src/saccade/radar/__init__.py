"""Radar: from the echoes of a hand-held millimetre-wave scan to an image.

Public names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.radar.array import Array
    from saccade.radar.echo import simulate
    from saccade.radar.grid import Grid, RadarImage
    from saccade.radar.imaging import reconstruct
    from saccade.radar.importing import import_scan
    from saccade.radar.scan import Scan
    from saccade.radar.waveform import Waveform

_HOMES = {
    "Array": "saccade.radar.array",
    "Grid": "saccade.radar.grid",
    "RadarImage": "saccade.radar.grid",
    "Scan": "saccade.radar.scan",
    "Waveform": "saccade.radar.waveform",
    "import_scan": "saccade.radar.importing",
    "reconstruct": "saccade.radar.imaging",
    "simulate": "saccade.radar.echo",
}

__all__ = ["Array", "Grid", "RadarImage", "Scan", "Waveform", "import_scan", "reconstruct", "simulate"]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'saccade.radar' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
