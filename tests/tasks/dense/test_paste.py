"""Masks drawn at full size: what was cut out of a picture comes back to where it was."""

import pytest
import torch

from saccade.tasks.dense.nets.paste import draw_masks, to_file
from saccade.tasks.dense.nets.regions import crop_masks


def ellipses(count, radius, size):
    """Ellipses at unreadable positions, with their exact boxes."""
    x, y = torch.rand(2, count) * (size - 4 * radius) + 2 * radius
    down, across = torch.meshgrid(*[torch.arange(size) + 0.5] * 2, indexing="ij")
    masks = ((across - x[:, None, None]) / radius) ** 2 + (
        (down - y[:, None, None]) / (0.7 * radius)
    ) ** 2 <= 1
    return masks, torch.stack([x - radius, y - 0.7 * radius, x + radius, y + 0.7 * radius], 1)


@pytest.mark.parametrize(("radius", "least"), [(4, 0.99), (12, 0.99), (30, 0.96)])
def test_cutting_and_drawing_undo_each_other(radius, least):
    masks, boxes = ellipses(20, radius, 160)
    drawn = draw_masks(crop_masks(masks, torch.arange(20), boxes, 28), boxes, (160, 160))
    overlap = (drawn & masks).sum((1, 2)) / (drawn | masks).sum((1, 2))
    assert overlap.min() > least


def test_a_full_mask_covers_its_box_at_the_files_size():
    detection = {
        "boxes": torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 80.0, 80.0]]),
        "labels": torch.tensor([1, 0]),
        "scores": torch.tensor([0.9, 0.8]),
        "masks": torch.ones(2, 28, 28),
    }
    found = to_file(detection, (80, 80), (160, 40))
    assert found["boxes"].tolist() == [[5, 40, 15, 120], [0, 0, 40, 160]]
    assert found["masks"].shape == (2, 160, 40)
    assert found["masks"][0, 40:120, 5:15].all()
    assert found["masks"][0].sum() == 80 * 10
    assert found["masks"][1].all()


def test_no_detections_give_no_masks():
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
    found = to_file({**empty, "masks": torch.zeros(0, 28, 28)}, (64, 64), (100, 50))
    assert found["masks"].shape == (0, 100, 50)


def test_boxes_thinner_than_a_pixel_are_no_trouble():
    boxes = torch.tensor([[3.6, 3.6, 3.7, 9.0], [0.0, 0.0, 0.2, 0.2], [63.9, 10.0, 64.0, 20.0]])
    assert draw_masks(torch.ones(3, 28, 28), boxes, (64, 64)).sum() == 0
