"""Masks through a clip: SAM 2 video from detections, or SAM 3 video from names in one step.

SAM 2 (Ravi et al., arXiv 2408.00714) turns a box into a mask and follows it. As in Grounded-SAM-2, a detector looks
at every so many frames and masks are propagated in between; a box that lies on a mask is a thing already known, any
other is a new one, which is then followed backwards too, as far as the detector's look before. SAM 3 (Carion et al.,
arXiv 2511.16719) detects by names in every frame and keeps identities itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.errors import ConfigError
from saccade.extras import require
from saccade.hub import DTYPES
from saccade.kinematics.lift.network_detect import TextDetector, box_overlap, check_names
from saccade.kinematics.lift.network_open import EXTRA, Kind, Machine, kind_of, open_network
from saccade.kinematics.lift.pipeline import box_of
from saccade.kinematics.lift.stages import Detection, MaskTrack

FLAG = "--track"
KINDS = {"sam2_video": Kind("Sam2VideoModel", "Sam2VideoProcessor")}
ONE_STEP = {"sam3_video": Kind("Sam3VideoModel", "Sam3VideoProcessor")}
EXAMPLE = "facebook/sam2.1-hiera-large"


def takes_names(source: str) -> bool:
    """Tell whether a tracker finds things by their names itself; reads no more than its configuration.

    Raises:
        WeightsError: No such folder, or a hub that cannot be reached.
        ConfigError: No tracker.
    """
    return kind_of(source, KINDS | ONE_STEP, task="follow masks", flag=FLAG, example=EXAMPLE) in ONE_STEP


@dataclass(frozen=True, eq=False)
class DetectAndTrack:
    """A detector at every so many frames and a tracker in between; a `stages.Find`."""

    detect: TextDetector
    track: MaskTracker
    every: int = 20
    """Frames from one look of the detector to the next."""

    def __call__(self, images: np.ndarray, names: Sequence[str]) -> list[MaskTrack]:
        """Find and follow; see `stages.Find`."""
        looks = list(range(0, len(images), self.every))
        found = self.detect.many([images[index] for index in looks], names)
        return self.track(images, dict(zip(looks, found, strict=True)))


class MaskTracker:
    """SAM 2 video: follows detections; a `stages.TrackMasks`."""

    def __init__(self, source: str, *, same_overlap: float = 0.5, machine: Machine | None = None) -> None:
        """Open the network.

        Args:
            source: Folder, or hub id (owner/name).
            same_overlap: A detection is a thing already followed where its box and that of the mask, or the two
                masks, overlap by at least this (intersection over union).
            machine: Where it runs.

        Raises:
            WeightsError: Files that are missing or damaged, or a hub that cannot be reached.
            ConfigError: Not a network that follows masks.
        """
        if not 0 < same_overlap <= 1:
            raise ConfigError(f"same_overlap is {same_overlap}; expected above 0 and at most 1")
        self.source, self.same_overlap, self.machine = source, same_overlap, machine or Machine()
        kind = kind_of(source, KINDS, task="follow masks", flag=FLAG, example=EXAMPLE)
        self.network, self.processor = open_network(source, KINDS[kind], self.machine, FLAG)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, found: dict[int, list[Detection]]) -> list[MaskTrack]:
        """Follow; see `stages.TrackMasks`."""
        things = _Things(len(images))
        looks = sorted(frame for frame, detections in found.items() if detections)
        session = self._session(images)
        for place, look in enumerate(looks):
            fresh = self._meet(session, things, look, found[look])
            # As far as the next look, so that what is known there can be compared with what is found there.
            end = looks[place + 1] if place + 1 < len(looks) else len(images) - 1
            if things.masks:
                self._propagate(session, things, look, end)
            before = max((other for other in found if other < look), default=look)
            if fresh and before < look - 1:
                self._back(images, things, fresh, look, before + 1)
        return things.tracks(self.same_overlap)

    def _session(self, images: np.ndarray) -> Any:
        """Begin with a clip."""
        return self.processor.init_video_session(
            video=list(images), inference_device=self.machine.device, dtype=DTYPES[self.machine.dtype]
        )

    def _meet(self, session: Any, things: _Things, look: int, detections: Sequence[Detection]) -> list[int]:
        """Tell known things from new ones; returns the numbers of the new, whose masks begin at this frame."""
        known = {number: box_of(masks[look]) for number, masks in things.masks.items()}
        here = [number for number, box in known.items() if box is not None]
        boxes = np.array([known[number] for number in here], np.float64).reshape(-1, 4)
        found = np.array([detection.box for detection in detections], np.float64).reshape(-1, 4)
        pairs = match(box_overlap(found, boxes), self.same_overlap)
        for index, place in pairs.items():
            things.see(here[place], detections[index])
        fresh = [detection for index, detection in enumerate(detections) if index not in pairs]
        if not fresh:
            return []
        numbers = []
        for detection in fresh:
            numbers.append(things.begin(things.next))
            things.see(numbers[-1], detection)
        self.processor.add_inputs_to_inference_session(
            session, look, list(numbers), input_boxes=[[list(detection.box) for detection in fresh]]
        )
        masks = self._masks(session, self.network(session, frame_idx=look))
        for number in numbers:
            # A box beside a known thing may still mean that thing: its mask tells.
            mask = masks[number]
            others = [things.masks[other][look] for other in here]
            if mask is None or any(
                o is not None and mask_overlap(mask, o) >= self.same_overlap for o in others
            ):
                things.drop(number)
            else:
                here.append(number)
                things.masks[number][look] = mask
        return [number for number in numbers if number in things.masks]

    def _propagate(
        self, session: Any, things: _Things, begin: int, end: int, *, reverse: bool = False
    ) -> None:
        """Follow everything in a session from one frame to another, both included."""
        for output in self.network.propagate_in_video_iterator(
            session, start_frame_idx=begin, max_frame_num_to_track=abs(end - begin), reverse=reverse
        ):
            for number, mask in self._masks(session, output).items():
                if number in things.masks:
                    things.masks[number][output.frame_idx] = mask

    def _back(self, images: np.ndarray, things: _Things, numbers: list[int], look: int, end: int) -> None:
        """Follow new things backwards, in a session of their own so that the others' memory stays as it is."""
        session = self._session(images[: look + 1])
        masks = [things.masks[number][look] for number in numbers]
        self.processor.add_inputs_to_inference_session(session, look, list(numbers), input_masks=masks)
        self.network(session, frame_idx=look)
        self._propagate(session, things, look, end, reverse=True)

    def _masks(self, session: Any, output: Any) -> dict[int, np.ndarray | None]:
        """Masks at the size of the frames, by number; None where a thing is not seen."""
        size = [[session.video_height, session.video_width]]
        masks = self.processor.post_process_masks([output.pred_masks.float()], size, binarize=True)[0]
        shown = masks[:, 0].cpu().numpy()
        return {
            number: mask if mask.any() else None
            for number, mask in zip(output.object_ids, shown, strict=True)
        }


