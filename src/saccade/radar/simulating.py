"""A made-up scene and a scan of it, from names: what `saccade radar simulate` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from saccade.errors import ConfigError
from saccade.files import within
from saccade.radar.echo import simulate
from saccade.radar.importing import load_array
from saccade.radar.path import make_path
from saccade.radar.scan import Scan
from saccade.radar.scene import parse_target
from saccade.radar.waveform import Waveform
from saccade.settings import check

AROUND = ("cylindrical", "circular")
"""Geometries whose target stands at the origin."""


@dataclass(frozen=True)
class SceneScan:
    """What is scanned, and how."""

    geometry: str = "freehand"
    """linear, rectilinear, freehand, cylindrical, circular, uav or automotive."""
    target: str = "star+points"
    """Parts joined by +; see `saccade.radar.parse_target`."""
    depth: float = 0.3
    """Of flat targets, metres in front of the scan."""
    waveform: str = "fmcw_v2"
    array: str = "awr1x42"
    """Named array, or a JSON file."""
    snr: float | None = None
    """Of the samples, dB; no noise when left out."""
    position_error: Annotated[float, within(0)] = 0.0
    """Standard deviation of what is believed of each pose and axis, metres."""
    seed: int = 0
    pitch: float = 1e-3
    """Metres between the points of a flat target."""
    path_loss: bool = False
    """Let echoes fall with distance."""
    phase_centre: bool = False
    """Replace each pair of antennas by one at its mid-point."""

    def __post_init__(self) -> None:
        check(self)


def simulate_scene(
    plan: SceneScan,
    path: dict[str, Any] | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Scan, int]:
    """Scan a made-up scene.

    Args:
        plan: What and how.
        path: Settings of the geometry, as of `make_path`.
        threads: CPU threads.
        progress: Called with the number of finished elements (pose and channel) and of all.

    Returns:
        The scan, and the number of points of the scene.

    Raises:
        ConfigError: An unknown name, a number out of range, or a target behind the radar.
    """
    wave = Waveform.named(plan.waveform)
    radar = load_array(plan.array, wave.wavelength)
    way = make_path(plan.geometry, radar, wave.wavelength, seed=plan.seed, **(path or {}))
    around = plan.geometry in AROUND
    scene = parse_target(plan.target, depth=0.0 if around else plan.depth, pitch=plan.pitch, seed=plan.seed)
    nearest, reach = scene.points[:, 2].min(), float(way.positions[:, 2].max())
    if not around and nearest <= reach:
        raise ConfigError(
            f"the target begins at z = {nearest:g} m and the radar's way reaches {reach:g} m; it "
            "has to lie in front of it, so give a larger --depth or z"
        )
    elements = len(way.positions) * radar.num_channels
    scan = simulate(
        scene.points,
        scene.reflectivity,
        wave,
        radar,
        way.positions,
        way.rotations,
        path_loss=plan.path_loss,
        phase_centre=plan.phase_centre,
        snr_db=plan.snr,
        position_error=plan.position_error,
        channel_shift=way.channel_shift,
        fast=True,
        threads=threads,
        geometry=plan.geometry,
        progress=None if progress is None else lambda done: progress(done, elements),
        seed=plan.seed,
    )
    scan.meta = {
        "target": plan.target, "depth": float(scene.points[:, 2].mean()), "array": plan.array,
        "waveform": plan.waveform, "snr_db": plan.snr, "position_error": plan.position_error, "seed": plan.seed,
    }  # fmt: skip
    return scan, len(scene.points)
