"""Run an exported file against the network it came from, and say by how much they differ.

The reference is the network itself, not folded, in float64; what its own float32 run differs from that is the
measure of what rounding alone does. Every case is a batch of pictures: noise in several batch sizes, smooth
pictures, flat black and white, saturated pixels, and other sizes where the file takes them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.engine.export.session import OpenedFile, Session, tensors_of
from saccade.engine.run import run_batches
from saccade.errors import CheckFailed
from saccade.tasks.base import Task, unnamed
from saccade.weights import Card

FLOOR, CEILING, ROUNDING_MULTIPLE = 1e-5, 1e-4, 8.0
"""A float32 file may differ by ROUNDING_MULTIPLE times PyTorch's own rounding, never less than FLOOR, never more than
CEILING (which is what flat pictures get); all relative to the largest output of the same picture."""
BF16_LIMIT = 0.15
"""bfloat16 keeps 8 bits of each number: one layer rounds by up to 0.4 %, some tens of layers by a few per cent."""
INT8_LIMIT = 0.5
"""int8 on real pictures: above this something is unreadable, not rounded (0.1 to 0.3 were seen)."""
INT8_BATCH_LIMIT = 0.05
"""How much the batch size may change an int8 file's output; a rounding that flips moves it by about 0.01."""
LOST = 2
"""Answers that may differ besides a share of them."""
BATCHES = (7, 16, 33, 64)
"""Larger batches to compare in."""
MAX_BATCH_PIXELS = 64 * 400 * 400
"""They have at most so many pixels."""


@dataclass(frozen=True)
class Case:
    """One batch to compare on."""

    name: str
    inputs: tuple[Tensor, ...]
    places: Tensor | None = None
    """Which of the samples stand in the batch, (batch,) int64, where some stand there several times."""

    def batch(self, values: Tensor) -> Tensor:
        """Spread what belongs to the samples over the batch."""
        return values if self.places is None else values[self.places]


@dataclass
class Report:
    """What a comparison found."""

    worst: float = 0.0
    """Largest difference from the float64 reference, relative to the largest output of the same picture."""
    limit: float = 0.0
    """What was allowed."""
    rounding: float = 0.0
    """The same difference of PyTorch's own float32 run."""
    cases: dict[str, float] = field(default_factory=dict)
    """Difference by case."""

    def to_dict(self) -> dict[str, Any]:
        """Write as JSON values with three significant digits."""
        short = {name: float(f"{value:.3g}") for name, value in self.cases.items()}
        return {
            "max_difference": float(f"{self.worst:.3g}"),
            "limit": float(f"{self.limit:.3g}"),
            "pytorch_rounding": float(f"{self.rounding:.3g}"),
            "cases": short,
        }


def make_cases(
    inputs: Mapping[str, Tensor],
    *,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    free: bool = False,
    batch: int | None = None,
    step: int = 1,
) -> list[Case]:
    """Make the batches to compare on, the same each time.

    Args:
        inputs: Examples by name. Those of four axes or more, of which the last are (channels, height, width), are
            pictures; all others are given noise only.
        mean: Normalisation of the pictures, per channel or one for all: what black and white become.
        std: Likewise.
        free: The file takes other heights and widths too.
        batch: The only batch size that the file takes; None: any.
        step: With `free`, sides are multiples of this many pixels.
    """
    makers = [_Maker(tuple(value.shape[1:]), mean, std) for value in inputs.values()]
    generator = torch.Generator().manual_seed(7)

    def noise(count: int, size: tuple[int, int] | None = None, scale: float = 1) -> tuple[Tensor, ...]:
        return tuple(scale * maker.noise(count, generator, size) for maker in makers)

    kinds: dict[str, list[Tensor]] = {"smooth x3": [], "black, white": [], "saturated x2": []}
    for maker in makers:
        for (name, found), made in zip(kinds.items(), maker.pictures(generator), strict=True):
            found.append(made if made is not None else maker.noise(3 if "x3" in name else 2, generator))
    cases = [Case(f"noise x{n}", noise(n)) for n in (1, 2, 5)]
    if any(maker.size for maker in makers):
        cases += [Case(name, tuple(found)) for name, found in kinds.items()]
    cases.append(Case("noise x4 large", noise(4, scale=8)))
    size = makers[0].size
    if free and size is not None:
        height, width = size
        others = ((97, 160), (height + 32, width), (2 * height - 1, max(65, width - 31)))
        if step > 1:
            others = ((3 * step, 4 * step), (height + step, width), (height, width + 2 * step))
        cases += [Case(f"noise x2 {h}x{w}", noise(2, (h, w))) for h, w in others]
    # Few samples in mixed order, so that the reference has to run each of them once only.
    for count in BATCHES if batch is None else ():
        if count * max(maker.pixels for maker in makers) <= MAX_BATCH_PIXELS:
            order = torch.randint(5, (count,), generator=generator)
            cases.append(Case(f"noise x{count}", cases[2].inputs, order))
    if batch is not None:
        cases = [Case(c.name, tuple(_cut(value, batch) for value in c.inputs)) for c in cases]
    return cases


