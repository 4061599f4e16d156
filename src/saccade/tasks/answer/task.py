"""Answering: frames of a clip and a question in, the answer as text out.

The networks are those of transformers under `saccade.vlm`; what is learned is the answer and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.data.config import AugmentConfig, DataConfig
from saccade.errors import ConfigError, DataError, memory_enough
from saccade.kinematics.records import read_questions
from saccade.tasks.answer.vlm.adapters import IGNORED, Adapter, adapter_for
from saccade.tasks.answer.vlm.data import AnswerData, Exchanges, Item, read_mix, split_questions
from saccade.tasks.answer.vlm.model import build_vlm, tune_options
from saccade.tasks.base import Batch, LossContext, Metrics, Task, TaskData, device_of
from saccade.trust import Stored, check_place
from saccade.weights.card import Card


class Answer(Task):
    """Next-token prediction on answers; a batch holds `parts`, each of frames of one shape.

    A part is {"inputs": what the network takes, "keep": (K,) positions before a token of any answer,
    "targets": (B, K) that token, or -100, "places": where its samples stand in the batch}.
    """

    name = "answer"
    main_metric = "likelihood"
    channels_last = False
    parallel = False  # copies of a language model would not fit
    predict_batch = 8
    unsupported: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("predict", "export", "bench", "explain", "check"), "use `saccade vlm ask` and `saccade vlm score`"
    )
    place_flags: ClassVar = {"model.name": "--base"}
    samples = "questions"
    held_out_settings = ("size", "labels", "pictures")
    metric_names: ClassVar = {
        "likelihood": "Likelihood",
        "tokens": "Tokens right %",
        "answers": "Answers right, word for word %",
        "loss": "Log loss",
    }

    def __init__(self) -> None:
        self._adapter: Adapter | None = None

    def shipped_recipe(self, data: str, model: str | None) -> str:
        """LoRA in the language part."""
        return "vlm_lora"

    def suit_machine(self, recipe: Any, given: Container[str]) -> None:
        """Hold the base in 32 bits where it is tuned fully, and on processors, where bfloat16 saves no time."""
        from saccade.devices import pick_device

        options = recipe.model.options
        if pick_device(recipe.run.device) == "cpu" and "run.precision" not in given:
            recipe.run.precision, options["dtype"] = "float32", "float32"
        if options.get("lora") == 0:
            options["dtype"] = "float32"
            if "optim.lr" not in given:
                recipe.optim.lr = 1e-5

    def preprocess(self, card: Card) -> dict[str, Any]:
        """Return the resolution at which a frame of 640 x 480 is seen."""
        if card.preprocess:
            return dict(card.preprocess)
        return self._facts(self._open_adapter(card, 0))

    def check_stored(self, card: Card, where: Path | str) -> None:
        """Mark the base, another folder or one of the hub's, as what a file says.

        Raises:
            ConfigError: A base that takes the user's own word.
        """
        card.model = Stored(card.model, where, "the model of the card", "--base")
        check_place(card.model)

    def complete(self, card: Card) -> None:
        """Check the options before anything is loaded.

        Raises:
            ConfigError: A head, or options that cannot be.
        """
        super().complete(card)
        tune_options(card.options)
        if Path(card.model).is_dir():  # found again from wherever the run is used
            card.model = str(Path(card.model).resolve())

    def open(
        self, data: DataConfig, augment: AugmentConfig, card: Card, *, seed: int, train: bool = True
    ) -> TaskData:
        """Read questions, and general conversations to mix in.

        Args:
            data: `source`, `val`, `val_fraction`, `mix`, `labels`, `pictures`; `size` is the longest side of frames.
            augment: Not used: a mirrored clip has other answers.
            card: Its model is the base.
            seed: Of splits and of the choice of conversations.
            train: False: open only what to validate with.

        Raises:
            DataError: Files that cannot be read as such.
        """
        side = data.size or 0  # 0: as the base cuts them
        adapter = self._open_adapter(card, side)
        asked, held, note = split_questions(data.source, data.val, data.val_fraction, seed)
        exchanges = Exchanges(data.source, data.labels, data.pictures)
        others = Exchanges(data.val, data.labels, data.pictures) if data.val else exchanges
        val = AnswerData(held, others, adapter)
        facts = self._facts(adapter) | {"side": side}
        if not train:
            return TaskData(None, val, [], facts)
        talks, notes = read_mix(data.mix, len(asked), seed)
        items: list[Item] = [*asked, *talks]
        return TaskData(AnswerData(items, exchanges, adapter, replace=True), val, [], facts, [note, *notes])

    def open_held_out(self, data: DataConfig, card: Card, *, seed: int, kept_back: bool) -> TaskData:
        """Open questions to judge weights by: those that are not of the split train, or all where all are."""
        for place in (data.source, data.labels, data.pictures):
            check_place(place)
        side = data.size or int(card.preprocess.get("side", 0))
        adapter = self._open_adapter(card, side)
        asked = list(read_questions(data.source))
        if kept_back:
            held = split_questions(data.source, "", data.val_fraction, seed)[1]
        else:
            held = [question for question in asked if question.split != "train"] or asked
        if not held:
            raise DataError(f"{data.source}: no questions; expected those of `saccade kinematics questions`")
        samples = AnswerData(held, Exchanges(data.source, data.labels, data.pictures), adapter)
        return TaskData(None, samples, [], self._facts(adapter) | {"side": side})

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Join samples; those without frames of the same shape go into parts of their own."""
        if "exchange" in samples[0]:  # questions that are to be answered
            return {
                "exchanges": [sample["exchange"] for sample in samples],
                "blank": samples[0]["blank"],
                "index": torch.tensor([sample["index"] for sample in samples], dtype=torch.int64),
                "name": [sample["name"] for sample in samples],
                "skipped": [entry for sample in samples for entry in sample["skipped"]],
            }
        good = [sample for sample in samples if sample["sample"] is not None]
        parts = []
        if good:
            assert self._adapter is not None
            for places, inputs in self._adapter.join([sample["sample"] for sample in good]):
                labels = inputs.pop("labels")
                keep = (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]
                parts.append(
                    {"inputs": inputs, "keep": keep, "targets": labels[:, keep + 1], "places": places}
                )
        return {
            "parts": parts,
            "index": torch.tensor([sample["index"] for sample in good], dtype=torch.int64),
            "name": [sample["name"] for sample in good],
            "skipped": [entry for sample in samples for entry in sample["skipped"]],
        }

    def build(self, card: Card, *, pretrained: bool = False) -> nn.Module:
        """Build the base with its own weights (random ones with the option fresh) and the parts that learn."""
        return build_vlm(card.model, card.options)

    def loss(self, model: nn.Module, batch: Batch, context: LossContext) -> dict[str, Tensor]:
        """Mean negative log likelihood of the tokens of all answers of the batch.

        Raises:
            SaccadeError: The device's memory is not enough.
        """
        device = next(model.parameters()).device
        found = _likelihoods(model, batch, device)
        losses, hits = (torch.cat([part[name] for part in found]) for name in ("losses", "hits"))
        return {"loss": losses.mean(), "tokens": hits.float().mean()}

    def run(self, net: Any, batch: Batch) -> list[dict[str, Any]]:
        """Return of every sample the loss of each token of its answer, and whether that token is the likeliest.

        Of questions that are to be answered (`vlm.data.Asked`), for which `net` is an `Answers`: the answer.
        """
        if "exchanges" in batch:
            said = net.answer(batch["exchanges"], blank=batch["blank"])
            return [{"answer": text} for text in said]
        parts = _likelihoods(net, batch, device_of(net))
        found: list[dict[str, Tensor]] = [{} for _ in batch["name"]]
        for part in parts:
            for place in part["owner"].unique().tolist():
                of_it = part["owner"] == place
                found[place] = {"losses": part["losses"][of_it], "hits": part["hits"][of_it]}
        return found

    def metrics(self, card: Card) -> AnswerMetrics:
        """Make an empty accumulator."""
        return AnswerMetrics()

    def rows(
        self, outputs: list[dict[str, Any]], batch: Batch, card: Card, settings: Any
    ) -> list[dict[str, Any]]:
        """Turn outputs into rows of id and answer; of answers that are given, of name and likelihood."""
        if "exchanges" in batch:
            return [{"id": name, **found} for name, found in zip(batch["name"], outputs, strict=True)]
        return [
            {"name": name, "likelihood": math.exp(-float(found["losses"].mean()))}
            for name, found in zip(batch["name"], outputs, strict=True)
        ]

    def example(self, card: Card, *, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Refuse: a conversation is no fixed set of tensors.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{card.model} answers questions and cannot be exported or measured this way; use `saccade vlm ask` and "
            "`saccade vlm score`"
        )

    def _open_adapter(self, card: Card, size: int) -> Adapter:
        self._adapter = adapter_for(card.model, size=size)
        return self._adapter

    @staticmethod
    def _facts(adapter: Adapter) -> dict[str, Any]:
        return {"size": max(adapter.frame_size(640, 480, 8))}


