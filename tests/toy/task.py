"""The task: loss, metrics, rows, the report, and what leaves in a file."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.files import within
from saccade.tasks.base import Batch, Metrics, PredictSettings, Samples, Section, Task, TaskData
from toy.data import Dots

MODELS = ("dots_small",)
SIZE = 12


@dataclass
class CountSettings(PredictSettings):
    """What can be asked of a count."""

    digits: Annotated[int, within(0, 6)] = 2
    """Decimals of a count."""


class Network(nn.Module):
    """Maps (batch, 1, height, width) to (batch, 1): how many dots there are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Add up what every place says."""
        return self.layers(image).mean((-2, -1)) * 10


class Count(Task):
    """A picture in, the number of its dots out."""

    name = "count"
    main_metric = "right"
    predict_settings = CountSettings
    unsupported: ClassVar[dict[str, str]] = {"explain": "look at the pictures, the dots can be counted"}
    samples = "pictures of dots"

    def preprocess(self, card: Any) -> dict[str, Any]:
        """Return the width; the height is twice as much."""
        return {"size": SIZE, **card.preprocess}

    def open(self, data: Any, augment: Any, card: Any, *, seed: int, train: bool = True) -> TaskData:
        """Open lists; without one to validate on, the last fifth is kept back."""
        self._check(card)
        size = data.size or self.preprocess(card)["size"]
        share = 1.0 if data.val else 1 - data.val_fraction
        val = Dots(data.val, size) if data.val else Dots(data.source, size, (share if train else 0.0, 1.0))
        return TaskData(Dots(data.source, size, (0.0, share)) if train else None, val, [], {"size": size})

    def open_held_out(self, data: Any, card: Any, *, seed: int, kept_back: bool) -> TaskData:
        """Open the last fifth of what was learned, else all of another list."""
        size = data.size or self.preprocess(card)["size"]
        first = 1 - data.val_fraction if kept_back else 0.0
        return TaskData(None, Dots(data.source, size, (first, 1.0)), [], {"size": size})

    def open_inputs(self, where: str, card: Any, settings: Any) -> Samples:
        """Open a list."""
        return Dots(where, self.preprocess(card)["size"])

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join pictures; `target` is (batch, 1)."""
        return {
            "image": torch.stack([sample["image"] for sample in samples]),
            "target": torch.tensor([[float(sample["target"])] for sample in samples]),
            "index": torch.tensor([sample["index"] for sample in samples]),
            "name": [sample["name"] for sample in samples],
            "skipped": [],
        }

    def _check(self, card: Any) -> None:
        if card.model not in MODELS:
            raise ConfigError(f"{card.model} does not count; choose {' or '.join(MODELS)}")

    def build(self, card: Any, *, pretrained: bool = False) -> nn.Module:
        """Make the network."""
        self._check(card)
        return Network()

    def loss(self, model: nn.Module, batch: Batch, context: Any) -> dict[str, Tensor]:
        """Return the mean squared error."""
        return {"loss": (model(batch["image"]) - batch["target"]).square().mean()}

    def metrics(self, card: Any) -> "CountMetrics":
        """Make an empty accumulator."""
        return CountMetrics()

    def rows(self, outputs: Tensor, batch: Batch, card: Any, settings: CountSettings) -> list[dict[str, Any]]:
        """Return name and count."""
        counts = outputs[:, 0].tolist()
        return [
            {"name": name, "count": round(count, settings.digits)}
            for name, count in zip(batch["name"], counts, strict=True)
        ]

    def vector_width(self, card: Any) -> int:
        """Return 1."""
        return 1

    def vectors(self, outputs: Tensor) -> Tensor:
        """Return the counts as they are."""
        return outputs

    def report(self, found: Any) -> list[Section]:
        """Say the mean error in a sentence."""
        text = f"Counts are off by {found.metrics['off']:.2f} dots."
        return [Section("Dots", f"<section><h2>Dots</h2><p>{text}</p></section>", text)]

    def example(self, card: Any, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make noise (batch, 1, 2 * size, size)."""
        size = self.preprocess(card)["size"]
        return (torch.rand(batch, 1, 2 * size, size, generator=torch.Generator().manual_seed(seed)),)

    def compare(self, got: Tensor, want: Tensor) -> tuple[int, int]:
        """Compare counts as whole numbers."""
        return len(want), int((got.round() != want.round()).sum())


class CountMetrics(Metrics):
    """Counts and truths by place."""

    def __init__(self) -> None:
        self.pairs: dict[int, tuple[float, float]] = {}

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in (batch, 1) counts."""
        triples = zip(
            batch["index"].tolist(), outputs[:, 0].tolist(), batch["target"][:, 0].tolist(), strict=True
        )
        self.pairs |= {place: (said, truth) for place, said, truth in triples}

    def merge(self, others: list["CountMetrics"]) -> None:
        """Take in what other processes saw."""
        for other in others:
            self.pairs |= other.pairs

    def compute(self) -> dict[str, float]:
        """Return the share of right counts and the mean error in dots."""
        gaps = [abs(said - truth) for said, truth in self.pairs.values()]
        count = max(1, len(gaps))
        off = sum(gaps) / count
        return {
            "right": sum(gap < 0.5 for gap in gaps) / count,
            "off": off,
            "loss": off,
            "count": float(len(gaps)),
        }
