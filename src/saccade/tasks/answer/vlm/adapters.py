"""How to talk to each family of video language models, behind one interface.

An adapter owns everything between a clip and the tensors of one class in transformers: the chat template, the size at
which boxes are drawn, how the seconds of the frames are told, which tokens are learned, and how samples make a batch.

How seconds are told, since a model that is given frames alone knows nothing of them:

    llava_onevision   the processor passes no times on, so a sentence in the prompt names them
    qwen2_5_vl        positions of frames follow the mean spacing that `VideoMetadata` gives; where spacing changes
                      and where the clip begins is not told that way, so the sentence stands in the prompt as well
    qwen3_vl          the processor writes "<0.2 seconds>" before every pair of frames, the mean of their seconds
    smolvlm           the processor writes minutes and whole seconds, which two frames a second share; so the sentence
    saccade_vl        the processor writes "0.5s" before every frame, and the eyes are given the numbers

Frames that were picked by the label's own instants are handed over with `VideoMetadata` in milliseconds and are never
sampled again.

Shapes: B samples, L tokens, K positions that are learned from.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saccade.errors import ConfigError, DataError
from saccade.kinematics.draw import WIDTH_PX
from saccade.kinematics.forms import say_times
from saccade.tasks.answer.vlm.base import family_of, load_processor, transformers
from saccade.tasks.answer.vlm.clips import Exchange, fill_boxes, fit_frames

IGNORED = -100
"""Label of tokens that are not learned."""
TICKS = 1000
"""A second in the metadata of frames: their "frame numbers" are milliseconds."""
RUNNING = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "labels")
"""Entries along the tokens; the others are along samples, pictures or patches."""

Sample = dict[str, Tensor]


class Adapter:
    """One family. The differences are few enough to be class attributes and two methods."""

    family: ClassVar[str]
    language: ClassVar[str]
    """Where the language part's layers are, by the names of modules."""
    vision: ClassVar[tuple[str, ...]]
    projector: ClassVar[tuple[str, ...]]
    """Parts between the two; they win over `vision` where one lies inside the other."""
    says_times: ClassVar[bool] = True
    """Whether the prompt names the seconds of the frames."""

    def __init__(self, processor: Any, base: str, size: int = 0) -> None:
        """Wrap a processor.

        Args:
            processor: From `load_processor`.
            base: Its folder or hub id, for errors.
            size: Longest side of the frames before the processor has its say; 0: as recorded.
        """
        self.processor, self.base, self.size = processor, base, size
        self.tokenizer = processor.tokenizer
        self._sizes: dict[tuple[int, int, int], tuple[int, int]] = {}

    @property
    def box_channels(self) -> tuple[str, ...]:
        """Colours of the boxes that the network takes as channels; empty: all are drawn."""
        return ()

    # -- frames -----------------------------------------------------------------------------------

    def frame_size(self, width: int, height: int, count: int) -> tuple[int, int]:
        """Return the (width, height) at which the model sees `count` frames of that size.

        The processor is asked, on blank frames, so this holds for whatever its files say.
        """
        if self.size and max(width, height) > self.size:
            scale = self.size / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        key = (width, height, count)
        if key not in self._sizes:
            blank = np.zeros((count, height, width, 3), np.uint8)
            times = [0.5 * place for place in range(count)]
            found = self._look(self.processor.video_processor(
                videos=[blank], video_metadata=[metadata_of(times)], do_sample_frames=False, return_tensors="pt"
            ))  # fmt: skip
            self._sizes[key] = found
        return self._sizes[key]

    def _look(self, inputs: Mapping[str, Tensor]) -> tuple[int, int]:
        """Read (width, height) off the processor's tensors."""
        for name in ("pixel_values_videos", "pixel_values"):
            if name in inputs:
                return int(inputs[name].shape[-1]), int(inputs[name].shape[-2])
        raise ConfigError(f"{self.base}: its video processor makes no frames; expected pixel_values_videos")

    def fit(self, exchange: Exchange, *, width: int = WIDTH_PX, blank: bool = False) -> list[Image.Image]:
        """Resize the frames of an exchange to the model's resolution and draw their boxes there.

        Raises:
            DataError: Frames of different sizes.
        """
        if not exchange.frames:
            return []
        if len({frame.size for frame in exchange.frames}) > 1:
            raise DataError(
                f"{exchange.name or 'clip'}: frames of different sizes; expected those of one clip"
            )
        size = self.frame_size(*exchange.frames[0].size, len(exchange.frames))
        return fit_frames(exchange.frames, exchange.boxes, size, width=width, blank=blank)

    # -- text -------------------------------------------------------------------------------------

    def prompt(self, text: str, times_s: Sequence[float]) -> str:
        """Return the question as it is put: with the seconds of the frames, unless the processor writes them."""
        return f"{say_times(times_s)} {text}" if self.says_times and times_s else text

    def render(self, exchange: Exchange) -> list[tuple[str, str]]:
        """Return the texts of the chat template as (what comes before an answer, the answer with its end).

        Raises:
            ConfigError: A template that changes what was said before when more is said.
        """
        messages: list[dict[str, Any]] = []
        pieces, done = [], ""
        for number, (question, answer) in enumerate(exchange.turns):
            media: list[dict[str, Any]] = []
            if number == 0:
                media = [{"type": "video"}] if exchange.frames else []
                media += [{"type": "image"}] if exchange.image is not None else []
                question = self.prompt(question, exchange.times_s)
            messages.append({"role": "user", "content": [*media, {"type": "text", "text": question}]})
            before = self._template(messages, True)
            if not before.startswith(done):
                raise ConfigError(
                    f"{self.base}: its chat template rewrites earlier turns, so answers are not told from questions; "
                    "use conversations of one turn"
                )
            piece = before[len(done) :]
            if not answer:
                pieces.append((piece, ""))
                break
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
            whole = self._template(messages, False)
            said = whole[len(before) :] if whole.startswith(before) else ""
            if answer.strip() not in said:
                raise ConfigError(
                    f"{self.base}: its chat template does not put an answer after the prompt that asks for it; "
                    "expected a template with add_generation_prompt"
                )
            pieces.append((piece, said.rstrip("\n")))
            done = before + pieces[-1][1]
        return pieces

    def _template(self, messages: list[dict[str, Any]], asks: bool) -> str:
        return str(self.processor.apply_chat_template(messages, add_generation_prompt=asks, tokenize=False))

    # -- tensors ----------------------------------------------------------------------------------

    def encode(self, exchange: Exchange, *, width: int = WIDTH_PX, blank: bool = False) -> Sample:
        """Turn an exchange into the tensors of a batch of one, with `labels` that hold the answers only.

        Prompt and answer are tokenised apart, exactly as they are when the model answers.

        Args:
            exchange: Frames and turns.
            width: Of the lines of boxes.
            blank: Grey frames without boxes: what a model knows from the question alone.

        Returns:
            {"input_ids": (1, L), "labels": (1, L), ...} and what the family needs of frames.

        Raises:
            DataError: Text that holds the marks of frames.
        """
        pieces = self.render(exchange)
        frames = self.fit(exchange, width=width, blank=blank)
        media: dict[str, Any] = {}
        if frames:
            media["videos"] = [np.stack([np.asarray(frame) for frame in frames])]
            media["videos_kwargs"] = {
                "video_metadata": [metadata_of(exchange.times_s)], "do_sample_frames": False, "do_resize": False,
            }  # fmt: skip
        if exchange.image is not None:
            media["images"] = [exchange.image.convert("RGB")]
        first = self.prepare(pieces[0][0])
        if self.tokenizer.bos_token and first.startswith(self.tokenizer.bos_token):
            media["add_special_tokens"] = False  # the template has written the beginning already
        try:
            inputs = dict(self.processor(text=[first], return_tensors="pt", **media))
        except (ValueError, IndexError, StopIteration) as error:
            raise DataError(
                f"{exchange.name or 'clip'}: the processor of {self.base} refuses it "
                f"({' '.join(str(error).split())[:160]}); expected text without the model's own marks for pictures"
            ) from None
        inputs = self.complete(inputs, exchange, blank)
        ids = [inputs.pop("input_ids")[0]]
        labels = [torch.full_like(ids[0], IGNORED)]
        for number, (before, answer) in enumerate(pieces):
            if number:
                ids.append(self._tokens(before))
                labels.append(torch.full_like(ids[-1], IGNORED))
            if answer:
                said = self._tokens(answer)
                if int(said[-1]) not in self.ends:
                    said = torch.cat([said, said.new_tensor([self.tokenizer.eos_token_id])])
                ids.append(said)
                labels.append(said)
        length = sum(len(part) for part in ids)
        for name in RUNNING:
            if name in inputs:
                more = length - inputs[name].shape[1]
                fill = 1 if name == "attention_mask" else 0
                inputs[name] = torch.nn.functional.pad(inputs[name], (0, more), value=fill)
        tensors = {
            name: value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
            for name, value in inputs.items()
        }
        return {"input_ids": torch.cat(ids)[None], "labels": torch.cat(labels)[None], **tensors}

    def prepare(self, text: str) -> str:
        """Change the rendered prompt before the processor fills in its marks."""
        return text

    def complete(self, inputs: dict[str, Any], exchange: Exchange, blank: bool) -> dict[str, Any]:
        """Add to what the processor made of an exchange."""
        del exchange, blank
        return inputs

    @functools.cached_property
    def ends(self) -> set[int]:
        """Tokens that end an answer."""
        return {self.tokenizer.eos_token_id}

    def _tokens(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.int64)

    def join(self, samples: Sequence[Sample], *, left: bool = False) -> list[tuple[list[int], Sample]]:
        """Make batches of samples. Those whose frames have other shapes go into batches of their own.

        Padding does not change what a sample gives, so neither does its company.

        Args:
            samples: From `encode`.
            left: Pad on the left, as generation needs, in place of the right.

        Returns:
            (places in `samples`, tensors) of each batch.
        """
        alike: dict[tuple, list[int]] = {}
        for place, sample in enumerate(samples):
            shape = tuple(
                (name, tuple(value.shape[1:]))
                for name, value in sorted(sample.items())
                if name not in RUNNING
            )
            kind = (*sorted(sample), shape)
            alike.setdefault(kind, []).append(place)
        return [
            (places, self._stack([samples[place] for place in places], left)) for places in alike.values()
        ]

    def _stack(self, samples: Sequence[Sample], left: bool) -> Sample:
        longest = max(sample["input_ids"].shape[1] for sample in samples)
        fills = {"input_ids": self.tokenizer.pad_token_id, "labels": IGNORED}
        joined: Sample = {}
        for name in samples[0]:
            parts = [sample[name] for sample in samples]
            if name in RUNNING:
                parts = [
                    torch.nn.functional.pad(
                        part,
                        (longest - part.shape[1], 0) if left else (0, longest - part.shape[1]),
                        value=fills.get(name, 0),
                    )
                    for part in parts
                ]
            joined[name] = torch.cat(parts)
        return joined


