"""`saccade tokens`: draw which pixels each semantic token of an STViT stands for."""

from pathlib import Path
from typing import Annotated

import cyclopts

from saccade.cli import show

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def tokens(
    picture: Path,
    /,
    *,
    model: Annotated[str, cyclopts.Parameter(name=("--model", "--weights"))],
    plot: Annotated[Path | None, cyclopts.Parameter(name=("--plot", "--out"))] = None,
    size: int = 0,
    json: Flag = False,
) -> None:
    """Draw which pixels each semantic token of an STViT stands for.

    Prints one row a token: the share of the patches at which it is the strongest, the centre and width of its map in
    pixels of the photo, and how many times the even share its strongest patch gets.

    Example: saccade tokens photo.jpg --model runs/x --plot tokens.png

    Args:
        picture: The photo.
        model: Run folder, weights file or model name of an STViT (stvit_*, or what `saccade sparsify` made).
        plot: The drawing, .png; left out, PICTURE.tokens.png in the working folder.
        size: Side of the square input in pixels; 0: that of the weights. Larger gives finer maps.
        json: Print one JSON object.
    """
    from saccade.engine.explain.tokens import draw_tokens

    plot = plot or Path(f"{picture.stem}.tokens.png")
    found = draw_tokens(picture, model, plot, size=size)
    for note in found.notes:
        show.note(note)
    if json:
        show.result({"out": str(plot), "grid": list(found.grid), "tokens": found.rows}, as_json=True)
        return
    show.rows(found.rows, as_json=False, title=f"{len(found.rows)} semantic tokens")
    show.note(f"wrote {plot}")
