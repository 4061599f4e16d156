"""`saccade radar focus`: estimate and remove the error of believed positions."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def focus(
    scan: Path,
    /,
    *,
    out: Path,
    depth: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    x: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    y: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    sigma: float = 5e-4,
    prior: float = 0.1,
    smoothness: float = 0.0,
    iterations: int = 45,
    plot: Path | None = None,
    threads: int | None = None,
    json: bool = False,
    voxels: Annotated[int, Hidden] = 512,
) -> None:
    """Estimate the error of every believed position by making the image sharp, and remove it.

    For scenes of separate scatterers and errors up to about half a millimetre at 79 GHz; large smooth solids do not
    tell enough about positions. Half of the channels are left out of the estimate, and unless their image is better
    the scan is written as it was and the command says "not focused". The ranges say where the target is, as in
    `saccade radar image`. Less common: --voxels (brightest ones to look at).

    Example: saccade radar focus scan.h5 --out focused.h5

    Args:
        scan: HDF5 file of a scan.
        out: HDF5 file to write: the same echoes with corrected positions, or as they were.
        depth: z in metres, or a range; a simulated scan's own when left out.
        x: Range in metres; -0.1:0.1:0.002 when left out.
        y: The same.
        sigma: Expected standard deviation of the error, metres.
        prior: Weight of that expectation; 0 trusts the echoes alone.
        smoothness: Weight of the difference between neighbouring poses, for errors that drift.
        iterations: At most.
        plot: Draw the image before and after, .png.
        threads: CPU threads.
        json: Print one JSON object.
        voxels: Brightest voxels that the objective looks at.
    """
    import time

    import numpy as np

    from saccade.files import keep_input
    from saccade.radar.files import read_scan, write_scan
    from saccade.radar.focusing import focus as sharpen
    from saccade.radar.grid import grid_of
    from saccade.radar.imaging import reconstruct
    from saccade.radar.pictures import check_name, plot_panel

    check_name(plot)
    keep_input(scan, out)
    recorded = read_scan(scan)
    grid = grid_of(recorded, depth, x, y, side="-0.1:0.1:0.002")
    began = time.monotonic()
    with show.progress() as bar:
        task = bar.add_task("focusing", total=iterations, info="")
        found, report = sharpen(
            recorded,
            grid,
            iterations=iterations,
            sigma=sigma,
            prior=prior,
            smoothness=smoothness,
            voxels=voxels,
            threads=threads,
            progress=lambda done: bar.update(
                task, completed=done, info=f"{(time.monotonic() - began) / done:.2f} s each"
            ),
        )
    if report.focused:
        found.meta = {**found.meta, "focused": True}
    write_scan(found, out)
    if plot:
        if grid.shape[2] > 1:
            from saccade.radar.grid import Grid

            grid = Grid.plane(grid.x, grid.y, float(grid.z[grid.shape[2] // 2]))
        images = [reconstruct(part, grid, "range-compressed", threads=threads) for part in (recorded, found)]
        plot_panel(images, ["believed positions", "focused" if report.focused else "not focused"], plot)
    size = float(1e3 * np.sqrt(np.mean(report.offsets**2)))
    if json:
        facts = {
            "out": str(out), "focused": report.focused, "gain": report.gain, "energy": report.energy,
            "contrast": report.contrast, "rms_offset_mm": size, "seconds": report.seconds,
        }  # fmt: skip
        show.result(facts, as_json=True)
    measured = (
        f"in the half of the channels that was left out, the brightest voxel is {report.gain:.2f} times what it was, "
        f"energy {report.energy:.2f}, contrast {report.contrast:.2f}"
    )
    if report.focused:
        what = f"offsets {size:.2f} mm rms; {measured}"
    else:
        what = f"not focused, the positions are as they were: {measured}, which is no proof of a better image"
    show.note(f"wrote {out}: {what} ({report.seconds:.1f} s){f'; {plot}' if plot else ''}")
