"""`saccade vlm tune`: flags to a recipe of the task answer, then the one training engine."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli.flags import recipe_flags, show_recipe, show_result

Hidden = Parameter(show=False)


def tune(
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    base: str | None = None,
    data: str | None = None,
    mix: str | None = None,
    lora: int | None = None,
    labels: str | None = None,
    vision: Annotated[bool, Hidden] = False,
    freeze_projector: Annotated[bool, Hidden] = False,
    recipe: str | None = None,
    config: Annotated[Path | None, Hidden] = None,
    resume: Path | None = None,
    out: Path | None = None,
    epochs: int | None = None,
    size: int | None = None,
    trust_remote_code: Annotated[bool, Hidden] = False,
    allow_address: Annotated[bool, Hidden] = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Tune a video language model of transformers on questions about motion.

    Bases: LLaVA-OneVision, Qwen2.5-VL, Qwen3-VL, SmolVLM, and those of `saccade vlm new`. Only what was tuned is kept
    in the run folder, so the base has to stay where it is. Every setting of a recipe is also a flag by its dotted
    name, such as --optim.lr 1e-4. Less common: --val FILE, --pictures FOLDER, --vision, --freeze-projector, --config
    FILE, --batch, --device (cpu, cuda or mps), --threads, --seed, --trust-remote-code.

    Example: saccade vlm tune --base llava-hf/llava-onevision-qwen2-7b-ov-hf --data stkit/questions.jsonl --lora 64

    Args:
        settings: Dotted flags.
        base: Folder of a model saved by transformers, or a hub id.
        data: Questions from `saccade kinematics questions`.
        mix: General LLaVA conversations, FILE:RATIO,FILE:RATIO, the ratio in conversations per question.
        lora: Rank of LoRA in the language part; 0 tunes it fully. 64 when nothing says otherwise.
        labels: Tracks of the questions, so that boxes are drawn at the model's own resolution.
        vision: Also tune the vision part.
        freeze_projector: Leave what lies between vision and language as it is.
        recipe: Shipped recipe, vlm_lora when left out; stvlm_llava_onevision_7b is the published one.
        config: Recipe file (YAML), over the shipped recipe.
        resume: Run folder to go on with, or one of its folders checkpoints/STEP, to go back to that.
        out: Run folder to make; runs/DATA-BASE when left out.
        epochs: Passes over the questions.
        size: Longest side of the frames in pixels, before the model's own processor has its say.
        trust_remote_code: Run code that comes with the base; when a run goes on, say it again.
        allow_address: Fetch a base that a recipe file or run names by its hub id.
        dry_run: Print the resolved recipe and stop.
        json: Print the result as one JSON object.
    """
    from saccade.engine.train.begin import carry_out, plan_run
    from saccade.trust import trusting
    from saccade.vlm import TASK

    flags = recipe_flags(
        settings, tune, model=base, data=data, mix=mix, labels=labels, epochs=epochs, size=size
    )
    options: dict[str, Any] = {
        **({} if lora is None else {"lora": lora, "lora_alpha": 0.0}),
        **({"vision": True} if vision else {}),
        **({"projector": False} if freeze_projector else {}),
    }
    plan = plan_run(
        flags,
        recipe=recipe or "",
        config=config or "",
        resume=resume,
        out=out,
        options=options,
        task=TASK,
    )
    if dry_run:
        show_recipe(plan.recipe, plan.folder, "tuned", as_json=json)
        return
    with trusting(code=trust_remote_code):
        show_result(carry_out(plan, allow_address=allow_address), as_json=json)
