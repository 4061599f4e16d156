import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.mixup import mixup_target
from timm.data.transforms_factory import create_transform

from saccade.data import AugmentConfig, Preprocess, build_augmentation, mix_batch
from saccade.data.dataset import seeded
from saccade.data.mix import soft_targets
from saccade.errors import ConfigError

from .pictures import photo

SMALL = Preprocess(48)
PICTURE = photo(120, 90)
ONE = {"scale": (1.0, 1.0), "hflip": 0.0}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "options",
    [
        {"rand_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.25, "color_jitter": 0.4},
        {"color_jitter": 0.4, "interpolation": "random", "vflip": 0.5},
    ],
)
def test_equals_timm_with_the_same_draws(seed, options):
    config = AugmentConfig(scale=(0.08, 1.0), **options)
    theirs = create_transform(
        48,
        is_training=True,
        scale=config.scale,
        ratio=config.ratio,
        hflip=config.hflip,
        vflip=config.vflip,
        color_jitter=config.color_jitter,
        auto_augment=config.rand_augment or None,
        interpolation=config.interpolation,
        re_prob=config.random_erasing,
        re_mode="pixel",
        re_count=1,
    )
    with seeded(seed):
        expected = theirs(PICTURE)
    with seeded(seed):
        assert torch.equal(build_augmentation(config, SMALL)(PICTURE), expected)


def test_the_whole_picture_is_kept_when_asked():
    image = build_augmentation(AugmentConfig(**ONE), SMALL)(PICTURE)
    assert torch.equal(image, Preprocess(48, 1.0, mode="squash").reference(PICTURE))
    with seeded(0):
        assert build_augmentation(AugmentConfig(**ONE, interpolation="random"), SMALL)(PICTURE).shape == (
            3,
            48,
            48,
        )


def test_three_augment_is_one_of_three():
    transform = build_augmentation(AugmentConfig(**ONE, three_augment=True), SMALL)
    plain = build_augmentation(AugmentConfig(**ONE), SMALL)(PICTURE)
    kinds = set()
    for seed in range(30):
        with seeded(seed):
            pixels = SMALL.denormalise(transform(PICTURE)).int()
        before = SMALL.denormalise(plain).int()
        if torch.equal(pixels[0], pixels[1]):
            kinds.add("grey")
        elif torch.equal(pixels, torch.where(before < 128, before, 255 - before)):
            kinds.add("solarise")
        elif pixels.float().diff(dim=2).abs().mean() < before.float().diff(dim=2).abs().mean():
            kinds.add("blur")
        else:
            kinds.add("unchanged?")
    assert kinds == {"grey", "solarise", "blur"}


def test_posterise_at_full_strength_is_black():
    transform = build_augmentation(AugmentConfig(**ONE, rand_augment="rand-m10-n1-inc1"), SMALL)
    black = SMALL.normalise(torch.zeros(3, 48, 48, dtype=torch.uint8))
    outcomes = []
    for seed in range(60):
        with seeded(seed):
            outcomes.append(torch.equal(transform(PICTURE), black))
    assert 1 <= sum(outcomes) <= 10


