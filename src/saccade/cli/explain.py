"""`saccade explain`: draw where a model looked in one picture."""

from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from saccade.cli import show
from saccade.cli.flags import NOBODY, Named

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def explain(
    picture: Path,
    /,
    *,
    named: Named = NOBODY,
    out: Path | None = None,
    method: Literal["cam", "attention", "both"] = "cam",
    target: Annotated[str, cyclopts.Parameter(name="--class")] = "",
    blocks: Flag = False,
    size: int = 0,
    json: Flag = False,
) -> None:
    """Draw where a model looked in one picture.

    Example: saccade explain photo.jpg --weights runs/x --out looked.png

    Args:
        picture: The photo.
        named: The weights.
        out: The drawing, .png; left out, photo.explain.png beside the working folder's files.
        method: cam: what spoke for a class (any model); attention: where SHViT or EfficientViM looked.
        target: Name or number of the class that cam explains; left out, the model's first answer.
        blocks: One attention map a block instead of one a stage.
        size: Side of the square input in pixels; 0: that of the weights. Larger gives finer maps.
        json: Print one JSON object.
    """
    from saccade.engine.explain.run import explain as run

    out = out or Path(f"{picture.stem}.explain.png")
    found = run(picture, named.source(), out, method=method, target=target, per_block=blocks, size=size)
    for note in found.notes:
        show.note(note)
    values = {"out": str(out), "class": found.target}
    if json:
        show.result(values | {"answers": found.answers, "maps": found.maps}, as_json=True)
        return
    show.result(values | {"maps": ", ".join(found.maps)}, as_json=False)
    show.rows([{"label": label, "confidence": share} for label, share in found.answers], as_json=False)
