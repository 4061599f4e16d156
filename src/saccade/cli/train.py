"""`saccade train`: flags to a recipe, a recipe to a run folder."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli import show
from saccade.cli.flags import recipe_flags, show_recipe, show_result

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
    labels: Annotated[str, Hidden] = "",
    raw_weights: Annotated[bool, Hidden] = False,
    resume: Path | None = None,
    out: Path | None = None,
    epochs: int | None = None,
    size: int | None = None,
    allow_pipe: Annotated[bool, Hidden] = False,
    allow_address: Annotated[bool, Hidden] = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Train or fine-tune a classifier, a detector or a segmenter on images, or a classifier of videos.

    Every setting of a recipe is also a flag by its dotted name, such as --optim.lr 1e-3 or
    --augment.hflip 0; --dry-run lists them all. Less common: --config FILE (a recipe file), --batch,
    --device, --threads, --seed, --freeze backbone, --frames (of a clip), --allow-pipe, --allow-address; --labels FILE
    (with --weights its classes, so that a classifier of the same ones goes on; without, the tracks of a language
    model), --raw-weights.

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
        weights: Weights file or run folder to start from, of --model where it does not say; a classifier's give a
            detector its backbone.
        labels: Names of the outputs of --weights.
        raw_weights: Take the raw weights of a file that also has averaged ones.
        resume: Run folder to go on with, or one of its folders checkpoints/STEP, to go back to that.
        out: Run folder to make; runs/DATA-MODEL when left out.
        epochs: Passes over the data; chosen from the number of images when left out.
        size: Side of the square input in pixels (detect, segment: the shorter side); the model's own when left out.
        allow_pipe: Run a command that is given here as --data or --data.val (pipe:...); one in a file never runs.
        allow_address: Fetch addresses and hub ids that stand in a recipe file or run folder.
        dry_run: Print the recipe with every automatic setting filled in, and stop.
        json: Print the result as one JSON object.
    """
    from saccade.engine.train.begin import carry_out, plan_run, resolve
    from saccade.weights import Source

    if weights is not None:
        weights, labels = Source(weights, labels=labels, raw=raw_weights), ""
    flags = recipe_flags(
        settings,
        train,
        data=data,
        model=model,
        task=task,
        head=head,
        weights=weights,
        labels=labels or None,
        epochs=epochs,
        size=size,
    )
    plan = plan_run(flags, recipe=recipe or "", config=config or "", resume=resume, out=out)
    if dry_run:
        resolve(plan, show.note, allow_pipe=allow_pipe, allow_address=allow_address)
        show_recipe(plan.recipe, plan.folder, "trained", as_json=json)
        return
    show_result(carry_out(plan, allow_pipe=allow_pipe, allow_address=allow_address), as_json=json)
