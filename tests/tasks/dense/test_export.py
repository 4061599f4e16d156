"""Export forms: one file of free size gives what PyTorch gives, and ends in the same detections."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

import saccade
from saccade.errors import ShapeError
from saccade.tasks.dense.nets import build_dense

EXAMPLE = (256, 192)
SIZES = ((192, 256), (320, 192))


def trained_like(head, **options):
    """A network whose statistics and classifiers are not those of a fresh one."""
    net = build_dense("shvit_s1", head, 3, width=8, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
    for name, parameter in net.named_parameters():
        if name.startswith("head"):
            nn.init.zeros_(parameter) if name.endswith("bias") else None
            nn.init.kaiming_normal_(parameter) if parameter.ndim == 4 else None
    net.eval()
    if head == "retinanet":
        with torch.no_grad():
            logits, _ = net.outputs(net.levels(torch.randn(1, 3, 128, 128)))
            net.head.classification_head.cls_logits.weight *= 2 / logits.std()
    return net


def free_axes():
    """Any batch, any multiple of 64 pixels from 192 on, where the coarsest map (stride 128) has several cells."""
    return {
        0: torch.export.Dim("batch", min=1, max=64),
        2: 64 * torch.export.Dim("rows", min=3, max=32),
        3: 64 * torch.export.Dim("columns", min=3, max=32),
    }


def run_onnx(form, path):
    """Write the form with free batch, height and width; return a function that runs the file."""
    onnxruntime = pytest.importorskip("onnxruntime")
    program = torch.onnx.export(
        form,
        (torch.randn(2, 3, *EXAMPLE),),
        dynamic_shapes={"images": free_axes()},
        input_names=["images"],
        opset_version=18,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(y) for y in session.run(None, {"images": images.numpy()})]


def close(found, wanted):
    assert np.abs((found - wanted).numpy()).max() <= 1e-4 * wanted.abs().max()


# tests/runtime/test_dense.py has a smaller file of free size, against the same network, in the default run.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_retinanet_file_gives_the_same_boxes(tmp_path):
    net = trained_like("retinanet", score_threshold=0.5)
    form = saccade.fold(net).export_form()
    run = run_onnx(form, tmp_path / "net.onnx")
    for batch, size in enumerate(SIZES, 1):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            boxes, scores = form(images)
            wanted = net(images)
        assert scores.max() > 0.9
        assert scores.min() < 0.1
        found = run(images)
        close(found[0], boxes)
        close(found[1], scores)
        for one, other in zip(form.detections(*found, image_size=size), wanted, strict=True):
            assert len(one["scores"]) == len(other["scores"]) > 10
            # The same detections, but for overlaps so near the threshold that the last digit decides.
            overlap = box_iou(one["boxes"], other["boxes"]) * (one["labels"][:, None] == other["labels"])
            assert (overlap.max(1).values > 0.999).float().mean() > 0.9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", [pytest.param("semantic_fpn", marks=pytest.mark.slow), "upernet"])
def test_segmenter_program_of_free_size_gives_the_same_logits(head):
    net = trained_like(head)
    example = (torch.randn(2, 3, *EXAMPLE),)
    form = saccade.fold(net).export_form()
    program = torch.export.export(form, example, dynamic_shapes={"images": free_axes()}).module()
    for batch, size in enumerate(SIZES, 1):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            wanted, found = net(images), program(images)
        assert wanted.std() > 0.1
        close(found, wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", ["semantic_fpn", "upernet"])
def test_segmenter_file_gives_the_same_logits(tmp_path, head):
    net = trained_like(head)
    run = run_onnx(saccade.fold(net).export_form(), tmp_path / "net.onnx")
    for batch, size in enumerate(SIZES, 1):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            wanted = net(images)
        (found,) = run(images)
        assert wanted.std() > 0.1
        close(found, wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_file_with_windows_serves_other_sizes(tmp_path):
    net = build_dense("stvit_r_swin_tiny", "retinanet", 3, width=8).eval()
    form = saccade.fold(net).export_form()
    run = run_onnx(form, tmp_path / "net.onnx")
    for size in (*SIZES, (192, 448)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            wanted = form(images)
        for one, other in zip(run(images), wanted, strict=True):
            close(one, other)


def test_detections_of_the_export_form_are_the_networks():
    net = trained_like("retinanet", max_candidates=20)
    form = net.export_form()
    images, sizes = torch.randn(2, 3, 100, 130), torch.tensor([[100, 130], [64, 70]])
    with torch.no_grad():
        wanted, tensors = net(images, sizes), form(images)
    for one, other in zip(form.detections(*tensors, sizes), wanted, strict=True):
        assert len(one["scores"]) > 0
        assert all(torch.equal(one[key], other[key]) for key in ("boxes", "labels", "scores"))
    with pytest.raises(ShapeError, match="pass the height and width of the batch"):
        form.detections(*tensors, torch.tensor([[40, 40], [40, 40]]))
    with pytest.raises(ShapeError, match="needs sizes or image_size"):
        form.detections(*tensors)


def test_the_export_form_leaves_the_network_alone():
    net = build_dense("shvit_s1", "semantic_fpn", 2, width=8)
    form = net.export_form()
    assert net.training
    assert not any(module.training for module in form.modules())
