"""What an evaluation of any task found: what its report sections are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from saccade.tasks.base import Metrics, Section
from saccade.tasks.intervals import Interval


@dataclass
class Evaluation:
    """Everything that a page shows."""

    task: str
    model: str
    head: str
    """Of the network; empty where the task has none."""
    weights: str
    data: str
    labels: list[str]
    metrics: dict[str, float]
    """By name, as `Metrics.summary` gives them, without the count."""
    intervals: dict[str, Interval]
    """95 % intervals of those that have one."""
    per_class: list[dict[str, Any]]
    """One row a class; empty where there are none."""
    count: int
    """Samples that were judged."""
    gathered: Metrics
    """What the numbers are made of."""
    gallery: Any = None
    """What `Task.gallery` kept of the samples."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of samples that could not be used."""
    notes: list[str] = field(default_factory=list)
    setting: dict[str, Any] = field(default_factory=dict)
    """How it was run: backend, device, size, batch, seconds, and the rate."""
    sections: list[Section] = field(default_factory=list)
    """What only this task has on the page."""

    def summary(self) -> dict[str, Any]:
        """Return the numbers as one flat JSON-ready object, without pictures."""
        values: dict[str, Any] = {"model": self.model} | ({"head": self.head} if self.head else {})
        values |= {"weights": self.weights, "data": self.data, "count": self.count}
        for name, value in self.metrics.items():
            values[name] = value
            if name in self.intervals:
                values[f"{name}_interval"] = [round(bound, 6) for bound in self.intervals[name]]
        return values | {"skipped": len(self.skipped)} | self.setting
