"""`saccade radar simulate`: a scan of a made-up scene."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli import show
from saccade.cli.flags import names_of

Hidden = Parameter(show=False)


def simulate(
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    out: Path,
    geometry: str = "freehand",
    target: str = "star+points",
    depth: float = 0.3,
    waveform: str = "fmcw_v2",
    array: str = "awr1x42",
    snr: float | None = None,
    position_error: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    plot: Path | None = None,
    json: bool = False,
    pitch: Annotated[float, Hidden] = 1e-3,
    path_loss: Annotated[bool, Hidden] = False,
    phase_centre: Annotated[bool, Hidden] = False,
) -> None:
    """Scan a made-up scene and write the echoes.

    Targets of a cylindrical or circular scan stand at the origin, those of other scans at --depth. Settings of a
    geometry are flags too, such as --path.nx 100, --path.swing 0.02 (metres) or --path.per-channel true (an array
    that is not rigid, as published); an unknown one says which there are. Less common: --pitch, --path-loss,
    --phase-centre.

    Example: saccade radar simulate --geometry freehand --target star+points --out scan.h5

    Args:
        settings: Settings of the geometry.
        out: HDF5 file to write.
        geometry: linear, rectilinear, freehand, cylindrical, circular, uav or automotive.
        target: Parts joined by +: a shape (star, cutout, key ...), points or points:N, x,y,z[,reflectivity], a
            picture (black is metal), a mesh, or a CSV of points.
        depth: Of flat targets, metres in front of the scan.
        waveform: fmcw_v1, fmcw_v2, 77ghz or empm.
        array: awr1x42, empm, toolbox, 300ghz, monostatic, or a JSON file {"tx": [[x, y, z], ...], "rx": [...]}.
        snr: Of the samples, dB; no noise when left out.
        position_error: Standard deviation of what is believed of each pose and axis, metres.
        seed: Of everything random.
        threads: CPU threads.
        plot: Also draw the scan's way, .png.
        json: Print one JSON object.
        pitch: Metres between the points of a flat target.
        path_loss: Let echoes fall with distance.
        phase_centre: Replace each pair of antennas by one at its mid-point.
    """
    import time

    from saccade.radar.files import write_scan
    from saccade.radar.path import path_settings
    from saccade.radar.pictures import check_name, plot_scan
    from saccade.radar.simulating import SceneScan, simulate_scene
    from saccade.settings import read_groups

    check_name(plot)
    plan = SceneScan(
        geometry, target, depth, waveform, array, snr, position_error, seed, pitch, path_loss, phase_centre
    )
    path = read_groups(settings, {"path": path_settings(geometry)}, names_of(simulate))["path"]
    began = time.monotonic()
    with show.progress() as bar:
        task = bar.add_task("simulating", total=None, info="elements")
        scan, points = simulate_scene(
            plan, path, threads=threads, progress=show.rate_of(bar, task, "elements")
        )
    write_scan(scan, out)
    if plot:
        plot_scan(scan, plot)
    poses, channels, samples = scan.samples.shape
    if json:
        values = {"out": str(out), "poses": poses, "channels": channels, "samples": samples, "points": points}
        show.result(values, as_json=True)
    show.note(
        f"wrote {out}: {poses} poses x {channels} channels x {samples} samples of {points} points "
        f"({time.monotonic() - began:.1f} s){f'; {plot}' if plot else ''}"
    )
