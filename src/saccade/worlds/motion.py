"""How things move in the synthetic world: pieces of constant speed and turn rate, joined into a motion grammar.

Everything that moves follows a path on the ground, given as pieces of (seconds, metres per second, radians per
second). Positions are exact integrals, so that travelled distance, speed and heading of every motion are known in
closed form and not merely to a step size. Frame: metres, z up, headings counter-clockwise from the x axis.

Shape legend: P pieces, T times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from saccade.errors import ConfigError, did_you_mean

KINDS = ("straight", "arc", "stop_and_go", "u_turn", "reverse", "rest")
"""The grammar: what an object may do during a clip."""
SLOWEST_TURN = 1e-9
"""Turn rate in radians per second below which a piece is a straight line."""


@dataclass(frozen=True)
class Motion:
    """A path on the ground with its timing. Before its first piece and after its last one it rests."""

    kind: str
    """One of `KINDS`, or "camera"."""
    start: tuple[float, float]
    """Position at time 0, metres."""
    heading: float
    """Direction of the nose at time 0, radians. Going backwards (negative speed) does not turn the nose."""
    pieces: np.ndarray
    """(P, 3) float64: seconds (positive), metres per second (negative: backwards), radians per second."""

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Integrate the motion up to some moments.

        Args:
            times: (T,) seconds from the start of the clip, in any order.

        Returns:
            (positions (T, 2) in metres, headings (T,) in radians), float64.
        """
        times = np.asarray(times, dtype=np.float64)
        place = np.tile(np.asarray(self.start, dtype=np.float64), (len(times), 1))
        heading = np.full(len(times), self.heading, dtype=np.float64)
        begin = 0.0
        for seconds, speed, turn in self.pieces:
            spent = np.clip(times - begin, 0.0, seconds)
            after = heading + turn * spent
            if abs(turn) > SLOWEST_TURN:
                place[:, 0] += speed / turn * (np.sin(after) - np.sin(heading))
                place[:, 1] -= speed / turn * (np.cos(after) - np.cos(heading))
            else:
                place += (speed * spent)[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
            heading, begin = after, begin + seconds
        return place, heading

    def travelled_m(self, begin: float, end: float) -> float:
        """Return the length of the path between two moments, in metres."""
        edges = np.concatenate([[0.0], np.cumsum(self.pieces[:, 0])])
        spent = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0.0, None)
        return float(np.abs(self.pieces[:, 1]) @ spent)


def make_motion(
    kind: str,
    start: tuple[float, float],
    heading: float,
    speed: float,
    seconds: float,
    rng: np.random.Generator,
) -> Motion:
    """Draw one motion of a kind.

    Args:
        kind: One of `KINDS`.
        start: Position at time 0, metres.
        heading: Direction at time 0, radians.
        speed: Metres per second while moving; positive.
        seconds: Length of the clip; the motion fills it.
        rng: Draws the moments of change and the curvature.

    Returns:
        The motion. An arc turns by 60 to 150 degrees in all; a U-turn takes 30 to 50 % of the clip.

    Raises:
        ConfigError: Unknown kind, or no time to move in.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown motion {kind!r}{did_you_mean(kind, KINDS)}")
    if not (seconds > 0 and speed > 0):
        raise ConfigError(f"a motion needs seconds and speed above 0, not {seconds} s at {speed} m/s")
    side = rng.choice((-1.0, 1.0))
    a, b = np.sort(rng.uniform(0.3, 0.7, 2)) * seconds
    if b - a < 0.15 * seconds:
        a, b = 0.4 * seconds, 0.6 * seconds
    pieces = {
        "rest": [(seconds, 0.0, 0.0)],
        "straight": [(seconds, speed, 0.0)],
        "arc": [(seconds, speed, side * math.radians(rng.uniform(60, 150)) / seconds)],
        "stop_and_go": [(a, speed, 0.0), (b - a, 0.0, 0.0), (seconds - b, speed, 0.0)],
        "reverse": [(a, speed, 0.0), (0.1 * seconds, 0.0, 0.0), (0.9 * seconds - a, -speed, 0.0)],
    }
    if kind == "u_turn":
        share = rng.uniform(0.3, 0.5)
        before = rng.uniform(0.2, 0.8 - share) * seconds
        turn = (share * seconds, speed, side * math.pi / (share * seconds))
        pieces[kind] = [(before, speed, 0.0), turn, ((1 - share) * seconds - before, speed, 0.0)]
    return Motion(kind, start, heading, np.asarray(pieces[kind], dtype=np.float64))
