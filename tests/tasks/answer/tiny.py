"""Tiny video language models of every class, with random weights, tokenizers and processors made on the spot.

They are saved to a folder as a published base would be, so everything after that is the way a user's base goes.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from saccade.tasks.answer.vlm.assemble import TextPlan, new_base
from saccade.tasks.answer.vlm.eyes import EyesConfig

FAMILIES = ("llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm", "saccade_vl")
WORDS = (
    "Over this clip, what path length does the object in the red box cover? It covers 12.34 meters. "
    "These are 4 frames of a clip, taken at 0.0, 0.5, 1.0 seconds. system You are a helpful assistant. "
    "user assistant How far does the blue one go in km/h? The red one. They head the same way, different o'clock."
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'video' %}{{ VIDEO }}"
    "{% elif part['type'] == 'image' %}"
    "{{ IMAGE }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = ("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>")
MARKS = {
    "llava_onevision": ("<image>\n", "<video>\n"),
    "qwen2_5_vl": QWEN,
    # The processor of this class writes the marks of every frame itself.
    "qwen3_vl": (QWEN[0], "<|vision_start|><|video_pad|><|vision_end|>"),
}
SPECIALS = {
    "llava_onevision": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"],
    "qwen2_5_vl": [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
        "<|video_pad|>",
    ],
    "smolvlm": [
        "<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<image>", "<video>", "<fake_token_around_image>",
        "<global-img>",
    ],
}  # fmt: skip
SPECIALS["qwen3_vl"] = SPECIALS["qwen2_5_vl"]


def make_tokenizer(family: str) -> transformers.PreTrainedTokenizerFast:
    """Learn a small byte-level vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIALS[family],
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS], trainer)
    end = "<end_of_utterance>" if family == "smolvlm" else "<|im_end|>"
    extra = {}
    if family == "smolvlm":
        extra = {
            "fake_image_token": "<fake_token_around_image>", "image_token": "<image>",
            "end_of_utterance_token": end, "global_image_token": "<global-img>", "video_token": "<video>",
        }  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token="<|endoftext|>", extra_special_tokens=extra
    )


def _text(tokenizer, **more) -> dict:
    ids = tokenizer.convert_tokens_to_ids
    return {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 2048,
        "pad_token_id": ids("<|endoftext|>"), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, **more,
    }  # fmt: skip


def make_model(family: str, tokenizer) -> transformers.PreTrainedModel:
    """Make the network, with random weights."""
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    if family == "llava_onevision":
        vision = transformers.SiglipVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=56,
            patch_size=14, vision_use_head=False,
        )  # fmt: skip
        tokens: Any = {"image_token_id": ids("<image>"), "video_token_id": ids("<video>")}
        config = transformers.LlavaOnevisionConfig(
            vision_config=vision, text_config=transformers.Qwen2Config(**_text(tokenizer)),
            vision_feature_layer=-1, **tokens,
            vision_feature_select_strategy="full", image_grid_pinpoints=[[56, 56], [56, 112], [112, 56]],
        )  # fmt: skip
        return transformers.LlavaOnevisionForConditionalGeneration(config)
    if family in ("qwen2_5_vl", "qwen3_vl"):
        tokens: Any = {
            "image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>"),
            "vision_start_token_id": ids("<|vision_start|>"), "vision_end_token_id": ids("<|vision_end|>"),
        }  # fmt: skip
        vision = {
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 8,
            "out_hidden_size": 32, "spatial_merge_size": 2, "temporal_patch_size": 2,
        }  # fmt: skip
        if family == "qwen2_5_vl":
            vision |= {"window_size": 32, "fullatt_block_indexes": [1]}
            text = _text(tokenizer, rope_parameters=rope)
            config = transformers.Qwen2_5_VLConfig(vision_config=vision, text_config=text, **tokens)
            return transformers.Qwen2_5_VLForConditionalGeneration(config)
        vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
        text = _text(tokenizer, rope_parameters=rope | {"mrope_interleaved": True}, head_dim=16)
        config = transformers.Qwen3VLConfig(vision_config=vision, text_config=text, **tokens)
        return transformers.Qwen3VLForConditionalGeneration(config)
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    padding: Any = {"pad_token_id": ids("<|endoftext|>")}
    config = transformers.SmolVLMConfig(
        vision_config=vision, text_config={"model_type": "llama", **_text(tokenizer)}, scale_factor=2,
        image_token_id=ids("<image>"), **padding,
    )  # fmt: skip
    return transformers.SmolVLMForConditionalGeneration(config)


def make_processor(family: str, tokenizer) -> transformers.ProcessorMixin:
    """Make the processor that fits the network."""
    if family == "smolvlm":
        size: Any = {"longest_edge": 56}
        return transformers.SmolVLMProcessor(
            transformers.SmolVLMImageProcessor(size=size, max_image_size=size, do_image_splitting=False),
            tokenizer,
            transformers.SmolVLMVideoProcessor(size=size, max_image_size=size),
            image_seq_len=4,
            chat_template=(
                "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}{{ ': ' }}"
                "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
                "{% elif part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ '<video>' }}{% endif %}{% endfor %}"
                "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
            ),
        )
    image, video = MARKS[family]
    template = CHATML.replace("IMAGE", json.dumps(image)).replace("VIDEO", json.dumps(video))
    if family == "llava_onevision":
        size: Any = {"height": 56, "width": 56}
        return transformers.LlavaOnevisionProcessor(
            transformers.LlavaOnevisionImageProcessor(
                size=size, image_grid_pinpoints=[[56, 56], [56, 112], [112, 56]]
            ),
            tokenizer,
            transformers.LlavaOnevisionVideoProcessor(size=size),
            num_image_tokens=16,
            vision_feature_select_strategy="full",
            chat_template=template,
        )
    size: Any = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    picture: Any = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    image_processor = transformers.Qwen2VLImageProcessor(size=size, **picture)
    if family == "qwen2_5_vl":
        video_processor = transformers.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False, **picture)
        return transformers.Qwen2_5_VLProcessor(
            image_processor, tokenizer, video_processor, chat_template=template
        )
    size = {"shortest_edge": 2 * 32 * 32, "longest_edge": 16 * 64 * 64}
    video_processor = transformers.Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False, **picture)
    return transformers.Qwen3VLProcessor(image_processor, tokenizer, video_processor, chat_template=template)


def make_own_base(folder: Path, **eyes: Any) -> Path:
    """Save a tiny base with our own eyes."""
    seen = EyesConfig(**{"encoder": "stvit/test_vit", "img_size": 64, "tokens": 4, "depth": 1, **eyes})
    new_base(folder, eyes=seen, words=[WORDS], plan=TextPlan(width=32, layers=2, vocabulary=400))
    return folder


def make_base(family: str, folder: Path) -> Path:
    """Save a tiny base of a family to a folder."""
    if family == "saccade_vl":
        return make_own_base(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = make_tokenizer(family)
        make_model(family, tokenizer).save_pretrained(folder)
        make_processor(family, tokenizer).save_pretrained(folder)
    return folder
