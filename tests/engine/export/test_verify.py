"""The check itself: it passes what is equal and stops what is not."""

import pytest
import torch
from torch import nn

from saccade.engine.export import verify
from saccade.engine.export.session import size_of
from saccade.errors import CheckFailed
from saccade.tasks.classify.task import Classify


class Session:
    """A network as a session, with a flaw on request."""

    threads = 1

    def __init__(self, model, flaw=None):
        self.model, self.flaw = model, flaw

    def __call__(self, images):
        with torch.no_grad():
            outputs = self.model(images)
        return self.flaw(images, outputs) if self.flaw else outputs

    def close(self):
        pass


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


PICTURE = {"image": torch.empty(1, 3, 20, 24)}
CASES = verify.make_cases(PICTURE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))


def test_equal_passes_and_reports(model):
    report = verify.compare(Session(model), model, CASES)
    assert set(report.cases) == {case.name for case in CASES}
    assert report.worst == report.rounding < 1e-6
    assert report.limit == verify.FLOOR
    assert report.to_dict()["max_difference"] == pytest.approx(report.worst, rel=0.01)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        (lambda x, y: y * (1 + 5e-5), "differs from PyTorch by 5e-05"),
        (lambda x, y: y[:, :1], "returns shape"),
        (lambda x, y: y / 0, "not finite"),
        (lambda x, y: y + (len(x) == 5) * 0.01, "noise x5"),
        (lambda x, y: y + (torch.arange(len(x)) > 6)[:, None] * 0.01, "noise x(16|33|64)"),
        (lambda x, y: y + (torch.arange(len(x)) > 62)[:, None] * 0.01, "noise x64"),
        (lambda x, y: y.mean(0, keepdim=True).expand_as(y), "differs"),
    ],
)
def test_flaws_are_caught(model, flaw, message):
    with pytest.raises(CheckFailed, match=message):
        verify.compare(Session(model, flaw), model, CASES)


def test_a_flaw_of_rare_pictures_is_caught(model):
    def flaw(images, outputs):
        flat = (images.flatten(1).amax(1) == images.flatten(1).amin(1)) | (images.flatten(1).std(1) < 0.3)
        return outputs + flat[:, None] * 0.1

    with pytest.raises(CheckFailed, match="black, white"):
        verify.compare(Session(model, flaw), model, verify.make_cases(PICTURE))


def test_batch_dependence_of_int8_is_caught(model):
    images = torch.randn(6, 3, 20, 24)
    verify.check_batches(Session(model), (images,))
    with pytest.raises(CheckFailed, match="batches of 1 and 64"):
        verify.check_batches(Session(model, lambda x, y: y + (len(x) == 1)), (images,))


@pytest.mark.parametrize(
    ("precision", "before", "after", "agreement", "passes"),
    [
        ("float32", 0.9, 0.9, 1.0, True),
        ("float32", 0.9, 0.9, 0.99, False),
        ("bf16", 0.9, 0.895, 0.99, True),
        ("bf16", 0.9, 0.88, 0.99, False),
        ("int8", 0.9, 0.885, 0.96, True),
        ("int8", 0.9, 0.87, 0.97, False),
        ("int8", 0.9, 0.9, 0.90, False),
        ("int8", 0.9, 0.95, 0.96, True),
    ],
)
def test_what_a_precision_may_cost(precision, before, after, agreement, passes):
    if passes:
        verify.check_metric(Classify(), precision, before, after, agreement)
    else:
        with pytest.raises(CheckFailed, match="validation data"):
            verify.check_metric(Classify(), precision, before, after, agreement)


def test_limits_follow_the_rounding_between_floor_and_ceiling():
    assert verify.limit("float32", 1e-9) == verify.FLOOR
    assert verify.limit("float32", 4e-6) == pytest.approx(3.2e-5)
    assert verify.limit("float32", 1.0) == verify.CEILING
    assert verify.limit("bf16", 1e-6) > 100 * verify.CEILING


def test_cases_cover_batches_sizes_and_saturation():
    image = torch.empty(1, 1, 70, 80)
    cases = {case.name: case.inputs[0] for case in verify.make_cases({"image": image}, free=True)}
    assert {len(images) for images in cases.values()} >= {1, 2, 3, 4, 5}
    assert len({images.shape[2:] for images in cases.values()}) >= 4
    assert cases["black, white"].unique().tolist() == [0.0, 1.0]
    assert all(images.shape[1] == 1 and images.is_contiguous() for images in cases.values())


def test_black_and_white_are_what_the_normalisation_makes_of_them():
    flat = {case.name: case.inputs[0] for case in CASES}["black, white"]
    for channel, mean in enumerate((0.5, 0.4, 0.3)):
        assert flat[0, channel].unique().tolist() == pytest.approx([-mean / 0.2])
        assert flat[1, channel].unique().tolist() == pytest.approx([(1 - mean) / 0.2])


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (["batch", 3, 20, 24], (20, 24)),
        ([1, 4, 3, 20, 24], (20, 24)),
        (["batch", 3, "height", "width"], None),
        (["batch", 3, 20, "width"], None),
        (["batch", 20, 24], None),  # no pictures
        (["batch", 7], None),
    ],
)
def test_only_pictures_of_a_fixed_size_have_one(shape, size):
    assert size_of(shape) == size


def test_a_fixed_batch_cuts_and_repeats():
    cases = verify.make_cases({"image": torch.empty(1, 3, 16, 16)}, batch=4)
    assert {len(case.inputs[0]) for case in cases} == {4}


def test_difference_is_per_picture():
    want = torch.tensor([[100.0, 0.0], [0.0, 0.001]])
    got = want + torch.tensor([[0.0, 0.0], [0.0, 0.001]])
    assert verify.difference(got, want) == pytest.approx(1.0)
