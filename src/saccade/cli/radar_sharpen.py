"""`saccade radar enhance`, `dataset`, `train`, `eval`: images made sharp, and the networks that do it."""

from pathlib import Path
from typing import Annotated, Any

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

    from saccade.cli.radar_scan import keep_input
    from saccade.engine.predict.sharpen import enhance as sharpen
    from saccade.engine.predict.sharpen import pixel_notes
    from saccade.radar.files import read_image, write_image
    from saccade.radar.pictures import check_name, plot_image, plot_panel

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
        if before.values.ndim == 2:
            plot_panel([before, after], [before.method, "sharpened"], plot, floor=floor)
        else:
            plot_image(after, plot, floor=floor)
    if json:
        show.result({"out": str(out), "model": after.meta["sharpened_by"], "seconds": seconds}, as_json=True)
    show.note(
        f"wrote {out}: {' x '.join(str(n) for n in after.values.shape)} voxels by {after.meta['sharpened_by']} "
        f"({seconds:.2f} s){f'; {plot}' if plot else ''}"
    )


def dataset(
    *,
    out: Path,
    samples: int = 4096,
    seed: int = 0,
    workers: int | None = None,
    methods: str = "",
    nx: int = 200,
    ny: int = 25,
    size: int = 200,
    position_error: str = "0:0.0005",
    snr: str = "10:40",
    depth: str = "0.27:0.33",
    json: bool = False,
    swing: Annotated[str, Hidden] = "0:0.03",
    points: Annotated[str, Hidden] = "1:25",
    waveform: Annotated[str, Hidden] = "fmcw_v2",
    array: Annotated[str, Hidden] = "awr1x42",
    shard: Annotated[int, Hidden] = 32,
) -> None:
    """Make training pairs: freehand scans of random scenes imaged by EMPM, and the images they should have been.

    A folder that holds a part of the same data set is completed. Ranges are LOW:HIGH, drawn anew for each pair. Less
    common: --swing, --points, --waveform, --array, --shard (pairs of one file).

    Example: saccade radar dataset --samples 4096 --out train/

    Args:
        out: Folder.
        samples: Pairs wanted.
        seed: Of the data set; take another one for a test set.
        workers: Processes; one a core when left out.
        methods: Further images to store, comma-separated, such as backprojection,rma (for test sets: slow).
        nx: Poses along x.
        ny: Poses along y.
        size: Pixels of each side, 1 mm each.
        position_error: Standard deviation of the believed position, metres.
        snr: dB.
        depth: Metres.
        json: Print one JSON object.
        swing: Of the hand, nearest to farthest, metres.
        points: Point targets.
        waveform: Named waveform.
        array: Named array.
        shard: Pairs of one file.
    """
    import os
    import time

    from saccade.data.radar_pairs import make_pairs
    from saccade.errors import ConfigError
    from saccade.radar.dataset import PairConfig
    from saccade.radar.imaging import check_method

    low_high = {
        "position_error": position_error, "snr": snr, "depth": depth, "swing": swing, "points": points,
    }  # fmt: skip
    ranges: dict[str, Any] = {name: _range(name, text) for name, text in low_high.items()}
    ranges["snr_db"] = ranges.pop("snr")
    if any(value != int(value) for value in ranges["points"]):
        raise ConfigError(f"--points is {points!r}; expected whole numbers, such as 1:25")
    ranges["points"] = tuple(int(value) for value in ranges["points"])
    chosen = tuple(check_method(name.strip()) for name in methods.split(",") if name.strip())
    config = PairConfig(waveform, array, nx=nx, ny=ny, size=size, methods=chosen, **ranges)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    began, ready = time.monotonic(), 0
    with show.progress() as bar:
        task = bar.add_task("making pairs", total=samples, info="")

        def done(count: int) -> None:
            nonlocal ready
            ready += count
            rate = ready / max(time.monotonic() - began, 1e-6)
            bar.update(task, completed=ready, info=f"{rate:.2f} pairs/s")
            if bar.disable and ready % (10 * shard) < count:
                show.note(
                    f"{ready}/{samples} pairs, {rate:.2f} pairs/s, {(samples - ready) / rate:.0f} s left"
                )

        made = make_pairs(
            out, config, samples, seed=seed, shard_size=shard, workers=workers or cores, done=done
        )
    if json:
        show.result({"out": str(out), "pairs": ready, "made": made}, as_json=True)
    show.note(f"wrote {out}: {ready} pairs, {made} of them now ({time.monotonic() - began:.1f} s)")


def train(
    data: str | None = None,
    /,
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    model: str = "srvit_swift",
    val: str | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    weights: str | None = None,
    device: str | None = None,
    dry_run: bool = False,
    json: bool = False,
    recipe: Annotated[str, Hidden] = "radar_sharpen",
    threads: Annotated[int | None, Hidden] = None,
    seed: Annotated[int | None, Hidden] = None,
) -> None:
    """Train a network on pairs. Every setting of a recipe is also a flag by its dotted name, as in `saccade train`.

    Less common: --recipe, --threads, --seed.

    Example: saccade radar train train/ --out runs/radar

    Args:
        data: Folder made by `saccade radar dataset`.
        settings: Dotted flags.
        model: srvit_swift (ours), or a published one: srvit_a, b, c, d, s.
        val: Another such folder to choose the best weights on; a twentieth of the data when left out.
        out: Run folder to make; runs/DATA-MODEL when left out.
        resume: Run folder to go on with.
        epochs: Passes over the data.
        batch: Pairs of a step.
        weights: Weights file or run folder to start from.
        device: cpu, cuda or mps; the best there is when left out.
        dry_run: Print the resolved recipe and stop.
        json: Print the result as one JSON object.
        recipe: Shipped recipe.
        threads: CPU threads.
        seed: Seed of everything random.
    """
    from saccade.cli import train as common

    extra = [f"--data.val={val}"] if val else []
    if resume is None:
        extra += ["--task=restore"]
    common.train(
        *settings, *extra, data=data, model=None if resume else model, recipe=None if resume else recipe,
        weights=weights, resume=resume, out=out, epochs=epochs, batch=batch, device=device, threads=threads,
        seed=seed, dry_run=dry_run, json=json,
    )  # fmt: skip


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


def _range(name: str, text: str) -> tuple[float, float]:
    """Read LOW:HIGH, or one number for both.

    Raises:
        ConfigError: Not such a range.
    """
    from saccade.errors import ConfigError

    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(value == value and abs(value) < 1e9 for value in values):
        raise ConfigError(f"--{name.replace('_', '-')} is {text!r}; expected LOW:HIGH or one number")
    return values[0], values[-1]
