"""`saccade train`: flags to a recipe, a recipe to a run folder."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def train(
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    data: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    config: Annotated[Path | None, Hidden] = None,
    task: str | None = None,
    head: str | None = None,
    weights: str | None = None,
    resume: Path | None = None,
    out: Path | None = None,
    epochs: int | None = None,
    batch: Annotated[int | None, Hidden] = None,
    size: int | None = None,
    frames: Annotated[int | None, Hidden] = None,
    device: Annotated[str | None, Hidden] = None,
    threads: Annotated[int | None, Hidden] = None,
    seed: Annotated[int | None, Hidden] = None,
    freeze: Annotated[str | None, Hidden] = None,
    allow_pipe: Annotated[bool, Hidden] = False,
    allow_address: Annotated[bool, Hidden] = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Train or fine-tune a classifier, a detector or a segmenter on images, or a classifier of videos.

    Every setting of a recipe is also a flag by its dotted name, such as --optim.lr 1e-3 or
    --augment.hflip 0; --dry-run lists them all. Less common: --config FILE (a recipe file), --batch,
    --device, --threads, --seed, --freeze backbone, --frames (of a clip), --allow-pipe, --allow-address.

    Example: saccade train --data photos/ --model shvit_s1 --out runs/photos

    Args:
        settings: Dotted flags.
        data: Folder of class folders, a CSV of path,label, WebDataset shards, or digits; for detect a folder with
            COCO annotations, for segment one of pictures and class maps, or scenes; for video a folder of class
            folders of videos, a CSV of path,label,start,end, or clips.
        model: Name from `saccade models`, or timm/NAME; shvit_s1 when nothing says otherwise.
        recipe: Shipped recipe, such as shvit_s1_imagenet; finetune_small (or digits) when left out.
        config: Recipe file (YAML), over the shipped recipe.
        task: classify, detect, segment or video; classify when nothing says otherwise.
        head: mask_rcnn, faster_rcnn, retinanet or cascade_mask_rcnn; semantic_fpn or upernet; of videos transformer
            or mean; the task's first.
        weights: Weights file or run folder to start from; a classifier's give a detector its backbone.
        resume: Run folder to go on with, or one of its folders checkpoints/STEP, to go back to that.
        out: Run folder to make; runs/DATA-MODEL when left out.
        epochs: Passes over the data; chosen from the number of images when left out.
        batch: Images per process and step; chosen likewise.
        size: Side of the square input in pixels (detect, segment: the shorter side); the model's own when left out.
        frames: Frames of a clip (video); the model's own, or 16, when left out.
        device: cpu, cuda or mps; the best there is when left out.
        threads: CPU threads.
        seed: Seed of everything random.
        freeze: Comma-separated layers not to train, or backbone.
        allow_pipe: Run a command that is given here as --data or --data.val (pipe:...); one in a file never runs.
        allow_address: Fetch addresses and hub ids that stand in a recipe file or run folder.
        dry_run: Print the resolved recipe and stop.
        json: Print the result as one JSON object.
    """
    from saccade.engine.train.recipe import Recipe, build_recipe, check_unchanged, dump_recipe, load_recipe
    from saccade.errors import ConfigError
    from saccade.settings import leaves, to_plain

    known = [name for name, _ in leaves(Recipe())]
    flags = {**read_settings(settings, known)}
    short = {
        "task": task,
        "model.head": head,
        "data.source": data,
        "model.name": model,
        "model.weights": weights,
        "schedule.epochs": epochs,
        "data.batch": batch,
        "data.size": size,
        "data.frames": frames,
        "run.device": device,
        "run.threads": threads,
        "run.seed": seed,
        "optim.freeze": freeze,
    }
    flags |= {name: value for name, value in short.items() if value is not None}
    if resume is not None:
        if recipe or config or out:
            raise ConfigError(
                "--resume goes on with a run as it was begun; leave out --recipe, --config and --out"
            )
        from saccade.engine.train.checkpoint import split_checkpoint

        folder, going_on = split_checkpoint(resume)
        if not (folder / "recipe.yaml").is_file():
            raise ConfigError(
                f"{folder}: no recipe.yaml here; expected the folder of a run begun by `saccade train`"
            )
        plan = check_unchanged(load_recipe(folder / "recipe.yaml"), flags, folder)
    else:
        going_on = ""
        plan, chosen = build_recipe(recipe or default_recipe(data, config, task, model), config or "", flags)
        if weights is not None and "model.name" not in chosen:
            from saccade.tasks.open import load_model

            _, card = load_model(weights)
            plan.model.name, plan.model.options = card.model, card.options
            if card.task == plan.task:
                plan.model.head = plan.model.head or card.head
                plan.model.head_options = plan.model.head_options or card.head_options
        if weights is not None and "model.pretrained" not in flags:
            plan.model.pretrained = "no"
        folder = out or free_folder(plan.data.source, plan.model.name)
    if dry_run:
        if json:
            show.result({"out": str(folder), **to_plain(plan)}, as_json=True)
        else:
            show.text(dump_recipe(plan).rstrip())
            show.note(f"nothing was trained; the run would go to {folder}")
        return
    if not plan.data.source:
        raise ConfigError(
            "nothing to train on; say where the images are with --data FOLDER (or digits; scenes for detect and "
            "segment; clips for video)"
        )
    from saccade.engine.train.loop import train as run
    from saccade.engine.train.setup import is_first_process

    going_on = going_on or resume is not None
    result = run(plan, folder, resume=going_on, allow_pipe=allow_pipe, allow_address=allow_address)
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
    show.result(values, as_json=json)


def default_recipe(
    data: str | None, config: Path | None, task: str | None = None, model: str | None = None
) -> str:
    """Name the shipped recipe that suits when none is asked for: none under a recipe file."""
    if config is not None:
        return ""
    if task == "video":
        return "clips_video" if data == "clips" and model is None else "video_small"
    if task in ("detect", "segment"):
        return f"scenes_{task}" if data == "scenes" else f"{task}_small"
    return "digits" if data == "digits" else "finetune_small"


def free_folder(source: str, model: str) -> Path:
    """Return runs/DATA-MODEL, with a number behind it when that is taken."""
    stem = Path(source.rstrip("/")).stem or "data"
    base = Path("runs") / f"{stem}-{model.replace('/', '-')}"
    folder, number = base, 2
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder


def read_settings(tokens: tuple[str, ...], known: list[str]) -> dict[str, Any]:
    """Read `--group.name value` and `--group.name=value`; a flag without a value means true.

    Raises:
        ConfigError: Something that is no setting; the nearest one is offered.
    """
    from saccade.errors import ConfigError, did_you_mean

    visible = (
        "data",
        "model",
        "recipe",
        "config",
        "task",
        "head",
        "weights",
        "resume",
        "out",
        "epochs",
        "batch",
        "size",
        "frames",
        "device",
    )
    values: dict[str, Any] = {}
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            hint = f"; to train on it, say --data {token}" if Path(token).exists() else ""
            raise ConfigError(f"unexpected {token!r}{hint or '; settings are given as --group.name value'}")
        name, equals, value = token.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if name not in known:
            near = did_you_mean(name, [*known, *visible, "dry_run", "json", "threads", "seed", "freeze"])
            raise ConfigError(f"unknown flag --{name}{near}")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        values[name] = value
    return values
