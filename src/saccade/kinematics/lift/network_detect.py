"""Detection by names: Grounding DINO, MM Grounding DINO, OWLv2 and OmDet-Turbo of transformers.

Grounding DINO (Liu et al., arXiv 2303.05499) reads all names as one sentence and scores its tokens, so a box may
answer to parts of two names; here a box gets the name whose tokens score highest. OWLv2 (Minderer et al., arXiv
2306.09683) and OmDet-Turbo (Zhao et al., arXiv 2403.06892) score each name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from saccade.errors import ConfigError
from saccade.kinematics.lift.network_open import Kind, Machine, batches, kind_of, open_network, to_machine
from saccade.kinematics.lift.stages import Detection

FLAG = "--detect"
KINDS = {
    "grounding-dino": Kind("GroundingDinoForObjectDetection"),
    "mm-grounding-dino": Kind("MMGroundingDinoForObjectDetection"),
    "owlv2": Kind("Owlv2ForObjectDetection"),
    "omdet-turbo": Kind("OmDetTurboForObjectDetection"),
}
EXAMPLE = "IDEA-Research/grounding-dino-base"
GROUNDED = ("grounding-dino", "mm-grounding-dino")


def check_names(names: Sequence[str]) -> list[str]:
    """Return names as the networks take them: lower case, without marks that end a phrase.

    Raises:
        ConfigError: No names, one twice, an empty one, or one with a mark in it.
    """
    plain = [" ".join(name.lower().split()) for name in names]
    if not plain or len(set(plain)) != len(plain):
        raise ConfigError(f"names are {list(names)}; expected at least one, each only once")
    for name in plain:
        if not name or set(name) & set(".,?!;:"):
            raise ConfigError(f"name {name!r} cannot be asked for; expected words without marks, such as car")
    return plain


class TextDetector:
    """Finds things by their names in frames; a `stages.Detect`."""

    def __init__(
        self,
        source: str,
        *,
        threshold: float = 0.25,
        max_overlap: float = 0.7,
        machine: Machine | None = None,
    ) -> None:
        """Open the network.

        Args:
            source: Folder, or hub id (owner/name).
            threshold: Lowest score of a detection.
            max_overlap: Of two boxes that overlap by more than this, the one with the lower score is dropped,
                whatever their names.
            machine: Where it runs.

        Raises:
            WeightsError: Files that are missing or damaged, or a hub that cannot be reached.
            ConfigError: Not a network that detects by names.
        """
        if not 0 <= threshold < 1:
            raise ConfigError(f"threshold is {threshold}; expected a score from 0 to below 1")
        self.source, self.threshold, self.max_overlap = source, threshold, max_overlap
        self.machine = machine or Machine()
        self.kind = kind_of(source, KINDS, task="detect by names", flag=FLAG, example=EXAMPLE)
        self.network, self.processor = open_network(source, KINDS[self.kind], self.machine, FLAG)

    def __call__(self, image: np.ndarray, names: Sequence[str]) -> list[Detection]:
        """Find; see `stages.Detect`."""
        return self.many([image], names)[0]

    @torch.inference_mode()
    def many(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[list[Detection]]:
        """Find in many frames.

        Args:
            images: (H, W, 3) uint8 RGB each, all of one size.
            names: Such as "car", "person".

        Returns:
            Detections of each frame, the highest score first. Labels are as in `names`.

        Raises:
            ConfigError: Names that cannot be asked for.
        """
        plain = check_names(names)
        found = []
        for part in batches(images, self.machine.batch):
            ask = self._grounded if self.kind in GROUNDED else self._by_name
            for image, (scores, labels, boxes) in zip(part, ask(part, plain), strict=True):
                found.append(self._detections(image, scores, labels, boxes, names))
        return found

    def _detections(
        self, image: np.ndarray, scores: Any, labels: Any, boxes: Any, names: Sequence[str]
    ) -> list[Detection]:
        high, wide = image.shape[:2]
        corners = boxes.float().cpu().numpy().astype(np.float64)
        corners = np.clip(corners, 0, [wide, high, wide, high])
        values = scores.float().cpu().numpy()
        kept = without_doubles(corners, values, self.max_overlap)
        return [
            Detection(tuple(corners[index].tolist()), names[int(labels[index])], float(values[index]))
            for index in kept
        ]

    def _grounded(self, images: Sequence[np.ndarray], names: list[str]) -> list[tuple[Any, Any, Any]]:
        """Ask with one sentence; each name's score is the highest of its tokens."""
        text = " ".join(f"{name}." for name in names)
        pictures = list(images)
        inputs = self.processor(images=pictures, text=[text] * len(pictures), return_tensors="pt")
        tokens, room = inputs["input_ids"][0].tolist(), self.network.config.max_text_len
        places = token_places(tokens, self.processor.tokenizer, len(names), room)
        outputs = self.network(**to_machine(inputs, self.machine))
        sizes = [image.shape[:2] for image in pictures]
        results = self.processor.post_process_grounded_object_detection(
            outputs, inputs["input_ids"], threshold=self.threshold, target_sizes=sizes
        )
        found = []
        for logits, result in zip(outputs.logits.sigmoid(), results, strict=True):
            # The same queries in the same order as in what the processor returns.
            kept = logits[logits.amax(-1) > self.threshold]
            scores, labels = torch.stack([kept[:, place].amax(1) for place in places], 1).max(1)
            # A box may answer to a full stop alone, which is none of the names.
            named = scores > self.threshold
            found.append((scores[named], labels[named], result["boxes"][named]))
        return found

    def _by_name(self, images: Sequence[np.ndarray], names: list[str]) -> list[tuple[Any, Any, Any]]:
        """Ask with each name by itself."""
        pictures = list(images)
        asked = [f"a photo of a {name}" for name in names] if self.kind == "owlv2" else names
        inputs = self.processor(images=pictures, text=[asked] * len(pictures), return_tensors="pt")
        outputs = self.network(**to_machine(inputs, self.machine))
        results = self.processor.post_process_grounded_object_detection(
            outputs, threshold=self.threshold, target_sizes=[image.shape[:2] for image in pictures]
        )
        return [(result["scores"], result["labels"], result["boxes"]) for result in results]


