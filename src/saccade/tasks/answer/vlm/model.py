"""A base model as it is tuned: which parts learn, LoRA in place of the language part, and what of it is saved.

What was trained is all that a run keeps: of LoRA some hundred megabytes, of a fully tuned model everything. The rest
is read from the base, which therefore has to stay where it is.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.extras import require
from saccade.files import within
from saccade.settings import check, make
from saccade.tasks.answer.vlm.adapters import ADAPTERS, Adapter
from saccade.tasks.answer.vlm.base import DTYPES, EXTRA, family_of, load_base, transformers
from saccade.trust import given

CODE = "trust_remote_code"
"""An option that older runs stored; only the flag of the call counts."""
NETWORK = "network."
"""Prefix of the names of the base's own tensors."""


@dataclass(frozen=True)
class TuneOptions:
    """How a base is tuned: `model.options` of a recipe."""

    lora: Annotated[int, within(0)] = 0
    """Rank of LoRA (Hu et al., 2021, arXiv 2106.09685) in all linear layers of the language part; 0: tune fully."""
    lora_alpha: Annotated[float, within(0)] = 0.0
    """Scale of LoRA; 0: twice the rank."""
    lora_dropout: Annotated[float, within(0, below=1)] = 0.0
    language: bool = True
    """Tune the language part."""
    projector: bool = True
    """Tune what lies between vision and language, always fully."""
    vision: bool = False
    """Tune the vision part, fully."""
    vision_rate: Annotated[float, within(high=100, above=0)] = 1.0
    """Learning rate of the vision part as a share of that of the rest."""
    dtype: Literal["float32", "bf16"] = "float32"
    """What the base is held in, float32 or bf16; trained tensors are always float32."""
    fresh: bool = False
    """Start from random weights; everything has to be tuned then."""

    def __post_init__(self) -> None:
        check(self, "model.options")
        if not (self.language or self.projector or self.vision):
            raise ConfigError(
                "language, projector and vision are all off, so nothing would be tuned; switch one on"
            )
        if self.fresh and (self.lora or not (self.language and self.projector and self.vision)):
            raise ConfigError(
                "fresh starts from random weights, which are not kept where they are not tuned; expected lora 0 and "
                "language, projector and vision on"
            )


def tune_options(values: Mapping[str, Any]) -> TuneOptions:
    """Check `model.options`.

    Raises:
        ConfigError: A name that is none, or a value of another kind or out of range.
    """
    values = dict(values)
    if values.pop(CODE, False) and not given().code:
        raise ConfigError(
            f"model.options.{CODE} is on in the card or recipe, but a file cannot say that code which comes with a "
            "base is run; if you trust its makers, add --trust-remote-code to this call"
        )
    return make(TuneOptions, values, "model.options")


