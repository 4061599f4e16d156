"""Run an exported file against the network it came from, and say by how much they differ.

The reference is the network itself, not folded, in float64; what its own float32 run differs from that is the
measure of what rounding alone does. Every case is a batch of pictures: noise in several batch sizes, smooth
pictures, flat black and white, saturated pixels, and other sizes where the file takes them.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from saccade.engine.export.session import Session
from saccade.errors import CheckFailed

FLOOR, CEILING, ROUNDING_MULTIPLE = 1e-5, 1e-4, 8.0
"""A float32 file may differ by ROUNDING_MULTIPLE times PyTorch's own rounding, never less than FLOOR, never more than
CEILING (which is what flat pictures get); all relative to the largest output of the same picture."""
BF16_LIMIT = 0.15
"""bfloat16 keeps 8 bits of each number: one layer rounds by up to 0.4 %, some tens of layers by a few per cent."""
BF16_AGREEMENT = 0.98
"""Share of real pictures on which a bfloat16 file must name the same class."""
FLOAT32_AGREEMENT = 0.999
"""Likewise for float32, where only ties can differ."""
INT8_AGREEMENT = 0.95
"""Likewise for int8."""
INT8_LIMIT = 0.5
"""int8 on real pictures: above this something is unreadable, not rounded (0.1 to 0.3 were seen)."""
INT8_BATCH_LIMIT = 0.05
"""How much the batch size may change an int8 file's output; a rounding that flips moves it by about 0.01."""
SAME_PLACE = 0.99
"""Overlap from which two boxes of a detector count as the same."""
CLEAR = 1e-3
"""Detections whose score is this far above the weakest one's are compared."""
BATCHES = (7, 16, 33, 64)
"""Larger batches to compare in."""
MAX_BATCH_PIXELS = 64 * 400 * 400
"""They have at most so many pixels."""
INT8_MAX_LOSS = 0.02
"""int8 may lose at most this share of right answers on the validation pictures."""


@dataclass(frozen=True)
class Case:
    """One batch to compare on."""

    name: str
    images: Tensor
    places: Tensor | None = None
    """Which of the pictures stand in the batch, (batch,) int64, where some stand there several times."""

    def batch(self, values: Tensor) -> Tensor:
        """Spread what belongs to the pictures over the batch."""
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
    channels: int,
    size: tuple[int, int],
    *,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    dynamic: bool = False,
    batch: int | None = None,
    step: int = 1,
) -> list[Case]:
    """Make the batches to compare on, the same each time.

    Args:
        channels: Of the pictures.
        size: (height, width) in pixels.
        mean: Normalisation of the pictures, per channel or one for all: what black and white become.
        std: Likewise.
        dynamic: The file takes other heights and widths too.
        batch: The only batch size that the file takes; None: any.
        step: With `dynamic`, sides are multiples of this many pixels.
    """
    generator = torch.Generator().manual_seed(7)
    shift, scale = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))

    def normal(count: int, height: int, width: int) -> Tensor:
        return torch.randn(count, channels, height, width, generator=generator)

    def normalised(pixels: Tensor) -> Tensor:
        return ((pixels - shift) / scale).expand(-1, channels, -1, -1).contiguous()

    height, width = size
    rough = torch.rand(3, channels, 5, 5, generator=generator)
    smooth = F.interpolate(rough, size, mode="bicubic", align_corners=False).clamp(0, 1)
    binary = (torch.rand(2, channels, height, width, generator=generator) > 0.5).float()
    flat = torch.stack([torch.zeros(channels, height, width), torch.ones(channels, height, width)])
    cases = [Case(f"noise x{n}", normal(n, height, width)) for n in (1, 2, 5)]
    cases += [Case("smooth x3", normalised(smooth)), Case("black, white", normalised(flat))]
    cases += [Case("saturated x2", normalised(binary)), Case("noise x4 large", 8 * normal(4, height, width))]
    if dynamic:
        others = ((97, 160), (height + 32, width), (2 * height - 1, max(65, width - 31)))
        if step > 1:
            others = ((3 * step, 4 * step), (height + step, width), (height, width + 2 * step))
        for h, w in others:
            cases.append(Case(f"noise x2 {h}x{w}", normal(2, h, w)))
    # Few pictures in mixed order, so that the reference has to run each of them once only.
    for count in BATCHES if batch is None else ():
        if count * height * width <= MAX_BATCH_PIXELS:
            order = torch.randint(5, (count,), generator=generator)
            cases.append(Case(f"noise x{count}", cases[2].images, order))
    if batch is not None:
        cases = [Case(c.name, _cut(c.images, batch)) for c in cases]
    return cases


