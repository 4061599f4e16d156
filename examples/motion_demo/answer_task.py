"""Answering about rendered clips whose pictures were seen beforehand: Saccade's `answer`, many times as fast.

The network is the same base with the same eyes, and what is tuned fits into it. Two things are spared. What has no
weights has seen every clip before (`motion_demo.sets`), so no picture is opened. And a clip is put before the text
model once for all that is asked about the same boxes: the questions stand one after another, each sees the clip and
itself only, and has the positions it would have alone, so every answer is learned as if it were asked by itself.

Shape legend: B sights (a clip with its boxes), L tokens, K positions that are learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from motion_demo.eyes import ClipEyes
from motion_demo.questions import Sight, gather, gather_pairs, varied
from motion_demo.samples import MotionSamples
from motion_demo.sets import MotionSet
from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.dataset import SampleKey
from saccade.errors import ConfigError, DataError
from saccade.kinematics.records import Question, read_questions
from saccade.tasks.answer.task import Answer
from saccade.tasks.answer.vlm.adapters import ADAPTERS, IGNORED, Adapter
from saccade.tasks.answer.vlm.base import family_of, load_base
from saccade.tasks.answer.vlm.clips import Exchange
from saccade.tasks.answer.vlm.model import VideoLanguageModel, tune_options
from saccade.tasks.base import Batch, TaskData
from saccade.weights.card import Card

PREFIX = -1
"""Number of the question that tokens of the clip belong to, which all questions see."""
PADDING = -2
MOST_ASKED = 4
"""Questions about a sight at a time, in training."""
KEPT = 50_000
"""Texts whose tokens are kept at a time: other words every time would fill any memory."""


class MotionAnswer(Answer):
    """A batch has one part; see `Answer`. Its inputs are what `SeenModel` takes.

    What is tuned is a network of the task answer, and its card says so: the run is asked and scored as any other.
    """

    name = "motion_answer"

    def complete(self, card: Card) -> None:
        """As of `Answer`; the weights are that task's."""
        super().complete(card)
        card.task = Answer.name

    def adopt(self, model: nn.Module, old: nn.Module, found: Card) -> None:
        """Start from a base that was tuned by either task."""
        model.load_state_dict(old.state_dict())

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Read questions about sets of motion clips.

        Args:
            data: `source` and `val`: questions; `labels` and `pictures`: the sets that they are about.
            augment: Not used.
            card: Its model is the base.
            seed: Of the colours of boxes.
            train: False: open only what to validate with.

        Raises:
            DataError: Files that cannot be read as such.
            ConfigError: No questions or set to validate with.
        """
        adapter = self._open_adapter(card, 0)
        facts = self._facts(adapter) | {"side": 0}
        if not (data.val and data.pictures):
            raise ConfigError(
                "data.val and data.pictures are empty; name questions about a set by other rigs, and that set"
            )
        val = SightData(data.val, MotionSet(data.pictures), adapter, seed)
        if not train:
            return TaskData(None, val, [], facts)
        learned = SightData(data.source, MotionSet(data.labels), adapter, seed, vary=True)
        note = f"{learned.asked} questions to train on, {val.asked} to validate with"
        return TaskData(learned, val, [], facts, [note])

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join sights, padded on the right."""
        longest = max(len(sample["ids"]) for sample in samples)
        assert self._adapter is not None
        fills = {"ids": self._adapter.tokenizer.pad_token_id, "labels": IGNORED, "owner": PADDING, "place": 0}
        joined = {
            name: torch.stack([
                nn.functional.pad(sample[name], (0, longest - len(sample["ids"])), value=fill) for sample in samples
            ])
            for name, fill in fills.items()
        }  # fmt: skip
        labels = joined["labels"]
        keep = (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]
        inputs = {name: torch.stack([sample[name] for sample in samples]) for name in SEEN}
        inputs |= {"input_ids": joined["ids"], "owner": joined["owner"], "position_ids": joined["place"]}
        places = list(range(len(samples)))
        return {
            "parts": [{"inputs": inputs, "keep": keep, "targets": labels[:, keep + 1], "places": places}],
            "index": torch.tensor([sample["index"] for sample in samples], dtype=torch.int64),
            "name": [sample["name"] for sample in samples],
            "skipped": [],
        }

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Build the base and the parts that learn."""
        chosen = tune_options(card.options)
        kind = ADAPTERS[family_of(card.model)]
        network: Any = load_base(card.model, dtype=chosen.dtype, fresh=chosen.fresh)
        if not isinstance(getattr(network, "eyes", None), ClipEyes):
            raise ConfigError(
                f"{card.model} has no eyes that were taught by motion; expected a base of the motion demonstration"
            )
        return SeenModel(network, kind, chosen)


SEEN = ("observations", "facts", "seconds")
"""What the eyes take of a clip that was seen before."""


class SeenModel(VideoLanguageModel):
    """A base that is given what was seen of clips, and several questions about each."""

    def forward(self, inputs: Mapping[str, Tensor], keep: Tensor) -> Tensor:
        """Return logits at some positions.

        Args:
            inputs: observations, facts and seconds (see `MotionEyes.think`); input_ids (B, L), owner (B, L) the
                number of the question that a token belongs to, -1 for those of the clip, -2 for padding; position_ids
                (B, L).
            keep: (K,) positions.

        Returns:
            (B, K, vocabulary).
        """
        network = self.network
        ids, owner = inputs["input_ids"], inputs["owner"]
        words = network.get_input_embeddings()(ids)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.options.vision):
            seen = network.eyes.think(*(inputs[name] for name in SEEN))
        seen = network.projector(seen.to(words.dtype)).to(words.dtype)  # mixed precision changes it
        words = words.masked_scatter((ids == network.config.video_token_id)[..., None], seen)
        return network.language_model(
            inputs_embeds=words, attention_mask=sees(owner), position_ids=inputs["position_ids"],
            logits_to_keep=keep, use_cache=False,
        ).logits  # fmt: skip


def sees(owner: Tensor) -> Tensor:
    """Say which token (rows) sees which (columns), (B, 1, L, L): earlier ones of the clip and of its question."""
    length = owner.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=owner.device).tril()
    of_clip = (owner == PREFIX)[:, None, :]
    same = owner[:, :, None] == owner[:, None, :]
    return (before & (same | of_clip))[:, None]


class SightData(Dataset):
    """Sights of a set with their questions, as tokens."""

    def __init__(
        self, questions: str, motion: MotionSet, adapter: Adapter, seed: int, *, vary: bool = False
    ) -> None:
        """Gather the questions.

        Args:
            questions: Their file.
            motion: The set they are about.
            adapter: Of the base.
            seed: Of the colours of boxes.
            vary: Ask in other words and colours every time, as training does; see `gather_pairs`.

        Raises:
            DataError: Questions about clips that the set does not have.
        """
        self.samples, self.adapter = MotionSamples(motion, vary=False), adapter
        self.vary = vary
        read = list(read_questions(questions))
        if vary and (foreign := [question for question in read if question.template_id is None]):
            raise DataError(
                f"{questions}: question {foreign[0].id} has no template_id, so it cannot be asked in other words; "
                "expected questions that `saccade kinematics questions` or the motion demonstration made"
            )
        self.sights = gather_pairs(read) if vary else gather(read, seed=seed)
        self.asked = len(read)
        self.numbers = {name: number for number, name in enumerate(self.samples.names)}
        if strange := [sight.clip_id for sight in self.sights if sight.clip_id not in self.numbers]:
            raise DataError(f"{questions}: asks about {strange[0]}, which {motion.folder} does not have")
        self._prefix: Tensor | None = None
        self._tokens: dict[str, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.sights)

    def __getitem__(self, key: SampleKey | int) -> dict[str, Any]:
        """Return {ids, labels, owner, place, observations, facts, seconds, index, name, unreadable}."""
        index, seed = key if isinstance(key, SampleKey) else (int(key), int(key))
        sight = varied(self.sights[index], seed, MOST_ASKED) if self.vary else self.sights[index]
        number = self.numbers[sight.clip_id]
        chosen = [None if name is None else self.samples.things[number].index(name) for name in sight.boxes]
        known = self.samples.known(number).of(chosen)
        return {
            **self.tokens(sight),
            "observations": self.samples.observations(number),
            "facts": known["facts"],
            "seconds": known["seconds"],
            "index": index,
            "name": sight.clip_id,
            "skipped": [],
        }

    def tokens(self, sight: Sight) -> dict[str, Tensor]:
        """Write the clip and its questions one after another: ids, labels, owner and place (L,)."""
        prefix = self.prefix(sight.questions[0])
        count = len(prefix)
        ids, owner, place = [prefix], [torch.full((count,), PREFIX)], [torch.arange(count)]
        labels = [torch.full((count,), IGNORED)]
        for number, question in enumerate(sight.questions):
            asked, said = self.turn(question)
            ids += [asked, said]
            labels += [torch.full_like(asked, IGNORED), said]
            owner.append(torch.full((len(asked) + len(said),), number))
            place.append(count + torch.arange(len(asked) + len(said)))
        whole = zip(("ids", "labels", "owner", "place"), (ids, labels, owner, place), strict=True)
        return {name: torch.cat(parts) for name, parts in whole}

    def prefix(self, question: Question) -> Tensor:
        """Tokens of the clip, equal for all clips of a set: the same seconds, and places for what is seen."""
        if self._prefix is None:
            times = list(question.frame_times_s or ())
            whole = self.adapter.encode(Exchange([("", "")], _blank(len(times)), times))["input_ids"][0]
            last = int((whole == self.adapter.processor.video_token_id).nonzero()[-1, 0])
            self._prefix = whole[: last + 1]
        return self._prefix

    def turn(self, question: Question) -> tuple[Tensor, Tensor]:
        """Tokens of a question behind the clip, and of its answer with its end."""
        key = f"{question.question}\n{question.answer}"
        if key not in self._tokens:
            if len(self._tokens) >= KEPT:
                self._tokens.clear()
            times = list(question.frame_times_s or ())
            turns = [(question.question, question.answer)]
            text, said = self.adapter.render(Exchange(turns, _blank(len(times)), times))[0]
            behind = text.partition(self.adapter.processor.video_token)[2]
            asked, answer = (
                torch.tensor(self.adapter.tokenizer(part, add_special_tokens=False)["input_ids"], dtype=torch.int64)
                for part in (behind, said)
            )  # fmt: skip
            if int(answer[-1]) not in self.adapter.ends:
                answer = torch.cat([answer, answer.new_tensor([self.adapter.tokenizer.eos_token_id])])
            self._tokens[key] = asked, answer
        return self._tokens[key]


def _blank(count: int) -> list[Image.Image]:
    """Frames for texts that nobody will look at."""
    return [Image.new("RGB", (32, 24)) for _ in range(count)]