class VideoLanguageModel(nn.Module):
    """A base under our interface: logits where they are needed, and a state of what was tuned only."""

    def __init__(self, base: nn.Module, kind: type[Adapter], options: TuneOptions) -> None:
        """Choose what learns; with LoRA, put it in.

        Args:
            base: From `load_base`.
            kind: The family's adapter, which knows the names of the parts.
            options: What to tune.
        """
        super().__init__()
        if options.lora and options.language:
            _inject(base, kind, options)
        self.network: Any = base
        self.kind, self.options = kind, options
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(self._learns(name))
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.kept = frozenset(name for name, p in self.named_parameters() if p.requires_grad)
        self.mixed = len({p.dtype for p in self.parameters()}) > 1

    def part(self, name: str) -> str:
        """Return projector, vision or language: where a tensor of the base belongs."""
        name = name.removeprefix(NETWORK)
        for part in ("projector", "vision"):
            if any(name == stem or name.startswith(f"{stem}.") for stem in getattr(self.kind, part)):
                return part
        return "language"

    def _learns(self, name: str) -> bool:
        part = self.part(name)
        if part == "language" and self.options.lora:
            return self.options.language and ".lora_" in name
        return bool(getattr(self.options, part))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.parameters()).device

    def forward(self, inputs: Mapping[str, Tensor], keep: Tensor) -> Tensor:
        """Return logits at some positions only: all of a long clip's would not fit into memory.

        Args:
            inputs: From `Adapter.join`, without labels.
            keep: (K,) positions.

        Returns:
            (B, K, vocabulary) logits of the token after each position.
        """
        with self._precision():
            logits = self.network(**self._cast(inputs), logits_to_keep=keep, use_cache=False).logits
        if self.training and torch.is_grad_enabled():
            # Text alone passes by the parts for frames, and some bases hold layers that nothing passes; but every
            # process has to have a gradient for every tensor.
            logits = logits + sum(0.0 * parameter.sum() for parameter in self._aside())
        return logits

    def _aside(self) -> list[nn.Parameter]:
        """Tensors that are tuned and that a batch may not use."""
        return [p for name, p in self.named_parameters() if p.requires_grad and self.part(name) != "language"]

    @torch.no_grad()
    def generate(
        self, inputs: Mapping[str, Tensor], *, max_new_tokens: int, ends: set[int], pad: int
    ) -> Tensor:
        """Continue a batch that is padded on the left, always with the likeliest token.

        Args:
            inputs: From `Adapter.join`.
            max_new_tokens: At most so many.
            ends: Tokens that end an answer, besides those that the base names.
            pad: Token that fills up.

        Returns:
            (B, at most max_new_tokens) new tokens.
        """
        own = getattr(self.network.generation_config, "eos_token_id", None)
        ends = ends | set(own if isinstance(own, list) else [] if own is None else [own])
        how = transformers().GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=sorted(ends), pad_token_id=pad
        )
        with self._precision():
            found = self.network.generate(**self._cast(inputs), generation_config=how)
        return found[:, inputs["input_ids"].shape[1] :]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Tensors of two kinds meet in a base held in bfloat16, which only works under autocast."""
        if not self.mixed or torch.is_autocast_enabled(self.device.type):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _cast(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        dtype = DTYPES[self.options.dtype]
        return {
            name: value.to(dtype) if name.startswith("pixel_values") else value
            for name, value in inputs.items()
        }

    # -- what the training engine asks for ----------------------------------------------------------

    def set_grad_checkpointing(self, on: bool = True) -> None:
        """Recompute activations in the backward pass."""
        # The other kind needs inputs with gradients, which a frozen start has not.
        how = {"use_reentrant": False}
        if hasattr(self.network, "activation_checkpointing_enable"):  # its newer name
            if on:
                self.network.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
            else:
                self.network.activation_checkpointing_disable()
        elif on:
            self.network.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
        else:
            self.network.gradient_checkpointing_disable()

    def rate_scales(self) -> dict[str, float]:
        """Factor of the learning rate of every tensor that has another than 1."""
        return {
            name: self.options.vision_rate
            for name in self.kept
            if self.part(name) == "vision" and self.options.vision_rate != 1
        }

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the tensors that are tuned, and no others."""
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        found = super().state_dict(*args, **kwargs)
        for name in list(found):
            if name.startswith(prefix) and name.removeprefix(prefix) not in self.kept:
                del found[name]
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Put back what `state_dict` gave; tensors of the base that are not tuned may come with it.

        Raises:
            RuntimeError: `strict`, and tensors are missing, unknown or of another shape.
        """
        known = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        known |= {name for name, _ in self.named_buffers()}
        odd = sorted((self.kept - state_dict.keys()) | (state_dict.keys() - known)) if strict else []
        if odd:
            raise RuntimeError(f"{len(odd)} tensors are missing or unexpected, such as {odd[0]}")
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def build_vlm(base: str, options: Mapping[str, Any]) -> VideoLanguageModel:
    """Build a base with the parts that learn; tuned weights are put in by `load_state_dict`.

    Args:
        base: Folder or hub id.
        options: See `TuneOptions`.

    Raises:
        ConfigError: Options that cannot be, or a base that takes no videos.
        WeightsError: Weights that are missing or damaged.
    """
    chosen = tune_options(options)
    kind = ADAPTERS[family_of(base)]
    network = load_base(base, dtype=chosen.dtype, fresh=chosen.fresh)
    return VideoLanguageModel(network, kind, chosen)


def _inject(base: nn.Module, kind: type[Adapter], options: TuneOptions) -> None:
    """Put LoRA into every linear layer of the language part but the one that gives logits."""
    peft = require("peft", EXTRA, "to tune with LoRA")
    stem, last = kind.language + ".", base.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    names = {
        name.rpartition(".")[2]
        for name, module in base.named_modules()
        if name.startswith(stem) and isinstance(module, nn.Linear) and module is not last
    }
    config = peft.LoraConfig(
        r=options.lora,
        lora_alpha=options.lora_alpha or 2 * options.lora,
        lora_dropout=options.lora_dropout,
        target_modules=rf"{re.escape(stem)}.*\.({'|'.join(sorted(names))})",
    )
    peft.inject_adapter_in_model(config, base)
