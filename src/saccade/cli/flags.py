"""What the commands share about flags: the names of a command's own, recipes, and how a run ended."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

if TYPE_CHECKING:
    from pathlib import Path

    from saccade.engine.train.loop import TrainResult
    from saccade.engine.train.recipe import Recipe
    from saccade.weights import Source


@Parameter(name="*")
@dataclass(frozen=True)
class Named:
    """The flags that say which weights a command is about."""

    weights: str = ""
    """Run folder, weights file, folder saved by timm or transformers, bundle or model name."""
    model: str = ""
    """Whose tensors they are, where the file does not say: a name from `saccade models`, or timm/NAME."""
    labels: str = ""
    """Names of the outputs: one a line, JSON, or a CSV table; imagenet for ImageNet's thousand."""
    raw_weights: Annotated[bool, Parameter(negative="", show=False)] = False
    """Take the raw weights of a file that also has averaged ones."""

    def source(self) -> Source:
        """Put them together.

        Raises:
            ConfigError: Neither weights nor a model.
        """
        from saccade.weights import Source

        return Source(self.weights, model=self.model, labels=self.labels, raw=self.raw_weights)

    def judged(self) -> tuple[Source, str]:
        """Return the weights, and what --labels names where it is a setting of the task's data instead."""
        from saccade.engine.source import task_of

        plain = replace(self, labels="").source()
        if self.labels and "labels" in task_of(plain, "evaluate")[0].held_out_settings:
            return plain, self.labels
        return self.source(), ""


NOBODY = Named()
"""Without any of these flags."""


def names_of(command: Callable[..., Any]) -> list[str]:
    """List the flags of a command, with underscores."""
    parameters = inspect.signature(command).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]


def recipe_flags(tokens: Sequence[str], command: Callable[..., Any], **short: Any) -> dict[str, Any]:
    """Read dotted flags of a recipe, and the short ones that stand for settings.

    Args:
        tokens: What the command line left over.
        command: Whose flags they are; the nearest name is offered among its own.
        short: Values by short name (`begin.SHORT`); None: not given.

    Raises:
        ConfigError: A flag that is none.
    """
    from saccade.engine.train.begin import KNOWN, dotted
    from saccade.settings import read_flags

    return dotted({**read_flags(tokens, KNOWN, names_of(command)), **given(short)})


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None: flags that nobody gave."""
    return {name: value for name, value in values.items() if value is not None}


def show_recipe(plan: Recipe, folder: Path, done: str, *, as_json: bool) -> None:
    """Print the recipe that a command resolved, and that nothing was done."""
    from saccade.settings import dump, to_plain

    if as_json:
        show.result({"out": str(folder), **to_plain(plan)}, as_json=True)
    else:
        show.text(dump(plan).rstrip())
        show.note(f"nothing was {done}; the run would go to {folder}")


def show_result(result: TrainResult, *, as_json: bool) -> None:
    """Print what a run of training ended with; of several processes, the first does."""
    from saccade.engine.train.setup import is_first_process

    if not is_first_process():
        return
    values: dict[str, Any] = {
        "run": str(result.folder),
        "weights": str(result.weights),
        **result.metrics,
        "best_epoch": result.epoch + 1,
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "skipped": result.skipped,
        "ended": result.reason,
    }
    show.result(values, as_json=as_json)
