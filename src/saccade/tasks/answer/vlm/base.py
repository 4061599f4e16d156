"""Open a base model: a local folder or a hub id, in one of the classes that we know how to talk to.

Weights come from safetensors only, and no code that lies beside them is run unless the caller gives the word
(`saccade.trust`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from saccade.errors import ConfigError
from saccade.extras import require
from saccade.hub import DTYPES, fetching, load_network, model_type_of
from saccade.trust import given

EXTRA = "vlm"
CLASSES = {
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
    "saccade_vl": "SaccadeVLForConditionalGeneration",
}
"""Class of each family, by its `model_type`: all but the last are transformers' own."""
NO_VIDEOS = (
    "{base} has no video processor, so it takes no videos; expected processor_config.json with one, as transformers "
    "saves it beside the weights"
)
FLAGS: dict[str, Any] = {"flag": "--base or --model", "trust": "--trust-remote-code"}
"""How a user says what the errors speak of."""


def transformers() -> Any:
    """Import transformers, or say which extra brings it."""
    return require("transformers", EXTRA, "for vision-language models")


def load_config(base: str) -> Any:
    """Read what a base is.

    Args:
        base: Folder, or hub id (owner/name).

    Raises:
        WeightsError: No such folder, or a hub that cannot be reached.
        ConfigError: Not a model that takes videos.
    """
    model_class(family_of(base))
    with _fetching(base, "config.json"):
        return transformers().AutoConfig.from_pretrained(base, trust_remote_code=given().code)


def model_class(family: str) -> Any:
    """Return the class of a family, and tell transformers of ours."""
    if family != "saccade_vl":
        return getattr(transformers(), CLASSES[family])
    transformers()  # or say what is missing
    from saccade.tasks.answer.vlm.assemble import register

    return register()


def family_of(base: str) -> str:
    """Return the family of a base, one of `CLASSES`, reading no more than its `config.json`.

    Raises:
        WeightsError: No such folder, or a hub that cannot be reached.
        ConfigError: Not a model that takes videos.
    """
    example = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    found = model_type_of(base, extra=EXTRA, flag=FLAGS["flag"], example=example)
    if found not in CLASSES:
        raise ConfigError(
            f"{base} is a {found} model, which takes no videos here; choose a base of one of these classes: "
            f"{', '.join(CLASSES.values())}"
        )
    return found


def load_processor(base: str) -> Any:
    """Open what turns text and frames into inputs.

    Raises:
        WeightsError: Files that are missing, or a hub that cannot be reached.
        ConfigError: A processor without videos, or a tokenizer without a chat template.
    """
    family = family_of(base)
    model_class(family)
    if family == "smolvlm":  # its processor writes numbers in words
        require("num2words", EXTRA, "by the processor of SmolVLM")
    with _fetching(base, "the processor's files"):
        processor = transformers().AutoProcessor.from_pretrained(base, trust_remote_code=given().code)
    if getattr(processor, "video_processor", None) is None:
        raise ConfigError(NO_VIDEOS.format(base=base))
    if not (getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)):
        raise ConfigError(
            f"{base} has no chat template, so a question cannot be put to it; expected chat_template.jinja beside "
            "its tokenizer (take the tuned model, whose name often ends in -Instruct or -hf)"
        )
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def load_base(base: str, *, dtype: str = "float32", fresh: bool = False) -> torch.nn.Module:
    """Build a base with its weights.

    Args:
        base: Folder, or hub id (owner/name).
        dtype: float32 or bf16.
        fresh: Random weights in place of those of the base.

    Raises:
        WeightsError: Weights that are missing, incomplete or damaged, or a hub that cannot be reached.
        ConfigError: Not a model that takes videos.
    """
    family = family_of(base)
    kind = model_class(family)
    if fresh:
        config = load_config(base)
        return kind(config).to(DTYPES[dtype])
    return load_network(kind, base, dtype=dtype, trust_remote_code=given().code, **FLAGS)


@contextlib.contextmanager
def _fetching(base: str, what: str) -> Iterator[None]:
    """As `fetching`; a processor without videos is another sentence."""
    with fetching(base, what, **FLAGS):
        try:
            yield
        except (OSError, ValueError, KeyError, ImportError) as error:
            if "load video processor" in str(error):
                raise ConfigError(NO_VIDEOS.format(base=base)) from None
            raise
