"""Checkpoints of mmdet and mmseg, made here from the names and shapes that their public sources give."""

from collections import OrderedDict

import pytest
import torch

from saccade.engine.weights import check_weights, convert_weights
from saccade.errors import WeightsError
from saccade.tasks.dense.nets import build_dense
from saccade.tasks.dense.nets.keymap import _coco_names, from_mmdet, identify_mmdet, is_mmdet
from saccade.tasks.open import load_model
from saccade.weights.keymap import to_layout
from saccade.zoo.loading import load_weights, match_state, save_weights

CLASSES, WIDTH, FC = 5, 8, 12


def conv(name, out_chans, in_chans, side, bias=True):
    tensors = {f"{name}.weight": torch.randn(out_chans, in_chans, side, side)}
    return {**tensors, f"{name}.bias": torch.randn(out_chans)} if bias else tensors


def linear(name, out_features, in_features):
    return {
        f"{name}.weight": torch.randn(out_features, in_features),
        f"{name}.bias": torch.randn(out_features),
    }


def conv_bn(name, out_chans, in_chans):
    """mmcv's ConvModule with a norm: no bias."""
    tensors = conv(f"{name}.conv", out_chans, in_chans, 3, bias=False)
    for part in ("weight", "bias", "running_mean", "running_var"):
        tensors[f"{name}.bn.{part}"] = torch.rand(out_chans)
    return {**tensors, f"{name}.bn.num_batches_tracked": torch.tensor(7)}


def backbone(net, family, layout):
    state = {
        name: torch.rand_like(t) if t.is_floating_point() else torch.full_like(t, 7)
        for name, t in net.backbone.state_dict().items()
    }
    return {
        key if key.startswith("backbone.") else f"backbone.{key}": tensor
        for key, tensor in to_layout(state, family, layout).items()
    }


def neck(channels, finer=0, coarser=0, pre_norm=""):
    tensors = {}
    for i, chans in enumerate(channels):
        tensors |= conv(f"neck.lateral_convs.{i}.conv", WIDTH, chans, 1)
        tensors |= conv(f"neck.fpn_convs.{i}.conv", WIDTH, WIDTH, 3)
        if pre_norm:
            tensors |= {
                f"neck.{pre_norm}.{i}.{part}": torch.rand(1, chans, 1, 1) for part in ("weight", "bias")
            }
    for i in range(coarser):
        tensors |= conv(f"neck.fpn_convs.{len(channels) + i}.conv", WIDTH, channels[-1], 3)
    for i in range(finer):
        tensors |= conv(f"neck.extra_trans_convs.{i}.conv", WIDTH, WIDTH, 2)
        tensors |= conv(f"neck.extra_fpn_convs.{i}.conv", WIDTH, WIDTH, 3)
    return tensors


def retina_head():
    tensors = {}
    for i in range(4):
        tensors |= conv(f"bbox_head.cls_convs.{i}.conv", WIDTH, WIDTH, 3)
        tensors |= conv(f"bbox_head.reg_convs.{i}.conv", WIDTH, WIDTH, 3)
    return (
        tensors
        | conv("bbox_head.retina_cls", 9 * CLASSES, WIDTH, 3)
        | conv("bbox_head.retina_reg", 36, WIDTH, 3)
    )


def rpn_head():
    tensors = conv("rpn_head.rpn_conv", WIDTH, WIDTH, 3)
    return tensors | conv("rpn_head.rpn_cls", 3, WIDTH, 1) | conv("rpn_head.rpn_reg", 12, WIDTH, 1)


def region_heads(stage=""):
    box, mask = (f"roi_head.{part}_head{stage}" for part in ("bbox", "mask"))
    if stage:
        tensors = linear(f"{box}.shared_fcs.0", FC, WIDTH * 49)
        for i in range(4):
            tensors |= conv_bn(f"{box}.shared_convs.{i}", WIDTH, WIDTH)
    else:
        tensors = linear(f"{box}.shared_fcs.0", FC, WIDTH * 49) | linear(f"{box}.shared_fcs.1", FC, FC)
    tensors |= linear(f"{box}.fc_cls", CLASSES + 1, FC) | linear(f"{box}.fc_reg", 4 * CLASSES, FC)
    for i in range(4):
        tensors |= conv(f"{mask}.convs.{i}.conv", WIDTH, WIDTH, 3)
    return (
        tensors | conv(f"{mask}.upsample", WIDTH, WIDTH, 2) | conv(f"{mask}.conv_logits", CLASSES, WIDTH, 1)
    )


