"""Tiny networks of every class that pseudo-labels use, with random weights; processors made on the spot.

They are saved to a folder as a published network would be, so everything after that is the way a user's goes.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["car", "person", "traffic", "light", "a", "photo", "of", "detect", ",", "bus"]
DETECTORS = ("grounding-dino", "mm-grounding-dino", "owlv2", "omdet-turbo")
DEPTHS = ("depth_pro", "depth_anything", "zoedepth")
BACKBONE: dict[str, Any] = {
    "embed_dim": 16, "depths": [1, 1, 1], "num_heads": [2, 2, 4], "window_size": 4, "image_size": 64,
    "out_indices": [1, 2, 3],
}  # fmt: skip
DINO: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 14,
    "image_size": 56,
}  # fmt: skip


def bert_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Make a tokenizer of whole words whose marks have the numbers that Grounding DINO knows them by."""
    marks = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    vocabulary = {f"[unused{index}]": index for index in range(1040)}
    for word, index in marks.items():
        del vocabulary[f"[unused{index}]"]
        vocabulary[word] = index
    vocabulary |= {word: 1040 + index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 101), ("[SEP]", 102)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]",
        mask_token="[MASK]",
    )  # fmt: skip


def clip_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Make a tokenizer of whole words that begins and ends as CLIP's does."""
    vocabulary = {"!": 0, "[UNK]": 1, ".": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}
    vocabulary |= {word: 5 + index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 3), ("<|endoftext|>", 4)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", bos_token="<|startoftext|>", eos_token="<|endoftext|>",
        pad_token="<|endoftext|>", model_max_length=16,
    )  # fmt: skip


def make_detector(kind: str) -> tuple[Any, Any]:
    """Make a network that detects by names, and its processor."""
    small: dict[str, Any] = {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 12, "num_feature_levels": 3,
        "max_text_len": 32, "disable_custom_kernels": True,
    }  # fmt: skip
    size: Any = {"shortest_edge": 64, "longest_edge": 96}
    if kind in ("grounding-dino", "mm-grounding-dino"):
        tokenizer = bert_tokenizer()
        text = transformers.BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64,
        )  # fmt: skip
        backbone = transformers.SwinConfig(**BACKBONE)
        if kind == "grounding-dino":
            config = transformers.GroundingDinoConfig(backbone_config=backbone, text_config=text, **small)
            network: Any = transformers.GroundingDinoForObjectDetection(config)
        else:
            config = transformers.MMGroundingDinoConfig(backbone_config=backbone, text_config=text, **small)
            network = transformers.MMGroundingDinoForObjectDetection(config)
        return network, transformers.GroundingDinoProcessor(
            transformers.GroundingDinoImageProcessor(size=size), tokenizer
        )
    tokenizer = clip_tokenizer()
    if kind == "owlv2":
        config = transformers.Owlv2Config(
            text_config={
                "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 16, "pad_token_id": 4, "bos_token_id": 3,
                "eos_token_id": 4,
            },
            vision_config={
                "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "image_size": 64, "patch_size": 16,
            },
            projection_dim=16,
        )  # fmt: skip
        network = transformers.Owlv2ForObjectDetection(config)
        # Heads so small are drawn so large that their boxes have no width.
        for name, weight in network.named_parameters():
            if "head" in name:
                weight.data.mul_(0.1)
        return network, transformers.Owlv2Processor(
            transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64}), tokenizer
        )
    channels = [16, 32, 64]
    config = transformers.OmDetTurboConfig(
        backbone_config=transformers.SwinConfig(**BACKBONE),
        text_config={
            "model_type": "clip_text_model", "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 77, "projection_dim": 48,
            "bos_token_id": 3, "eos_token_id": 4, "pad_token_id": 4,
        },
        image_size=64, text_projection_in_dim=48, text_projection_out_dim=48, task_encoder_hidden_dim=48,
        class_embed_dim=48, num_queries=12, encoder_hidden_dim=32, vision_features_channels=[32, 32, 32],
        encoder_in_channels=channels, encoder_attention_heads=2, encoder_dim_feedforward=32, decoder_hidden_dim=32,
        decoder_num_heads=2, decoder_num_layers=1, decoder_dim_feedforward=32, disable_custom_kernels=True,
        apply_layernorm_after_vision_backbone=False,
    )  # fmt: skip
    return transformers.OmDetTurboForObjectDetection(config), transformers.OmDetTurboProcessor(
        transformers.DetrImageProcessor(size={"height": 64, "width": 64}, do_pad=False), tokenizer
    )