class LlavaOnevision(Adapter):
    """SigLIP, two layers, Qwen2; frames are squeezed into a square and pooled 2 x 2."""

    family = "llava_onevision"
    language = "model.language_model"
    vision = ("model.vision_tower",)
    projector = ("model.multi_modal_projector", "model.image_newline")


class Qwen25VL(Adapter):
    """Frames of any aspect, two of them a token; the spacing of frames is a position."""

    family = "qwen2_5_vl"
    language = "model.language_model"
    vision = ("model.visual",)
    projector = ("model.visual.merger",)

    def _look(self, inputs: Mapping[str, Tensor]) -> tuple[int, int]:
        patch = int(self.processor.video_processor.patch_size)
        _, down, across = inputs["video_grid_thw"][0].tolist()
        return across * patch, down * patch


class Qwen3VL(Qwen25VL):
    """As before, but the second of every pair of frames is written out as text."""

    family = "qwen3_vl"
    projector = ("model.visual.merger", "model.visual.deepstack_merger_list")
    says_times = False

    def prepare(self, text: str) -> str:
        """Take the template's marks from around the clip: the processor puts a pair around every two frames."""
        video = self.processor.video_token
        return text.replace(
            f"{self.processor.vision_start_token}{video}{self.processor.vision_end_token}", video
        )