def fpn_head():
    tensors = conv("decode_head.conv_seg", CLASSES, WIDTH, 1)
    for level, places in enumerate(((0,), (0,), (0, 2), (0, 2, 4))):
        for place in places:
            tensors |= conv_bn(f"decode_head.scale_heads.{level}.{place}", WIDTH, WIDTH)
    return tensors


REGIONS = {"width": WIDTH, "fc_width": FC, "mask_width": WIDTH}
SHVIT = ("shvit_s1", "shvit", "official", (128, 224, 320))
VIM = ("efficientvim_m1", "efficientvim", "official", (128, 192, 320))
STVIT = ("stvit_r_swin_tiny", "stvit_r_swin", "mmdet", (96, 192, 384, 768))
CASES = {
    "shvit-retinanet": (SHVIT, "retinanet", {"width": WIDTH}, {"finer": 1, "coarser": 1}, retina_head),
    "shvit-mask": (SHVIT, "mask_rcnn", REGIONS, {"finer": 2}, lambda: rpn_head() | region_heads()),
    "vim-retinanet": (
        VIM, "retinanet", {"width": WIDTH}, {"finer": 1, "coarser": 1, "pre_norm": "norms"}, retina_head,
    ),
    "vim-mask": (
        VIM, "mask_rcnn", REGIONS, {"finer": 2, "pre_norm": "pre_norm"}, lambda: rpn_head() | region_heads(),
    ),
    "vim-semantic": (VIM, "semantic_fpn", {"width": WIDTH, "head_width": WIDTH}, {}, fpn_head),
    "stvit-cascade": (
        STVIT, "cascade_mask_rcnn", REGIONS, {},
        lambda: rpn_head() | region_heads(".0") | region_heads(".1") | region_heads(".2"),
    ),
}  # fmt: skip


def make(case):
    """Return one of our networks and a file of the authors'."""
    (name, family, layout, channels), head, options, parts, make_head = CASES[case]
    net = build_dense(name, head, CLASSES, **options)
    return net, backbone(net, family, layout) | neck(channels, **parts) | make_head()


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_of_a_published_file_finds_its_place(case):
    net, state = make(case)
    assert is_mmdet(state)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    extra = {"roi_head.surprise": torch.zeros(1), "backbone.layers.0.blocks.1.attn_mask": torch.zeros(1)}
    assert match_state(net, state | extra, family="").unexpected == ["roi_head.surprise"]
    load_weights(net, state)
    assert not [name for name, tensor in net.state_dict().items() if torch.equal(tensor, before[name])]
    # Nothing is lost on the way: the same numbers on both sides, but for the zeros of the background.
    ours = sum(tensor.double().sum() for tensor in net.state_dict().values())
    theirs = sum(tensor.double().sum() for tensor in state.values())
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)


@pytest.mark.parametrize("case", ["shvit-retinanet", "vim-mask", "vim-semantic", "stvit-cascade"])
def test_a_published_file_says_what_it_is(case):
    _, state = make(case)
    card = identify_mmdet(state)
    (name, *_), head, options, *_ = CASES[case]
    assert (card.model, card.head, card.head_options) == (name, head, options)
    assert card.task == ("segment" if head == "semantic_fpn" else "detect")
    assert card.num_classes == len(card.labels) == CLASSES
    assert card.options == ({"compat": True} if case.startswith("stvit") else {})


def test_a_published_file_loads_and_is_written_as_ours(tmp_path):
    net, state = make("vim-mask")
    path, ours = tmp_path / "epoch_12.pth", tmp_path / "ours.safetensors"
    torch.save({"meta": {"CLASSES": ("a", "b"), "epoch": 12}, "state_dict": OrderedDict(state)}, path)
    model, card = load_model(path)
    load_weights(net, state)
    loaded = model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in net.state_dict().items())
    save_weights(model, ours, card)
    for file, layout in ((path, "mmdet"), (ours, "saccade")):
        verdict = check_weights(file, card.model)
        assert verdict.fits
        assert verdict.layout == layout
    with pytest.raises(WeightsError, match="written in our own layout"):
        convert_weights(path, "official", tmp_path / "other.pth")
    again, same = load_model(ours)
    assert same.head_options == card.head_options
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in again.state_dict().items())


