"""Detection by names with the real classes at tiny size, against direct computation."""

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from saccade.errors import ConfigError, WeightsError
from saccade.kinematics.lift.network_detect import (
    TextDetector,
    box_overlap,
    check_names,
    without_doubles,
)
from saccade.kinematics.lift.network_open import Machine

pytest.importorskip("transformers")

DETECTORS = ("grounding-dino", "mm-grounding-dino", "owlv2", "omdet-turbo")
NAMES = ["Car", "traffic light"]


@pytest.mark.parametrize("kind", DETECTORS)
def test_boxes_and_names_of_every_class(networks, frames, kind):
    detect = TextDetector(networks(kind), threshold=0.001, machine=Machine(batch=2))
    found = detect.many(list(frames[:3]), NAMES)
    assert len(found) == 3
    assert any(found)
    for detections in found:
        scores = [detection.score for detection in detections]
        assert scores == sorted(scores, reverse=True)
        for detection in detections:
            x0, y0, x1, y1 = detection.box
            assert 0 <= x0 < x1 <= 80
            assert 0 <= y0 < y1 <= 48
            assert detection.label in NAMES
    # A frame by itself gives what it gives among others.
    alone = detect(frames[1], NAMES)
    assert [d.label for d in alone] == [d.label for d in found[1]]
    np.testing.assert_allclose([d.box for d in alone], [d.box for d in found[1]], atol=1e-3)


def centre_to_corners(boxes, wide, high):
    x, y, w, h = (boxes * torch.tensor([wide, high, wide, high])).unbind(-1)
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1).numpy()


@pytest.mark.parametrize("kind", ["grounding-dino", "mm-grounding-dino"])
def test_a_box_has_the_name_whose_tokens_score_highest(networks, frames, kind):
    detect = TextDetector(networks(kind), threshold=0.01, max_overlap=1.0)
    found = detect(frames[0], NAMES)
    inputs = detect.processor(images=frames[0], text="car. traffic light.", return_tensors="pt")
    words = [detect.processor.tokenizer.convert_ids_to_tokens(i) for i in inputs["input_ids"][0].tolist()]
    assert words == ["[CLS]", "car", ".", "traffic", "light", ".", "[SEP]"]
    with torch.inference_mode():
        outputs = detect.network(**inputs)
    scores = outputs.logits[0].sigmoid()
    per_name = np.stack([scores[:, 1].numpy(), scores[:, 3:5].amax(1).numpy()], 1)
    boxes = centre_to_corners(outputs.pred_boxes[0], 80, 48).clip(0, [80, 48, 80, 48])
    order = [query for query in np.argsort(-per_name.max(1), kind="stable") if per_name[query].max() > 0.01]
    assert len(found) == len(order) > 3
    np.testing.assert_allclose([d.score for d in found], per_name.max(1)[order], rtol=1e-5)
    np.testing.assert_allclose([d.box for d in found], boxes[order], atol=1e-4)
    assert [d.label for d in found] == [NAMES[i] for i in per_name.argmax(1)[order]]
    assert {d.label for d in found} == set(NAMES)


def test_boxes_of_owlv2_are_parts_of_a_square(networks, frames):
    detect = TextDetector(networks("owlv2"), threshold=0.0, max_overlap=1.0)
    found = detect(frames[0], NAMES)
    texts = [["a photo of a car", "a photo of a traffic light"]]
    inputs = detect.processor(images=frames[0], text=texts, return_tensors="pt")
    with torch.inference_mode():
        outputs = detect.network(**inputs)
    boxes = centre_to_corners(outputs.pred_boxes[0], 80, 80)
    inside = np.clip(boxes, 0, [80, 48, 80, 48])
    scores = outputs.logits[0].amax(-1).sigmoid().numpy()
    order = [i for i in np.argsort(-scores, kind="stable") if (inside[i, 2:] > inside[i, :2]).all()]
    assert 0 < len(order) < len(boxes)  # some lie in the margin that was added below the frame
    np.testing.assert_allclose([d.box for d in found], inside[order], atol=1e-4)


def test_in_half_the_numbers(networks, frames):
    full, half = (
        TextDetector(networks("grounding-dino"), threshold=0.01, machine=Machine(dtype=dtype))
        for dtype in ("float32", "bf16")
    )
    assert next(half.network.parameters()).dtype == torch.bfloat16
    names = ["car"]
    assert abs(len(full(frames[0], names)) - len(half(frames[0], names))) <= 4


def test_names_that_cannot_be_asked_for(networks, frames):
    assert check_names(["Traffic  Light", "car"]) == ["traffic light", "car"]
    with pytest.raises(ConfigError, match="each only once"):
        check_names(["car", "CAR"])
    with pytest.raises(ConfigError, match="expected at least one"):
        check_names([])
    with pytest.raises(ConfigError, match="without marks"):
        check_names(["car. person"])
    detect = TextDetector(networks("grounding-dino"))
    many = [" ".join(["traffic"] * k) for k in range(1, 9)]
    with pytest.raises(ConfigError, match="8 names make 46 tokens and the network reads 32"):
        detect(frames[0], many)


def test_of_two_boxes_of_one_thing_the_better_stays():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [5, 5, 5, 9]], np.float64)
    assert without_doubles(boxes, np.array([0.5, 0.9, 0.3, 0.99]), 0.7) == [1, 2]
    assert without_doubles(boxes, np.array([0.5, 0.9, 0.3, 0.99]), 0.95) == [1, 0, 2]


def test_overlap_of_boxes_is_that_of_their_pixels():
    rng = np.random.default_rng(3)
    corners = np.sort(rng.integers(0, 20, (2, 5, 2, 2)), axis=2)
    first, second = (part.reshape(5, 4).astype(np.float64) for part in corners)
    for one, row in zip(first, box_overlap(first, second), strict=True):
        for two, value in zip(second, row, strict=True):
            drawn = np.zeros((2, 20, 20), bool)
            for plane, (x0, y0, x1, y1) in zip(drawn, (one.astype(int), two.astype(int)), strict=True):
                plane[y0:y1, x0:x1] = True
            union = (drawn[0] | drawn[1]).sum()
            assert value == pytest.approx((drawn[0] & drawn[1]).sum() / union if union else 0)


def test_what_cannot_be_opened(networks, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="is a zoedepth model, which does not detect by names here; choose"):
        TextDetector(networks("zoedepth"))
    with pytest.raises(WeightsError, match="no such folder; expected the folder of a model of transformers"):
        TextDetector("./nowhere")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        WeightsError, match="hf download nobody/nothing --local-dir FOLDER` and pass --detect"
    ):
        TextDetector("nobody/nothing")
    with pytest.raises(ConfigError, match="device is 'tpu'"):
        Machine(device="tpu")
    with pytest.raises(ConfigError, match="dtype is 'int8'"):
        Machine(dtype="int8")
    with pytest.raises(ConfigError, match="threshold is 1"):
        TextDetector(networks("owlv2"), threshold=1.0)
