"""`saccade radar simulate` and `saccade radar image`: a scan, and an image of it."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)
Signed = Parameter(allow_leading_hyphen=True)
"""A value that may begin with a minus sign."""


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

    from saccade.errors import ConfigError
    from saccade.radar.echo import simulate as scan_of
    from saccade.radar.files import write_scan
    from saccade.radar.importing import load_array
    from saccade.radar.path import make_path
    from saccade.radar.pictures import check_name, plot_scan
    from saccade.radar.scene import parse_target
    from saccade.radar.waveform import Waveform

    check_name(plot)
    if not position_error >= 0:
        raise ConfigError(f"--position-error is {position_error}; expected metres, not negative")
    wave = Waveform.named(waveform)
    radar = load_array(array, wave.wavelength)
    chosen = _path_settings(settings, geometry)
    path = make_path(geometry, radar, wave.wavelength, seed=seed, **chosen)
    around = geometry in ("cylindrical", "circular")
    scene = parse_target(target, depth=0.0 if around else depth, pitch=pitch, seed=seed)
    if not around and scene.points[:, 2].min() <= (reach := float(path.positions[:, 2].max())):
        raise ConfigError(
            f"the target begins at z = {scene.points[:, 2].min():g} m and the radar's way reaches {reach:g} m; it "
            "has to lie in front of it, so give a larger --depth or z"
        )
    began = time.monotonic()
    with show.progress() as bar:
        elements = len(path.positions) * radar.num_channels
        task = bar.add_task("simulating", total=elements, info="elements")
        scan = scan_of(
            scene.points,
            scene.reflectivity,
            wave,
            radar,
            path.positions,
            path.rotations,
            path_loss=path_loss,
            phase_centre=phase_centre,
            snr_db=snr,
            position_error=position_error,
            channel_shift=path.channel_shift,
            fast=True,
            threads=threads,
            geometry=geometry,
            progress=lambda done: bar.update(
                task, completed=done, info=f"{done / max(time.monotonic() - began, 1e-6):.3g} elements/s"
            ),
            seed=seed,
        )
    scan.meta = {
        "target": target, "depth": float(scene.points[:, 2].mean()), "array": array, "waveform": waveform,
        "snr_db": snr, "position_error": position_error, "seed": seed,
    }  # fmt: skip
    write_scan(scan, out)
    if plot:
        plot_scan(scan, plot)
    shape = scan.samples.shape
    if json:
        show.result(
            {
                "out": str(out),
                "poses": shape[0],
                "channels": shape[1],
                "samples": shape[2],
                "points": len(scene.points),
            },
            as_json=True,
        )
    show.note(
        f"wrote {out}: {shape[0]} poses x {shape[1]} channels x {shape[2]} samples of {len(scene.points)} points "
        f"({time.monotonic() - began:.1f} s){f'; {plot}' if plot else ''}"
    )


def _path_settings(tokens: tuple[str, ...], geometry: str) -> dict[str, Any]:
    """Read flags --path.NAME VALUE for a geometry.

    Raises:
        ConfigError: No such setting, or a value of another kind.
    """
    from saccade.cli.train import read_settings
    from saccade.errors import ConfigError
    from saccade.radar.path import GEOMETRIES

    known = getattr(GEOMETRIES.get(geometry), "__kwdefaults__", None) or {}
    values: dict[str, Any] = {}
    for dotted, text in read_settings(tokens, [f"path.{name}" for name in known if name != "seed"]).items():
        name = dotted.removeprefix("path.")
        default = known[name]
        try:
            if isinstance(default, bool):
                values[name] = {"true": True, "false": False}[text.lower()]
            else:
                values[name] = int(text) if isinstance(default, int) else float(text)
        except (ValueError, KeyError):
            kind = "true or false" if isinstance(default, bool) else "a number"
            raise ConfigError(f"--{dotted} is {text!r}; expected {kind}") from None
    return values


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

    from saccade.radar.files import read_scan, write_image
    from saccade.radar.imaging import reconstruct
    from saccade.radar.pictures import check_name, plot_image

    check_name(plot, floor)
    keep_input(scan, out)
    recorded = read_scan(scan)
    grid = grid_of(recorded, depth, x, y)
    began = time.monotonic()
    with show.progress() as bar:
        task = bar.add_task(f"imaging, {method}", total=grid.size, info="voxels")
        values = reconstruct(
            recorded,
            grid,
            method,
            window=window,
            magnitude=magnitude,
            threads=threads,
            device=device,
            progress=lambda done: bar.update(
                task, completed=done, info=f"{done / max(time.monotonic() - began, 1e-6):.3g} voxels/s"
            ),
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


def keep_input(source: Path, out: Path) -> None:
    """Refuse to write a result over what it is made of.

    Raises:
        ConfigError: The two are one file.
    """
    from saccade.errors import ConfigError

    if source.exists() and out.exists() and source.samefile(out):
        raise ConfigError(f"--out {out}: is the file to read; choose another name")


def grid_of(
    scan: Any, depth: str | None, x: str | None, y: str | None, side: str = "-0.1:0.099:0.001"
) -> Any:
    """Make the grid that flags describe.

    Raises:
        ConfigError: A range that cannot be read, or no depth.
    """
    from saccade.errors import ConfigError
    from saccade.radar.grid import Grid, parse_axis

    if depth is None:
        known = scan.meta.get("depth")
        if not isinstance(known, (int, float)):
            raise ConfigError(
                "the scan does not say how far its target is; give --depth in metres, or START:STOP:STEP for a volume"
            )
        depth = str(known)
    return Grid(parse_axis(x or side, "x"), parse_axis(y or side, "y"), parse_axis(depth, "depth"))
