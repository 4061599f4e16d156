"""Read a model's answer: a number with its unit, a clock hour, an interval, a choice. No network, always the same.

The published way of reading answers is not known. Here every answer is `ok`, `coarse` (a direction in words, which
stands for several hours), a `refusal`, or `unparsable`; a hedge followed by a number is an answer.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.errors import ConfigError, did_you_mean
from saccade.kinematics import choices, directions
from saccade.kinematics.quantities import Quantity, find, find_bare, has_other_units
from saccade.kinematics.wording import digits, plain

TASKS = (
    "traveled_distance",
    "traveling_speed",
    "movement_direction",
    "direction_timestamp",
    "distance_comparison",
    "speed_comparison",
    "direction_comparison",
)
"""The seven tasks of the benchmark."""
MULTI_STEP = ("travel_time", "speed_ratio")
"""Two further ones of ours, in which the object's speed is a step on the way; not part of the mean."""
LARGEST = 1e12
"""Metres, km/h, seconds or times: nothing on a video is more. As an answer it would be the whole of a mean error."""
MAX_TEXT = 6_000
"""Characters of an answer that are read, its last ones: a conclusion stands at the end."""

_REFUSAL = re.compile(
    r"\b(?:can\s?not|can't|cant|could\s?n[o']?t|could not|unable to|not able to|impossible to|not possible to|"
    r"(?:hard|difficult|tough) to)\s+(?:\w+\s+){0,3}?(?:tell|determine|say|see|estimate|measure|know|judge|answer|"
    r"calculate|compute|provide|infer|give|assess|assist|help|identify|find|discern|perceive|conclude|view|watch|"
    r"be (?:determined|estimated|measured|known|told|answered|inferred|computed|calculated|seen))\b"
    r"|\b(?:not enough|insufficient|no|lack of|lacking) (?:\w+ )?(?:information|context|evidence|data)\b"
    r"|\b(?:do not|don't|does not|doesn't) (?:know|have (?:enough|access|the ability|sufficient))\b"
    r"|\b(?:unknown|unclear|undetermined|indeterminate|undeterminable|unanswerable|unsure|uncertain)\b"
    r"|\bnot (?:sure|certain|clear|known|determinable|visible|provided|possible)\b|\bno way (?:to|of)\b|\bno idea\b"
    r"|\b(?:sorry|apologi[sz]e|as an ai)\b|^n/?a\b"
)
_STILL = re.compile(
    r"\b(?:stationary|motionless|immobile|parked|at rest|standing still|stands still|stays still|remains still|"
    r"not (?:be )?(?:mov\w+|travel\w*)|(?:isn't|wasn't|aren't) moving|(?:doesn't|didn't|don't) move|no movement|"
    r"no motion|never moves|never moved)\b"
)
_CONCLUSION = re.compile(r"\b(?:total|overall|altogether|therefore|thus|hence|so|answer is)\b|=")


