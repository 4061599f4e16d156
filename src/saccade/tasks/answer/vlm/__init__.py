"""Vision-language models: tuned on questions about motion, asked, and marked.

Public names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.tasks.answer.vlm.adapters import Adapter, adapter_for
    from saccade.tasks.answer.vlm.answering import Answerer, is_run, open_answerer
    from saccade.tasks.answer.vlm.assemble import TextPlan, new_base, register
    from saccade.tasks.answer.vlm.base import load_base
    from saccade.tasks.answer.vlm.clips import Exchange, clip_frames, parse_box, spread_boxes
    from saccade.tasks.answer.vlm.endpoint import Endpoint
    from saccade.tasks.answer.vlm.eyes import Eyes, EyesConfig, load_eyes, save_eyes
    from saccade.tasks.answer.vlm.model import VideoLanguageModel, build_vlm
    from saccade.tasks.answer.vlm.own_eyes import OwnEyes, register_eyes

_HOMES = {
    "Adapter": "adapters",
    "Answerer": "answering",
    "Endpoint": "endpoint",
    "Exchange": "clips",
    "Eyes": "eyes",
    "EyesConfig": "eyes",
    "OwnEyes": "own_eyes",
    "TextPlan": "assemble",
    "VideoLanguageModel": "model",
    "adapter_for": "adapters",
    "build_vlm": "model",
    "clip_frames": "clips",
    "is_run": "answering",
    "load_base": "base",
    "load_eyes": "eyes",
    "new_base": "assemble",
    "open_answerer": "answering",
    "parse_box": "clips",
    "register": "assemble",
    "register_eyes": "own_eyes",
    "save_eyes": "eyes",
    "spread_boxes": "clips",
}
__all__ = [
    "Adapter",
    "Answerer",
    "Endpoint",
    "Exchange",
    "Eyes",
    "EyesConfig",
    "OwnEyes",
    "TextPlan",
    "VideoLanguageModel",
    "adapter_for",
    "build_vlm",
    "clip_frames",
    "is_run",
    "load_base",
    "load_eyes",
    "new_base",
    "open_answerer",
    "parse_box",
    "register",
    "register_eyes",
    "save_eyes",
    "spread_boxes",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"saccade.tasks.answer.vlm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'saccade.tasks.answer.vlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
