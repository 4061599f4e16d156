"""Training: recipes and the one loop that carries them out. Public names are loaded when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.engine.train.loop import TrainResult, train
    from saccade.engine.train.recipe import Recipe, build_recipe, list_recipes

_HOMES = {
    "Recipe": "recipe",
    "TrainResult": "loop",
    "build_recipe": "recipe",
    "list_recipes": "recipe",
    "train": "loop",
}
__all__ = ["Recipe", "TrainResult", "build_recipe", "list_recipes", "train"]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"saccade.engine.train.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'saccade.engine.train' has no attribute {name!r}")