def test_grey_networks():
    grey = Preprocess(32, mean=(0.5,), std=(0.5,))
    config = AugmentConfig(rand_augment="rand-m9", random_erasing=1.0)
    assert build_augmentation(config, grey)(PICTURE).shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hflip": 1.5}, r"augment\.hflip"),
        ({"random_erasing": -1}, r"augment\.random_erasing"),
        ({"scale": (0.0, 1.0)}, r"augment\.scale"),
        ({"scale": (0.9, 0.5)}, r"augment\.scale"),
        ({"ratio": (2, 1)}, r"augment\.ratio"),
        ({"interpolation": "cubic"}, "did you mean 'bicubic'"),
        ({"color_jitter": 3.0}, "color_jitter"),
        ({"rand_augment": "original"}, "should start with rand"),
        ({"rand_augment": "rand-m9-msd0.5"}, "piece 'msd0.5'"),
        ({"rand_augment": "rand-m"}, "piece 'm'"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        build_augmentation(AugmentConfig(**options), SMALL)


# Mixing


def batch(count=8, side=16, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, side, side, generator=generator)
    return {"image": images, "label": torch.arange(count) % classes, "name": ["x"] * count}


def test_soft_targets_equal_timm():
    labels = torch.tensor([0, 3, 4])
    expected = mixup_target(labels, 5, lam=1.0, smoothing=0.1)
    assert torch.allclose(soft_targets(labels, 5, 0.1), expected)
    assert torch.allclose(soft_targets(labels, 5, 0.1).sum(1), torch.ones(3))


def test_nothing_is_mixed_by_default():
    given_batch = batch()
    mixed = mix_batch(given_batch, AugmentConfig(), num_classes=5, label_smoothing=0.2, seed=0)
    assert mixed["image"] is given_batch["image"]
    assert mixed["target"].argmax(1).tolist() == given_batch["label"].tolist()
    assert mixed["name"] == given_batch["name"]
    assert "target" not in given_batch


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**62), count=st.integers(1, 9))
def test_mixup_is_a_straight_line_between_mirror_images(seed, count):
    original = batch(count)
    before = original["image"].clone()
    mixed = mix_batch(original, AugmentConfig(mixup=0.8), num_classes=12, label_smoothing=0.1, seed=seed)
    assert torch.equal(original["image"], before)
    flipped = before.flip(0)
    # The ratio, read off the images.
    direction = before - flipped
    ratio = (
        float(((mixed["image"] - flipped) * direction).sum() / direction.square().sum()) if count > 1 else 1.0
    )
    assert -1e-3 <= ratio <= 1.001
    assert torch.allclose(mixed["image"], before * ratio + flipped * (1 - ratio), atol=1e-4)
    expected = mixup_target(original["label"], 12, lam=ratio, smoothing=0.1)
    assert torch.allclose(mixed["target"], expected, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**62), height=st.integers(1, 20), width=st.integers(1, 20))
def test_cutmix_pastes_a_box_and_counts_its_area(seed, height, width):
    original = batch(6, 20, classes=6)
    original["image"] = original["image"][..., :height, :width]
    mixed = mix_batch(original, AugmentConfig(cutmix=1.0), num_classes=6, seed=seed)
    image, before = mixed["image"], original["image"]
    pasted = (image != before)[0].all(0)
    assert torch.equal(image[..., pasted], before.flip(0)[..., pasted])
    assert torch.equal(image[..., ~pasted], before[..., ~pasted])
    rows, columns = pasted.any(1), pasted.any(0)
    assert torch.equal(pasted, rows[:, None] & columns[None])
    share = float(pasted.float().mean())
    assert mixed["target"][0, 0].item() == pytest.approx(1 - share, abs=1e-6)


def test_mixing_is_pure_and_switches():
    config = AugmentConfig(mixup=0.8, cutmix=1.0, mix_prob=0.8, mix_switch=0.5)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    kinds = []
    for seed in range(300):
        mixed = mix_batch(batch(), config, num_classes=5, seed=seed)
        again = mix_batch(batch(), config, num_classes=5, seed=seed)
        assert torch.equal(mixed["image"], again["image"])
        assert torch.equal(mixed["target"], again["target"])
        equal = (mixed["image"] == batch()["image"]).float().mean().item()
        kinds.append("none" if equal == 1 else "cutmix" if equal > 0 else "mixup")
    assert np.array_equal(np.random.get_state()[1], state)
    # Some boxes are so small that nothing is pasted, and some so large that nothing is left.
    assert kinds.count("none") / 300 == pytest.approx(0.22, abs=0.08)
    assert kinds.count("mixup") / 300 == pytest.approx(0.4, abs=0.08)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mixup": -1.0}, "mixup"), ({"mix_prob": 2.0}, "mix_prob"), ({"cutmix": float("nan")}, "cutmix")],
)
def test_mix_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        mix_batch(batch(), AugmentConfig(**options), num_classes=5, seed=0)


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ConfigError, match=r"labels should be in 0\.\.2; found 0\.\.4"):
        mix_batch(batch(), AugmentConfig(), num_classes=3, seed=0)
    with pytest.raises(ConfigError, match="label_smoothing"):
        soft_targets(torch.tensor([0]), 2, 1.0)
