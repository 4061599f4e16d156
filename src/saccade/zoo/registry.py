"""From a name to a network: an explicit table, no scanning.

Names without a prefix are ours; `timm/NAME` is any model of timm.
"""

import contextlib
import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from saccade.errors import ConfigError, WeightsError, did_you_mean
from saccade.models import (
    efficientvim,
    shvit,
    srvit,
    srvit_swift,
    stvit_deit,
    stvit_r_dense,
    stvit_r_swin,
    stvit_swin,
    video_frames,
    video_swin,
)
from saccade.nn.origin import set_origin

Builder = Callable[..., nn.Module]
FOREIGN = ("timm/", "stvit/")
"""What the names of other libraries' networks begin with."""


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    config: Any
    """The variant's configuration, a frozen dataclass."""
    build: Builder
    """Called as build(config, out_indices)."""
    family: str
    options: tuple[str, ...] = ()
    """Fields of the configuration that `create_model` accepts as options."""
    widest: dict[str, Any] = field(default_factory=dict)
    """Settings of the configuration under which the network has every tensor a published file may hold."""
    stages: int = 3
    """Feature maps that `features_only` can give."""
    task: str = "classify"
    """What it was made for."""
    no_maps: str = ""
    """Why it has no feature maps to give, the middle of a sentence; empty: as `stages` says."""
    has_classes: bool = True
    """Whether it classifies; if not, it chooses its channels itself."""


def _stvit_r(config: Any, out_indices: Sequence[int] | None) -> nn.Module:
    """Build the classifier, or the backbone that gives maps."""
    if out_indices is not None:
        return stvit_r_dense.STViTRDense(config, out_indices)
    return stvit_r_swin.STViTRSwin(config)


def _sharpener(config: Any, _: Sequence[int] | None) -> nn.Module:
    """Build a network that makes a radar image sharper."""
    return srvit.SRViT(config) if isinstance(config, srvit.SRViTConfig) else srvit_swift.SRViTSwift(config)


_SWIN_OPTIONS = (
    "tokens_per_window", "shortcut", "global_centers", "conv_pos", "relative_pos", "layer_scale", "drop_path",
)  # fmt: skip
_STVIT_DEIT_OPTIONS = (
    "tokens", "pooling", "image_blocks", "stgm_blocks", "img_size", "global_centers", "layer_scale", "drop_path",
)  # fmt: skip
_TOKEN_OPTIONS = ("tokens_per_window", "image_blocks", "shortcut", "global_centers", "layer_scale")
_VIDEO_OPTIONS = ("dim", "depths", "heads", "window", "patch", "drop_path", "dropout", "head_rate")
_TABLE: dict[str, Entry] = {
    **{
        name: Entry(config, shvit.SHViT, "shvit", ("distilled",), {"distilled": True})
        for name, config in shvit.VARIANTS.items()
    },
    **{
        name + suffix: Entry(
            dataclasses.replace(config, distilled=bool(suffix)),
            efficientvim.EfficientViM,
            "efficientvim",
            widest={"distilled": True},
        )
        for name, config in efficientvim.VARIANTS.items()
        for suffix in ("", "_dist")
    },
    **{
        name: Entry(config, stvit_deit.STViTDeiT, "stvit_deit", _STVIT_DEIT_OPTIONS, stages=0)
        for name, config in stvit_deit.VARIANTS.items()
    },
    **{
        name: Entry(config, _stvit_r, "stvit_r_swin", (*_SWIN_OPTIONS, "stem", "compat"), stages=4)
        for name, config in stvit_r_swin.VARIANTS.items()
    },
    **{
        name: Entry(config, stvit_swin.STViTSwin, "stvit_swin", (*_SWIN_OPTIONS, "image_blocks"), stages=0)
        for name, config in stvit_swin.VARIANTS.items()
    },
    **{
        name: Entry(
            config,
            _sharpener,
            "srvit",
            stages=0,
            task="restore",
            no_maps="maps an image to an image",
            has_classes=False,
        )
        for name, config in {**srvit.VARIANTS, **srvit_swift.VARIANTS}.items()
    },
    **{
        name: Entry(
            config,
            video_swin.VideoSwin,
            "video_swin",
            (*_VIDEO_OPTIONS, *_TOKEN_OPTIONS) if config.tokens_per_window else _VIDEO_OPTIONS,
            stages=0,
            task="video",
            no_maps="takes clips",
        )
        for name, config in video_swin.VARIANTS.items()
    },
}


