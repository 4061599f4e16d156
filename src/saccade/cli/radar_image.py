"""`saccade radar image`: an image of a scan."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)
Signed = Parameter(allow_leading_hyphen=True)
"""A value that may begin with a minus sign."""


def image(
    scan: Path,
    /,
    *,
    out: Path,
    method: str = "backprojection",
    depth: Annotated[str | None, Signed] = None,
    x: Annotated[str | None, Signed] = None,
    y: Annotated[str | None, Signed] = None,
    window: str = "none",
    magnitude: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    plot: Path | None = None,
    floor: Annotated[float, Hidden] = -25.0,
    json: bool = False,
) -> None:
    """Form an image of a scan: one depth, or a volume.

    Axes are given as START:STOP:STEP in metres, STOP included; one number is one plane. Less common: --floor (darkest
    value of the picture, dB).

    Example: saccade radar image scan.h5 --method backprojection --out image.h5 --plot image.png

    Args:
        scan: HDF5 file of a scan.
        out: HDF5 file to write.
        method: backprojection (exact, any geometry), range-compressed, empm, rma, polar or nufft.
        depth: z in metres, or a range for a volume; a simulated scan's own depth when left out.
        x: Range in metres; -0.1:0.099:0.001 when left out.
        y: The same.
        window: none, hann, hamming, taylor or blackman-harris, over the aperture: lower side lobes, wider peaks.
        magnitude: Write magnitudes instead of complex values.
        threads: CPU threads.
        device: cpu, or cuda or mps for back-projection by torch.
        plot: Also draw it in decibels, .png.
        floor: Darkest value of the picture, dB.
        json: Print one JSON object.
    """
    import time

    from saccade.files import keep_input
    from saccade.radar.files import read_scan, write_image
    from saccade.radar.grid import grid_of
    from saccade.radar.imaging import reconstruct
    from saccade.radar.pictures import check_name, plot_image

    check_name(plot, floor)
    keep_input(scan, out)
    recorded = read_scan(scan)
    grid = grid_of(recorded, depth, x, y)
    began = time.monotonic()
    with show.progress() as bar:
        task = bar.add_task(f"imaging, {method}", total=grid.size, info="voxels")
        rate = show.rate_of(bar, task, "voxels")
        values = reconstruct(
            recorded,
            grid,
            method,
            window=window,
            magnitude=magnitude,
            threads=threads,
            device=device,
            progress=lambda done: rate(done, grid.size),
        )
        bar.update(task, completed=grid.size)
    seconds = time.monotonic() - began
    values.meta |= {"scan": scan.name, "geometry": recorded.geometry}
    write_image(values, out)
    if plot:
        plot_image(values, plot, floor=floor)
    size = " x ".join(str(n) for n in values.values.shape)
    if json:
        show.result(
            {"out": str(out), "method": method, "shape": list(values.values.shape), "seconds": seconds},
            as_json=True,
        )
    show.note(f"wrote {out}: {size} voxels by {method} ({seconds:.1f} s){f'; {plot}' if plot else ''}")