@dataclass(frozen=True)
class Parsed:
    """What an answer says."""

    status: str
    """ok, coarse, refusal or unparsable."""
    value_m: float | None = None
    value_kmh: float | None = None
    value_h: float | None = None
    value_ratio: float | None = None
    hour: int | None = None
    hours: tuple[int, ...] | None = None
    interval_s: tuple[float, float] | None = None
    choice: str | None = None
    """Name of an option, or tie."""
    relation: str | None = None
    """same or different."""

    @property
    def value(self) -> Any:
        """The one thing that was found, or None."""
        names = (field.name for field in dataclasses.fields(self) if field.name != "status")
        return next((found for name in names if (found := getattr(self, name)) is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as plain values."""
        found = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


UNPARSABLE = Parsed("unparsable")
REFUSAL = Parsed("refusal")


def parse_answer(task: str, text: Any, context: Mapping[str, Any] | None = None) -> Parsed:
    """Read an answer.

    Args:
        task: One of `TASKS` or `MULTI_STEP`.
        text: The answer; anything but a text is unparsable.
        context: What reading it needs: `duration_s` (timestamps), `options` {name: [aliases]} and `asks` "more" or
            "less" (comparisons of two), `polarity` "same" or "different" (yes-no questions about directions).

    Raises:
        ConfigError: No such task, or a comparison without options.
    """
    if task not in TASKS and task not in MULTI_STEP:
        raise ConfigError(f"no task {task!r}{did_you_mean(task, (*TASKS, *MULTI_STEP))}")
    context = context or {}
    if task in ("distance_comparison", "speed_comparison"):
        options = choices.check_options(context.get("options"))
    if not isinstance(text, str):
        return UNPARSABLE
    words = plain(text[-MAX_TEXT:])
    if task in ("distance_comparison", "speed_comparison"):
        choice = choices.read_choice(words, options, str(context.get("asks") or "more"))
        return Parsed("ok", choice=choice) if choice else _nothing(words)
    if task == "direction_comparison":
        relation = choices.read_relation(words, str(context.get("polarity") or "same"))
        if relation is None or (relation[1] and _REFUSAL.search(words)):
            return _nothing(words)
        return Parsed("ok", relation=relation[0])
    words = digits(words)
    if task == "movement_direction":
        return _direction(words)
    if task == "direction_timestamp":
        duration = context.get("duration_s")
        interval = directions.read_interval(words, None if duration is None else float(duration))
        if interval is None:
            return _nothing(words)
        return Parsed("ok", interval_s=interval) if max(map(abs, interval)) <= LARGEST else UNPARSABLE
    name, kind = {
        "traveled_distance": ("value_m", "length"),
        "traveling_speed": ("value_kmh", "speed"),
        "travel_time": ("value_h", "time"),
        "speed_ratio": ("value_ratio", "ratio"),
    }[task]
    value = _ratio(words) if kind == "ratio" else _quantity(words, kind)
    if value is None:
        return _nothing(words)
    if abs(value) > LARGEST:
        return UNPARSABLE
    found: dict[str, Any] = {name: value / 3600 if kind == "time" else value}
    return Parsed("ok", **found)


def _nothing(words: str) -> Parsed:
    """Tell a refusal from an answer that could not be read."""
    return REFUSAL if _REFUSAL.search(words) else UNPARSABLE


def _quantity(words: str, kind: str) -> float | None:
    """Find the quantity of one kind that the answer means; km/h, metres or seconds."""
    speeds, rest = find(words, "speed")
    lengths, rest = find(rest, "length")
    times, rest = find(rest, "time")
    found = {"speed": speeds, "length": lengths, "time": times}[kind]
    if found:
        return _meant(words, found).value
    if kind != "time" and _stands_still(words):
        return 0.0
    if speeds or lengths or times or has_other_units(words):
        return None
    bare = find_bare(rest)
    if len(bare) != 1:
        return None
    return bare[0].value * (3600 if kind == "time" else 1)


def _meant(words: str, found: list[Quantity]) -> Quantity:
    """Of several quantities, choose the one after the last word that concludes, or else the first."""
    if len(found) > 1 and (marks := list(_CONCLUSION.finditer(words))):
        last = marks[-1].start()
        after = [quantity for quantity in found if quantity.start > last]
        return after[0] if after else found[-1]
    return found[0]


def _stands_still(words: str) -> bool:
    """Whether the answer says that the object does not move, rather than asks it."""
    return any(
        not re.search(r"\b(?:if|whether|not|isn't|wasn't)\s+(?:\w+\s+){0,5}$", words[: match.start()])
        for match in _STILL.finditer(words)
    )


def _ratio(words: str) -> float | None:
    """Find "N times", "Nx", "N to 1", or the only number."""
    number = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    hits = list(
        re.finditer(rf"(?<![\w.]){number}\s*-?\s*(?:times|x\b|fold\b|\u00d7|:\s*1\b|to\s+1\b)", words)
    )
    if hits:
        marks = list(_CONCLUSION.finditer(words))
        after = [hit for hit in hits if marks and hit.start() > marks[-1].start()]
        return float((after or hits)[0][1])
    _, rest = find(words, "speed")
    bare = find_bare(rest)
    return bare[0].value if len(bare) == 1 else None


def _direction(words: str) -> Parsed:
    """Read a clock hour, an angle, or a direction in words."""
    found = directions.read_hours(words)
    if found is None:
        return _nothing(words)
    hours, exact = found
    if not hours:
        return UNPARSABLE
    return Parsed("ok", hour=hours[0]) if exact else Parsed("coarse", hours=hours)
