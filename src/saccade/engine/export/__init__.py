"""Ship a network: one file and its manifest in a folder, checked against PyTorch before anyone sees it."""

from saccade.engine.export.bundle import Bundle, Manifest, is_bundle, read_bundle
from saccade.engine.export.ship import FORMATS, Shipped, export, open_file, open_session

__all__ = [
    "FORMATS",
    "Bundle",
    "Manifest",
    "Shipped",
    "export",
    "is_bundle",
    "open_file",
    "open_session",
    "read_bundle",
]
