"""Video Swin: published counts, windows of space and time, and inflation from networks of images."""

import dataclasses

import pytest
import torch

import saccade
from saccade.errors import ConfigError
from saccade.models import stvit_swin
from saccade.models.video_swin import VARIANTS, VideoSwin, VideoSwinConfig, inflate_from_image
from saccade.nn.swin import SwinBlock
from saccade.nn.video_swin import (
    BoxAttention,
    VideoStem,
    VideoSwinBlock,
    fit_window,
    from_boxes,
    relative_index_3d,
    shift_mask_3d,
    to_boxes,
)
from saccade.zoo.facts import FACTS

SMALL = {"dim": 24, "heads": (1, 2, 4, 8), "num_classes": 5}


def randomised(model):
    """Move every parameter away from its quiet start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model.double().eval()


def test_parameters_and_cost_are_the_published_ones():
    for name, params, macs in (("video_swin_tiny", 28.2, 88), ("video_swin_small", 49.8, 166)):
        with torch.device("meta"):
            model = saccade.create_model(name, num_classes=400)
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == params
        assert round(FACTS[name].macs / 1e9) == macs
        assert FACTS[f"stvit_{name}"].macs < 0.75 * FACTS[name].macs


def test_boxes_are_cut_and_joined():
    video = torch.arange(2 * 4 * 6 * 4).view(2, 4, 6, 4, 1)
    boxes = to_boxes(video, (2, 3, 2))
    assert boxes.shape == (2, 8, 12, 1)
    assert boxes[1, 0, :, 0].tolist() == video[1, :2, :3, :2, 0].flatten().tolist()
    assert boxes[0, 7, :, 0].tolist() == video[0, 2:, 3:, 2:, 0].flatten().tolist()
    assert torch.equal(from_boxes(boxes, (2, 3, 2), (4, 6, 4)), video)


def test_a_position_has_one_bias_for_each_distance():
    index = relative_index_3d((2, 3, 2), (4, 3, 2))
    where = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2)).tolist()
    seen = {}
    for a, first in enumerate(where):
        for b, second in enumerate(where):
            apart = tuple(x - y for x, y in zip(first, second, strict=True))
            assert seen.setdefault(apart, int(index[a, b])) == int(index[a, b])
    assert len(set(seen.values())) == len(seen) == 3 * 5 * 3
    # The rows of a smaller window are those of the same distances in the whole table.
    whole = relative_index_3d((4, 3, 2), (4, 3, 2))
    assert torch.equal(whole[:12, :12], index)
    assert int(whole.max()) == 7 * 5 * 3 - 1


def test_shifted_windows_see_only_true_neighbours():
    """With values instead of attention: a position is masked from those that came round the border."""
    video, size, shift = (4, 4, 4), (2, 2, 2), (1, 1, 0)
    places = torch.stack(torch.meshgrid(*[torch.arange(4)] * 3, indexing="ij"), -1)
    cells = to_boxes(places[None].roll([-part for part in shift], (1, 2, 3)), size)[0]
    near = (cells[:, :, None] - cells[:, None]).abs().amax(-1) < 2
    assert torch.equal(shift_mask_3d(video, size, shift, torch.zeros(())) == 0, near)
    assert fit_window((3, 8, 7), (4, 7, 7), (2, 3, 3)) == ((3, 7, 7), (0, 3, 0))


def test_attention_equals_the_formula():
    torch.manual_seed(1)
    attention = BoxAttention(8, 2, (2, 2, 2)).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    mask = torch.where(torch.rand(3, 8, 8) < 0.3, -100.0, 0.0).double()
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(2, 3) for part in attention.qkv(x).chunk(3, -1))
    logits = q @ k.transpose(-1, -2) / 2 + attention.position_bias((2, 2, 2)) + mask[None, :, None]
    expected = attention.proj((logits.softmax(-1) @ v).transpose(2, 3).flatten(3))
    assert torch.allclose(attention.mix(x, (2, 2, 2), mask), expected, rtol=1e-12, atol=1e-14)


def test_one_step_of_time_is_the_swin_block_of_images():
    torch.manual_seed(2)
    image = randomised(SwinBlock(8, 2, 7, 3))
    video = VideoSwinBlock(8, 2, (1, 7, 7), (0, 3, 3)).double().eval()
    video.load_state_dict(image.state_dict(), strict=False)
    x = torch.randn(2, 10, 15, 8, dtype=torch.double)
    with torch.no_grad():
        assert torch.allclose(video(x[:, None])[:, 0], image(x), rtol=1e-12, atol=1e-14)


def test_the_stem_is_a_convolution():
    torch.manual_seed(3)
    stem = VideoStem(3, 8, (2, 4, 4)).double()
    x = torch.randn(2, 5, 3, 10, 8, dtype=torch.double)
    padded = torch.nn.functional.pad(x.transpose(1, 2), (0, 0, 0, 2, 0, 1))
    weight = stem.proj.weight.view(8, 3, 2, 4, 4)
    expected = torch.nn.functional.conv3d(padded, weight, stem.proj.bias, stride=(2, 4, 4))
    assert torch.allclose(stem(x), stem.norm(expected.permute(0, 2, 3, 4, 1)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("frames", [2, 6, 16, 32])
def test_a_still_clip_is_the_image(frames):
    """Semantic tokens, shifted windows of space and time, odd sizes: all of it, from our STViT-Swin."""
    sizes = {"depths": (1, 2, 7, 2), "image_blocks": 2, **SMALL}
    base = dataclasses.replace(stvit_swin.VARIANTS["stvit_swin_small"], global_centers=True, **sizes)
    image = randomised(stvit_swin.STViTSwin(base))
    model = VideoSwin(VideoSwinConfig(tokens_per_window=9, global_centers=True, **sizes)).double().eval()
    assert inflate_from_image(model, image.state_dict()) == []
    x = torch.randn(1, 3, 120, 150, dtype=torch.double, generator=torch.Generator().manual_seed(frames))
    with torch.no_grad():
        expected = image(x)
        found = model(x[:, None].expand(-1, frames, -1, -1, -1))
        moving = model(torch.stack([x, x.flip(-1)], 1).repeat(1, frames // 2, 1, 1, 1))
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-12
    assert ((moving - expected).abs().max() / expected.abs().max()).item() > 1e-3


def test_timms_swin_becomes_plain_and_semantic_networks():
    import timm

    torch.manual_seed(4)
    sizes = {"depths": (1, 1, 2, 1), "num_heads": (1, 2, 3, 4)}
    theirs = timm.create_model("swin_tiny_patch4_window7_224", embed_dim=12, num_classes=5, **sizes)
    theirs = randomised(theirs)
    sizes = {"dim": 12, "heads": (1, 2, 3, 4), "depths": (1, 1, 2, 1), "image_blocks": 0, "num_classes": 5}
    model = VideoSwin(VideoSwinConfig(**sizes)).double().eval()
    assert inflate_from_image(model, theirs.state_dict()) == []
    x = torch.randn(1, 3, 224, 224, dtype=torch.double)
    with torch.no_grad():
        expected, found = theirs(x), model(x[:, None].expand(-1, 4, -1, -1, -1))
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-10
    semantic = VideoSwin(VideoSwinConfig(tokens_per_window=9, **sizes))
    assert inflate_from_image(semantic, theirs.state_dict()) == []
    with pytest.raises(ConfigError, match="have no counterpart in these weights"):
        inflate_from_image(VideoSwin(VideoSwinConfig(**SMALL)), theirs.state_dict())
    other = VideoSwin(VideoSwinConfig(**(sizes | {"num_classes": 7})))
    assert inflate_from_image(other, theirs.state_dict()) == ["head.weight", "head.bias"]


def test_gradients_reach_every_parameter_and_recomputation_changes_none():
    torch.manual_seed(5)
    config = VideoSwinConfig(
        depths=(1, 1, 5, 2), image_blocks=1, tokens_per_window=4, global_centers=True, **SMALL
    )
    model = VideoSwin(config)
    x = torch.randn(2, 20, 3, 64, 48)
    grads = []
    for recompute in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(recompute)
        model(x).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert all(g.abs().sum() > 0 for g in grads[0])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*grads, strict=True))


def test_padded_steps_of_time_do_not_reach_semantic_tokens():
    """Twelve steps in windows of eight: what stands behind the end must not matter."""
    torch.manual_seed(6)
    model = randomised(
        VideoSwin(VideoSwinConfig(depths=(1, 1, 4, 1), image_blocks=0, tokens_per_window=4, **SMALL))
    )
    x = torch.randn(1, 12, 2, 2, 96, dtype=torch.double)
    block = model.stages[2][2]
    with torch.no_grad():
        last = model._semantic(block, x, local=True)[:, 8:]
        alone = model._semantic(block, x[:, 8:], local=True)
    assert torch.allclose(last, alone, rtol=1e-10, atol=1e-12)


def test_mistakes_in_a_configuration():
    for options, words in (
        ({"depths": (2, 2)}, "one of each"),
        ({"heads": (5, 6, 12, 24)}, "to divide it"),
        ({"window": (8, 7)}, "time, height and width"),
        ({"tokens_per_window": 9, "image_blocks": 5}, "two generating blocks"),
        ({"tokens_per_window": 9, "window": (8, 8, 8)}, "7 x 7"),
        ({"dropout": 1.0}, "dropout"),
    ):
        with pytest.raises(ConfigError, match=words):
            VideoSwinConfig(**options)
    with pytest.raises(ConfigError, match="takes clips and has no feature maps"):
        saccade.create_model("video_swin_tiny", features_only=True)
    with pytest.raises(ConfigError, match="no option 'tokens_per_window'"):
        saccade.create_model("video_swin_tiny", tokens_per_window=9)
    assert set(VARIANTS) <= set(saccade.list_models("*video_swin*"))
