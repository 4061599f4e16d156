"""`saccade export`: from weights to a bundle that was run against PyTorch."""

from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from saccade.cli import show
from saccade.cli.flags import NOBODY, Named

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def export(
    *,
    named: Named = NOBODY,
    check: Path | None = None,
    to: Literal["onnx", "openvino", "torch", "executorch", "litert", "coreml"] = "onnx",
    precision: Literal["float32", "bf16", "int8"] = "float32",
    data: str = "",
    size: int | None = None,
    dynamic: Flag = False,
    out: Path | None = None,
    json: Flag = False,
) -> None:
    """Write a verified bundle: model file, preprocessing and labels in one folder.

    Example: saccade export --weights runs/photos --to onnx

    The file is run against PyTorch on several kinds of pictures and batch sizes; when it differs by more than
    its precision allows, nothing is left behind and the exit code is 1. executorch, litert and coreml work in an
    environment of their own, which is made on first use (0.5 to 2 GB in the user's cache folder).

    With --check BUNDLE nothing is exported: the bundle's hashes, what its model file says it is for, and the answers
    that were kept with it are checked again, on this machine; with --weights too, the file is run against PyTorch.

    Args:
        named: The weights.
        check: A bundle to check again.
        to: Format of the model file.
        precision: onnx and openvino also come in int8, openvino and torch in bf16.
        data: Data as for `saccade train --data`; int8 needs it, the others measure their metrics on it.
        size: Side of the square pictures, for detectors and segmenters the shorter side, in pixels; that of the
            weights when left out.
        dynamic: Leave height and width free (65 to 4096 pixels), where the format can.
        out: Folder to put the bundle's folder in; `export/` in the run folder, or here, when left out.
        json: Print one JSON object.
    """
    from dataclasses import asdict

    from saccade.engine.export.check import verify
    from saccade.engine.export.ship import export as run
    from saccade.errors import CheckFailed

    if check is not None:
        found = verify(check, "" if named == NOBODY else named.source())
        show.rows([asdict(one) for one in found], as_json=json)
        failed = [one.what for one in found if one.state == "failed"]
        if failed:
            raise CheckFailed(f"{check}: {', '.join(failed)} failed; do not use this bundle, export it again")
        return
    shipped = run(
        named.source(), to, precision=precision, data=data, size=size, dynamic=dynamic, out=out, log=show.note
    )
    if json:
        show.result(shipped.row(), as_json=True)
        return
    show.rows([shipped.row()], as_json=False)
