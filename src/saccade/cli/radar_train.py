"""`saccade radar train`: a recipe to a network."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli.flags import recipe_flags, show_recipe, show_result

Hidden = Parameter(show=False)


def train(
    data: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    model: str = "srvit_swift",
    val: str | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    weights: str | None = None,
    device: str | None = None,
    dry_run: bool = False,
    json: bool = False,
    recipe: Annotated[str, Hidden] = "radar_sharpen",
) -> None:
    """Train a network on pairs. Every setting of a recipe is also a flag by its dotted name, as in `saccade train`.

    Less common: --recipe, --threads, --seed.

    Example: saccade radar train train/ --out runs/radar

    Args:
        data: Folder made by `saccade radar dataset`.
        settings: Dotted flags.
        model: srvit_swift (ours), or a published one: srvit_a, b, c, d, s.
        val: Another such folder to choose the best weights on; a twentieth of the data when left out.
        out: Run folder to make; runs/DATA-MODEL when left out.
        resume: Run folder to go on with.
        epochs: Passes over the data.
        batch: Pairs of a step.
        weights: Weights file or run folder to start from.
        device: cpu, cuda or mps; the best there is when left out.
        dry_run: Print the resolved recipe and stop.
        json: Print the result as one JSON object.
        recipe: Shipped recipe.
    """
    from saccade.engine.train.begin import carry_out, plan_run

    if data is not None and data.startswith("--"):  # no data, so the first setting came here
        settings, data = (data, *settings), None
    wanted = {"model": model} if resume is None else {}  # the recipe says the task
    flags = recipe_flags(
        settings,
        train,
        data=data,
        val=val,
        weights=weights,
        epochs=epochs,
        batch=batch,
        device=device,
        **wanted,
    )
    plan = plan_run(flags, recipe="" if resume else recipe, resume=resume, out=out)
    if dry_run:
        show_recipe(plan.recipe, plan.folder, "trained", as_json=json)
        return
    show_result(carry_out(plan), as_json=json)
