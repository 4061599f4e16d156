"""Conversion of networks with rotary or relative positions, against a reference of its own in float64."""

import pytest
import timm
import torch
from torch.nn import functional as F

import saccade

TINY = {"img_size": 96, "patch_size": 16, "embed_dim": 48, "depth": 6, "num_heads": 3, "num_classes": 5}
ROTARY = ["eva02_tiny_patch14_224", "vit_small_patch16_dinov3", "vit_medium_patch16_rope_reg1_gap_256"]
RELATIVE = ["beit_base_patch16_224", "vit_relpos_small_patch16_224", "vit_srelpos_small_patch16_224",
            "vit_relpos_base_patch16_rpn_224"]  # fmt: skip


def build(name):
    torch.manual_seed(0)
    model = timm.create_model(name, **TINY).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def project(attn, x, context):
    """Queries, keys and values of all heads side by side."""
    if getattr(attn, "qkv", None) is None:
        return attn.q_proj(x), attn.k_proj(context), attn.v_proj(context)
    bias = attn.qkv.bias
    if bias is None:
        own = getattr(attn, "q_bias", None)
        zero = attn.qkv.weight.new_zeros(attn.qkv.weight.shape[0] // 3)
        bias = torch.cat([zero] * 3 if own is None else [own, zero, attn.v_bias])
    (wq, wk, wv), (bq, bk, bv) = attn.qkv.weight.chunk(3), bias.chunk(3)
    return x @ wq.T + bq, context @ wk.T + bk, context @ wv.T + bv


def turn(x, angles, half):
    """Rotate the pairs of all tokens behind the prefix by (tokens, pairs) angles, as complex numbers."""
    front, x = x[:, : x.shape[1] - len(angles)], x[:, x.shape[1] - len(angles) :]
    real, imag = x.chunk(2, -1) if half else (x[..., 0::2], x[..., 1::2])
    z = torch.complex(real, imag) * torch.polar(torch.ones_like(angles), angles)
    parts = torch.cat([z.real, z.imag], -1) if half else torch.stack([z.real, z.imag], -1).flatten(-2)
    return torch.cat([front, parts], 1)


def attend(block, x, context, ours=None, theirs=None):
    """One block with two inputs, head by head, without relative biases."""
    attn, post = block.attn, "Post" in type(block).__name__
    q, k, v = project(attn, *((x, context) if post else (block.norm1(x), block.norm1(context))))
    d, heads = q.shape[-1] // attn.num_heads, []
    for h in range(attn.num_heads):
        qh, kh, vh = (t[..., h * d : (h + 1) * d] for t in (q, k, v))
        if getattr(attn, "q_norm", None) is not None:
            qh, kh = attn.q_norm(qh), attn.k_norm(kh)
        if ours is not None:
            half = bool(getattr(attn, "rotate_half", False))
            qh, kh = turn(qh, ours, half), turn(kh, theirs, half)
        heads.append((qh @ kh.transpose(1, 2) * d**-0.5).softmax(-1) @ vh)
    y = torch.cat(heads, -1)
    y = attn.proj(attn.norm(y) if getattr(attn, "norm", None) is not None else y)
    scales = [
        getattr(block, f"gamma_{n}", getattr(getattr(block, f"ls{n}", None), "gamma", None)) for n in (1, 2)
    ]
    first, second = (1.0 if scale is None else scale for scale in scales)
    if post:
        x = x + first * block.norm1(y)
        return x + second * block.norm2(block.mlp(x))
    x = x + first * y
    return x + second * block.mlp(block.norm2(x))


def angles_of(rope, attn):
    """Angles (36, pairs) of the image tokens, and (9, pairs) half-way between the 2 x 2 tokens of each window."""
    sine, cosine = rope.chunk(2, -1)
    angles = torch.atan2(sine, cosine)
    pairs = angles.shape[1] // 2
    angles = angles[:, :pairs] if getattr(attn, "rotate_half", False) else angles[:, 0::2]
    z = torch.polar(torch.ones_like(angles), angles).view(6, 6, -1)
    for axis in (0, 1):
        even = z.index_select(axis, torch.arange(0, 6, 2))
        odd = z.index_select(axis, torch.arange(1, 6, 2))
        step = torch.angle(odd * even.conj())
        z = even * torch.polar(torch.ones_like(step), step / 2)
    return angles, torch.angle(z).flatten(0, 1)


@pytest.mark.parametrize("name", ROTARY + RELATIVE)
def test_first_forward_is_spatial_pooling_only(name):
    base = build(name)
    model = saccade.sparsify(base, tokens=9)
    x, prefix, seen = torch.randn(2, 3, 96, 96, dtype=torch.float64), base.num_prefix_tokens, {}
    hook = base.blocks[2].register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(x=args[0], rope=kwargs.get("rope")), with_kwargs=True
    )
    with torch.no_grad():
        untouched = base(x)
        hook.remove()
        every, front, image = seen["x"], seen["x"][:, :prefix], seen["x"][:, prefix:]
        near = far = both = None
        if name in ROTARY:
            far, near = angles_of(seen["rope"], base.blocks[2].attn)
            both = torch.cat([near, far])
        centres = F.max_pool2d(image.transpose(1, 2).unflatten(2, (6, 6)), 2).flatten(2).transpose(1, 2)
        tokens = attend(base.blocks[2], torch.cat([front, centres], 1), every, near, far)
        tokens = attend(base.blocks[3], tokens, torch.cat([tokens, image], 1), near, both)
        for block in base.blocks[4:]:
            tokens = attend(block, tokens, tokens, near, near)
        expected, found = base.forward_head(base.norm(tokens)), model(x)
    # timm keeps sines and cosines in float32, so their squares sum to 1 only to 1e-7.
    assert torch.allclose(found, expected, atol=1e-7)
    assert (found - untouched).abs().max() > 1e-2