class TextTracker:
    """SAM 3 video: from names to masks in one step; a `stages.Find`."""

    def __init__(self, source: str, *, same_overlap: float = 0.5, machine: Machine | None = None) -> None:
        """Open the network.

        Args:
            source: Folder, or hub id (owner/name).
            same_overlap: Two things whose masks overlap by at least this, on average, are one.
            machine: Where it runs.

        Raises:
            WeightsError: Files that are missing or damaged, or a hub that cannot be reached.
            ConfigError: Not a network of this class.
        """
        self.source, self.same_overlap, self.machine = source, same_overlap, machine or Machine()
        kind = kind_of(source, ONE_STEP, task="follow by names", flag=FLAG, example="facebook/sam3")
        _without_foreign_code()
        self.network, self.processor = open_network(source, ONE_STEP[kind], self.machine, FLAG)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, names: Sequence[str]) -> list[MaskTrack]:
        """Find and follow; see `stages.Find`."""
        plain = check_names(names)
        session = self.processor.init_video_session(
            video=list(images), inference_device=self.machine.device, dtype=DTYPES[self.machine.dtype]
        )
        self.processor.add_text_prompt(session, plain)
        things = _Things(len(images))
        for output in self.network.propagate_in_video_iterator(session):
            shown = self.processor.postprocess_outputs(session, output)
            asked = {
                number: names[plain.index(name)]
                for name, numbers in shown["prompt_to_obj_ids"].items()
                for number in numbers
            }
            masks = shown["masks"].cpu().numpy()
            for index, number in enumerate(shown["object_ids"].tolist()):
                box = box_of(masks[index])
                if box is None:
                    continue
                if number not in things.masks:
                    things.begin(number)
                things.see(
                    number,
                    Detection((box[0], box[1], box[2], box[3]), asked[number], float(shown["scores"][index])),
                )
                things.masks[number][output.frame_idx] = masks[index]
        return things.tracks(self.same_overlap)


