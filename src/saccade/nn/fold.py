"""Fold a trained network into its inference form: the same function with fewer operations.

Folding is exact arithmetic on the weights (batch normalisation into convolutions, identity branches into their
centre taps, gates, scales and affine maps into the neighbouring linear map, several heads into one), done in
float64 and rounded once. The equations stand with the functions below.
"""

from __future__ import annotations

import abc
import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from saccade.errors import ConfigError
from saccade.nn.conv_norm import ConvNorm
from saccade.nn.kernels import FoldedConv, Packed, Plain, choose_kernels
from saccade.nn.modules import Folds, modules
from saccade.nn.origin import origin_of, set_origin

if TYPE_CHECKING:
    from saccade.nn.conv_norm import ConvStem, FeedForward, PatchMerging


_PIECE_PIXELS = 8 * 256 * 256


def fold(model: nn.Module) -> nn.Module:
    """Return the inference form of a network as a new module; the original is untouched.

    Ours fold completely. For others (timm), their own folding methods are called and every batch
    normalisation that directly follows a convolution, as far as tracing can prove it, is folded.

    Args:
        model: A network; its running statistics are used, so train it first.

    Returns:
        A module in evaluation mode with the same inputs and outputs, equal to 1e-12 relative in float64.
        In float32 on a CPU, without gradients, it uses prepacked kernels.

    Raises:
        ConfigError: The module is already folded.
    """
    if getattr(model, "is_folded", False):
        raise ConfigError("this network is already folded")
    with torch.no_grad():
        folded = model.fold() if isinstance(model, Folds) else _fold_foreign(model)
    if (origin := origin_of(model)) is not None:
        set_origin(folded, origin.name, origin.options)
    for name in ("default_size", "num_classes", "channels", "strides"):
        if hasattr(model, name):
            setattr(folded, name, getattr(model, name))
    folded.is_folded = True  # pyright: ignore[reportArgumentType]
    return folded.eval().requires_grad_(False)


def norm_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Write evaluation-mode batch normalisation as y = scale * x + shift, in float64.

    scale = weight / sqrt(var + eps), shift = bias - mean * scale.
    """
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def fold_conv_norm(
    block: ConvNorm,
    *,
    out_scale: Tensor | None = None,
    in_scale: Tensor | None = None,
    in_shift: Tensor | None = None,
    identity: Tensor | float | None = None,
) -> FoldedConv:
    """Fold a convolution and its normalisation, and optionally what stands around them.

    Computes out_scale * norm(conv(in_scale * x + in_shift)) + identity * x as one convolution.

    Args:
        block: Convolution and normalisation.
        out_scale: (out,) factors after the normalisation, such as gates or the softmax scale of queries.
        in_scale: (in,) factors before; only for 1x1 convolutions with one group.
        in_shift: (in,) offsets before; likewise (padding would see them otherwise).
        identity: Factor, or (channels,) factors, of a parallel identity; for depthwise stride-1 blocks.
    """
    conv = block.conv
    scale, shift = norm_affine(block.norm)
    weight, bias = conv.weight.double() * scale.view(-1, 1, 1, 1), shift
    if in_shift is not None:
        bias = bias + weight.flatten(1) @ in_shift.double()
    if in_scale is not None:
        weight = weight * in_scale.double().view(1, -1, 1, 1)
    if out_scale is not None:
        weight, bias = weight * out_scale.double().view(-1, 1, 1, 1), bias * out_scale.double()
    if identity is not None:
        middle = conv.kernel_size[0] // 2
        weight[:, 0, middle, middle] += identity
    dtype = conv.weight.dtype
    return FoldedConv(weight.to(dtype), bias.to(dtype), stride=conv.stride[0], groups=conv.groups)


def fold_plain_conv(conv: nn.Conv2d) -> FoldedConv:
    """Take over a convolution without normalisation; a missing bias becomes zeros."""
    bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.weight.shape[0])
    return FoldedConv(conv.weight, bias, stride=conv.stride[0], groups=conv.groups)


def linear_of(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Linear:
    """Make a linear layer of (out, in) weights and (out,) biases, rounded to `dtype`."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=dtype)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