def list_models(pattern: str = "*") -> list[str]:
    """List our model names that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(_TABLE, pattern))


def family_of(name: str) -> str:
    """Return the family of one of our names ("shvit" of "shvit_s1"), "timm" for `timm/` and `stvit/` names.

    Raises:
        ConfigError: Unknown name.
    """
    return "timm" if name.startswith(FOREIGN) else _entry(name).family


def task_of(name: str) -> str:
    """Return the task that a network was made for ("classify" for `timm/` and `stvit/` names).

    Raises:
        ConfigError: Unknown name.
    """
    return "classify" if name.startswith(FOREIGN) else _entry(name).task


def forms_of(name: str) -> list[dict[str, Any]]:
    """List the options under which published files hold a network: none, and those that add heads to it."""
    entry = _entry(name)
    more = {option: value for option, value in entry.widest.items() if option in entry.options}
    return [{}, more] if more else [{}]


def channels_of(name: str) -> int:
    """Return the channels of the pictures that a network takes unless asked otherwise: 3, or 1 for radar networks."""
    return 3 if task_of(name) in ("classify", "video") else _entry(name).config.in_chans


def input_shape(name: str, model: nn.Module, batch: int = 1) -> tuple[int, ...]:
    """Return the shape of a network's usual input: pictures (batch, C, S, S) or clips (batch, T, C, S, S)."""
    size = int(getattr(model, "default_size", 224))
    frames = (int(model.default_frames),) if task_of(name) == "video" else ()  # pyright: ignore
    return (batch, *frames, channels_of(name), size, size)


def architecture_of(name: str) -> type:
    """Return what one of our networks has in common with its variants: a family may hold several architectures."""
    return type(_entry(name).config)


@functools.cache
def widest_names(name: str) -> tuple[str, ...]:
    """List the tensor names that one of our networks has with every head and option it could have."""
    entry = _entry(name)
    with torch.device("meta"):
        return tuple(entry.build(dataclasses.replace(entry.config, **entry.widest), None).state_dict())


