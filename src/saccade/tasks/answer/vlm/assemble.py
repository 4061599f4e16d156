"""A video language model from parts: eyes, weights of a classifier, a text model; or from nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from saccade.errors import ConfigError
from saccade.extras import require
from saccade.files import replacing
from saccade.hub import fetching, load_network, model_type_of, quiet
from saccade.tasks.answer.vlm.base import EXTRA, transformers
from saccade.tasks.answer.vlm.eyes import Eyes, EyesConfig, load_encoder, load_eyes
from saccade.tasks.answer.vlm.own_eyes import OwnEyes
from saccade.weights import locate, read_weights

TEXT_EXAMPLE = "HuggingFaceTB/SmolLM2-135M-Instruct"
END, PAD = "<|end|>", "<|pad|>"


def register() -> Any:
    """Tell transformers' Auto classes of our model, once or again; nothing else tells them.

    Afterwards `AutoConfig`, `AutoModel`, `AutoModelForImageTextToText`, `AutoModelForMultimodalLM`, `AutoProcessor`
    and `AutoVideoProcessor` open folders of `new_base`.

    Returns:
        The model's class.
    """
    from saccade.tasks.answer.vlm import eyes_model, eyes_processor

    library, config = transformers(), eyes_model.SaccadeVLConfig
    library.AutoConfig.register(config.model_type, config, exist_ok=True)
    for name in ("AutoModel", "AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
        if hasattr(library, name):
            getattr(library, name).register(
                config, eyes_model.SaccadeVLForConditionalGeneration, exist_ok=True
            )
    library.AutoProcessor.register(config, eyes_processor.SaccadeVLProcessor, exist_ok=True)
    library.AutoVideoProcessor.register(config, eyes_processor.SaccadeVLVideoProcessor, exist_ok=True)
    return eyes_model.SaccadeVLForConditionalGeneration


@dataclasses.dataclass(frozen=True)
class TextPlan:
    """A text model from nothing: Llama's layers, with the tokenizer learned from the given texts."""

    width: int = 256
    layers: int = 4
    vocabulary: int = 2048
    """Most tokens; fewer where the texts have no more to learn."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.width < 32 or self.width % 32 or self.layers < 1 or self.vocabulary < 300:
            raise ConfigError(
                f"width is {self.width}, layers {self.layers} and vocabulary {self.vocabulary}; expected a width "
                "that is a multiple of 32, at least 1 layer and at least 300 tokens"
            )


def new_base(
    out: Path | str,
    *,
    eyes: EyesConfig | Eyes | OwnEyes | Path | str,
    text: str = "",
    words: Sequence[str] = (),
    plan: TextPlan | None = None,
    eyes_weights: Path | str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Write a base for `saccade vlm tune`: the model, its tokenizer and its video processor, as transformers does.

    Args:
        out: Folder to make.
        eyes: Their configuration; or eyes that were trained, or the file that `save_eyes` wrote of them.
        text: Folder or hub id of a causal language model, taken over with its weights.
        words: In place of `text`: texts such as are to be read and written, of which a tokenizer is learned for a
            text model with random weights.
        plan: Sizes of the latter.
        eyes_weights: Classifier whose weights the eyes' network takes over; see `load_encoder`.
        seed: Of what begins at random.

    Returns:
        {"out", "text", "eyes", "parameters", "eyes_parameters", "tokens_per_frame"}.

    Raises:
        ConfigError: Neither text nor words, or both, a text model that writes no text, a folder that is there.
        WeightsError: Weights that are missing, damaged, or for another network.
    """
    if bool(text) == bool(words):
        raise ConfigError(
            "say what the eyes stand before: --text MODEL, or --words TEXTS to begin from nothing"
        )
    if text and plan is not None:
        raise ConfigError(f"width, layers and vocabulary are those of {text}; leave them out")
    if Path(out).exists():
        raise ConfigError(f"{out}: is there already; name a folder that is not, with --out")
    kind = register()
    from saccade.tasks.answer.vlm import eyes_model, eyes_processor

    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        seeing = _open_eyes(eyes, eyes_weights)
        network, tokenizer = _open_text(text) if text else _make_text(words, plan or TextPlan())
        template = eyes_processor.chat_template_of(tokenizer)
        tokenizer.add_special_tokens({"extra_special_tokens": [eyes_processor.VIDEO_TOKEN]})
        if len(tokenizer) > network.get_input_embeddings().num_embeddings:
            network.resize_token_embeddings(len(tokenizer))
        video_token = tokenizer.convert_tokens_to_ids(eyes_processor.VIDEO_TOKEN)
        config = eyes_model.SaccadeVLConfig(
            text_config=network.config, eyes=seeing.config.to_dict(), video_token_id=video_token
        )
        with torch.device("meta"):
            model = kind(config)
        model.eyes, model.language_model = seeing, network
        model.projector = eyes_model.Projector(seeing.dim, config.get_text_config().hidden_size)
        model.generation_config = network.generation_config
        model.to(network.dtype)
        height, across = seeing.config.frame_size
        side = {"height": height, "width": across}
        video_processor = eyes_processor.SaccadeVLVideoProcessor(
            size=side, image_mean=list(seeing.config.mean), image_std=list(seeing.config.std)
        )
        processor = eyes_processor.SaccadeVLProcessor(
            tokenizer, video_processor, chat_template=template, tokens_per_frame=seeing.config.tokens,
            boxes=seeing.config.boxes,
        )  # fmt: skip
        with replacing(Path(out)) as temporary:
            model.save_pretrained(temporary)
            processor.save_pretrained(temporary)
    return {
        "out": str(out), "eyes": seeing.config.encoder, "text": text or "from nothing",
        "parameters": sum(p.numel() for p in model.parameters()),
        "eyes_parameters": sum(p.numel() for p in seeing.parameters()), "tokens_per_frame": seeing.config.tokens,
    }  # fmt: skip


