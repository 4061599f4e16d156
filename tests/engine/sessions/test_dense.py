"""Detectors and segmenters: one answer from weights and from every bundle, and what is refused."""

import pytest
import torch
from torch import nn

import saccade
from saccade.engine.export import export
from saccade.engine.source import task_of
from saccade.errors import ConfigError
from saccade.tasks.dense.nets import build_dense
from saccade.weights import Card
from saccade.zoo.loading import save_weights


def network(head, **options):
    """A small network that prefers some boxes and classes to others."""
    torch.manual_seed(1)
    options = {"width": 8, **options}
    net = build_dense("shvit_s1", head, 3, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in net.named_parameters():
        if name.startswith("head") and parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)
    net.eval()
    if head == "retinanet":
        with torch.no_grad():
            logits, _ = net.outputs(net.levels(torch.randn(1, 3, 128, 128)))  # pyright: ignore
            net.head.classification_head.cls_logits.weight *= 2 / logits.std()  # pyright: ignore
            net.head.classification_head.cls_logits.bias.fill_(-3.0)  # pyright: ignore
    task = "segment" if head in ("semantic_fpn", "upernet") else "detect"
    card = Card("shvit_s1", num_classes=3, task=task, labels=list("abc"), head=head, head_options=options)
    card.preprocess = {"size": 192, "max_size": 256}
    return net, card


def test_a_retinanet_bundle_of_free_size_ends_in_the_same_boxes(tmp_path):
    net, card = network("retinanet", score_threshold=0.2)
    shipped = export((net, card), "onnx", dynamic=True, out=tmp_path)
    assert shipped.manifest.checks["answers"] > 50
    assert shipped.manifest.size is None
    save_weights(net, tmp_path / "net.safetensors", card)
    bundle, weights = (
        saccade.open_predictor(shipped.path),
        saccade.open_predictor(tmp_path / "net.safetensors"),
    )
    # Multiples of 64, so that neither is padded; elsewhere the padding is another picture to the network.
    images = torch.randn(2, 3, 192, 256)
    for one, other in zip(bundle.outputs(images), weights.outputs(images), strict=True):
        assert len(one["scores"]) == len(other["scores"]) > 5
        assert torch.allclose(one["scores"], other["scores"], atol=1e-4)
        assert torch.allclose(one["boxes"], other["boxes"], atol=0.1)
        assert torch.equal(one["labels"], other["labels"])
    assert len(bundle.outputs(torch.randn(1, 3, 100, 130))) == 1
    bundle.close()


def test_a_segmenter_bundle_of_one_size(tmp_path):
    net, card = network("semantic_fpn")
    shipped = export((net, card), "onnx", size=128, out=tmp_path)
    assert shipped.manifest.size == (256, 256)
    bundle = saccade.open_predictor(shipped.path)
    images = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        wanted = net(images)
    assert torch.allclose(bundle.outputs(images), wanted, atol=1e-3 * float(wanted.abs().max()))
    assert bundle.outputs(images[..., :200]).shape == (1, 3, 256, 200)
    with pytest.raises(ConfigError, match="export it with --dynamic"):
        bundle.outputs(torch.randn(1, 3, 300, 256))
    with pytest.raises(ConfigError, match="not present here"):
        saccade.open_predictor(shipped.path, device="cuda")
    bundle.close()


def test_what_does_not_export():
    for head in ("mask_rcnn", "faster_rcnn"):
        net, card = network(head, fc_width=8)
        with pytest.raises(ConfigError, match="--head retinanet"):
            export((net, card), "onnx")
    net, card = network("semantic_fpn")
    with pytest.raises(ConfigError, match="exports to onnx, openvino and torch, not to executorch"):
        export((net, card), "executorch")


def test_knows_dense_weights_without_opening_them(tmp_path):
    net, card = network("semantic_fpn")
    save_weights(net, tmp_path / "net.safetensors", card)
    task, found = task_of(tmp_path / "net.safetensors", "predict")
    assert (found.head, found.task, task.name) == ("semantic_fpn", "segment", "segment")
    with pytest.raises(ConfigError, match="saccade export"):
        saccade.open_predictor(tmp_path / "net.safetensors", backend="onnx")
    with pytest.raises(ConfigError, match="cannot explain; maps of evidence"):
        task_of(tmp_path / "net.safetensors", "explain")
    with pytest.raises(ConfigError, match="no model of that name"):
        task_of("no_such_model", "predict")