def make_depth(kind: str, **options: Any) -> tuple[Any, Any]:
    """Make a network of depth, and its image processor."""
    if kind == "depth_pro":
        part = {**DINO, "patch_size": 8, "image_size": 32}
        config = transformers.DepthProConfig(
            patch_size=32, fusion_hidden_size=16, intermediate_hook_ids=[2, 1], intermediate_feature_dims=[16, 16],
            scaled_images_feature_dims=[16, 16, 16], scaled_images_ratios=[0.25, 0.5, 1], merge_padding_value=1,
            use_fov_model=options.get("use_fov_model", True), num_fov_head_layers=1,
            image_model_config=transformers.Dinov2Config(**part),
            patch_model_config=transformers.Dinov2Config(**part),
            fov_model_config=transformers.Dinov2Config(**part),
        )  # fmt: skip
        size: Any = {"height": 128, "width": 128}
        return transformers.DepthProForDepthEstimation(config), transformers.DepthProImageProcessor(size=size)
    if kind == "depth_anything":
        indices: dict[str, Any] = {"out_indices": [1, 2, 3, 4]}
        config = transformers.DepthAnythingConfig(
            backbone_config=transformers.Dinov2Config(
                **DINO, **indices, reshape_hidden_states=False
            ),
            reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16, head_hidden_size=8,
            patch_size=14, depth_estimation_type=options.get("depth_estimation_type", "metric"), max_depth=80,
        )  # fmt: skip
        size = {"height": 56, "width": 56}
        return transformers.DepthAnythingForDepthEstimation(config), transformers.DPTImageProcessor(
            size=size, keep_aspect_ratio=True, ensure_multiple_of=14
        )
    features: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    config = transformers.ZoeDepthConfig(
        backbone_config=transformers.BeitConfig(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64,
            patch_size=16, use_relative_position_bias=True, reshape_hidden_states=False,
            **features,
        ),
        neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16, bottleneck_features=16, bin_embedding_dim=8,
        num_attractors=[4, 2, 1, 1], num_relative_features=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}],
    )  # fmt: skip
    return transformers.ZoeDepthForDepthEstimation(config), transformers.ZoeDepthImageProcessor(
        size={"height": 64, "width": 64}, ensure_multiple_of=32
    )


def make_tracker() -> tuple[Any, Any]:
    """Make SAM 2 video, and its processor."""
    config = transformers.Sam2VideoConfig(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config={
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
                "patch_kernel_size": [7, 7], "patch_stride": [4, 4], "patch_padding": [3, 3],
                "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 1, 1], "window_size_per_stage": [8, 4, 8, 4],
                "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
            },
            backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=128,
        ),
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
        image_size=64, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip
    network = transformers.Sam2VideoModel(config)
    # So that it believes in what it follows, whatever its other weights are.
    torch.nn.init.constant_(network.mask_decoder.pred_obj_score_head.proj_out.bias, 20.0)
    size: Any = {"height": 64, "width": 64}
    return network, transformers.Sam2VideoProcessor(
        transformers.Sam2ImageProcessor(size=size, mask_size={"height": 16, "width": 16}),
        transformers.Sam2VideoVideoProcessor(size=size),
    )


def make_text_tracker() -> tuple[Any, Any]:
    """Make SAM 3 video, which takes whatever it sees for something, and its processor."""
    tokenizer = clip_tokenizer()
    backbone: dict[str, Any] = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }  # fmt: skip
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 128,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    part: dict[str, Any] = {
        "hidden_size": 128, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    }  # fmt: skip
    detector = transformers.Sam3Config(
        vision_config=vision,
        text_config={
            "model_type": "clip_text_model", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32,
            "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
            "bos_token_id": 3, "eos_token_id": 4, "pad_token_id": 4,
        },
        geometry_encoder_config=part, detr_encoder_config=part, detr_decoder_config={**part, "num_queries": 6},
        mask_decoder_config={"hidden_size": 128, "num_attention_heads": 2},
    )  # fmt: skip
    pixels: dict[str, Any] = {"image_size": 56}
    tracker = transformers.Sam3TrackerVideoConfig(
        vision_config=vision, **pixels,
        prompt_encoder_config={"hidden_size": 128, "image_size": 56, "patch_size": 14},
        mask_decoder_config={
            "hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
        memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip
    config = transformers.Sam3VideoConfig(
        detector_config=detector.to_dict(), tracker_config=tracker.to_dict(), low_res_mask_size=16,
        score_threshold_detection=0.0, new_det_thresh=0.0, hotstart_delay=0, det_nms_thresh=0.5,
    )  # fmt: skip
    network = transformers.Sam3VideoModel(config)
    torch.nn.init.constant_(network.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias, 20.0)
    size: Any = {"height": 56, "width": 56}
    return network, transformers.Sam3VideoProcessor(
        transformers.Sam3ImageProcessor(size=size, mask_size={"height": 16, "width": 16}),
        transformers.Sam2VideoVideoProcessor(size=size),
        tokenizer,
    )


def save(made: tuple[Any, Any], folder: Path) -> str:
    """Save a network and its processor as a published one would be."""
    for part in made:
        part.save_pretrained(folder)
    return str(folder)


def make_network(kind: str, folder: Path, **options: Any) -> str:
    """Make a network by its `model_type` and save it; returns the folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind in DETECTORS:
            return save(make_detector(kind), folder)
        if kind in DEPTHS:
            return save(make_depth(kind, **options), folder)
        return save(make_text_tracker() if kind == "sam3_video" else make_tracker(), folder)
