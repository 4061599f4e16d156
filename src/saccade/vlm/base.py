"""Open a base model: a local folder or a hub id, in one of the classes that we know how to talk to.

Weights come from safetensors only, and no code that lies beside them is run unless the user says so.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.extras import require
from saccade.weights.published import no_retries

EXTRA = "vlm"
CLASSES = {
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
"""Class in transformers of each family, by its `model_type`."""
NO_VIDEOS = (
    "{base} has no video processor, so it takes no videos; expected processor_config.json with one, as transformers "
    "saves it beside the weights"
)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def transformers() -> Any:
    """Import transformers, or say which extra brings it."""
    return require("transformers", EXTRA, "for vision-language models")


def load_config(base: str, *, trust_remote_code: bool = False) -> Any:
    """Read what a base is.

    Args:
        base: Folder, or hub id (owner/name).
        trust_remote_code: Run code that comes with the base.

    Raises:
        WeightsError: No such folder, or a hub that cannot be reached.
        ConfigError: Not a model that takes videos.
    """
    family_of(base)
    with _fetching(base, "config.json"):
        return transformers().AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)


def family_of(base: str) -> str:
    """Return the family of a base, one of `CLASSES`, reading no more than its `config.json`.

    Raises:
        WeightsError: No such folder, or a hub that cannot be reached.
        ConfigError: Not a model that takes videos.
    """
    path = Path(base)
    if not path.is_dir():
        if path.exists() or base.count("/") != 1 or base.startswith((".", "/", "~")):
            raise WeightsError(
                f"{base}: no such folder; expected the folder of a model of transformers, or a hub id such as "
                "llava-hf/llava-onevision-qwen2-7b-ov-hf"
            )
        hub = require("transformers.utils.hub", EXTRA, "for vision-language models")
        with _fetching(base, "config.json"):
            path = Path(hub.cached_file(base, "config.json")).parent
    if not (path / "config.json").is_file():
        raise WeightsError(f"{base}: no config.json in this folder; expected a model saved by transformers")
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
        found = str(values["model_type"])
    except (ValueError, KeyError, TypeError):
        raise WeightsError(
            f"{base}: config.json names no model_type; expected a model saved by transformers"
        ) from None
    if found not in CLASSES:
        raise ConfigError(
            f"{base} is a {found} model, which takes no videos here; choose a base of one of these classes: "
            f"{', '.join(CLASSES.values())}"
        )
    return found


def load_processor(base: str, *, trust_remote_code: bool = False) -> Any:
    """Open what turns text and frames into inputs.

    Raises:
        WeightsError: Files that are missing, or a hub that cannot be reached.
        ConfigError: A processor without videos, or a tokenizer without a chat template.
    """
    family = family_of(base)
    if family == "smolvlm":  # its processor writes numbers in words
        require("num2words", EXTRA, "by the processor of SmolVLM")
    with _fetching(base, "the processor's files"):
        processor = transformers().AutoProcessor.from_pretrained(base, trust_remote_code=trust_remote_code)
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


def load_base(
    base: str, *, dtype: str = "float32", fresh: bool = False, trust_remote_code: bool = False
) -> torch.nn.Module:
    """Build a base with its weights.

    Args:
        base: Folder, or hub id (owner/name).
        dtype: float32 or bf16.
        fresh: Random weights in place of those of the base.
        trust_remote_code: Run code that comes with the base.

    Raises:
        WeightsError: Weights that are missing, incomplete or damaged, or a hub that cannot be reached.
        ConfigError: Not a model that takes videos.
    """
    family = family_of(base)
    kind = getattr(transformers(), CLASSES[family])
    if fresh:
        config = load_config(base, trust_remote_code=trust_remote_code)
        return kind(config).to(DTYPES[dtype])
    with _fetching(base, "its weights (*.safetensors)"), _quiet():
        model, facts = kind.from_pretrained(
            base,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
        )
    lost = sorted(facts["missing_keys"]) + sorted(name for name, *_ in facts["mismatched_keys"])
    if lost:
        raise WeightsError(
            f"{base}: the weights lack {len(lost)} tensors that {kind.__name__} has, such as {lost[0]}; expected the "
            "whole model"
        )
    return model


@contextlib.contextmanager
def _fetching(base: str, what: str) -> Iterator[None]:
    """Turn the many ways in which files cannot be had into one sentence."""
    try:
        with contextlib.nullcontext() if Path(base).is_dir() else no_retries():
            yield
    except SaccadeError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            raise ConfigError(
                f"{base} brings code of its own, which is not run unless you say so; add --trust-remote-code if you "
                "trust its makers"
            ) from None
        if "load video processor" in text:
            raise ConfigError(NO_VIDEOS.format(base=base)) from None
        if Path(base).is_dir():
            raise WeightsError(f"{base}: {what} cannot be read ({text[:120]})") from None
        raise WeightsError(
            f"{base} is no folder here, and {what} cannot be fetched from the hub; get it where there is a "
            f"connection with `hf download {base} --local-dir FOLDER` and pass --base FOLDER"
        ) from None
    except Exception as error:  # safetensors raises its own kind
        if type(error).__name__ != "SafetensorError":
            raise
        raise WeightsError(f"{base}: a weights file is damaged ({error})") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and reports off the screen meanwhile; what matters we say ourselves."""
    logging = transformers().utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
