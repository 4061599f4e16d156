"""`saccade radar import`: recorded data becomes a scan."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def import_(
    *sources: Path,
    config: Path,
    out: Path,
    poses: Path | None = None,
    array: str = "awr1x42",
    calibration: Path | None = None,
    clock_offset: float = 0.0,
    lever_arm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    layout: str = "auto",
    frames: int | None = None,
    json: bool = False,
    mount: Annotated[tuple[float, float, float, float], Hidden] = (1.0, 0.0, 0.0, 0.0),
    max_gap: Annotated[float | None, Hidden] = None,
    packets: Annotated[str, Hidden] = "auto",
    swap: Annotated[bool | None, Parameter(show=False, negative="--no-swap")] = None,
    variable: Annotated[str, Hidden] = "",
    axes: Annotated[str, Hidden] = "",
) -> None:
    """Make a scan of a recorded capture, its profile and the radar's track.

    Less common: --packets none|udp|udp-length|pcap, --swap or --no-swap, --mount W X Y Z, --max-gap S; for a .mat or
    .h5 file --variable NAME and --axes, such as pose,channel,sample.

    Example: saccade radar import capture.bin --config profile.cfg --poses track.csv --out scan.h5

    Args:
        sources: A DCA1000 capture, or its parts in order; or one .mat or .h5 file with an array of samples.
        config: Profile: .cfg of TI's demos, JSON of mmWave Studio, or our plain JSON.
        out: Scan to write, .h5.
        poses: Track: a table of timestamp, x, y, z and, where it turns, qw, qx, qy, qz (seconds, metres).
        array: Antenna positions: a published name, or a JSON file with tx and rx.
        calibration: Gain and range offset of each channel, .json or .csv.
        clock_offset: Seconds to add to the track's timestamps, so that the first frame is at 0.
        lever_arm: Origin of the array in the tracked body's frame, metres.
        layout: Capture layout: xwr14, xwr16, iqiq or iqiq-interleaved; what the profile implies by default.
        frames: Take only the first so many.
        json: Print one JSON object.
        mount: Quaternion w x y z that turns vectors of the array's frame into the tracked body's.
        max_gap: Longest gap in the track to bridge, seconds; ten times the median step by default.
        packets: How a capture holds network packets; found out by default.
        swap: Whether Q is stored before I; by default what the profile says.
        variable: Name of the array of samples; the only one that fits, by default.
        axes: Names of its axes, of pose, x, y, loop, frame, channel, tx, rx and sample.
    """
    from saccade.errors import ConfigError
    from saccade.radar.files import write_scan
    from saccade.radar.importing import import_scan

    if not sources:
        raise ConfigError("nothing to import; name a capture (.bin) or a .mat or .h5 file")
    scan = import_scan(
        sources,
        config,
        poses,
        array=array,
        calibration=calibration,
        layout=layout,
        packets=packets,
        frames=frames,
        swap=swap,
        clock_offset=clock_offset,
        lever_arm=lever_arm,
        mount=mount,
        max_gap=max_gap,
        variable=variable,
        axes=axes,
    )
    write_scan(scan, out)
    num_poses, channels, samples = scan.samples.shape
    low, high = scan.virtual.reshape(-1, 3).min(0), scan.virtual.reshape(-1, 3).max(0)
    if json:
        about = {"out": str(out), "poses": num_poses, "channels": channels, "samples": samples, **scan.meta}
        show.result({**about, "extent_m": (high - low).tolist()}, as_json=True)
    else:
        show.result(
            {"wrote": out, "poses": num_poses, "channels": channels, "samples": samples}, as_json=False
        )
    for line in scan.meta["notes"]:
        show.note(line)
    size = " x ".join(f"{1e3 * value:.4g}" for value in high - low)
    show.note(f"wrote {out}: {num_poses} poses over {size} mm; next: saccade radar image {out}")
