"""`saccade sparsify`: a vision transformer on a few semantic tokens, fine-tuned and compared with what it was."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show
from saccade.cli.flags import given, names_of

Hidden = Parameter(show=False)


def sparsify(
    base: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    data: str | None = None,
    weights: str | None = None,
    labels: Annotated[str, Hidden] = "",
    raw_weights: Annotated[bool, Hidden] = False,
    tokens: int = 16,
    recover: bool = False,
    teacher: str = "self",
    epochs: int | None = None,
    size: int | None = None,
    device: str | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    json: bool = False,
    allow_address: Annotated[bool, Hidden] = False,
    dry_run: Annotated[bool, Hidden] = False,
) -> None:
    """Convert a vision transformer to STViT, fine-tune it, and compare it with what it was.

    Without --data it only converts, and the result needs fine-tuning. When the base has other classes than the data,
    --teacher self fine-tunes it on the data first. Less common: --head mean, --pooling window, --image-blocks N,
    --stgm-blocks N, --units N, --distill hard, --base-epochs N, --recipe NAME, --config FILE, --batch, --threads,
    --seed, --seconds S (of the speed measurement), --dry-run, --labels FILE
    (the classes of --weights), --raw-weights, and every setting of a recipe by its dotted name.

    Example: saccade sparsify vit_base_patch16_224 --tokens 16 --data photos/ --teacher self --epochs 30

    Args:
        base: Name of a ViT or Swin of timm, a run folder, or a weights file.
        settings: Dotted flags.
        data: Folder of class folders, table, shards or a built-in name, to fine-tune and compare on.
        weights: Weights file for a base given by name; left out, the published ones.
        labels: Names of the outputs of --weights.
        raw_weights: Take the raw weights of a file that also has averaged ones.
        tokens: Semantic tokens, a square number; for a Swin, of each window.
        recover: Give image tokens back after each group of blocks (STViT-R), for dense tasks.
        teacher: self (the unmodified base), none, or a run folder, weights file or model name.
        epochs: Passes over the data; chosen from the number of images when left out.
        size: Side of the square input in pixels; the model's own when left out.
        device: cpu, cuda or mps; the best there is when left out.
        out: Run folder to make; runs/DATA-stvit-NAME when left out.
        resume: Run folder to go on with.
        json: Print the result as one JSON object.
        allow_address: Fetch addresses and hub ids that stand in a recipe file or run folder.
        dry_run: Print the resolved plan and stop.
    """
    from saccade.engine.train.begin import KNOWN, dotted
    from saccade.engine.train.convert_begin import OPTIONS, plan_conversion
    from saccade.settings import read_flags
    from saccade.trust import trusting
    from saccade.weights import Source

    if base is not None and base.startswith("--"):  # no base, so the first setting came here
        settings, base = (base, *settings), None
    typed = read_flags(settings, (*OPTIONS, *KNOWN), names_of(sparsify))
    own: dict[str, Any] = {name: typed.pop(name) for name in OPTIONS if name in typed}
    own |= given({"tokens": tokens, "recover": recover or None, "teacher": teacher})
    flags = dotted({**typed, **given({"data": data, "epochs": epochs, "size": size, "device": device})})
    asked = Source(weights, labels=labels, raw=raw_weights) if weights else ""
    plan, folder, how = plan_conversion(
        base, own, flags, weights=asked, resume=resume, out=out, log=show.note
    )
    seconds = how.seconds
    if dry_run:
        _show_plan(plan, folder)
    elif not plan.recipe.data.source:
        _only_convert(plan, folder, seconds, json)
    else:
        with trusting(address=allow_address):
            _run(plan, folder, resume is not None, seconds, json)


def _show_plan(plan: Any, folder: Path) -> None:
    """Print the plan as YAML."""
    from saccade.engine.train.convert import plan_text

    show.text(plan_text(plan).rstrip())
    show.note(f"nothing was done; the run would go to {folder}")


def _only_convert(plan: Any, folder: Path, seconds: float, json: bool) -> None:
    """Convert, measure the speed, and say what is still to do."""
    from saccade.engine.train.compare import as_table, compare_speed
    from saccade.engine.train.convert import BASE, convert_only

    weights = convert_only(plan, folder, show.note)
    found = compare_speed(folder / BASE, weights, threads=plan.recipe.run.threads or 1, seconds=seconds)
    found.rows[-1]["stage"] = "converted"
    if json:
        show.result(
            {"weights": str(weights), "rows": found.rows, "macs_change": found.macs_change}, as_json=True
        )
    else:
        columns = ("network", "params M", "MACs G", "ms at batch 1", "images/s", "times")
        show.rows([{name: row[name] for name in columns} for row in as_table(found)], as_json=False)
    show.note(
        f"wrote {weights}; it needs fine-tuning before it is of use: say --data FOLDER, or saccade train --weights"
    )


def _run(plan: Any, folder: Path, resume: bool, seconds: float, json: bool) -> None:
    """Convert, fine-tune, compare, print."""
    from saccade.devices import pick_device
    from saccade.engine.train.compare import as_table, compare
    from saccade.engine.train.convert import CONVERTED, sparsify_and_tune
    from saccade.engine.train.setup import alone, is_first_process

    base = sparsify_and_tune(plan, folder, resume=resume, log=show.note)
    if not is_first_process():
        return
    with alone(folder, "comparing"):
        found = compare(
            folder,
            base.source,
            folder / CONVERTED,
            judged=base.trained,
            device=pick_device(plan.recipe.run.device),
            threads=plan.recipe.run.threads or 1,
            seconds=seconds,
            command=f"saccade sparsify --resume {folder}",
            log=show.note,
        )
    if json:
        from dataclasses import asdict

        show.result(
            {"run": str(folder), "report": str(folder / "report.html"), **asdict(found)}, as_json=True
        )
        return
    show.rows(as_table(found), as_json=False, title=f"{plan.base} and its STViT form")
    show.note(f"{found.sentence()}; weights in {folder}, report in {folder / 'report.html'}")
