"""A video language model whose eyes are one of our networks: a class that transformers loads and saves.

Frames go through `Eyes` to a few visual tokens each (16 with STViT's semantic tokens: 40 frames are 640 tokens, where
LLaVA-OneVision has 7841), a projector of two layers (LLaVA-1.5, arXiv 2310.03744) brings them to the width of the
text model, and there they stand in the places of a token for videos. The text model is any causal language model of
transformers, whole, so that its own ways (tied or scaled logits, caches, attention kernels) remain.

Importing this file imports transformers and nothing else happens; `assemble.register` tells its Auto
classes.

Shape legend: B samples, L tokens of text, T frames, N visual tokens a frame.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import ConfigError, ShapeError
from saccade.extras import require
from saccade.tasks.answer.vlm.own_eyes import build_eyes, eyes_config

transformers: Any = require("transformers", "vlm", "for vision-language models")
SubConfigSpec: Any = require("transformers.configuration_utils", "vlm", "for them").SubConfigSpec


class SaccadeVLConfig(transformers.PreTrainedConfig):
    """Eyes, and a text model.

    Args:
        text_config: Configuration of a causal language model of transformers, or its dictionary with `model_type`.
        eyes: Fields of `EyesConfig`, or of the settings of registered eyes, that differ from their defaults.
        video_token_id: Token in whose places visual tokens are put.

    Raises:
        ConfigError: Eyes that cannot be.
    """

    model_type = "saccade_vl"
    sub_configs_defaults = {"text_config": SubConfigSpec(transformers.AutoConfig, model_type="qwen2")}  # noqa: RUF012

    text_config: Any = None
    eyes: dict | None = None
    video_token_id: int = 0
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Complete and check the eyes."""
        super().__post_init__(**kwargs)
        self.eyes = eyes_config(self.eyes or {}).to_dict()
        # The text model ties its own; this field is what general code looks at.
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))


class Projector(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., width)."""
        return self.linear_2(F.gelu(self.linear_1(x)))


class SaccadeVLForConditionalGeneration(transformers.PreTrainedModel, transformers.GenerationMixin):
    """The model.

    Args:
        config: Eyes and text model.

    Raises:
        ConfigError: Eyes that cannot be, or a text model that writes no text.
    """

    config_class = SaccadeVLConfig
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ("past_key_values",)

    def __init__(self, config: SaccadeVLConfig) -> None:
        super().__init__(config)
        # transformers builds on the meta device before it loads, where buffers that are in no file would be lost.
        with torch.device("cpu"):
            self.eyes = build_eyes(eyes_config(config.eyes or {}))
        for module in self.eyes.modules():  # begin as we say, not as transformers would
            module._is_hf_initialized = True  # pyright: ignore[reportArgumentType]
        self.projector = Projector(self.eyes.dim, config.get_text_config().hidden_size)
        try:
            self.language_model: Any = transformers.AutoModelForCausalLM.from_config(config.text_config)
        except ValueError as error:
            if "Unrecognized configuration class" not in str(error):
                raise
            raise ConfigError(
                f"text_config is of a {config.get_text_config().model_type} model, which writes no text; expected a "
                "causal language model such as qwen2 or llama"
            ) from None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of words."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of words."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the layer that gives logits."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the layer that gives logits."""
        self.language_model.set_output_embeddings(new_embeddings)

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        """Switch recomputation of the text model, and of the eyes with it."""
        super()._set_gradient_checkpointing(enable, *args, **kwargs)
        self.eyes.set_grad_checkpointing(enable)

    def get_video_features(self, pixel_values_videos: Tensor, frame_seconds: Tensor) -> Tensor:
        """Map clips (B, T, C, height, width) and their seconds (B, T) to (B, T, N, width of the text model)."""
        dtype = self.projector.linear_1.weight.dtype
        return self.projector(self.eyes(pixel_values_videos.to(dtype), frame_seconds))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        frame_seconds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Predict the next tokens.

        Args:
            input_ids: (B, L), with T * N video tokens for every clip.
            pixel_values_videos: (clips, T, C, height, width), in the order in which their tokens stand.
            frame_seconds: (clips, T), when each frame was taken.
            attention_mask: (B, L).
            position_ids: (B, L).
            past_key_values: Cache of what was seen before.
            inputs_embeds: (B, L, width) in place of `input_ids`; then there can be no clips.
            labels: (B, L); -100 where nothing is learned.
            use_cache: Return a cache.
            logits_to_keep: Logits of so many last positions, or of these positions; 0: of all.
            mm_token_type_ids: Not used; processors give it.
            **kwargs: For the text model.

        Returns:
            What the text model returns: logits (B, positions, vocabulary), and loss, cache and states when asked for.

        Raises:
            ShapeError: Another number of video tokens than the clips give, or clips without seconds.
        """
        del mm_token_type_ids
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        assert inputs_embeds is not None
        if pixel_values_videos is not None:
            if input_ids is None or frame_seconds is None:
                raise ShapeError(
                    "clips came without input_ids or frame_seconds; expected both, as the processor gives them"
                )
            seen = self.get_video_features(pixel_values_videos, frame_seconds).to(inputs_embeds)
            places = input_ids == self.config.video_token_id
            count = seen.shape[:3].numel()
            if not places.device.type == "meta" and int(places.sum()) != count:
                raise ShapeError(
                    f"the text has {int(places.sum())} video tokens and the clips give {count}; expected as many, so "
                    "use the processor that lies beside the model"
                )
            inputs_embeds = inputs_embeds.masked_scatter(places[..., None], seen)
        if position_ids is not None:
            kwargs["position_ids"] = position_ids
        return self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, past_key_values=past_key_values,
            labels=labels, use_cache=use_cache, logits_to_keep=logits_to_keep, **kwargs,
        )  # fmt: skip