def _open_eyes(eyes: EyesConfig | Eyes | OwnEyes | Path | str, weights: Path | str) -> Eyes | OwnEyes:
    if isinstance(eyes, OwnEyes):
        return eyes
    if isinstance(eyes, Eyes):
        made = eyes
    elif isinstance(eyes, EyesConfig):
        if weights:
            card = read_weights(locate(weights))[1]
            how = card.preprocess if card else {}
            eyes = dataclasses.replace(eyes, **{key: how[key] for key in ("mean", "std") if key in how})
        made = Eyes(eyes)
    else:
        made = load_eyes(eyes)
    return load_encoder(made, weights) if weights else made


def _open_text(text: str) -> tuple[Any, Any]:
    """Open a causal language model and its tokenizer."""
    how: dict[str, Any] = {"flag": "--text"}
    found = model_type_of(text, extra=EXTRA, example=TEXT_EXAMPLE, **how)
    library = transformers()
    known = require("transformers.models.auto.modeling_auto", EXTRA, "for text models")
    if found not in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ConfigError(
            f"{text} is a {found} model, which writes no text; expected a causal language model such as "
            f"{TEXT_EXAMPLE}"
        )
    with fetching(text, "its configuration", **how):
        config = library.AutoConfig.from_pretrained(text)
    dtype = "bf16" if config.get_text_config().dtype in (torch.bfloat16, torch.float16) else "float32"
    with fetching(text, "its tokenizer", **how):
        tokenizer = library.AutoTokenizer.from_pretrained(text)
    if tokenizer.eos_token is None:
        raise ConfigError(f"{text}: its tokenizer has no token that ends a text; expected eos_token")
    return load_network(library.AutoModelForCausalLM, text, dtype=dtype, **how), tokenizer


def _make_text(words: Sequence[str], plan: TextPlan) -> tuple[Any, Any]:
    """Learn a byte-level tokenizer and make a text model with random weights."""
    tokenizers, library = require("tokenizers", EXTRA, "to learn a tokenizer"), transformers()
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            # Digit by digit: a number that was never read can still be written.
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=plan.vocabulary - 1,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PAD, END],
        show_progress=False,
    )
    made.train_from_iterator(list(words), trainer)
    tokenizer = library.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=PAD)
    heads = max(plan.width // 64, min(4, plan.width // 32))
    config = library.LlamaConfig(
        vocab_size=len(tokenizer) + 1, hidden_size=plan.width, intermediate_size=-(-plan.width * 8 // 3 // 32) * 32,
        num_hidden_layers=plan.layers, num_attention_heads=heads, num_key_value_heads=heads,
        max_position_embeddings=16384, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    return library.LlamaForCausalLM(config), tokenizer
