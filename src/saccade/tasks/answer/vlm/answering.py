"""Put questions to a model on this machine: a tuned run, or a base as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from saccade.devices import pick_device
from saccade.errors import ConfigError, WeightsError, memory_enough
from saccade.tasks.answer.vlm.adapters import Adapter, adapter_for
from saccade.tasks.answer.vlm.clips import Exchange
from saccade.tasks.answer.vlm.model import VideoLanguageModel, build_vlm
from saccade.trust import trusting

MAX_NEW_TOKENS = 64
"""Longest answer; those of our questions have about 20 tokens."""


class Answers(Protocol):
    """Anything that answers: a model here, or one behind a URL."""

    name: str

    def answer(self, exchanges: Sequence[Exchange], *, blank: bool = False) -> list[str]:
        """Answer the last question of each exchange; `blank` hides the frames."""
        ...


class Answerer:
    """A network and its adapter."""

    def __init__(
        self,
        model: VideoLanguageModel,
        adapter: Adapter,
        name: str,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        """Join the two.

        Args:
            model: On the device it shall run on.
            adapter: Of its base.
            name: What to call it in tables.
            max_new_tokens: Longest answer.
        """
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
        self.model, self.adapter, self.name, self.max_new_tokens = model.eval(), adapter, name, max_new_tokens

    def answer(self, exchanges: Sequence[Exchange], *, blank: bool = False) -> list[str]:
        """Answer the last question of each exchange, always with the likeliest token.

        An answer does not depend on what else is in the batch, up to the rounding of sums.

        Args:
            exchanges: Those of one call make one batch (several where frames have other shapes).
            blank: Grey frames without boxes in place of the clips.

        Raises:
            SaccadeError: The device's memory is not enough.
        """
        samples = [self.adapter.encode(exchange, blank=blank) for exchange in exchanges]
        texts = [""] * len(samples)
        for places, inputs in self.adapter.join(samples, left=True):
            inputs.pop("labels")
            inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
            with memory_enough("pass a smaller --batch, or fewer pixels with --size"):
                found = self.model.generate(
                    inputs,
                    max_new_tokens=self.max_new_tokens,
                    ends=self.adapter.ends,
                    pad=self.adapter.tokenizer.pad_token_id,
                )
            said = self.adapter.tokenizer.batch_decode(found.cpu(), skip_special_tokens=True)
            for place, text in zip(places, said, strict=True):
                texts[place] = text.strip()
        return texts


def open_answerer(
    source: Path | str,
    *,
    device: str = "auto",
    size: int = 0,
    dtype: str = "",
    max_new_tokens: int = MAX_NEW_TOKENS,
    trust_remote_code: bool = False,
) -> Answerer:
    """Open a tuned run, or a base as it comes.

    Args:
        source: Run folder of `saccade vlm tune`, its weights file, a folder of transformers, or a hub id.
        device: auto, cpu, cuda or mps.
        size: Longest side of frames before the processor has its say; 0: as it was tuned.
        dtype: float32 or bf16 of a base; as it was tuned when empty.
        max_new_tokens: Longest answer.
        trust_remote_code: Run code that comes with a base, a tuned run's too; what its card says does not count.

    Raises:
        WeightsError: Neither, or weights that are missing or damaged.
        ConfigError: A device that this machine does not have.
    """
    if trust_remote_code:
        with trusting(code=True):
            return open_answerer(source, device=device, size=size, dtype=dtype, max_new_tokens=max_new_tokens)
    where = pick_device(device)
    if not is_run(source):
        base = source if isinstance(source, str) else str(source)  # stays as it is where it came from a file
        model = build_vlm(base, {"dtype": dtype} if dtype else {}).requires_grad_(False)
        adapter = adapter_for(base, size=size)
        return Answerer(model.to(where), adapter, Path(source).name, max_new_tokens=max_new_tokens)
    from saccade.tasks.open import load_model

    tuned, card = load_model(source)
    if not isinstance(tuned, VideoLanguageModel):
        raise WeightsError(
            f"{source} holds {card.model}, which answers nothing; expected a run of `saccade vlm tune`"
        )
    adapter = adapter_for(card.model, size=size or int(card.preprocess.get("side", 0)))
    tuned.requires_grad_(False)
    return Answerer(tuned.to(where), adapter, Path(source).name, max_new_tokens=max_new_tokens)


def is_run(source: Path | str) -> bool:
    """Whether a source is something tuned: a weights file or a run folder, and not a base."""
    path = Path(source)
    return path.is_file() or (path / "recipe.yaml").is_file() or (path / "best.safetensors").is_file()
