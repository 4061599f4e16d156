"""`saccade radar enhance` and `saccade radar eval`: images made sharp, and how well."""

from pathlib import Path

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def enhance(
    image: Path,
    /,
    *,
    out: Path | None = None,
    weights: str | None = None,
    plot: Path | None = None,
    floor: float = -25.0,
    threads: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Sharpen an image with a trained network.

    Example: saccade radar enhance image.h5 --plot sharp.png

    Args:
        image: HDF5 file written by `saccade radar image`.
        out: HDF5 file to write; IMAGE-sharp.h5 when left out.
        weights: Weights file or run folder of an srvit network; what ships with the package when left out.
        plot: Draw the image before and after, .png.
        floor: Darkest value of the picture, dB.
        threads: CPU threads.
        device: cpu, cuda or mps.
        json: Print one JSON object.
    """
    import time

    from saccade.files import keep_input
    from saccade.radar import enhance as sharpen
    from saccade.radar.files import read_image, write_image
    from saccade.radar.pictures import check_name, plot_sharpened
    from saccade.radar.sharpening import pixel_notes

    check_name(plot, floor)
    out = out or image.with_name(f"{image.stem}-sharp.h5")
    keep_input(image, out)
    before = read_image(image)
    for line in pixel_notes(before):
        show.note(line)
    began = time.monotonic()
    with show.progress() as bar:
        task = bar.add_task("sharpening", total=1, info=f"{before.grid.shape[2]} depths")
        after = sharpen(before, weights, threads=threads, device=device)
        bar.update(task, completed=1)
    seconds = time.monotonic() - began
    write_image(after, out)
    if plot:
        plot_sharpened(before, after, plot, floor=floor)
    if json:
        show.result({"out": str(out), "model": after.meta["sharpened_by"], "seconds": seconds}, as_json=True)
    show.note(
        f"wrote {out}: {' x '.join(str(n) for n in after.values.shape)} voxels by {after.meta['sharpened_by']} "
        f"({seconds:.2f} s){f'; {plot}' if plot else ''}"
    )


def evaluate(
    data: Path,
    /,
    *,
    weights: str | None = None,
    out: Path | None = None,
    plot: Path | None = None,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Mark a network on pairs, beside EMPM, every other method stored with them, and a black image.

    Scaling "minmax" brings an image to [0, 1] by its own minimum and maximum, "best" multiplies it by the one factor
    that fits the truth best (which a user cannot know), "none" takes it as it is.

    Example: saccade radar eval test/ --plot panel.png

    Args:
        data: Folder made by `saccade radar dataset`.
        weights: Weights file or run folder; what ships with the package when left out.
        out: Also write every pair's metrics, .csv.
        plot: Draw the first pairs: as formed, sharpened, truth, .png.
        threads: CPU threads.
        json: Print one JSON object.
    """
    from saccade.cli.evaluate import measured
    from saccade.engine.predict.sharpen import shipped_weights
    from saccade.files import write_rows
    from saccade.radar.arithmetic import check_threads
    from saccade.radar.pictures import check_name

    check_name(plot)
    check_threads(threads)
    found = measured(weights or str(shipped_weights()), str(data), threads=threads)
    if out:
        write_rows(out, found.gallery.samples)
    if plot:
        found.gallery.plot(plot)
    show.rows(found.gallery.table(), as_json=json, title=found.data)
    written = ", ".join(str(path) for path in (out, plot) if path)
    seconds = found.setting["seconds"] / found.count
    show.note(f"{seconds:.3f} s a pair{f'; wrote {written}' if written else ''}")
