"""Eyes by themselves: shapes, seconds, boxes as channels, weights of classifiers, files."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.errors import ConfigError, ShapeError, WeightsError
from saccade.tasks.answer.vlm.eyes import Eyes, EyesConfig, load_encoder, load_eyes, save_eyes
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model

SMALL = {"encoder": "stvit/test_vit", "img_size": 64, "tokens": 4}
"""Semantic tokens of a transformer of 64 channels."""


def make(**more) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Eyes(EyesConfig(**{**SMALL, **more})).eval()


def clip(*, batch=2, count=3, chans=3, size=64, seed=0):
    maker = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, chans, size, size, generator=maker)


HALVES = torch.tensor([0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("more", "dim"),
    [
        ({"encoder": "stvit_deit_tiny", "tokens": 4, "img_size": 32}, 192),
        ({"encoder": "stvit/test_vit", "mixer": "joint"}, 64),
        ({"encoder": "stvit/test_vit", "mixer": "none", "depth": 0}, 64),
        ({"encoder": "timm/test_vit"}, 64),
        ({"encoder": "timm/test_resnet", "tokens": 4, "stage": 2}, 48),
        ({"encoder": "shvit_s1", "tokens": 1}, 320),
        ({"encoder": "efficientvim_m1", "tokens": 4, "stage": 0}, 128),
    ],
)
def test_any_network_gives_so_many_tokens_a_frame(more, dim):
    eyes = make(**more)
    size = eyes.config.img_size
    with torch.no_grad():
        found = eyes(clip(size=size), HALVES)
    assert found.shape == (2, 3, eyes.config.tokens, dim)
    assert eyes.dim == dim
    assert found.isfinite().all()


def test_the_published_layout_is_sixteen_tokens_of_224_pixels():
    with torch.device("meta"):
        eyes = Eyes(EyesConfig())
        assert eyes(torch.empty(1, 40, 3, 224, 224), torch.empty(1, 40)).shape == (1, 40, 16, 384)


@pytest.mark.parametrize("mixer", ["time", "joint"])
@torch.no_grad()
def test_what_is_seen_follows_the_seconds_and_not_the_places(mixer):
    eyes, frames = make(mixer=mixer), clip()
    even = eyes(frames, HALVES)
    assert (eyes(frames, torch.tensor([0.0, 0.5, 2.0])) - even).abs().max() > 1e-2
    # Frames together with their seconds in another order give the same, in that order: places have no meaning.
    order = [2, 0, 1]
    torch.testing.assert_close(eyes(frames[:, order], HALVES[order]), even[:, order], atol=1e-5, rtol=1e-5)
    # Seconds of each clip.
    both = eyes(frames, torch.stack([HALVES, HALVES + 3]))
    torch.testing.assert_close(both[0], even[0], atol=1e-5, rtol=1e-5)
    assert (both[1] - even[1]).abs().max() > 1e-2


@torch.no_grad()
def test_waves_tell_tenths_of_a_second_anywhere():
    eyes = make()
    seconds = torch.arange(0, 20, 0.1)
    waves = eyes._waves(seconds)
    assert torch.pdist(waves).min() > 0.2
    # The wave of two seconds, by the textbook.
    k = waves.shape[1] // 2
    torch.testing.assert_close(waves[:, 2], torch.sin(torch.pi * seconds), atol=1e-4, rtol=0)
    torch.testing.assert_close(waves[:, k + 2], torch.cos(torch.pi * seconds), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mixer", ["time", "joint"])
@torch.no_grad()
def test_frames_know_of_each_other_and_clips_do_not(mixer):
    eyes, frames = make(mixer=mixer), clip()
    whole = eyes(frames, HALVES)
    torch.testing.assert_close(whole[1:], eyes(frames[1:], HALVES), atol=1e-5, rtol=1e-5)
    changed = frames.clone()
    changed[0, 2] += clip(seed=1)[0, 2]
    found = eyes(changed, HALVES)
    assert (found[0, 0] - whole[0, 0]).abs().max() > 1e-4
    torch.testing.assert_close(found[1], whole[1], atol=1e-5, rtol=1e-5)
    alone = make(mixer="none", depth=0)
    torch.testing.assert_close(alone(changed, HALVES)[0, 0], alone(frames, HALVES)[0, 0])


def test_boxes_come_in_as_channels_and_teach():
    eyes = make(in_chans=5)
    assert eyes.config.boxes == ("red", "blue")
    frames = clip(chans=5)
    frames[:, :, 3:] = 0
    bare = eyes(frames, HALVES)
    red, blue = frames.clone(), frames.clone()
    red[:, :, 3, 10:30, 10:30] = 1
    blue[:, :, 4, 10:30, 10:30] = 1
    assert (eyes(red, HALVES) - bare).abs().max() > 1e-3
    assert (eyes(red, HALVES) - eyes(blue, HALVES)).abs().max() > 1e-3
    eyes(red, HALVES).square().mean().backward()
    # Several processes refuse tensors without a gradient.
    without = [name for name, p in eyes.named_parameters() if p.grad is None]
    assert without == []


def test_recomputation_gives_the_same_gradients():
    found = []
    for on in (False, True):
        eyes = make(encoder="timm/test_vit").train()  # a wrapper without recomputation of its own
        eyes.set_grad_checkpointing(on)
        eyes(clip(), HALVES).square().mean().backward()
        found.append({name: p.grad for name, p in eyes.named_parameters()})
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


@torch.no_grad()
def test_weights_of_a_classifier_at_another_size_with_boxes_added(tmp_path):
    torch.manual_seed(1)
    classifier: Any = create_model("stvit_deit_tiny", num_classes=7, tokens=4, img_size=64).eval()
    save_weights(classifier, tmp_path / "best.safetensors")
    eyes = make(encoder="stvit_deit_tiny", tokens=4, img_size=64, in_chans=5, mixer="none", depth=0)
    assert load_encoder(eyes, tmp_path) is eyes
    frames = clip(batch=1, count=2, chans=5)
    # Boxes have no weight yet: the eyes see as the classifier does.
    torch.testing.assert_close(eyes.encoder(frames[0]), classifier.forward_features(frames[0, :, :3]))
    small = make(encoder="stvit_deit_tiny", tokens=4, img_size=32, mixer="none", depth=0)
    load_encoder(small, tmp_path / "best.safetensors")
    assert small.encoder.net.pos_embed.shape[1] == 4
    # Interpolation of one grid to another keeps the mean.
    gap = small.encoder.net.pos_embed.mean(1) - classifier.pos_embed.mean(1)
    assert gap.abs().max() < 0.02


def test_weights_of_another_network_are_refused(tmp_path):
    save_weights(create_model("shvit_s1", num_classes=3), tmp_path / "best.safetensors")
    with pytest.raises(WeightsError, match=r"for shvit_s1, the eyes have stvit_deit_tiny"):
        load_encoder(make(encoder="stvit_deit_tiny", img_size=32, tokens=4), tmp_path)
    save_weights(create_model("stvit_deit_tiny", img_size=64, tokens=9), tmp_path / "other.safetensors")
    with pytest.raises(
        WeightsError, match=r"1 tensors are missing, foreign or of another shape, .*global_cen"
    ):
        load_encoder(make(encoder="stvit_deit_tiny", img_size=32, tokens=4), tmp_path / "other.safetensors")


@torch.no_grad()
def test_a_file_of_eyes_is_all_that_is_needed(tmp_path):
    eyes = make(in_chans=4, mixer="joint", depth=1)
    save_eyes(eyes, tmp_path / "eyes.safetensors")
    again: Any = load_eyes(tmp_path / "eyes.safetensors").eval()
    assert again.config == eyes.config
    frames = clip(chans=4)
    assert torch.equal(again(frames, HALVES), eyes(frames, HALVES))
    with pytest.raises(WeightsError, match="eyes are written as"):
        save_eyes(eyes, tmp_path / "eyes.pth")
    assert not (tmp_path / "eyes.pth").exists()
    save_file(load_file(tmp_path / "eyes.safetensors"), tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="holds no eyes"):
        load_eyes(tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        load_eyes(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "eyes.safetensors").read_bytes()[:-100])
    with pytest.raises(WeightsError, match="damaged"):
        load_eyes(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "stvit_diet_small"}, "did you mean 'stvit_deit_small'"),
        ({"encoder": "timm/resnet81"}, "did you mean 'resnet"),
        ({"encoder": "srvit_a"}, "does not take single pictures of things"),
        ({"encoder": "video_swin_tiny"}, "does not take single pictures of things"),
        ({"mixer": "tim"}, "did you mean 'time'"),
        ({"tokens": 12}, "expected a square number"),
        ({"in_chans": 6}, "eyes.in_chans is 6 but should be between 3 and 5"),
        ({"in_chans": True}, "eyes.in_chans should be a whole number, not True"),
        ({"mixer": "none"}, "expected depth 0 with none"),
        ({"img_sise": 64}, "eyes has no setting 'img_sise'; did you mean 'img_size'"),
        ({"options": {"pooled": "max"}}, "has no option 'pooled'; did you mean 'pooling'"),
        ({"img_size": 100}, "expected a multiple of the patch"),
        (
            {"encoder": "shvit_s1", "img_size": 64},
            "gives a map of 1x1 cells .* too coarse for eyes.tokens 16",
        ),
        ({"encoder": "stvit_swin_tiny"}, "gives 9 semantic tokens of frames of 224 pixels"),
    ],
)
def test_wrong_configurations_are_one_sentence(values, message):
    with pytest.raises(ConfigError, match=message):
        Eyes(EyesConfig.from_dict(values))


def test_wrong_shapes():
    eyes = make()
    with pytest.raises(ShapeError, match=r"expected \(clips, frames, 3 channels, height, width\)"):
        eyes(clip(chans=5), HALVES)
    with pytest.raises(ShapeError, match=r"expected one for each frame, \(2, 3\)"):
        eyes(clip(), HALVES[:2])