class _Maker:
    """Makes one input, of a shape without the batch."""

    def __init__(self, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.shape = shape
        self.size: tuple[int, int] | None = (shape[-2], shape[-1]) if len(shape) > 2 else None
        self.pixels = math.prod(shape) // (shape[len(shape) - 3] if self.size else 1)
        self._shift, self._scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def noise(self, count: int, generator: torch.Generator, size: tuple[int, int] | None = None) -> Tensor:
        """Make normal noise, of another size on request."""
        shape = (*self.shape[:-2], *size) if size and self.size else self.shape
        return torch.randn(count, *shape, generator=generator)

    def pictures(self, generator: torch.Generator) -> list[Tensor | None]:
        """Make smooth pictures, black and white, and saturated ones; nothing where the input is no picture."""
        if self.size is None:
            return [None, None, None]
        outer = self.shape[:-2]
        rough = torch.rand(3, *outer, 5, 5, generator=generator)
        wide = F.interpolate(rough.flatten(0, -4), self.size, mode="bicubic", align_corners=False).clamp(0, 1)
        binary = (torch.rand(2, *self.shape, generator=generator) > 0.5).float()
        flat = torch.stack([torch.zeros(self.shape), torch.ones(self.shape)])
        return [self._normalised(one) for one in (wide.view(3, *self.shape), flat, binary)]

    def _normalised(self, pixels: Tensor) -> Tensor:
        return ((pixels - self._shift) / self._scale).contiguous()


def compare(session: Session, model: nn.Module, cases: list[Case], *, precision: str = "float32") -> Report:
    """Compare a session with its network on every case.

    Args:
        session: The opened file.
        model: The module of the task's export form of the network that was exported, not folded.
        cases: From `make_cases`.
        precision: Decides the limit.

    Raises:
        CheckFailed: Another shape, not finite, or a difference above the limit; the sentence has the numbers.
    """
    exact = copy.deepcopy(model).double().eval()
    report = Report()
    flat: set[str] = set()
    with torch.no_grad():
        for case in cases:
            first = case.inputs[0]
            if first.ndim > 3 and torch.equal(first.amax((-2, -1)), first.amin((-2, -1))):
                flat.add(case.name)
            wanted = tensors_of(exact(*(value.double() for value in case.inputs)))
            own = tensors_of(model(*case.inputs))
            if not all(torch.isfinite(value).all() for value in (*wanted, *own)):
                raise CheckFailed(
                    f"case '{case.name}': the network's own outputs are not finite (NaN or infinite), so there is "
                    "nothing to compare with; the weights are damaged"
                )
            got = tensors_of(session(*(case.batch(value) for value in case.inputs)))
            gaps = [_gap(one, case.batch(want), case.name) for one, want in zip(got, wanted, strict=True)]
            rounding = (difference(one, want) for one, want in zip(own, wanted, strict=True))
            report.rounding = max(report.rounding, *rounding)
            report.cases[case.name] = max(gaps)
            report.worst = max(report.worst, report.cases[case.name])
    report.limit = limit(precision, report.rounding)
    for name, gap in sorted(report.cases.items(), key=lambda case: -case[1]):
        # A norm of a flat map divides rounding by the root of eps: float32 runtimes differ 300 times as much there.
        allowed = max(report.limit, CEILING) if name in flat else report.limit
        if gap > allowed:
            raise CheckFailed(
                f"case '{name}': the exported file differs from PyTorch by {gap:.2g} of the largest "
                f"output, allowed are {allowed:.2g} (PyTorch's own float32 rounding: {report.rounding:.2g})"
            )
    return report


def _gap(got: Tensor, want: Tensor, name: str) -> float:
    """Compare one output."""
    if got.shape != want.shape:
        raise CheckFailed(
            f"case '{name}': the exported file returns shape {tuple(got.shape)}, PyTorch {tuple(want.shape)}"
        )
    if not torch.isfinite(got).all():
        raise CheckFailed(f"case '{name}': the exported file returns values that are not finite")
    return difference(got, want)


def check_answers(task: Task, file: OpenedFile, model: nn.Module, card: Card, cases: list[Case]) -> int:
    """Compare what is made of a file's outputs outside of it with the network's own answers.

    Args:
        task: Makes it.
        file: The opened file.
        model: The network, not folded.
        card: What it is.
        cases: Batches of one input.

    Returns:
        Answers compared; 0 for a network that gives none, such as a fresh detector.

    Raises:
        CheckFailed: Too many differ.
    """
    nets = {"file": task.exported(file, card), "network": model}
    batches = (lambda x=case.inputs[0]: {"image": x, **unnamed(len(x))} for case in cases)
    seen = lost = 0
    for _, found in run_batches(task, [nets], batches):
        some, other = task.compare(found["file"], found["network"])
        seen, lost = seen + some, lost + other
    if lost > max(LOST, seen * (1 - task.agreement["float32"])):
        raise CheckFailed(f"{lost} of {seen} answers that the exported file ends in are not PyTorch's")
    return seen


def check_batches(session: Session, inputs: tuple[Tensor, ...]) -> None:
    """Compare what an int8 file says of samples one by one and in batches up to 64.

    Args:
        session: The opened file.
        inputs: At least two real samples.

    Raises:
        CheckFailed: The batch size changes the outputs by more than a flipped rounding does.
    """
    inputs = tuple(_cut(value, max(len(value), BATCHES[-1])) for value in inputs)
    wanted, total = tensors_of(session(*inputs)), len(inputs[0])
    for size in (1, 2, *BATCHES[:-1]):
        pieces = [
            tensors_of(session(*(value[first : first + size] for value in inputs)))
            for first in range(0, total, size)
        ]
        for place, want in enumerate(wanted):
            gap = difference(torch.cat([piece[place] for piece in pieces]), want)
            if not gap <= INT8_BATCH_LIMIT:
                raise CheckFailed(
                    f"the exported file's outputs change by {gap:.2g} of the largest output between batches of "
                    f"{size} and {total}, allowed are {INT8_BATCH_LIMIT}"
                )


def check_metric(task: Task, precision: str, before: float, after: float, agreement: float | None) -> None:
    """Judge a file by its answers to real data.

    Args:
        task: Says what a precision may cost.
        precision: Decides what is allowed; float32 files must give the same answers but for ties.
        before: Main metric of the network.
        after: Main metric of the file.
        agreement: Share of answers that are the same; None where the task has none.

    Raises:
        CheckFailed: More is lost than the precision allows.
    """
    least = 0.0 if agreement is None else task.agreement[precision]
    share = {"bf16": 0.5, "int8": 1.0}.get(precision, 0.05)
    # Where float32 answers are counted one by one, a tie that falls the other way is all that the metric can show.
    loss = math.inf if precision == "float32" and least else share * task.metric_loss
    if before - after > loss or (agreement or 0.0) < least:
        same = f"answers {100 * (agreement or 0.0):.1f} % like PyTorch (at least {100 * least:.1f} % are asked for) "
        change = (
            f"changes {task.main_metric} from {before:.4f} to {after:.4f} (at most {loss:.3g} may be lost)"
        )
        raise CheckFailed(f"on the validation data {precision} {f'{same}and ' if least else ''}{change}")


def limit(precision: str, rounding: float) -> float:
    """Return the allowed difference of a precision; `rounding` is what PyTorch's own float32 run differs by."""
    if precision == "bf16":
        return BF16_LIMIT
    if precision == "int8":
        return INT8_LIMIT
    return min(CEILING, max(FLOOR, ROUNDING_MULTIPLE * rounding))


def difference(got: Tensor, want: Tensor) -> float:
    """Largest |got - want| of a sample over its largest |want|, the worst sample of the batch."""
    got, want = got.double().flatten(1), want.double().flatten(1)
    scale = want.abs().amax(1).clamp_min(1e-12)
    return ((got - want).abs().amax(1) / scale).max().item()


def _cut(values: Tensor, batch: int) -> Tensor:
    """Repeat or cut a batch to a given number of samples."""
    return values[torch.arange(batch) % len(values)]
