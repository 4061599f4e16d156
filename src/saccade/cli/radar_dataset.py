"""`saccade radar dataset`: pairs to learn from."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


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
    import time

    from saccade.data.radar_pairs import make_pairs
    from saccade.files import usable_cores
    from saccade.radar.dataset import PairConfig
    from saccade.radar.imaging import check_method

    low_high = {
        "position_error": position_error, "snr": snr, "depth": depth, "swing": swing, "points": points,
    }  # fmt: skip
    ranges: dict[str, Any] = {name: _range(name, text) for name, text in low_high.items()}
    ranges["snr_db"] = ranges.pop("snr")
    chosen = tuple(check_method(name.strip()) for name in methods.split(",") if name.strip())
    config = PairConfig(waveform, array, nx=nx, ny=ny, size=size, methods=chosen, **ranges)
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
            out, config, samples, seed=seed, shard_size=shard, workers=workers or usable_cores(), done=done
        )
    if json:
        show.result({"out": str(out), "pairs": ready, "made": made}, as_json=True)
    show.note(f"wrote {out}: {ready} pairs, {made} of them now ({time.monotonic() - began:.1f} s)")


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
