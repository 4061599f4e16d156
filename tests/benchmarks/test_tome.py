"""The peer that STViT is measured against must be right too: merging against brute force, no merging against timm."""

import importlib.util
from pathlib import Path

import pytest
import timm
import torch

from saccade.engine.bench.cost import count_macs

FILE = Path(__file__).parents[2] / "benchmarks" / "tome.py"


@pytest.fixture(scope="module")
def tome():
    spec = importlib.util.spec_from_file_location("tome", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return timm.create_model(
        "deit_tiny_patch16_224", num_classes=5, img_size=64, embed_dim=48, depth=3
    ).eval()


def by_hand(x, size, keys, r, first=1):
    """Merge one sample's tokens edge by edge."""
    keys = keys / keys.norm(dim=-1, keepdim=True)
    left, right = list(range(0, len(x), 2)), list(range(1, len(x), 2))
    edges = sorted(
        ((max((float(keys[i] @ keys[j]), j) for j in right), i) for i in left[first:]), reverse=True
    )
    held = {i: (x[i] * size[i], size[i]) for i in range(len(x))}
    for (_, j), i in edges[:r]:
        held[j] = (held[j][0] + held[i][0], held[j][1] + held[i][1])
        del held[i]
    places = [i for i in left if i in held] + right
    return torch.stack([held[i][0] / held[i][1] for i in places]), torch.stack([held[i][1] for i in places])


@pytest.mark.parametrize(("count", "r"), [(9, 3), (10, 4), (17, 8), (5, 1)])
def test_merging_is_what_the_paper_says(tome, count, r):
    generator = torch.Generator().manual_seed(count)
    x, keys = (torch.randn(3, count, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    size = 1 + torch.rand(3, count, 1, generator=generator, dtype=torch.float64)
    merged, sizes = tome.merge(x, size, keys, r)
    assert merged.shape == (3, count - r, 6)
    for i in range(3):
        want, want_size = by_hand(x[i], size[i], keys[i], r)
        torch.testing.assert_close(merged[i], want)
        torch.testing.assert_close(sizes[i], want_size)
    torch.testing.assert_close(merged[:, 0], x[:, 0])
    free, _ = tome.merge(x, size, keys, r, class_token=False)
    torch.testing.assert_close(free[0], by_hand(x[0], size[0], keys[0], r, first=0)[0])


def test_without_merging_it_is_the_network_itself(tome, vit):
    picture = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(tome.ToMe(vit, [0, 0, 0])(picture), vit(picture))


def test_a_network_without_class_token(tome):
    vit = timm.create_model("deit_tiny_patch16_224", img_size=64, embed_dim=48, depth=2, class_token=False,
                            global_pool="avg").eval()  # fmt: skip
    picture = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(tome.ToMe(vit, [0, 0])(picture), vit(picture))
        assert tome.ToMe(vit, [8, 4])(picture).shape == (2, 1000)


def test_merging_saves_and_keeps_gradients(tome, vit):
    model = tome.ToMe(vit, [4, 3, 2])
    assert count_macs(model, 64) < count_macs(vit, 64)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in vit.parameters())


def test_schedule_spreads_a_mean_over_the_blocks(tome):
    assert tome.schedule(2.5, 4) == [2, 3, 2, 3]
    assert sum(tome.schedule(13, 12)) == 156


def test_other_networks_and_schedules_are_refused(tome, vit):
    with pytest.raises(ValueError, match="1 numbers of merged tokens for 3 blocks"):
        tome.ToMe(vit, [4])
    with pytest.raises(ValueError, match="at most a class token"):
        tome.ToMe(timm.create_model("deit_tiny_distilled_patch16_224", embed_dim=12, depth=1), [0])
