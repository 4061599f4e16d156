"""What is published about each network: size, cost, accuracy by recipe, where the weights are, licence.

Accuracies, quoted sizes and speeds are the authors' (papers' tables, READMEs), never ours; `params` and `macs` are
counts that the tests make again. MACs: convolutions, linear layers and matrix products of one picture at the
published size, nothing else. The papers' own figures are kept as quoted: SHViT's FLOPs are such MACs after folding
the batch norms, EfficientViM's before, which adds about one per cent.
"""

import dataclasses
from dataclasses import dataclass

from saccade.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class PublishedWeights:
    """One training of a network: its recipe, its accuracy, and the weights where they can be had."""

    recipe: str
    """Tag after the dot in `model.tag`, as on the hub."""
    epochs: int
    top1: float
    """ImageNet-1K validation, per cent."""
    top5: float | None = None
    hub_id: str = ""
    """Empty: the accuracy is published, the weights are not."""
    size: int = 0
    """Pixels, where it differs from the network's."""
    file: str = "model.safetensors"
    """Name of the file under the hub id."""


@dataclass(frozen=True)
class Facts:
    """One network: what it costs and what its authors report."""

    model: str
    size: int
    """Side of the square input, in pixels."""
    params: int
    macs: int
    """Multiply-accumulates of one picture at `size`."""
    quoted: str
    """Parameters and FLOPs as the paper prints them."""
    weights: tuple[PublishedWeights, ...]
    """The first is what `pretrained=True` loads; none where nothing was published."""
    speeds: dict[str, float]
    """Published images per second, by setting."""
    paper: str
    arxiv: str
    code: str
    licence: str = "MIT"
    """Of the reference code and of the published weights, as their authors state."""
    frames: int = 0
    """Of a clip, for networks of clips: `macs` are those of one clip; 0: a network of pictures."""


def _shvit(
    model: str, top1: float, top5: float, distilled: float, speeds: tuple[float, ...], **counts
) -> Facts:
    """Lay out one row of the SHViT paper's Tables 2 and 3."""
    return Facts(
        model,
        **counts,
        weights=(
            PublishedWeights("in1k", 300, top1, top5, f"timm/{model}.in1k"),
            PublishedWeights("distilled", 300, distilled),
        ),
        speeds=dict(
            zip(
                ("A100, batch 256, fp16", "Xeon 5218R, 1 thread, batch 16", "the same, ONNX Runtime"),
                speeds,
                strict=True,
            )
        ),
        paper="Yun, Ro: SHViT: Single-Head Vision Transformer with Memory Efficient Macro Design, CVPR 2024",
        arxiv="2401.16456",
        code="github.com/ysj9909/SHViT",
    )


def _efficientvim(model: str, top1_300: float, top1_450: float, speed: float, **counts) -> Facts:
    """Lay out one row of the EfficientViM README's table, trained without a teacher."""
    return Facts(
        model,
        **counts,
        weights=(
            PublishedWeights("e450_in1k", 450, top1_450, hub_id=f"timm/{model}.e450_in1k"),
            PublishedWeights("e300_in1k", 300, top1_300, hub_id=f"timm/{model}.e300_in1k"),
        ),
        speeds={"RTX 3090, batch 256, fp16": speed},
        paper="Lee, Choi, Kim: EfficientViM: Efficient Vision Mamba with Hidden State Mixer based State Space "
        "Duality, CVPR 2025",
        arxiv="2411.15241",
        code="github.com/mlvlab/EfficientViM",
    )


def _distilled(plain: Facts, top1: float, head_width: int) -> Facts:
    """Lay out the distilled form: a second set of heads on `head_width` pooled values, and its fusion weights."""
    model = f"{plain.model}_dist"
    return dataclasses.replace(
        plain,
        model=model,
        params=plain.params + 1000 * head_width + 4 * 1000 + 4,
        macs=plain.macs + 1000 * head_width,
        weights=(PublishedWeights("in1k", 300, top1, hub_id=f"timm/{model}.in1k"),),
    )


_STVIT_PAPER = (
    "Chang, Wang, Lin, Wang, Zhang, Jin, Shou: Making Vision Transformers Efficient from A Token Sparsification "
    "View, CVPR 2023"
)