class AnswerMetrics(Metrics):
    """Sums over tokens and answers."""

    def __init__(self) -> None:
        self.sums = {"loss": 0.0, "tokens": 0.0, "hits": 0.0, "answers": 0.0, "count": 0.0}

    def update(self, outputs: list[dict[str, Tensor]], batch: Batch) -> None:
        """Take in one batch."""
        for found in outputs:
            self.sums["loss"] += float(found["losses"].double().sum())
            self.sums["tokens"] += len(found["losses"])
            self.sums["hits"] += float(found["hits"].sum())
            self.sums["answers"] += float(found["hits"].all())
            self.sums["count"] += 1

    def merge(self, others: list[Metrics]) -> None:
        """Add what other processes saw."""
        for other in others:
            assert isinstance(other, AnswerMetrics)
            for name, value in other.sums.items():
                self.sums[name] += value

    def compute(self) -> dict[str, float]:
        """Return likelihood (geometric mean over tokens), token and answer accuracy given what goes before, loss."""
        if not self.sums["count"]:
            return {"count": 0.0}
        loss = self.sums["loss"] / self.sums["tokens"]
        return {
            "likelihood": math.exp(-loss),
            "tokens": self.sums["hits"] / self.sums["tokens"],
            "answers": self.sums["answers"] / self.sums["count"],
            "loss": loss,
            "count": self.sums["count"],
        }


def _likelihoods(
    model: Callable[..., Any], batch: Batch, device: torch.device | str
) -> list[dict[str, Tensor]]:
    """Run every part; losses, hits and owner are (answer tokens of the part,)."""
    found = []
    for part in batch["parts"]:
        inputs = {name: value.to(device, non_blocking=True) for name, value in part["inputs"].items()}
        targets = part["targets"].to(device, non_blocking=True)
        with memory_enough(
            "halve --data.batch (and double --run.accumulate), or pass --run.recompute true, or fewer pixels with "
            "--size"
        ):
            logits = model(inputs, part["keep"].to(device, non_blocking=True)).float()
        wanted = targets != IGNORED
        found.append(
            {
                "losses": nn.functional.cross_entropy(logits[wanted], targets[wanted], reduction="none"),
                "hits": logits[wanted].argmax(-1) == targets[wanted],
                "owner": torch.tensor(part["places"], device=device)[:, None].expand_as(targets)[wanted],
            }
        )
    return found
