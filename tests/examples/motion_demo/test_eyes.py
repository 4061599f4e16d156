"""Eyes that were taught motion stand before a text model as any eyes do."""

import pytest
import torch

from motion_demo.eyes import ClipEyes, MotionEyesConfig, eyes_of_run
from motion_demo.network import ALIKE_COSINE, DIRECTION, LOUD, MOVING, OF_BOX, SAYS, build_motion
from saccade.errors import ConfigError
from saccade.tasks.answer.vlm import Exchange, new_base, open_answerer
from saccade.tasks.answer.vlm.adapters import adapter_for
from saccade.tasks.answer.vlm.assemble import TextPlan
from saccade.tasks.answer.vlm.eyes import EyesConfig
from saccade.tasks.answer.vlm.own_eyes import eyes_config


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    eyes = eyes_of_run(build_motion("motion_tiny", {}), "motion_tiny", {}, 32)
    folder = tmp_path_factory.mktemp("bases") / "base"
    words = ["How far does the object in the red box go? It goes 12.34 meters."]
    facts = new_base(folder, eyes=eyes, words=words, plan=TextPlan(width=32, layers=1, vocabulary=300))
    assert facts["tokens_per_frame"] == 3
    return folder, eyes


def exchange(box):
    from PIL import Image

    frames = [Image.effect_noise((64, 48), 60).convert("RGB") for _ in range(4)]
    return Exchange([("How far?", "")], frames, [0.0, 0.5, 1.0, 1.5], [{"red": box}] * 4)


def test_a_saved_base_sees_what_the_eyes_see(base):
    folder, eyes = base
    adapter = adapter_for(str(folder))
    sample = adapter.encode(exchange([8, 8, 24, 40]))
    frames = sample["pixel_values_videos"]
    assert frames.shape == (1, 4, 5, 24, 32)
    assert frames[:, :, :3].min() >= -1
    assert frames[0, 0, 3, 4:20, 4:12].min() == 1
    assert frames[0, 0, 3].sum() == 16 * 8
    with torch.no_grad():
        seen = eyes.eval()(frames, sample["frame_seconds"])
        again = open_answerer(folder).model.network.eyes(frames, sample["frame_seconds"])
    assert torch.allclose(seen, again)


def test_it_answers_something(base):
    assert isinstance(open_answerer(base[0], max_new_tokens=3).answer([exchange(None)])[0], str)


def test_configurations_of_both_kinds_are_read():
    assert isinstance(eyes_config({"encoder": "motion_tiny"}), MotionEyesConfig)
    assert isinstance(eyes_config({"tokens": 4}), EyesConfig)
    back = eyes_config(MotionEyesConfig("motion_tiny").to_dict())
    assert isinstance(back, MotionEyesConfig)
    assert back == MotionEyesConfig("motion_tiny")
    assert ClipEyes(back).dim == 64 + SAYS


def test_bad_configurations_are_one_sentence():
    with pytest.raises(ConfigError, match="no 'token'"):
        eyes_config({"encoder": "motion_tiny", "token": 3})
    with pytest.raises(ConfigError, match="5 and 3"):
        MotionEyesConfig(tokens=4)
    with pytest.raises(ConfigError, match="a multiple of 4"):
        MotionEyesConfig(img_size=97)


def test_the_token_of_a_frame_compares_the_two_boxes():
    network = build_motion("motion_tiny", {}).eval()
    x = torch.randn(3, 5, 3, 64)
    with torch.no_grad():
        told, heads = network.tell(x)[..., 64:], network.heads(x)
        turned = network.tell(x[:, :, [0, 2, 1]])[..., 64:]
    said, back = told[..., OF_BOX:], turned[..., OF_BOX:]
    one, two = heads["steps"][:, 0, :, DIRECTION], heads["steps"][:, 1, :, DIRECTION]
    angle = torch.atan2(one[..., 1], one[..., 0]) - torch.atan2(two[..., 1], two[..., 0])
    assert ((said[:, :-1, 0, 0] > 0) == (angle.cos() > ALIKE_COSINE)).all()
    both = heads["steps"][:, :2, :, MOVING].sigmoid().prod(1)
    assert (said[:, :-1, 0, 0].abs() <= LOUD * both + 1e-5).all()
    ahead = heads["way"][:, 0] - heads["way"][:, 1]
    assert torch.allclose(said[:, 0, 0, 2], ahead, atol=1e-5)
    assert ((said[:, :, 0, 1] > 0) == (ahead > 0)[:, None]).all()
    assert not told[:, :, 0, :OF_BOX].any()
    # The token of a box says it from its own side, that of the frame from the first one's.
    assert torch.equal(said[:, :, 0], said[:, :, 1])
    assert torch.allclose(said[:, :, 2, 1:], -said[:, :, 1, 1:], atol=1e-5)
    # Named the other way round, the same comparison with the other sign.
    assert torch.allclose(back[..., 1:], -said[..., 1:], atol=1e-5)
    assert torch.allclose(back[..., 0], said[..., 0], atol=1e-5)