def _stvit(
    model: str,
    top1: float | None,
    *,
    params: int,
    macs: int,
    quoted: str,
    file: str = "",
    code: str = "none released",
) -> Facts:
    """Lay out one row of the STViT paper's tables; weights exist for two of the recovery models only."""
    weights = (
        PublishedWeights("in1k", 300, top1, hub_id="csncsn/STViT-R" if file else "", file=file)
        if top1
        else None
    )
    return Facts(
        model,
        size=224,
        params=params,
        macs=macs,
        quoted=quoted,
        weights=(weights,) if weights else (),
        speeds={},
        paper=_STVIT_PAPER,
        arxiv="2303.08685",
        code=code,
        licence="none stated for weights" if file else "MIT",
    )


def _srvit(model: str, *, size: int, params: int, macs: int, quoted: str) -> Facts:
    """Lay out a radar network; its cost is of one image of one channel, and its metrics are decibels, not top-1."""
    ours = model == "srvit_swift"
    return Facts(
        model,
        size=size,
        params=params,
        macs=macs,
        quoted=quoted,
        weights=(),
        speeds={},
        paper="ours, after the paper below: docs/radar.md"
        if ours
        else "Smith, Alimam, Vedula, Torlak: A Vision "
        "Transformer Approach for Efficient Near-Field Irregular SAR Super-Resolution, WMCS 2022",
        arxiv="2305.02074",
        code="this package" if ours else "github.com/josiahwsmith10/hybrid-freehand-imaging-ViT",
        licence="Apache-2.0" if ours else "GPL-3.0",
    )


def _video(model: str, *, params: int, macs: int, quoted: str) -> Facts:
    """Lay out a network of clips; its cost is of one clip of 32 frames."""
    plain = model.startswith("video")
    return Facts(
        model,
        size=224,
        params=params,
        macs=macs,
        quoted=quoted,
        weights=(),
        speeds={},
        paper="Liu, Ning, Cao, Wei, Zhang, Lin, Hu: Video Swin Transformer, CVPR 2022"
        if plain
        else _STVIT_PAPER,
        arxiv="2106.13230" if plain else "2303.08685",
        code="github.com/SwinTransformer/Video-Swin-Transformer" if plain else "none released",
        licence="Apache-2.0" if plain else "MIT",
        frames=32,
    )


