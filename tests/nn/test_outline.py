import torch
from torch import nn

from saccade.nn.outline import Part, outline


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(5))
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 1))
        )
        self.head = nn.Linear(2, 7)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def test_parts_shapes_and_counts():
    parts = outline(Pair(), torch.zeros(2, 3, 9, 8))
    assert parts == [
        Part("body.0", "Conv2d", 3 * 4 * 9 + 4, (2, 4, 5, 4)),
        Part("body.2", "Sequential", 4 * 2 + 2, (2, 2, 5, 4)),
        Part("head", "Linear", 2 * 7 + 7, (2, 7)),
        Part("(direct)", "Parameter", 5, ()),
    ]


def test_no_hook_is_left_behind():
    model = Pair()
    outline(model, torch.zeros(1, 3, 4, 4), depth=1)
    assert not any(module._forward_hooks for module in model.modules())