def token_places(tokens: list[int], tokenizer: Any, count: int, room: int) -> list[list[int]]:
    """Find where each name's tokens are in "name. other name.".

    Args:
        tokens: Identifiers of the sentence.
        tokenizer: That wrote them.
        count: Of names.
        room: Tokens that the network reads.

    Raises:
        ConfigError: More names than the network reads.
    """
    stop = tokenizer.convert_tokens_to_ids(".")
    special = set(tokenizer.all_special_ids)
    places: list[list[int]] = [[]]
    for index, token in enumerate(tokens):
        if token == stop:
            places.append([])
        elif token not in special:
            places[-1].append(index)
    if len(tokens) > room or len(places) != count + 1 or not all(places[:count]):
        raise ConfigError(
            f"{count} names make {len(tokens)} tokens and the network reads {room}; expected fewer names, or shorter "
            "ones"
        )
    return places[:count]


def without_doubles(boxes: np.ndarray, scores: np.ndarray, max_overlap: float) -> list[int]:
    """Keep the better of two boxes of the same thing.

    Args:
        boxes: (n, 4) x0 y0 x1 y1.
        scores: (n,).
        max_overlap: Intersection over union from above which two are the same thing.

    Returns:
        Places of the kept ones, the highest score first; empty boxes are dropped.
    """
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        x0, y0, x1, y1 = boxes[index]
        if x1 <= x0 or y1 <= y0:
            continue
        if not kept or box_overlap(boxes[index][None], boxes[kept]).max() <= max_overlap:
            kept.append(index)
    return kept


def box_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes.

    Args:
        first: (n, 4) x0 y0 x1 y1.
        second: (m, 4).

    Returns:
        (n, m), 0 where both are empty.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0)