# fmt: off
_VIDEO = [
    _video("video_swin_tiny", params=28_619_470, macs=87_764_613_120, quoted="28.2 M, 88 G (400 classes)"),
    _video("video_swin_small", params=50_278_078, macs=165_682_722_816, quoted="49.8 M, 166 G (400 classes)"),
    _video("stvit_video_swin_tiny", params=28_424_530, macs=62_648_186_880, quoted="-27 % of Video Swin-T"),
    _video("stvit_video_swin_small", params=49_961_458, macs=118_988_961_792, quoted="-27 % of Video Swin-S"),
]
_SRVIT = [
    _srvit("srvit_a", size=256, params=69_122, macs=14_069_792_768, quoted="14.07 G"),
    _srvit("srvit_b", size=200, params=45_866, macs=4_071_040_000, quoted="4.07 G"),
    _srvit("srvit_c", size=200, params=44_474, macs=4_023_040_000, quoted="4.02 G"),
    _srvit("srvit_d", size=200, params=60_898, macs=4_657_920_000, quoted="4.66 G"),
    _srvit("srvit_s", size=200, params=9_018, macs=862_080_000, quoted="0.86 G"),
    _srvit("srvit_swift", size=256, params=75_893, macs=1_015_808_000, quoted="-"),
]
_RELEASED = "github.com/changsn/STViT-R"
_STVIT = [
    _stvit("stvit_deit_tiny", 72.2, params=5_720_104, macs=522_358_272, quoted="-58 % of DeiT-T"),
    _stvit("stvit_deit_small", 79.8, params=22_056_040, macs=1_907_039_232, quoted="1.91 G"),
    _stvit("stvit_deit_base", 81.8, params=86_578_408, macs=7_263_369_216, quoted="-58 % of DeiT-B"),
    _stvit("stvit_swin_tiny", None, params=28_277_386, macs=3_414_073_344, quoted="-24 % of Swin-T"),
    _stvit("stvit_swin_small", None, params=49_587_178, macs=6_504_904_704, quoted="-25 % of Swin-S"),
    _stvit("stvit_swin_base", None, params=87_742_784, macs=11_473_428_480, quoted="-25 % of Swin-B"),
    _stvit("stvit_r_swin_tiny", None, params=28_320_214, macs=3_537_598_464, quoted="-", code=_RELEASED),
    _stvit("stvit_r_swin_small", 82.7, params=49_625_518, macs=5_618_245_632, quoted="49.6 M, 5.83 G",
           file="STViT-R-Swin-S.pth", code=_RELEASED),
    _stvit("stvit_r_swin_base", 83.2, params=87_812_336, macs=9_906_520_064, quoted="87.8 M, 10.26 G",
           file="STViT-R-Swin-B.pth", code=_RELEASED),
]
_SHVIT = [
    _shvit("shvit_s1", 72.8, 91.0, 74.0, (33489, 143, 1111),
           size=224, params=6_330_808, macs=241_320_768, quoted="6.3 M, 241 M"),
    _shvit("shvit_s2", 75.2, 92.4, 76.2, (26878, 99, 951),
           size=224, params=11_483_072, macs=365_394_896, quoted="11.4 M, 366 M"),
    _shvit("shvit_s3", 77.4, 93.4, 78.3, (20522, 62, 731),
           size=224, params=14_245_273, macs=600_570_164, quoted="14.2 M, 601 M"),
    _shvit("shvit_s4", 79.4, 94.5, 80.2, (14283, 36, 509),
           size=256, params=16_588_484, macs=986_216_960, quoted="16.5 M, 986 M"),
]
_EFFICIENTVIM = [
    _efficientvim("efficientvim_m1", 72.9, 73.5, 20731,
                  size=224, params=6_679_458, macs=236_394_910, quoted="6.7 M, 239 M"),
    _efficientvim("efficientvim_m2", 75.4, 75.8, 17005,
                  size=224, params=13_903_842, macs=352_155_806, quoted="13.9 M, 355 M"),
    _efficientvim("efficientvim_m3", 77.6, 77.9, 11952,
                  size=224, params=16_604_174, macs=651_713_822, quoted="16.6 M, 656 M"),
    _efficientvim("efficientvim_m4", 79.4, 79.6, 8170,
                  size=256, params=19_606_505, macs=1_104_995_072, quoted="19.6 M, 1111 M"),
]
# fmt: on
_SHVIT[3] = dataclasses.replace(
    _SHVIT[3], weights=(*_SHVIT[3].weights, PublishedWeights("r512", 30, 82.0, size=512))
)
FACTS: dict[str, Facts] = {
    facts.model: facts
    for facts in (
        *_SHVIT,
        *_EFFICIENTVIM,
        *_STVIT,
        *_SRVIT,
        *_VIDEO,
        *(
            _distilled(plain, top1, width)
            for plain, top1, width in zip(
                _EFFICIENTVIM, (74.6, 76.7, 79.1, 80.7), (960, 1408, 1568, 1568), strict=True
            )
        ),
    )
}


def find_published(name: str) -> tuple[str, str]:
    """Find the hub id and file of published weights.

    Args:
        name: A model name (the weights that `pretrained=True` loads), `model.tag`, or a hub id, returned as it is.

    Raises:
        ConfigError: Unknown model, or no weights published under the tag.
    """
    if "/" in name:
        return name, PublishedWeights.file
    model, _, tag = name.partition(".")
    if model not in FACTS:
        raise ConfigError(f"no published weights for a model {model!r}{did_you_mean(model, FACTS)}")
    known = {weights.recipe: weights for weights in FACTS[model].weights if weights.hub_id}
    if not known:
        raise ConfigError(
            f"no weights of {model} are published; train it, or convert a timm model with sparsify"
        )
    tag = tag or next(iter(known))
    if tag not in known:
        raise ConfigError(f"no published weights {name!r}{did_you_mean(tag, known)}")
    return known[tag].hub_id, known[tag].file
