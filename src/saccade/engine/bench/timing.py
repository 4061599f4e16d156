"""Time several contenders against each other so that a busy machine changes the times but not the ratios."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one contender over the rounds, in the order they were taken."""

    wall: tuple[float, ...]
    """By the clock on the wall."""
    cpu: tuple[float, ...]
    """Processor seconds of all threads of this process."""

    def seconds(self, clock: str) -> tuple[float, ...]:
        """Return the rounds by "wall" or "cpu" time."""
        return self.cpu if clock == "cpu" else self.wall


def interleave(
    contenders: dict[str, Work],
    *,
    seconds: float = 5.0,
    min_rounds: int = 5,
    max_rounds: int = 200,
    round_seconds: float = 0.03,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Run contenders in turn, A B C A B C ..., after two warm-up calls each.

    Args:
        contenders: What to time, by name; each is called without arguments.
        seconds: Time to spend on all of them together (more when `min_rounds` asks for it).
        min_rounds: Rounds at the least.
        max_rounds: Rounds at the most.
        round_seconds: A round repeats a fast contender until it has run about this long.
        tick: Called after every round.

    Returns:
        For each contender, the mean seconds per call of each round.
    """
    repeats = {}
    for name, work in contenders.items():
        work()
        work()
        start = time.perf_counter()
        work()
        repeats[name] = max(1, int(round_seconds / max(time.perf_counter() - start, 1e-6)))
    rounds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    end, count = time.perf_counter() + seconds, 0
    while count < max_rounds and (count < min_rounds or time.perf_counter() < end):
        for name, work in contenders.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(repeats[name]):
                work()
            rounds[name][0].append((time.perf_counter() - wall) / repeats[name])
            rounds[name][1].append((time.process_time() - cpu) / repeats[name])
        count += 1
        tick()
    return {name: Timing(tuple(wall), tuple(cpu)) for name, (wall, cpu) in rounds.items()}


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the median and an interval for it that assumes nothing about the distribution.

    The interval runs between two order statistics, chosen by the binomial law of how many values lie below the
    true median (David and Nagaraja, Order Statistics, section 7.1). With fewer than six values it is their range.

    Args:
        values: At least one.
        confidence: Probability of covering the true median, in (0, 1).

    Returns:
        (median, low, high).
    """
    ordered = sorted(values)
    count = len(ordered)
    below, total = 0, 0.5**count
    while below < count // 2 and 2 * (total + math.comb(count, below + 1) * 0.5**count) <= 1 - confidence:
        below += 1
        total += math.comb(count, below) * 0.5**count
    inside = below if 2 * total <= 1 - confidence else 0
    return statistics.median(ordered), ordered[inside], ordered[count - 1 - inside]


def ratio_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of first / second round by round, with its 95 % interval: how much faster the second is."""
    return median_interval([a / b for a, b in zip(first, second, strict=True)])
