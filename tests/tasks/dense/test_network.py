"""What all dense networks have in common: folding, modes, names, refusals, independence of a batch's pictures."""

import pytest
import torch
from torch import nn

import saccade
from saccade.errors import ConfigError, ShapeError
from saccade.nn.fold import FoldedNet
from saccade.tasks.dense.nets import HEADS, build_dense

TINY = {"width": 8}


def detections_equal(one, other, tolerance=0.0):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert torch.allclose(a[key].double(), b[key].double(), atol=tolerance, rtol=tolerance), key


@pytest.mark.parametrize("backbone", ["shvit_s1", "efficientvim_m1"])
def test_folding_folds_the_backbone_and_changes_nothing(backbone):
    net = build_dense(backbone, "semantic_fpn", 4, **TINY)
    net(
        torch.randn(2, 3, 160, 160), None, torch.randint(0, 4, (2, 160, 160))
    )  # statistics unlike the first ones
    net = net.double().eval()
    folded = saccade.fold(net)
    images = torch.randn(2, 3, 96, 130, dtype=torch.float64)
    with torch.no_grad():
        found, wanted = folded(images), net(images)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)  # logits are rounded to float32 at the end
    assert isinstance(folded.backbone, FoldedNet)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.backbone.modules())
    assert folded.num_classes == 4
    assert not folded.training


@pytest.mark.parametrize("head", ["mask_rcnn", "cascade_mask_rcnn"])
def test_a_folded_detector_detects_the_same(head):
    net = build_dense("shvit_s1", head, 2, width=8, fc_width=16, mask_width=8, proposals=20).eval()
    folded = saccade.fold(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images, sizes = torch.randn(2, 3, 64, 96), torch.tensor([[64, 96], [50, 60]])
    with torch.no_grad():
        detections_equal(folded(images, sizes), net(images, sizes), tolerance=1e-3)


@pytest.mark.parametrize("head", ["retinanet", "mask_rcnn"])
def test_detections_do_not_depend_on_neighbours(head):
    options = {} if head == "retinanet" else {"fc_width": 16, "mask_width": 8, "proposals": 30}
    net = (
        build_dense("shvit_s1", head, 3, width=8, score_threshold=0.0, max_detections=20, **options)
        .double()
        .eval()
    )
    images, sizes = torch.randn(3, 3, 64, 96).double(), torch.tensor([[64, 96], [64, 80], [48, 96]])
    with torch.no_grad():
        together = net(images, sizes)
        alone = [net(images[i : i + 1], sizes[i : i + 1])[0] for i in range(3)]
    detections_equal(together, alone, tolerance=1e-5)


def test_norm_eval_keeps_the_backbones_statistics():
    images, targets = torch.randn(2, 3, 160, 160), torch.randint(0, 2, (2, 160, 160))
    for norm_eval in (True, False):
        net = build_dense("shvit_s1", "semantic_fpn", 2, norm_eval=norm_eval, **TINY)
        before = {name: b.clone() for name, b in net.named_buffers()}
        net.train()(images, None, targets)
        moved = {name for name, b in net.named_buffers() if not torch.equal(b, before[name])}
        assert any(name.startswith("head.") for name in moved)
        assert any(name.startswith("backbone.") for name in moved) != norm_eval


@pytest.mark.parametrize("head", HEADS)
def test_reset_classifier_gives_other_classes_and_keeps_the_rest(head):
    net = build_dense("shvit_s1", head, 3, **TINY)
    before = {name: p.clone() for name, p in net.state_dict().items()}
    net.reset_classifier(5)
    assert net.num_classes == 5
    like = build_dense("shvit_s1", head, 5, **TINY)
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in like.state_dict().items()}
    kept = [
        name for name, tensor in net.state_dict().items() if torch.equal(tensor, before.get(name, tensor))
    ]
    changed = set(before) - set(kept)
    assert changed
    assert all(name.startswith("head.") for name in changed)
    assert len(changed) <= (18 if head.startswith("cascade") else 6)


def test_fewer_classes_train_after_reset():
    net = build_dense("shvit_s1", "mask_rcnn", 5, width=8, fc_width=16, mask_width=8, samples=8, proposals=20)
    net.reset_classifier(1)
    mask = torch.zeros(1, 64, 80, dtype=torch.bool)
    mask[0, 8:40, 8:40] = True
    target = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([0]), "masks": mask}
    assert all(loss.isfinite() for loss in net(torch.randn(1, 3, 64, 80), None, [target]).values())