class FoldedNet(nn.Module, abc.ABC):
    """Base of the inference forms: picks the kernels, then runs `run`."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = Packed()

    @abc.abstractmethod
    def run(self, x: Tensor, k: Plain) -> Tensor | list[Tensor]:
        """Map a picture to the network's outputs with the given kernels."""

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map a picture (B, in_chans, H, W) to logits, a list of maps, or the pooled vector."""
        k = choose_kernels(self.kernels, x)
        if not isinstance(k, Packed):
            return self.run(x, k)
        # Smaller pieces of a large batch reuse the same memory; the allocator would return it to the system
        # and fault it in again (6 400 page faults, a fifth of the time, per batch of 16 at 224 pixels).
        size = max(1, _PIECE_PIXELS // (x.shape[2] * x.shape[3]))
        with torch.inference_mode():
            pieces = [self.run(piece, k) for piece in x.split(size)]
        # Copies made outside inference mode are ordinary tensors, which later layers may train on.
        if isinstance(pieces[0], list):
            return [torch.cat(maps) for maps in zip(*pieces, strict=True)]
        return torch.cat([piece for piece in pieces if isinstance(piece, Tensor)])


class FoldedStem(nn.Module):
    """Inference form of `ConvStem`."""

    def __init__(self, stem: ConvStem) -> None:
        super().__init__()
        self.convs = modules([fold_conv_norm(block) for block in stem if isinstance(block, ConvNorm)])

    def forward(self, x: Any, k: Plain) -> Any:
        """Map (B, in_chans, H, W) to (B, dim, ceil(H / 16), ceil(W / 16))."""
        last = len(self.convs) - 1
        for i, conv in enumerate(self.convs):
            x = k.conv(conv, x, relu=i < last)
        return x


class FoldedFeedForward(nn.Module):
    """Inference form of a feed-forward with its residual or gate: keep * x + fc2(relu(fc1(x)))."""

    def __init__(self, fc1: FoldedConv, fc2: FoldedConv, keep: Tensor | None) -> None:
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2
        self.keep = None if keep is None else nn.Parameter(keep, requires_grad=False)

    def forward(self, x: Any, k: Plain) -> Any:
        """Map (B, C, H, W) to the same shape."""
        hidden = k.conv(self.fc1, x, relu=True)
        return k.conv_add(self.fc2, hidden, x if self.keep is None else k.scale(x, self.keep))


def fold_feed_forward(ffn: FeedForward, gate: Tensor | None = None) -> FoldedFeedForward:
    """Fold x + ffn(x), or with a (channels,) gate (1 - gate) x + gate ffn(x)."""
    fc2 = fold_conv_norm(ffn.fc2, out_scale=gate)
    keep = None if gate is None else (1 - gate.double()).to(ffn.fc2.conv.weight.dtype)
    return FoldedFeedForward(fold_conv_norm(ffn.fc1), fc2, keep)


class FoldedMerging(nn.Module):
    """Inference form of `PatchMerging`."""

    def __init__(self, merge: PatchMerging) -> None:
        super().__init__()
        self.expand = fold_conv_norm(merge.expand)
        self.dwconv = fold_conv_norm(merge.dwconv)
        self.squeeze, self.excite = fold_plain_conv(merge.se.fc1), fold_plain_conv(merge.se.fc2)
        self.project = fold_conv_norm(merge.project)

    def forward(self, x: Any, k: Plain) -> Any:
        """Map (B, in_chans, H, W) to (B, out_chans, ceil(H / 2), ceil(W / 2))."""
        x = k.conv(self.dwconv, k.conv(self.expand, x, relu=True), relu=True)
        return k.conv(self.project, k.gate(self.squeeze, self.excite, x))


def _fold_foreign(model: nn.Module) -> nn.Module:
    """Fold a network that is not ours: its own folding methods, then traced convolution-norm pairs."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        for method in ("reparameterize", "switch_to_deploy"):
            if callable(getattr(module, method, None)):
                getattr(module, method)()
                break
    _fuse_children(model)
    try:
        traced = torch.fx.symbolic_trace(model)
    except Exception:  # tracing fails in as many ways as there are models; the untraced copy is still right
        return model
    return _fuse_traced(traced)


def _fuse_children(parent: nn.Module) -> None:
    """Replace every child that offers `fuse()` (timm's convention) by what it returns."""
    for name, child in parent.named_children():
        if callable(getattr(child, "fuse", None)):
            setattr(parent, name, child.fuse())  # pyright: ignore[reportCallIssue]
        else:
            _fuse_children(child)


def _fuse_traced(traced: torch.fx.GraphModule) -> nn.Module:
    """Fold batch normalisations whose only input is a convolution that nothing else reads."""
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not node.args or not isinstance(node.args[0], torch.fx.Node):
            continue
        norm, source = modules[str(node.target)], node.args[0]
        if type(norm) is not nn.BatchNorm2d or source.op != "call_module" or len(source.users) != 1:
            continue
        conv = modules[str(source.target)]
        if type(conv) is not nn.Conv2d:
            continue
        fused = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
        parent, _, name = str(source.target).rpartition(".")
        setattr(traced.get_submodule(parent), name, fused)
        modules[str(source.target)] = fused
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