def compare(session: Session, model: nn.Module, cases: list[Case], *, precision: str = "float32") -> Report:
    """Compare a session with its network on every case.

    Args:
        session: The opened file.
        model: The network that was exported, not folded, in evaluation mode.
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
            if torch.equal(case.images.amax((2, 3)), case.images.amin((2, 3))):
                flat.add(case.name)
            want = exact(case.images.double())
            own = model(case.images)
            if not (torch.isfinite(want).all() and torch.isfinite(own).all()):
                raise CheckFailed(
                    f"case '{case.name}': the network's own outputs are not finite (NaN or infinite), so there is "
                    "nothing to compare with; the weights are damaged"
                )
            report.rounding = max(report.rounding, difference(own, want))
            want, got = case.batch(want), session(case.batch(case.images))
            if got.shape != want.shape:
                raise CheckFailed(
                    f"case '{case.name}': the exported file returns shape {tuple(got.shape)}, "
                    f"PyTorch {tuple(want.shape)}"
                )
            if not torch.isfinite(got).all():
                raise CheckFailed(f"case '{case.name}': the exported file returns values that are not finite")
            report.cases[case.name] = difference(got, want)
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


def check_boxes(session: Session, model: Any, cases: list[Case]) -> int:
    """Compare the detections that a file's outputs end in with the network's own, box by box.

    Args:
        session: The opened file of a detector.
        model: Its `JoinedBoxes`, not folded.
        cases: Batches.

    Returns:
        Detections compared; 0 for a network that prefers none, such as a fresh one.

    Raises:
        CheckFailed: One box of fifty or more has none of its class in nearly its place.
    """
    seen = lost = 0
    for case in cases:
        size = (case.images.shape[2], case.images.shape[3])
        with torch.no_grad():
            wanted = model.detections(model(case.images), size)
        for one, other in zip(model.detections(session(case.images), size), wanted, strict=True):
            for first, second in ((one, other), (other, one)):
                near = box_iou(first["boxes"], second["boxes"]) > SAME_PLACE
                near &= first["labels"][:, None] == second["labels"]
                # Among scores that are nearly equal, as a fresh network's all are, the last digit decides what stays.
                clear = first["scores"] > first["scores"].min().item() + CLEAR if len(near) else near.any(1)
                seen, lost = seen + int(clear.sum()), lost + int((clear & ~near.any(1)).sum())
    if lost > max(2, seen // 50):
        raise CheckFailed(
            f"{lost} of {seen} boxes that the exported file ends in are not PyTorch's, or missing"
        )
    return seen


def check_batches(session: Session, images: Tensor) -> None:
    """Compare what an int8 file says of pictures one by one and in batches up to 64.

    Args:
        session: The opened file.
        images: At least two real pictures.

    Raises:
        CheckFailed: The batch size changes the outputs by more than a flipped rounding does.
    """
    images = images.repeat(-(-BATCHES[-1] // len(images)), 1, 1, 1)[: max(len(images), BATCHES[-1])]
    want = session(images)
    for size in (1, 2, *BATCHES[:-1]):
        gap = difference(torch.cat([session(part) for part in images.split(size)]), want)
        if not gap <= INT8_BATCH_LIMIT:
            raise CheckFailed(
                f"the exported file's outputs change by {gap:.2g} of the largest output between batches of {size} "
                f"and {len(images)}, allowed are {INT8_BATCH_LIMIT}"
            )


def check_marks(precision: str, before: float, after: float, agreement: float) -> None:
    """Judge a file by its answers on real pictures.

    Args:
        precision: Decides what is allowed; float32 files must give the same answers but for ties.
        before: Main mark of the network, a share of right answers.
        after: Main mark of the file.
        agreement: Share of pictures on which both give the same answer.

    Raises:
        CheckFailed: More is lost than the precision allows.
    """
    least = {"bf16": BF16_AGREEMENT, "int8": INT8_AGREEMENT}.get(precision, FLOAT32_AGREEMENT)
    loss = {"bf16": INT8_MAX_LOSS / 2, "int8": INT8_MAX_LOSS}.get(precision, 1.0)
    if before - after > loss or agreement < least:
        raise CheckFailed(
            f"on the validation pictures {precision} answers {100 * agreement:.1f} % like PyTorch (at least "
            f"{100 * least:.1f} % are asked for) and its mark goes from {before:.4f} to {after:.4f} (at most "
            f"{loss:.2f} may be lost)"
        )


def limit(precision: str, rounding: float) -> float:
    """Return the allowed difference of a precision; `rounding` is what PyTorch's own float32 run differs by."""
    if precision == "bf16":
        return BF16_LIMIT
    if precision == "int8":
        return INT8_LIMIT
    return min(CEILING, max(FLOOR, ROUNDING_MULTIPLE * rounding))


def difference(got: Tensor, want: Tensor) -> float:
    """Largest |got - want| of a picture over its largest |want|, the worst picture of the batch."""
    got, want = got.double().flatten(1), want.double().flatten(1)
    scale = want.abs().amax(1).clamp_min(1e-12)
    return ((got - want).abs().amax(1) / scale).max().item()


def _cut(images: Tensor, batch: int) -> Tensor:
    """Repeat or cut a batch to a given number of pictures."""
    times = -(-batch // len(images))
    return images.repeat(times, 1, 1, 1)[:batch]