def test_eighty_classes_of_objects_are_cocos():
    names = _coco_names()
    assert len(names) == 80
    assert (names[0], names[11], names[79]) == ("person", "stop sign", "toothbrush")


def test_heads_and_backbones_of_others_are_refused():
    _, state = make("shvit-retinanet")
    with pytest.raises(WeightsError, match="whose backbone is none of ours"):
        identify_mmdet({**state, "backbone.layer1.0.conv1.weight": torch.zeros(3)})
    others = {k: v for k, v in state.items() if "retina" not in k}
    with pytest.raises(WeightsError, match="whose head is none of retinanet"):
        identify_mmdet(others)


def test_the_background_moves_to_the_front():
    net, state = make("shvit-mask")
    load_weights(net, state)
    stage = net.stages[0]
    vectors, maps = torch.randn(3, FC), torch.randn(3, WIDTH, 14, 14)
    logits, deltas = stage.box_predictor(vectors)
    box = "roi_head.bbox_head"
    scores = vectors @ state[f"{box}.fc_cls.weight"].T + state[f"{box}.fc_cls.bias"]
    assert torch.allclose(logits[:, 1:], scores[:, :-1], atol=1e-5)
    assert torch.allclose(logits[:, 0], scores[:, -1], atol=1e-5)
    wanted = vectors @ state[f"{box}.fc_reg.weight"].T + state[f"{box}.fc_reg.bias"]
    assert torch.allclose(deltas.view(3, -1, 4)[:, 1:], wanted.view(3, -1, 4), atol=1e-5)
    masks = stage.mask_predictor.mask_fcn_logits(maps)[:, 1:]
    assert torch.allclose(masks, torch.nn.functional.conv2d(
        maps, state["roi_head.mask_head.conv_logits.weight"], state["roi_head.mask_head.conv_logits.bias"]
    ), atol=1e-5)  # fmt: skip


def test_the_finest_level_has_the_first_of_the_extra_outputs():
    net, state = make("shvit-mask")
    load_weights(net, state)
    maps = [torch.randn(1, c, 8 // 2**i, 8 // 2**i) for i, c in enumerate((128, 224, 320))]
    levels = net.neck(maps)
    merged = [net.neck.laterals[i](x) for i, x in enumerate(maps)]
    for i in (1, 0):
        merged[i] = merged[i] + merged[i + 1].repeat_interleave(2, 2).repeat_interleave(2, 3)
    f, x = torch.nn.functional, merged[0]
    for i in range(2):
        name = f"neck.extra_trans_convs.{i}.conv"
        x = f.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2)
    name = "neck.extra_fpn_convs.0.conv"
    finest = f.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
    assert torch.allclose(levels[0], finest, rtol=1e-4, atol=1e-3)


def test_one_box_for_all_classes_serves_every_class():
    net, state = make("stvit-cascade")
    state |= linear("roi_head.bbox_head.1.fc_reg", 4, FC)
    tensors = from_mmdet(state, net).mapped
    weight = tensors["head.stages.1.box_predictor.bbox_pred.weight"]
    assert torch.equal(weight.view(CLASSES + 1, 4, FC)[3], state["roi_head.bbox_head.1.fc_reg.weight"])


def test_files_of_other_networks_are_refused():
    net, state = make("shvit-retinanet")
    with pytest.raises(WeightsError, match=r"2 missing \(bbox_head.retina_cls.weight"):
        load_weights(net, {k: v for k, v in state.items() if "retina_cls" not in k})
    with pytest.raises(WeightsError, match=r"retina_cls\.weight' has shape"):
        load_weights(net, state | conv("bbox_head.retina_cls", 9 * 7, WIDTH, 3))
    other = build_dense("timm/resnet18", "retinanet", CLASSES, width=WIDTH)
    with pytest.raises(WeightsError, match="no published detector of mmdet is known for timm/resnet18"):
        load_weights(other, state)
    assert not is_mmdet({"stages.0.weight": torch.zeros(1)})