def test_recomputation_gives_the_same_gradients():
    torch.manual_seed(0)
    net = build_dense("shvit_s1", "semantic_fpn", 2, norm_eval=True, dropout=0.0, **TINY).train()
    images, targets = torch.randn(2, 3, 160, 160), torch.randint(0, 2, (2, 160, 160))
    grads = []
    for enable in (False, True):
        net.set_grad_checkpointing(enable)
        net.zero_grad()
        net(images, None, targets)["loss_seg"].backward()
        grads.append([p.grad.clone() for p in net.backbone.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads, strict=True))


def test_weight_decay_follows_the_backbone_and_spares_vectors():
    net = build_dense("efficientvim_m1", "retinanet", 2, **TINY)
    exempt = net.weight_decay_exempt()
    names = dict(net.named_parameters())
    assert exempt <= names.keys()
    assert {f"backbone.{name}" for name in net.backbone.weight_decay_exempt()} <= exempt
    assert "backbone.stages.0.blocks.0.norm.weight" not in exempt
    assert "neck.laterals.0.bias" in exempt
    assert "head.classification_head.cls_logits.weight" not in exempt


def test_transformers_of_timm_serve_where_they_take_the_size():
    images = torch.randn(1, 3, 60, 90)
    plain = build_dense("timm/vit_tiny_patch16_224", "retinanet", 2, **TINY).eval()
    with pytest.raises(ShapeError, match=r"takes no pictures of 64 x 96 pixels .* option dynamic_img_size"):
        plain(images)
    free = build_dense(
        "timm/vit_tiny_patch16_224", "retinanet", 2, options={"dynamic_img_size": True}, **TINY
    )
    swin = build_dense(
        "timm/swin_tiny_patch4_window7_224", "retinanet", 2, options={"strict_img_size": False}, **TINY
    )
    with torch.no_grad():
        for net, size in ((free, (64, 96)), (swin, (64, 96))):
            assert [tuple(x.shape[2:]) for x in net.eval().levels(images)] == net.neck.level_sizes(*size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shvit_s1", "retina", 2), "unknown head 'retina'; did you mean 'retinanet'"),
        (("shvit_s1", "retinanet", 0), "num_classes is 0"),
        (("shvit_x", "retinanet", 2), "unknown model"),
        (("srvit_s", "retinanet", 2), "has no feature maps"),
    ],
)
def test_names_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_dense(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor_scal": 2}, "retinanet has no setting 'anchor_scal'; did you mean 'anchor_scale'"),
        ({"width": "wide"}, "retinanet.width should be a whole number, not 'wide'"),
        ({"finest_stride": 12}, "finest_stride is 12; expected a power of two"),
        ({"finest_stride": 128}, "coarsest map has 64"),
        ({"score_threshold": -1.0}, "score_threshold is -1 but should be at least 0"),
        ({"options": {"distiled": True}}, "has no option 'distiled'"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_dense("shvit_s1", "retinanet", 2, **options)


def test_targets_that_do_not_fit_are_refused():
    net = build_dense("shvit_s1", "mask_rcnn", 2, width=8, fc_width=16, mask_width=8)
    images = torch.randn(1, 3, 64, 64)
    good = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": torch.zeros(0, 64, 64)}
    for targets, message in (
        (None, "one target a picture; found none for 1"),
        ([good, good], "found 2 for 1"),
        ([{k: v for k, v in good.items() if k != "masks"}], "no 'masks'"),
        ([{**good, "boxes": torch.zeros(1, 4)}], "boxes of shape"),
        ([{**good, "masks": torch.zeros(0, 32, 32)}], "masks of shape"),
    ):
        with pytest.raises(ShapeError, match=message):
            net(images, None, targets)
    with pytest.raises(ShapeError, match="one picture of 64 x 64 pixels is too little"):
        net(images, None, [good])
    with pytest.raises(ShapeError, match="do not fit a batch"):
        net(images, torch.tensor([[65, 64]]), [good])
    segmenter = build_dense("shvit_s1", "semantic_fpn", 2, **TINY)
    with pytest.raises(ShapeError, match="targets of shape"):
        segmenter(images, None, torch.zeros(1, 32, 32))
    with pytest.raises(ShapeError, match="one picture of 64 x 64 pixels is too little"):
        segmenter(images, None, torch.zeros(1, 64, 64).long())
