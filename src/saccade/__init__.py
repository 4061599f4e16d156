"""Saccade: see fast. Vision models that cost little on real machines.

Public names are loaded when first used, so that `import saccade` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from saccade.engine.bench.run import bench
    from saccade.engine.evaluate.evaluate import evaluate
    from saccade.engine.export.check import verify
    from saccade.engine.export.ship import export
    from saccade.engine.predict import open_predictor, predict
    from saccade.engine.train.begin import train
    from saccade.nn.fold import fold
    from saccade.tasks import register_task
    from saccade.tasks.open import load_model
    from saccade.weights import Source
    from saccade.zoo.loading import load_weights, save_weights
    from saccade.zoo.registry import create_model, list_models
    from saccade.zoo.sparse import sparsify

_HOMES = {
    "Source": "saccade.weights",
    "create_model": "saccade.zoo.registry",
    "list_models": "saccade.zoo.registry",
    "fold": "saccade.nn.fold",
    "load_model": "saccade.tasks.open",
    "load_weights": "saccade.zoo.loading",
    "save_weights": "saccade.zoo.loading",
    "open_predictor": "saccade.engine.predict",
    "predict": "saccade.engine.predict",
    "bench": "saccade.engine.bench.run",
    "evaluate": "saccade.engine.evaluate.evaluate",
    "export": "saccade.engine.export.ship",
    "verify": "saccade.engine.export.check",
    "register_task": "saccade.tasks",
    "sparsify": "saccade.zoo.sparse",
    "train": "saccade.engine.train.begin",
}

__all__ = [
    "Source",
    "__version__",
    "bench",
    "create_model",
    "evaluate",
    "export",
    "fold",
    "list_models",
    "load_model",
    "load_weights",
    "open_predictor",
    "predict",
    "register_task",
    "save_weights",
    "sparsify",
    "train",
    "verify",
]


_ROOMS = ("kinematics", "radar", "vlm", "worlds")
"""Packages that are public as a whole."""


def __getattr__(name: str) -> Any:
    """Import the home of a public name, or a public package, on first use."""
    if name in _ROOMS:
        return importlib.import_module(f"saccade.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'saccade' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*__all__, *_ROOMS])