class SmolVLM(Adapter):
    """Every frame is a picture with its minute and second before it."""

    family = "smolvlm"
    language = "model.text_model"
    vision = ("model.vision_model",)
    projector = ("model.connector",)


class SaccadeVL(Adapter):
    """Our own eyes before any text model; boxes are drawn, or come in as channels where the eyes have them."""

    family = "saccade_vl"
    language = "language_model"
    vision = ("eyes",)
    projector = ("projector",)
    says_times = False

    @property
    def box_channels(self) -> tuple[str, ...]:
        """What the eyes have."""
        return tuple(self.processor.boxes)

    def fit(self, exchange: Exchange, *, width: int = WIDTH_PX, blank: bool = False) -> list[Image.Image]:
        """Resize frames, and draw boxes unless they are channels."""
        bare = dataclasses.replace(exchange, boxes=[]) if self.box_channels else exchange
        return super().fit(bare, width=width, blank=blank)

    def encode(self, exchange: Exchange, *, width: int = WIDTH_PX, blank: bool = False) -> Sample:
        """As before; a single picture is a clip of one frame."""
        if exchange.image is not None:
            exchange = dataclasses.replace(exchange, image=None, frames=[exchange.image], times_s=[0.0])
        return super().encode(exchange, width=width, blank=blank)

    def complete(self, inputs: dict[str, Any], exchange: Exchange, blank: bool) -> dict[str, Any]:
        """Put the channels of boxes behind those of the frames."""
        if not (self.box_channels and exchange.frames):
            return inputs
        frames = torch.as_tensor(inputs["pixel_values_videos"])
        nothing = [{} for _ in exchange.frames]
        boxes = exchange.boxes if exchange.boxes and not blank else nothing
        size = (frames.shape[-1], frames.shape[-2])
        filled = fill_boxes(boxes, exchange.frames[0].size, size, self.box_channels)
        return inputs | {"pixel_values_videos": torch.cat([frames, torch.from_numpy(filled)[None]], 2)}


