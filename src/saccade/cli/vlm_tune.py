"""`saccade vlm tune`: flags to a recipe of the task answer, then the one training engine."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def tune(
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    base: str | None = None,
    data: str | None = None,
    mix: str | None = None,
    lora: int | None = None,
    labels: str | None = None,
    pictures: Annotated[str | None, Hidden] = None,
    val: Annotated[str | None, Hidden] = None,
    vision: Annotated[bool, Hidden] = False,
    freeze_projector: Annotated[bool, Hidden] = False,
    recipe: str | None = None,
    config: Annotated[Path | None, Hidden] = None,
    resume: Path | None = None,
    out: Path | None = None,
    epochs: int | None = None,
    batch: Annotated[int | None, Hidden] = None,
    size: int | None = None,
    device: Annotated[str | None, Hidden] = None,
    threads: Annotated[int | None, Hidden] = None,
    seed: Annotated[int | None, Hidden] = None,
    trust_remote_code: Annotated[bool, Hidden] = False,
    allow_address: Annotated[bool, Hidden] = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Tune a video language model of transformers on questions about motion.

    Bases: LLaVA-OneVision, Qwen2.5-VL, Qwen3-VL, SmolVLM, and those of `saccade vlm new`. Only what was tuned is kept
    in the run folder, so the base has to stay where it is. Every setting of a recipe is also a flag by its dotted
    name, such as --optim.lr 1e-4. Less common: --val FILE, --pictures FOLDER, --vision, --freeze-projector, --config
    FILE, --batch, --device, --threads, --seed, --trust-remote-code.

    Example: saccade vlm tune --base llava-hf/llava-onevision-qwen2-7b-ov-hf --data stkit/questions.jsonl --lora 64

    Args:
        settings: Dotted flags.
        base: Folder of a model saved by transformers, or a hub id.
        data: Questions from `saccade kinematics questions`.
        mix: General LLaVA conversations, FILE:RATIO,FILE:RATIO, the ratio in conversations per question.
        lora: Rank of LoRA in the language part; 0 tunes it fully. 64 when nothing says otherwise.
        labels: Tracks of the questions, so that boxes are drawn at the model's own resolution.
        pictures: Folder that the tracks' pictures are relative to.
        val: Questions to validate with; those of the split val, or a share of the scenes, when left out.
        vision: Also tune the vision part.
        freeze_projector: Leave what lies between vision and language as it is.
        recipe: Shipped recipe, vlm_lora when left out; stvlm_llava_onevision_7b is the published one.
        config: Recipe file (YAML), over the shipped recipe.
        resume: Run folder to go on with, or one of its folders checkpoints/STEP, to go back to that.
        out: Run folder to make; runs/DATA-BASE when left out.
        epochs: Passes over the questions.
        batch: Questions per process and step.
        size: Longest side of the frames in pixels, before the model's own processor has its say.
        device: cpu, cuda or mps; the best there is when left out.
        threads: CPU threads.
        seed: Seed of everything random.
        trust_remote_code: Run code that comes with the base; when a run goes on, say it again.
        allow_address: Fetch a base that a recipe file or run names by its hub id.
        dry_run: Print the resolved recipe and stop.
        json: Print the result as one JSON object.
    """
    from saccade.cli.train import read_settings
    from saccade.engine.train.recipe import Recipe, build_recipe, check_unchanged, dump_recipe, load_recipe
    from saccade.errors import ConfigError
    from saccade.settings import leaves, to_plain
    from saccade.tasks.answer.vlm.answering import pick_device

    flags = read_settings(settings, [name for name, _ in leaves(Recipe())])
    short = {
        "model.name": base, "data.source": data, "data.mix": mix, "data.labels": labels, "data.pictures": pictures,
        "data.val": val, "schedule.epochs": epochs, "data.batch": batch, "data.size": size, "run.device": device,
        "run.threads": threads, "run.seed": seed,
    }  # fmt: skip
    flags |= {name: value for name, value in short.items() if value is not None}
    options: dict[str, Any] = {
        **({} if lora is None else {"lora": lora, "lora_alpha": 0.0}),
        **({"vision": True} if vision else {}),
        **({"projector": False} if freeze_projector else {}),
    }
    if resume is not None:
        if recipe or config or out or options:
            raise ConfigError(
                "--resume goes on with a run as it was begun; leave out --recipe, --config, --out and what is tuned"
            )
        from saccade.engine.train.checkpoint import split_checkpoint

        folder, going_on = split_checkpoint(resume)
        if not (folder / "recipe.yaml").is_file():
            raise ConfigError(f"{folder}: no recipe.yaml here; expected a run begun by `saccade vlm tune`")
        plan = check_unchanged(load_recipe(folder / "recipe.yaml"), flags, folder)
    else:
        going_on = ""
        plan, _ = build_recipe(recipe or ("" if config else "vlm_lora"), config or "", flags)
        if plan.task != "answer":
            raise ConfigError(f"the recipe is for the task {plan.task}; expected answer, such as vlm_lora")
        plan.model.options = {**plan.model.options, **options}
        if not recipe and pick_device(plan.run.device) == "cpu" and "run.precision" not in flags:
            # bfloat16 saves memory but no time on most processors.
            plan.run.precision, plan.model.options["dtype"] = "float32", "float32"
        if plan.model.options.get("lora") == 0 and not recipe:
            plan.model.options["dtype"] = "float32"
            plan.optim.lr = plan.optim.lr if "optim.lr" in flags else 1e-5
        folder = out or _free_folder(plan.data.source, plan.model.name)
    if dry_run:
        if json:
            show.result({"out": str(folder), **to_plain(plan)}, as_json=True)
        else:
            show.text(dump_recipe(plan).rstrip())
            show.note(f"nothing was tuned; the run would go to {folder}")
        return
    if not plan.data.source:
        raise ConfigError("nothing to learn from; name questions with --data stkit/questions.jsonl")
    from saccade.engine.train.loop import train as run
    from saccade.engine.train.setup import is_first_process
    from saccade.trust import trusting

    with trusting(code=trust_remote_code, address=allow_address):
        result = run(plan, folder, resume=going_on or resume is not None)
    if not is_first_process():
        return
    show.result(
        {
            "run": str(result.folder), "weights": str(result.weights), **result.metrics,
            "best_epoch": result.epoch + 1,
            "epochs": result.epochs, "steps": result.steps, "seconds": round(result.seconds, 1),
            "skipped": result.skipped, "ended": result.reason,
        },
        as_json=json,
    )  # fmt: skip


def _free_folder(source: str, base: str) -> Path:
    """Return runs/DATA-BASE, with a number behind it when that is taken."""
    from saccade.cli.train import free_folder

    return free_folder(source, Path(base).name)
