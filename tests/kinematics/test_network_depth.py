"""Metric depth with the real classes at tiny size: metres, focal lengths in pixels of the frame, sizes."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from saccade.errors import ConfigError, DataError
from saccade.kinematics.lift.network_depth import DepthNetwork
from saccade.kinematics.lift.network_open import Machine

pytest.importorskip("transformers")


def with_field_of_view(folder, target, degrees):
    """Copy a Depth Pro whose field of view is always the same."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    last = [name for name in tensors if name.startswith("fov_model.head") and name.endswith("bias")][-1]
    tensors[last.replace("bias", "weight")].zero_()
    tensors[last].fill_(degrees)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


def bicubic(depth, size):
    return functional.interpolate(depth[:, None], size, mode="bicubic", align_corners=False)[:, 0].numpy()


@pytest.mark.parametrize("kind", ["depth_anything", "zoedepth", "depth_pro"])
def test_every_frame_has_depth_at_its_own_size(networks, frames, kind):
    focal = {"focal_px": 60.0} if kind == "depth_pro" else {}
    measure = DepthNetwork(networks(kind), machine=Machine(batch=2), **focal)
    maps = measure.many(list(frames[:3]))
    alone = measure(frames[2])
    assert len(maps) == 3
    for found in (*maps, alone):
        assert found.depth.shape == (48, 80)
        assert found.depth.dtype == np.float32
        assert (found.depth[np.isfinite(found.depth)] > 0).all()
        assert found.focal_px == (60.0 if focal else None)
    np.testing.assert_allclose(alone.depth, maps[2].depth, rtol=1e-4)


def test_depth_anything_gives_metres_up_to_its_farthest(networks, frames):
    measure = DepthNetwork(networks("depth_anything"))
    inputs = measure.processor(images=list(frames[:1]), return_tensors="pt")
    before = {}
    measure.network.head.activation2.register_forward_hook(
        lambda module, given, result: before.update(given=given[0])
    )
    found = measure(frames[0])
    with torch.inference_mode():
        measure.network(inputs["pixel_values"])
        expected = bicubic((80 * torch.sigmoid(before["given"]))[:, 0], (48, 80))[0]
    np.testing.assert_allclose(found.depth, expected, rtol=1e-5)
    assert found.depth.min() > 0
    assert found.depth.max() < 80


def test_zoedepth_takes_its_margin_off_again(networks, frames):
    measure = DepthNetwork(networks("zoedepth"))
    found = measure(frames[0])
    inputs = measure.processor(images=list(frames[:1]), return_tensors="pt")
    with torch.inference_mode():
        depth = measure.network(**inputs).predicted_depth
    high, wide = int(3 * np.sqrt(48 / 2)), int(3 * np.sqrt(80 / 2))
    padded = bicubic(depth, (48 + 2 * high, 80 + 2 * wide))[0]
    np.testing.assert_allclose(found.depth, padded[high:-high, wide:-wide], rtol=1e-5)


def test_depth_pro_gives_a_focal_length_in_pixels_of_the_frame(networks, frames, tmp_path):
    folder = with_field_of_view(networks("depth_pro"), tmp_path / "fov", 53.0)
    measure = DepthNetwork(folder)
    found = measure(frames[0])
    focal = 40 / np.tan(np.radians(53.0) / 2)  # half the width over the tangent of half the angle
    assert found.focal_px == pytest.approx(focal, rel=1e-5)
    inputs = measure.processor(images=list(frames[:1]), return_tensors="pt")
    with torch.inference_mode():
        canonical = measure.network(**inputs).predicted_depth
    inverse = functional.interpolate(canonical[:, None], (48, 80), mode="bilinear")[0, 0].numpy()
    expected = 1 / np.clip(inverse * 80 / focal, 1e-4, 1e4)
    np.testing.assert_allclose(found.depth, expected, rtol=1e-4)


def test_a_known_focal_length_takes_the_place_of_the_networks(networks, frames, tmp_path):
    folder = with_field_of_view(networks("depth_pro"), tmp_path / "fov", 53.0)
    found, known = DepthNetwork(folder)(frames[0]), DepthNetwork(folder, focal_px=160.0)(frames[0])
    assert known.focal_px == 160.0
    near = (found.depth < 1000) & (known.depth < 1000)
    assert near.any()
    np.testing.assert_allclose(
        known.depth[near] / found.depth[near], 160.0 / (found.focal_px or 0), rtol=1e-4
    )


def test_a_field_of_view_that_is_none(networks, frames, tmp_path):
    folder = with_field_of_view(networks("depth_pro"), tmp_path / "fov", -3.0)
    with pytest.raises(DataError, match=r"field of view of -3\.0 degrees; expected 1 to 175"):
        DepthNetwork(folder)(frames[0])


def test_networks_without_metres_are_refused(networks):
    relative = networks("depth_anything", depth_estimation_type="relative")
    with pytest.raises(ConfigError, match="gives relative depth, which has no metres"):
        DepthNetwork(relative)
    blind = networks("depth_pro", use_fov_model=False)
    with pytest.raises(ConfigError, match="without its field-of-view network"):
        DepthNetwork(blind)
    assert DepthNetwork(blind, focal_px=100.0).focal_px == 100.0
    with pytest.raises(ConfigError, match="does not measure depth in metres here"):
        DepthNetwork(networks("owlv2"))
    with pytest.raises(ConfigError, match="focal length is -1"):
        DepthNetwork(blind, focal_px=-1.0)


def test_in_half_the_numbers(networks, frames):
    full, half = (
        DepthNetwork(networks("depth_anything"), machine=Machine(dtype=dtype))(frames[0]).depth
        for dtype in ("float32", "bf16")
    )
    np.testing.assert_allclose(half, full, rtol=0.02)