ADAPTERS: dict[str, type[Adapter]] = {
    kind.family: kind for kind in (LlavaOnevision, Qwen25VL, Qwen3VL, SmolVLM, SaccadeVL)
}


@functools.lru_cache(maxsize=8)
def adapter_for(base: str, *, size: int = 0) -> Adapter:
    """Open the adapter of a base.

    Args:
        base: Folder or hub id.
        size: Longest side of the frames before the processor has its say; 0: as recorded.

    Raises:
        ConfigError: A base that takes no videos or has no chat template.
        WeightsError: Files that are missing, or a hub that cannot be reached.
    """
    kind = ADAPTERS[family_of(base)]
    return kind(load_processor(base), base, size)


def metadata_of(times_s: Sequence[float]) -> Any:
    """Tell transformers at which seconds frames were taken, whatever the clip's own frame rate was."""
    ticks = [round(TICKS * time) for time in times_s]
    # The length over which this many frames have their mean spacing: classes divide one by the other.
    spacing = (ticks[-1] - ticks[0]) / (len(ticks) - 1) if len(ticks) > 1 else TICKS * 0.5
    video_utils = transformers().video_utils
    return video_utils.VideoMetadata(
        total_num_frames=round(spacing * len(ticks)),
        fps=float(TICKS),
        duration=ticks[-1] / TICKS,
        frames_indices=ticks,
    )
