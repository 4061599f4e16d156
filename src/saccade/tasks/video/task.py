"""Videos: one label a clip. Data, views and networks are its own, losses and metrics those of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from saccade.data.clips import ClipSource, is_divided, open_clip_pair, open_clips
from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.video_clips import ClipDataset, VideoPreprocess, build_clip_augmentation, collate_clips
from saccade.errors import ConfigError, did_you_mean
from saccade.files import within
from saccade.models.video_frames import HEADS, VideoFrames
from saccade.models.video_swin import IMAGE_FORMS, VideoSwin, inflate_from_image
from saccade.tasks.base import Batch, Net, PredictSettings, Samples, TaskData
from saccade.tasks.classify.report import Mistakes
from saccade.tasks.classify.task import Classify, ClassifySettings
from saccade.trust import check_place
from saccade.weights.card import Card
from saccade.zoo.registry import create_model, create_video_model, task_of

FRAMES = 16
"""Frames of a clip for networks of pictures, unless asked otherwise."""


@dataclass
class VideoSettings(ClassifySettings):
    """What a classifier of videos can be asked."""

    frames: Annotated[int, within(0, 256)] = 0
    """Of a clip; 0: those of the weights."""
    views: Literal["1x1", "1x3", "4x1", "4x3", "10x3"] = "1x1"
    """Temporal times spatial views whose answers are averaged."""


class Video(Classify):
    """Clip in, one of `card.labels` out.

    A batch's `image` is (batch * V, T, C, S, S), the V views of a clip next to each other; `outputs` joins their
    answers.
    """

    name = "video"
    main_metric = "top1"
    channels_last = False
    phones = False
    labelled_pictures = False
    sparsifies = False
    unsupported: ClassVar[Mapping[str, str]] = {
        "explain": "maps of evidence are drawn for classifiers of pictures"
    }
    measured = False
    predict_batch = 4
    predict_settings: ClassVar[type[PredictSettings]] = VideoSettings

    def shipped_recipe(self, data: str, model: str | None) -> str:
        """The built-in clips have a recipe with a small network of its own."""
        return "clips_video" if data == "clips" and model is None else "video_small"

    held_out_settings = ("size", "frames", "views")
    samples = "videos"

    def complete(self, card: Card) -> None:
        """Fill in how frames are joined.

        Raises:
            ConfigError: An unknown way, or one for a network that takes whole clips.
        """
        if task_of(card.model) == "video":
            if card.head or card.head_options:
                raise ConfigError(f"{card.model} takes whole clips and has no model.head; leave it out")
            return
        card.head = card.head or HEADS[0]
        if card.head not in HEADS:
            near = did_you_mean(card.head, HEADS) or f"; expected one of {', '.join(HEADS)}"
            raise ConfigError(f"task {self.name} has no head {card.head!r}{near}")

    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the fields of a `VideoPreprocess`."""
        return video_preprocess_of(card).to_dict()

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Find and split the videos.

        Args:
            data: Where they are, and which frames are taken: its size, frames, sampling, step_s and views.
            augment: What is done to training clips: crop, mirrors, colour and erasing.
            card: Its labels, when it has any, fix the classes. Its `head_options` are told the number of frames.
            seed: Of the split, when one is made.
            train: False: open only validation clips.

        Raises:
            DataError: No such data, or data that cannot be used.
        """
        preprocess = video_preprocess_of(card, data)
        labels = card.labels or None
        if not train:
            source = open_clips(data.val or data.source, part="val", labels=labels)
            dataset = ClipDataset(source, preprocess, max_pixels=data.max_pixels)
            return TaskData(None, dataset, list(labels or source.labels), preprocess.to_dict(), source.notes)
        if task_of(card.model) != "video" and card.head == "transformer":
            card.head_options = {**card.head_options, "frames": preprocess.frames}
        pair = open_clip_pair(data, seed=seed, labels=labels)
        assert isinstance(pair.train, ClipSource)
        assert isinstance(pair.val, ClipSource)
        change = build_clip_augmentation(augment, preprocess)
        return TaskData(
            ClipDataset(pair.train, preprocess, augment=change, max_pixels=data.max_pixels),
            ClipDataset(pair.val, preprocess, max_pixels=data.max_pixels),
            list(pair.labels),
            preprocess.to_dict(),
            list(pair.notes),
        )

    def open_inputs(self, where: str, card: Card, settings: Any) -> Samples:
        """Open a folder (searched to the bottom), one video, a table, or clips."""
        chosen = DataConfig(frames=settings.frames or None, views=settings.views)
        preprocess = video_preprocess_of(card, chosen)
        return ClipDataset(open_clips(where, classes=False), preprocess, max_pixels=settings.max_pixels)

    def from_pictures(self, pictures: Sequence[Image.Image], card: Card) -> Batch | None:
        """Return None: a picture is no clip."""
        return None

    def open_held_out(self, data: DataConfig, card: Card, *, seed: int, kept_back: bool) -> TaskData:
        """Open videos to judge weights by: classes are matched by name.

        Raises:
            DataError: As `open_clips`, or another number of classes.
        """
        check_place(data.source)
        labels, divided = self._names(card), is_divided(data.source)
        if kept_back and not divided:
            source = open_clip_pair(data, seed=seed, labels=labels).val
            assert isinstance(source, ClipSource)
            notes = [
                f"Measured on the {len(source)} videos that training kept back, not on those it learned."
            ]
        else:
            source = open_clips(data.source, part="val" if divided else "all", labels=labels)
            notes = list(source.notes)
        self._match(card, list(source.labels), data.source)
        preprocess = video_preprocess_of(card, data)
        samples = ClipDataset(source, preprocess, max_pixels=data.max_pixels)
        return TaskData(None, samples, list(source.labels), preprocess.to_dict(), notes)

    def gallery(self, card: Card, keep: int) -> Mistakes:
        """Keep the worst mistakes, each with its middle frame."""
        return Mistakes(video_preprocess_of(card).denormalise, keep)

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples into a batch; see `collate_clips`."""
        return collate_clips(samples)

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Make the network a card describes."""
        self.complete(card)
        return create_video_model(
            card.model,
            card.head,
            num_classes=card.num_classes,
            in_chans=card.in_chans,
            pretrained=pretrained,
            options=card.options,
            **card.head_options,
        )

    def takes(self, found: Card, card: Card) -> bool:
        """Whether weights can start a network: its own, or those of its image form."""
        image_form = found.task == "classify" and found.model in IMAGE_FORMS.get(card.model, ())
        return found.model == card.model or image_form

    def adopt(self, model: nn.Module, old: nn.Module, found: Card) -> None:
        """Take over a classifier of pictures: on every frame, or spread over time.

        Raises:
            ConfigError: Weights of something else, or of another layout of semantic tokens.
        """
        if found.task != "classify":
            raise ConfigError(
                f"weights for the task {found.task} cannot start a network of clips; pass a classifier's, or leave "
                "--weights out"
            )
        state = old.state_dict()
        if isinstance(model, VideoSwin):
            theirs = getattr(getattr(old, "config", None), "image_blocks", None)
            if theirs is not None and model.samples and theirs != model.config.image_blocks:
                raise ConfigError(
                    f"{found.model} makes its semantic tokens behind {theirs} blocks and the network of clips behind "
                    f"{model.config.image_blocks}; train one of them with --model.options '{{image_blocks: ...}}'"
                )
            inflate_from_image(model, state)
            return
        assert isinstance(model, VideoFrames)
        net = model.backbone.net
        wanted = net.state_dict()
        kept = {name: value for name, value in state.items() if name in wanted}
        if len(kept) < len(wanted) // 2:
            raise ConfigError(f"these weights share no layers with the frames' network of {found.model}")
        net.load_state_dict({**wanted, **kept})

    def run(self, net: Net, batch: Batch) -> Tensor:
        """Run the network and join the views of each clip: log of their mean probabilities, (batch, classes)."""
        logits = super().run(net, batch)
        views = len(batch["image"]) // max(1, len(batch["index"]))
        if views <= 1:
            return logits
        shares = logits.float().softmax(1).unflatten(0, (-1, views)).mean(1)
        return shares.clamp_min(
            torch.finfo(shares.dtype).tiny
        ).log()  # finite where a class is out of the question

    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Make normal noise (batch, frames, in_chans, size, size)."""
        fields = video_preprocess_of(card)
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, fields.frames, card.in_chans, fields.size, fields.size)
        return (torch.randn(shape, generator=generator),)


def video_preprocess_of(card: Card, data: DataConfig | None = None) -> VideoPreprocess:
    """Return the evaluation transform of a card, else the default of its model, with what `data` sets instead."""
    values = dict(card.preprocess)
    if not values:
        with torch.device("meta"):  # attributes only, no tensors
            model = create_model(card.model, in_chans=card.in_chans, **dict(card.options))
        published: Any = getattr(model, "pretrained_cfg", None) or {}
        values = {name: published[name] for name in ("mean", "std") if name in published}
        values["size"] = int(getattr(model, "default_size", 224))
        values["frames"] = int(getattr(model, "default_frames", FRAMES))
    preprocess = VideoPreprocess.from_dict(values)
    if data is None:
        return preprocess
    changes: dict[str, Any] = {"views": data.views}
    changes |= {name: getattr(data, name) for name in ("size", "frames", "step_s") if getattr(data, name)}
    if data.sampling != "auto":
        changes["sampling"] = data.sampling
    return dataclasses.replace(preprocess, **changes)