def create_model(
    name: str,
    *,
    pretrained: bool = False,
    num_classes: int = 1000,
    in_chans: int = 3,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network by name, with fresh weights or published ones.

    Args:
        name: One of `list_models()`, `timm/NAME`, or `stvit/NAME` for the STViT form of a timm model (its options are
            those of `saccade.sparsify` and timm's; pretrained=True carries over timm's weights).
        pretrained: Load the published ImageNet-1K weights (fetched once from the Hugging Face hub). A head with
            another number of classes starts fresh.
        num_classes: Outputs; 0 for the pooled vector. Of no meaning for radar networks, like `in_chans`.
        in_chans: Channels of the picture.
        features_only: `forward` returns a list of maps (B, channels[i], H / strides[i], W / strides[i]) and the
            network has attributes `channels` and `strides`.
        out_indices: Which stages' maps, from 0; negatives count from the end. Only with `features_only`.
        **options: The model's own options (`distilled` for SHViT), or timm's for `timm/` names.

    Returns:
        The network, in training mode.

    Raises:
        ConfigError: Unknown name or option, or a value out of range.
        WeightsError: Published weights that cannot be had.
    """
    if out_indices is not None and not features_only:
        raise ConfigError("out_indices chooses feature maps; pass features_only=True with it")
    if name.startswith("stvit/"):
        return _create_sparse(name, pretrained, num_classes, in_chans, features_only, out_indices, options)
    if name.startswith("timm/"):
        return _create_timm(name, pretrained, num_classes, in_chans, features_only, out_indices, options)
    entry = _entry(name)
    for option in options:
        if option not in entry.options:
            raise ConfigError(
                f"{name} has no option {option!r}{did_you_mean(option, entry.options) or '; it has none'}"
            )
    if entry.no_maps and features_only:
        raise ConfigError(f"{name} {entry.no_maps} and has no feature maps; leave features_only out")
    shape = {"num_classes": num_classes, "in_chans": in_chans} if entry.has_classes else {}
    config = dataclasses.replace(entry.config, **shape, **options)
    indices = (range(entry.stages) if out_indices is None else out_indices) if features_only else None
    model = entry.build(config, indices)
    set_origin(model, name)
    if pretrained and entry.family == "video_swin":
        assert isinstance(model, video_swin.VideoSwin)
        image = create_model(video_swin.IMAGE_FORMS[name][-1], pretrained=True, num_classes=num_classes)
        video_swin.inflate_from_image(model, image.state_dict())
    elif pretrained:
        from saccade.zoo.published import load_published

        load_published(model, name)
    return model


def create_video_model(
    name: str,
    head: str = "",
    *,
    num_classes: int = 400,
    in_chans: int = 3,
    pretrained: bool = False,
    options: dict[str, Any] | None = None,
    **head_options: Any,
) -> nn.Module:
    """Build a network of clips (batch, frames, channels, height, width), if need be around one of pictures.

    Args:
        name: As of `create_model`.
        head: For networks of pictures, how frames are joined: transformer or mean; empty for networks of clips.
        num_classes: Outputs.
        in_chans: Channels of a frame.
        pretrained: Begin with published ImageNet weights, spread over time where patches have a depth in time.
        options: As of `create_model`.
        **head_options: Fields of `saccade.models.video_frames.VideoHeadConfig`.

    Raises:
        ConfigError: Unknown names or options, a head where there is none, or a network that does not fit.
        WeightsError: Published weights that cannot be had.
    """
    shared: dict[str, Any] = {"pretrained": pretrained, "in_chans": in_chans, **(options or {})}
    if task_of(name) == "video":
        if head or head_options:
            raise ConfigError(f"{name} takes whole clips and has no model.head; leave it out")
        return create_model(name, num_classes=num_classes, **shared)
    if task_of(name) == "restore":
        raise ConfigError(f"{name} maps an image to an image; it cannot classify frames")
    known = [field.name for field in dataclasses.fields(video_frames.VideoHeadConfig) if field.name != "kind"]
    for option in head_options:
        if option not in known:
            raise ConfigError(f"model.head_options has no {option!r}{did_you_mean(option, known)}")
    config = video_frames.VideoHeadConfig(head or video_frames.HEADS[0], **head_options)
    semantic = config.cells > 1 and family_of(name) in ("stvit_deit", "stvit_swin")
    maps = config.cells > 1 and not semantic
    form: dict[str, Any] = (
        {"features_only": True, "out_indices": (config.stage,)} if maps else {"num_classes": 0}
    )
    form |= shared
    bare: dict[str, Any] = form | {"pretrained": False}
    with torch.device("meta"):
        shadow = create_model(name, **bare).eval()
        size = int(getattr(shadow, "default_size", 224))
        found = video_frames.FrameVectors(shadow, config.cells, semantic=semantic)(
            torch.empty(1, in_chans, size, size)
        )
    net = create_model(name, **form)
    if maps and config.stage != -1 and not name.startswith(FOREIGN):
        if not hasattr(net, "out_indices") or family_of(name) == "stvit_r_swin":
            raise ConfigError(
                f"{name} gives the map of its last stage only; leave stage out of model.head_options"
            )
        # Layers behind the map would be of no use, and several processes refuse parameters without gradients.
        stages: Any = net.stages
        indices: Any = net.out_indices
        del stages[indices[-1] + 1 :]
        if (
            family_of(name) == "efficientvim"
        ):  # whose stages end in the way to the next one, where SHViT's begin with it
            stages[-1].downsample = None
    model = video_frames.VideoFrames(net, found.shape[1], config, num_classes, semantic=semantic)
    model.default_size, model.default_frames = size, config.frames  # pyright: ignore[reportArgumentType]
    return model


def _entry(name: str) -> Entry:
    """Look a name up."""
    if name not in _TABLE:
        raise ConfigError(
            f"unknown model {name!r}{did_you_mean(name, _TABLE)} (timm's models are named timm/NAME)"
        )
    return _TABLE[name]


FETCHING = frozenset({"pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"})
"""Arguments of timm by which options, which may come from a card, would name files and addresses to load."""


def _create_timm(
    name: str,
    pretrained: bool,
    num_classes: int,
    in_chans: int,
    features_only: bool,
    out_indices: Sequence[int] | None,
    options: dict[str, Any],
) -> nn.Module:
    """Build a timm model and give it the attributes that ours have."""
    import timm

    from saccade.hub import no_retries

    plain = name.removeprefix("timm/")
    if plain.split(".")[0] not in timm.list_models():
        raise ConfigError(f"timm has no model {plain!r}{did_you_mean(plain, timm.list_models())}")
    if own := sorted(FETCHING & options.keys()):
        raise ConfigError(
            f"{name}: option {own[0]} makes timm load files by itself; pass weights with --weights"
        )
    extra = dict(options, features_only=True) if features_only else dict(options, num_classes=num_classes)
    if out_indices is not None:
        extra["out_indices"] = tuple(out_indices)
    try:
        with no_retries() if pretrained else contextlib.nullcontext():
            model = timm.create_model(plain, pretrained=pretrained, in_chans=in_chans, **extra)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}") from None
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise WeightsError(
            f"{name}: the published weights cannot be fetched ({type(error).__name__}); "
            "connect to the network once, or pass a local file with --weights"
        ) from None
    if features_only:
        _give_nchw(model, name)
        model.channels = model.feature_info.channels()  # pyright: ignore
        model.strides = model.feature_info.reduction()  # pyright: ignore
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    model.default_size = int(config.get("input_size", (3, 224, 224))[-1])  # pyright: ignore[reportArgumentType]
    set_origin(model, name, options)
    return model


def _give_nchw(model: nn.Module, name: str) -> None:
    """Make a feature network of timm give (B, C, H, W) maps, whatever it says of itself in `output_fmt`.

    Swin, Swin V2, MambaOut and Sequencer give channels last. A map's shape cannot tell: at 384 pixels Swin-T's first
    map is 96 x 96 x 96.

    Raises:
        ConfigError: A network that gives tokens instead of maps.
    """
    declared: Any = getattr(model, "output_fmt", None)
    layout = getattr(declared, "value", "NCHW")
    if layout == "NHWC":
        # A class of its own, not a hook: tracing (as `fold` does) follows `forward` and drops hooks.
        model.__class__ = _channels_first(type(model))
        model.output_fmt = type(declared)("NCHW")
    elif layout != "NCHW":
        raise ConfigError(f"{name} gives its features as {layout}, and maps (NCHW) are expected")


@functools.cache
def _channels_first(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a feature network's class whose maps have their channels brought to the front."""

    class ChannelsFirst(kind):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [maps.permute(0, 3, 1, 2) for maps in super().forward(x)]

    return ChannelsFirst


def _create_sparse(
    name: str,
    pretrained: bool,
    num_classes: int,
    in_chans: int,
    features_only: bool,
    out_indices: Sequence[int] | None,
    options: dict[str, Any],
) -> nn.Module:
    """Build the STViT form of a timm model."""
    from saccade.zoo.sparse.convert import USUAL, sparsify

    own = {key: value for key, value in options.items() if key in USUAL}
    rest = {key: value for key, value in options.items() if key not in USUAL}
    try:
        base = _create_timm(
            f"timm/{name.removeprefix('stvit/')}", pretrained, num_classes, in_chans, False, None, rest
        )
    except ConfigError as error:
        near = "".join(did_you_mean(key, USUAL) for key in rest)
        raise ConfigError(f"{error}{near}" if "keyword" in str(error) else str(error)) from None
    model = sparsify(base, **own, features_only=features_only, out_indices=out_indices)
    set_origin(model, name, options)
    return model


def published_labels(num_classes: int) -> list[str]:
    """Return the WordNet ids of ImageNet's 1000 classes in the order of published heads; empty for other heads."""
    from timm.data.imagenet_info import ImageNetInfo

    return list(ImageNetInfo().label_names()) if num_classes == 1000 else []
