"""Run detectors and segmenters, from weights in PyTorch or from an exported bundle, with the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from saccade.engine.export import is_bundle, open_session, read_bundle
from saccade.engine.export.session import Session
from saccade.engine.sessions.finite import finite_rows, not_finite
from saccade.errors import ConfigError, WeightsError
from saccade.files import count_threads
from saccade.nn.fold import fold
from saccade.tasks import get_task
from saccade.tasks.dense.task import DenseTask
from saccade.tasks.detect.export import split_boxes
from saccade.tasks.open import build_model, load_model
from saccade.weights import Card, locate
from saccade.weights.store import CARD_KEY
from saccade.zoo.registry import task_of

STEP = 64
"""Bundles of free size take multiples of this."""


def card_at(source: Path | str) -> Card | None:
    """Read what weights or a bundle are, without opening them; None where the file does not say.

    Raises:
        WeightsError: Nothing there.
    """
    if is_bundle(source):
        return read_bundle(source).manifest.card
    if not Path(source).exists():
        try:
            return Card(model=str(source), task=task_of(str(source)))
        except ConfigError:
            return None  # opening it says what is wrong
    path = locate(source)
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
    except (SafetensorError, OSError, ValueError):
        return None
    return Card.from_json(text, str(path)) if text else None


def is_dense(source: Path | str) -> bool:
    """Whether weights or a bundle are a detector or a segmenter."""
    card = card_at(source)
    return card is not None and card.task in ("detect", "segment")


class DensePredictor:
    """A detector or segmenter ready to run."""

    def __init__(
        self, source: Path | str, *, backend: str = "auto", device: str = "cpu", threads: int | None = None
    ) -> None:
        """Open weights or a bundle.

        Args:
            source: Run folder, weights file or bundle.
            backend: torch for weights (auto too); of a bundle its own format.
            device: cpu, cuda, cuda:N or mps; bundles run on the CPU.
            threads: Cores to use; None: all.

        Raises:
            ConfigError: Not a dense network, or a backend or device that does not go with it.
            WeightsError: A source that cannot be read.
        """
        self._session: Session | None = None
        self._fixed: tuple[int, int] | None = None
        if is_bundle(source):
            bundle = read_bundle(source)
            self.card, self.backend = bundle.manifest.card, bundle.manifest.format
            if device != "cpu" or backend not in ("auto", self.backend):
                raise ConfigError(f"{source}: this bundle runs with {self.backend} on the CPU")
            self._session, self._fixed = open_session(bundle, threads=threads), bundle.manifest.size
            self.device = "cpu"
            with torch.device("meta"):
                self._net: Any = build_model(self.card)
            self._net.eval()
            self._watch = None
        else:
            if backend not in ("auto", "torch"):
                raise ConfigError(
                    f"{source}: weights of a dense network run with torch; for {backend}, export them first with "
                    f"`saccade export --weights {source} --to {backend}` and pass the bundle"
                )
            model, self.card = load_model(source)
            self.backend, self.device = "torch", device
            torch.set_num_threads(count_threads(threads))
            try:
                self._net = fold(model).to(device)
            except (RuntimeError, AssertionError) as error:
                raise ConfigError(
                    f"the device {device!r} cannot be used ({str(error)[:100]}); use cpu"
                ) from None
            self._watch = _FiniteParts(self._net)
        task = get_task(self.card.task)
        if not isinstance(task, DenseTask):
            raise ConfigError(f"{source}: a network for {self.card.task}, not a detector or segmenter")
        self.task = task
        self._source, self._proved = str(source), False
        self.not_finite: list[int] = []
        """Pictures of the last batch whose outputs were not finite: what was returned for them means nothing."""

    def __call__(self, images: Tensor) -> Any:
        """Run a padded batch (B, 3, H, W): detections as a list, or logits (B, classes, H, W), on the CPU.

        Pictures for which the network gives no finite numbers have no detections, or logits of zero, and are listed
        in `not_finite`.

        Raises:
            ConfigError: A bundle of one size, given pictures of another.
            WeightsError: The outputs are not finite whatever the picture.
        """
        found, finite = self._run(images)
        self.not_finite = (~finite).nonzero()[:, 0].tolist()
        if self.not_finite and not self._proved:
            noise = torch.randn(1, *images.shape[1:], generator=torch.Generator().manual_seed(5))
            if not self._run(noise)[1].all():
                raise WeightsError(not_finite(self._source))
            self._proved = True
        for place in self.not_finite:
            if isinstance(found, Tensor):
                found[place] = 0
            else:
                found[place] = {name: value[:0] for name, value in found[place].items()}
        return found

    @torch.no_grad()
    def _run(self, images: Tensor) -> tuple[Any, Tensor]:
        """Run a batch; return with the outputs which pictures' are finite (B,)."""
        if self._session is None:
            assert self._watch is not None
            self._watch.begin(len(images))
            try:
                found = self._net(images.to(self.device))
            except (RuntimeError, IndexError, AssertionError):
                if self._watch.finite.all():
                    raise
                # Where nothing is a number, a second stage has no regions to look at.
                return [_nothing() for _ in images], self._watch.finite
            finite = self._watch.finite
            if isinstance(found, Tensor):
                found = found.float().cpu()
                return found, finite & finite_rows(found)
            return [{name: value.cpu() for name, value in one.items()} for one in found], finite
        height, width = images.shape[2:]
        # Files of free size begin at three steps: below, the coarsest map has a single cell.
        rows, columns = (max(3, -(-side // STEP)) * STEP for side in (height, width))
        fitting = self._fixed or (rows, columns)
        if height > fitting[0] or width > fitting[1]:
            raise ConfigError(
                f"this bundle takes pictures of {fitting[1]} x {fitting[0]} pixels, not {width} x {height}; "
                "export it with --dynamic"
            )
        padded = images.new_zeros(*images.shape[:2], *fitting)
        padded[:, :, :height, :width] = images
        outputs = self._session(padded)
        finite = finite_rows(outputs)
        if self.card.task == "segment":
            return outputs[:, :, :height, :width].clone(), finite
        boxes, scores = split_boxes(outputs, fitting)
        counts = self._net.count_anchors(*fitting)
        return self._net.select(boxes, scores, [(height, width)] * len(images), counts), finite

    def close(self) -> None:
        """Free the runtime."""
        if self._session is not None:
            self._session.close()


def _nothing() -> dict[str, Tensor]:
    """Make the detections of a picture without any."""
    return {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0, dtype=torch.int64)}


class _FiniteParts:
    """Watches the layers of a network's neck and head: a detector drops boxes whose score is NaN without a word."""

    def __init__(self, net: nn.Module) -> None:
        self.finite = torch.ones(0, dtype=torch.bool)
        for name, module in net.named_modules():
            if name.startswith(("neck", "head")) and not list(module.children()):
                module.register_forward_hook(self._look)

    def begin(self, count: int) -> None:
        """Start on a batch of so many pictures."""
        self.finite = torch.ones(count, dtype=torch.bool)

    def _look(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Mark the pictures of outputs that are not finite; all of them where rows are regions of any picture."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return
        if torch.isfinite(output).all():
            return
        if len(output) == len(self.finite) and output.ndim == 4:
            self.finite &= finite_rows(output).cpu()
        else:
            self.finite[:] = False