class _PlainRoutines:
    """What SAM 3 would fetch as compiled code from the hub and run, or do without: written out here."""

    @staticmethod
    def generic_nms(overlaps: Tensor, scores: Tensor, limit: float, use_iou_matrix: bool = True) -> Tensor:
        """Return the places of detections that no better one overlaps by more than `limit`.

        Args:
            overlaps: (n, n) intersection over union.
            scores: (n,).
            limit: Overlap.
            use_iou_matrix: Always; the first argument could be boxes in the original.
        """
        kept: list[int] = []
        for index in scores.argsort(descending=True, stable=True).tolist():
            if not kept or float(overlaps[index, kept].max()) <= limit:
                kept.append(index)
        return torch.tensor(kept, dtype=torch.long, device=overlaps.device)

    @staticmethod
    def cc_2d(masks: Tensor, get_counts: bool = True) -> tuple[Tensor, Tensor]:
        """Number the connected parts of masks (n, 1, H, W) uint8; returns numbers and areas, both of that shape."""
        cv2 = require("cv2", "lift", "to clean masks")
        numbers, areas = [], []
        for mask in masks[:, 0].cpu().numpy():
            _, number, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            area = facts[:, cv2.CC_STAT_AREA].copy()
            area[0] = 0
            numbers.append(torch.from_numpy(number))
            areas.append(torch.from_numpy(area[number]))
        return tuple(torch.stack(part)[:, None].to(masks.device) for part in (numbers, areas))  # pyright: ignore[reportReturnType]


def _without_foreign_code() -> None:
    """Give SAM 3 its two routines, so that it fetches none: it looks for them once, in a name of its module."""
    module = require("transformers.models.sam3_video.modeling_sam3_video", EXTRA, "for SAM 3")
    module.__dict__["cv_utils_kernel"] = _PlainRoutines


class _Things:
    """What is followed through a clip, by number."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.masks: dict[int, list[np.ndarray | None]] = {}
        self.labels: dict[int, dict[str, float]] = {}
        self.scores: dict[int, list[float]] = {}
        self.next = 0

    def begin(self, number: int) -> int:
        """Take up a thing under a number."""
        self.next = max(self.next, number + 1)
        self.masks[number] = [None] * self.frames
        self.labels[number], self.scores[number] = {}, []
        return number

    def see(self, number: int, found: Detection) -> None:
        """Remember that a thing was detected."""
        labels = self.labels[number]
        labels[found.label] = labels.get(found.label, 0.0) + found.score
        self.scores[number].append(found.score)

    def drop(self, number: int) -> None:
        """Forget a thing."""
        del self.masks[number], self.labels[number], self.scores[number]

    def tracks(self, same_overlap: float) -> list[MaskTrack]:
        """Put together what was seen at least once; a thing's name is the one it was given with the most score.

        Of two that cover each other through the clip, as when two names mean one thing, the less certain is left out.
        """
        kept: list[int] = []
        for number in sorted(self.masks, key=lambda number: -float(np.mean(self.scores[number]))):
            seen = any(mask is not None for mask in self.masks[number])
            if seen and all(self._cover(number, other) < same_overlap for other in kept):
                kept.append(number)
        return [
            MaskTrack(
                f"{number:03d}",
                max(self.labels[number], key=self.labels[number].__getitem__),
                self.masks[number],
                float(np.mean(self.scores[number])),
            )
            for number in sorted(kept)
        ]

    def _cover(self, first: int, second: int) -> float:
        """Mean overlap of two things over the frames that show at least one of them."""
        pairs = zip(self.masks[first], self.masks[second], strict=True)
        shown = [(one, two) for one, two in pairs if one is not None or two is not None]
        return float(
            np.mean([0.0 if one is None or two is None else mask_overlap(one, two) for one, two in shown])
        )


def match(overlap: np.ndarray, least: float) -> dict[int, int]:
    """Pair rows with columns, the largest overlap first, each at most once and none below `least`."""
    pairs: dict[int, int] = {}
    left = overlap.copy()
    while left.size and left.max() >= least:
        row, column = (int(place) for place in np.unravel_index(left.argmax(), left.shape))
        pairs[row] = column
        left[row], left[:, column] = -1, -1
    return pairs


def mask_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of masks (H, W)."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 0.0
