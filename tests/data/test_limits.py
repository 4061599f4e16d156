"""Limits of data: what fills a crop, a crop of one class, names that differ in case alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from saccade.data.config import AugmentConfig
from saccade.data.convert import write_parts
from saccade.data.dense_augment import IGNORED, _one_class, build_dense_augmentation
from saccade.data.source import FileSource
from saccade.data.whole import WholePreprocess

SMALL = WholePreprocess(size=64, max_size=96)


def sample_of(target):
    """A white picture under a class map, with one box and one mask over all of it."""
    height, width = target.shape
    return {
        "image": tv_tensors.Image(torch.full((3, height, width), 255, dtype=torch.uint8)),
        "target": tv_tensors.Mask(target),
        "masks": tv_tensors.Mask(torch.ones(1, height, width, dtype=torch.uint8)),
        "boxes": tv_tensors.BoundingBoxes(
            [[0.0, 0, width, height]], format="XYXY", canvas_size=(height, width)
        ),
        "labels": torch.tensor([0]),
    }


@pytest.mark.parametrize("size", [(40, 60), (60, 40)])
def test_what_a_crop_lacks_is_black_and_does_not_count(size):
    change = build_dense_augmentation(AugmentConfig(geometry="crop", photometric=False), SMALL)
    shapes = set()
    for seed in range(30):
        torch.manual_seed(seed)
        target = torch.arange(size[0] * size[1]).reshape(size) % 3
        found = change(sample_of(target.to(torch.uint8)))
        shown = found["target"] != IGNORED
        assert found["image"].shape == (3, 64, 64)
        assert found["boxes"].canvas_size == (64, 64)
        assert torch.equal(found["image"][0] == 255, shown)
        assert set(found["image"].unique().tolist()) <= {0, 255}
        assert torch.equal(found["masks"][0] == 1, shown)
        assert found["target"][shown].max() <= 2
        shapes.add((int(shown.any(1).sum()), int(shown.any(0).sum())))
    # Pictures that are too low, too narrow, and large enough: all were met.
    assert any(high < 64 for high, _ in shapes)
    assert (64, 64) in shapes
    long = 1 if size[1] > size[0] else 0
    assert any(shape[long] == 64 and shape[1 - long] < 64 for shape in shapes)


def test_crops_with_one_class_are_drawn_again():
    change = build_dense_augmentation(AugmentConfig(geometry="crop", photometric=False), SMALL)
    halves = torch.zeros(128, 256, dtype=torch.uint8)
    halves[:, 128:] = 1
    poor = 0
    for seed in range(60):
        torch.manual_seed(seed)
        target = change(sample_of(halves))["target"]
        counts = torch.bincount(target[target != IGNORED].long(), minlength=2)
        poor += bool(counts.max() > 0.75 * counts.sum())
    # Four of five single draws would be poor where the picture is large.
    assert poor <= 12


@pytest.mark.parametrize(
    ("counts", "poor"),
    [({0: 75, 1: 25}, False), ({0: 76, 1: 24}, True), ({0: 10}, True), ({IGNORED: 96, 0: 2, 1: 2}, False),
     ({IGNORED: 1, 0: 76, 1: 24}, True), ({IGNORED: 10}, False)],
)  # fmt: skip
def test_a_crop_is_poor_where_one_class_fills_three_quarters_of_what_counts(counts, poor):
    target = torch.cat([torch.full((count,), number) for number, count in counts.items()])
    assert _one_class(target.to(torch.uint8)[None]) == poor


@pytest.mark.parametrize("names", [["A.png", "a.png", "a.PNG"], ["x/Cat.png", "y/cat.png", "z/CAT.png"]])
def test_names_that_differ_in_case_alone_stay_apart_everywhere(tmp_path, names):
    for shade, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(tmp_path / name, "PNG")
    out = tmp_path / "out"
    written = write_parts({"train": FileSource(tmp_path, names, [0, 0, 0], ["one"])}, out, form="folder")
    files = sorted((out / "train" / "one").iterdir())
    assert written.counts == {"train": 3}
    assert len({file.name.lower() for file in files}) == 3
    assert sorted(int(np.asarray(Image.open(file))[0, 0, 0]) for file in files) == [0, 1, 2]
