"""The card that travels with every set of weights: what the numbers are and how to feed them.

A card is plain JSON in the metadata of a safetensors file (key `saccade`) and in a bundle's
`manifest.json`. It is all that `predict`, `eval`, `explain` and `export` need besides the tensors.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from saccade.errors import WeightsError
from saccade.files import convert, parse_json, within

CARD_FORMAT = 1


@dataclass
class Card:
    """What a set of weights is, what goes in and what comes out."""

    model: str
    """Name for `create_model`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of `create_model` (JSON values)."""
    num_classes: Annotated[int, within(0, 1 << 18)] = 1000
    in_chans: Annotated[int, within(0, 1 << 12)] = 3
    task: str = "classify"
    labels: list[str] = field(default_factory=list)
    """Class names in the order of the outputs; empty when unknown."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """`saccade.data.Preprocess` as a dictionary; empty means the model's own default."""
    origin: str = ""
    """Where the weights come from: a run folder, a hub id, a file name."""
    licence: str = ""
    head: str = ""
    """Of dense tasks: a name in `saccade.tasks.dense.nets.HEADS` on the backbone `model`."""
    head_options: dict[str, Any] = field(default_factory=dict)
    """Options of that head that differ from its defaults."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Measured metrics, such as {"top1": 0.99, "count": 360}."""
    format: int = CARD_FORMAT

    def to_json(self) -> str:
        """Serialise to one JSON object with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str = "card") -> "Card":
        """Parse a card and check its fields.

        Args:
            text: One JSON object.
            where: File name for the error message.

        Raises:
            WeightsError: Not JSON, not a card, or a card of a newer format.
        """
        values = parse_json(text, where=f"{where}: model card", error=WeightsError)
        if not isinstance(values, dict) or not isinstance(values.get("model"), str):
            raise WeightsError(
                f"{where}: the model card has no model name; expected a card written by Saccade"
            )
        found = values.get("format", CARD_FORMAT)
        if isinstance(found, int) and found > CARD_FORMAT:
            raise WeightsError(
                f"{where}: the card has format {found}, this Saccade reads up to "
                f"{CARD_FORMAT}; upgrade Saccade"
            )
        return convert(values, cls, where=f"{where}: model card", error=WeightsError)
