"""The task motion: its network learns, its metrics know right from wrong, its recipe runs."""

import numpy as np
import pytest
import torch

from motion_demo.network import (
    HOURS,
    LENGTH,
    MOVING,
    REACH,
    build_motion,
    facts_of_masks,
    flow_of,
    mirror_observations,
    observations_of,
)
from motion_demo.samples import MotionSamples, facts_of_boxes
from motion_demo.sets import MotionPlan, draw_set
from motion_demo.stages import RECIPES
from motion_demo.task import MotionMetrics
from saccade.data.dataset import SampleKey
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe
from saccade.errors import ConfigError, ShapeError
from saccade.tasks import LossContext, get_task
from saccade.tasks.answer.vlm.clips import cover_boxes, fill_boxes
from saccade.tasks.open import load_model
from saccade.weights import Card


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    home = tmp_path_factory.mktemp("motion")
    for name, rigs in (("train", "train"), ("develop", "new")):
        draw_set(home / name, MotionPlan(clips=16, seed=1, rigs=rigs, size=32, frames=5))
    return home


def batch_of(sets, count=16):
    from motion_demo.sets import MotionSet

    samples = MotionSamples(MotionSet(sets / "train"), vary=True)
    return get_task("motion").collate([samples[SampleKey(k % 16, k)] for k in range(count)])


def test_the_loss_falls_on_sixteen_clips(sets):
    task, batch = get_task("motion"), batch_of(sets)
    torch.manual_seed(0)
    model = task.build(Card(model="motion_tiny", task="motion"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = task.loss(model, batch, LossContext(0.0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_clip_gives_the_same_alone_and_in_company(sets):
    batch = batch_of(sets, 3)
    model = build_motion("motion_tiny", {}).eval()
    given = [batch[name] for name in ("observations", "facts", "seconds")]
    with torch.no_grad():
        both = model(*given)
        one = model(*(part[1:2] for part in given))
    for name, value in both.items():
        assert torch.allclose(value[1:2], one[name], atol=1e-5)


def test_perfect_outputs_have_perfect_marks(sets):
    batch = batch_of(sets)
    hours = torch.nn.functional.one_hot(batch["hour"].clamp_min(0), 12).float()
    length = batch["move"].norm(dim=-1)
    steps = torch.zeros(*batch["hour"].shape, 16)
    steps[..., :2] = batch["move"] / length.clamp_min(1e-6)[..., None]
    steps[..., HOURS], steps[..., LENGTH] = hours, length.clamp_min(1e-3).log()
    steps[..., MOVING] = torch.where(batch["moving"], 1.0, -1.0)
    right = {
        "steps": steps,
        "way": batch["way"].clamp_min(1e-3).log(),
        "ego": batch["ego"],
        "rig": batch["rig"],
    }
    metrics = MotionMetrics()
    batch["index"] = torch.arange(16)
    metrics.update(right, batch)
    found = metrics.compute()
    assert {found[name] for name in ("hour", "way", "which", "span", "mean") if name in found} == {1.0}
    assert found["turn_deg"] == 0
    wrong = MotionMetrics()
    wrong.update({**right, "way": right["way"] + 0.5}, batch)
    assert wrong.compute()["way"] == 0
    assert wrong.compute()["which"] == 1


def test_flow_is_found_to_parts_of_a_pixel():
    rows, columns = torch.meshgrid(torch.arange(72.0), torch.arange(96.0), indexing="ij")

    def picture(shift):
        waves = [
            torch.sin((columns - shift) * a + rows * b + c)
            for a, b, c in ((0.35, 0.1, 0), (0.22, -0.31, 1), (0.5, 0.2, 2))
        ]
        return torch.stack(waves).mean(0).expand(1, 3, 72, 96)

    for shift in (-6.5, 0.0, 3.3):  # pixels; flow is counted in twice as large ones
        found = flow_of(picture(0.0), picture(shift))[0]
        inner = found[:, 1:-1, 1:-1]
        assert inner[2].min() > 0.5
        moved = inner[0] / inner[2] * REACH[1] * 2
        assert moved.mean().item() == pytest.approx(shift, abs=0.4)
        assert (inner[1] / inner[2] * REACH[0] * 2).abs().mean() < 0.6


def test_flow_of_a_blank_picture_is_not_sure():
    assert flow_of(torch.zeros(1, 3, 72, 96), torch.zeros(1, 3, 72, 96))[:, 2].max() == 0


def test_eyes_see_a_mirror_as_the_mirror_of_what_they_see():
    frames = torch.rand(1, 3, 3, 72, 96)
    assert torch.allclose(
        observations_of(frames.flip(-1)), mirror_observations(observations_of(frames)), atol=1e-4
    )


def test_whole_eyes_give_what_their_parts_give(sets):
    from motion_demo.samples import frames_tensor, scene_of
    from motion_demo.sets import MotionSet

    motion = MotionSet(sets / "train")
    first = next(motion.tracks()).clip_id
    scene = scene_of([track for track in motion.tracks() if track.clip_id == first])
    frames = frames_tensor(motion.images(0), scene.boxes[:2])[None]
    eyes = build_motion("motion_tiny", {}).eyes.eval()
    samples = MotionSamples(motion, vary=False)
    with torch.no_grad():
        whole = eyes(frames, samples[0]["seconds"][None])
        parts = eyes.think(*(samples[0][name][None] for name in ("observations", "facts", "seconds")))
    assert whole.shape == (1, 5, 3, 64)
    assert torch.allclose(whole, parts, atol=0.02)  # what was seen is kept in half precision


def test_places_of_masks_are_exact():
    mask = torch.zeros(1, 12, 16)
    mask[0, 2:6, 4:10] = 1
    x, y, bottom, wide, high, there, side, low = facts_of_masks(mask)[0].tolist()
    assert (x, y, bottom) == pytest.approx(((7 - 8) / 8, (4 - 6) / 8, 0.0))
    assert (np.exp(2 * wide) * 16, np.exp(2 * high) * 16) == pytest.approx((6, 4))
    assert (there, side, low) == (1, 0, 0)
    assert not facts_of_masks(torch.zeros(1, 12, 16)).any()
    boxes = np.array([[4.0, 2, 10, 6], [0, 3, 5, 12], [np.nan] * 4])
    masks = torch.from_numpy(cover_boxes(boxes, 12, 16))
    assert np.allclose(facts_of_boxes(boxes, 12, 16), facts_of_masks(masks), atol=1e-6)
    # Between pixels all but the middle is exact.
    boxes = np.concatenate([boxes, boxes + np.array([0.3, -0.2, 0.45, 0.6])])
    masks = torch.from_numpy(cover_boxes(boxes, 12, 16))
    assert np.allclose(facts_of_boxes(boxes, 12, 16), facts_of_masks(masks), atol=5e-3)
    # What a served model gets are the same channels, from frames of another size.
    frames = [{"red": None if np.isnan(box).any() else list(box * [2.5, 3, 2.5, 3])} for box in boxes]
    served = fill_boxes(frames, (40, 36), (16, 12), ["red"])
    assert np.allclose(
        facts_of_boxes(boxes, 12, 16), facts_of_masks(torch.from_numpy(served[:, 0])), atol=5e-3
    )


def test_bad_input_is_one_sentence(sets):
    with pytest.raises(ConfigError, match="did you mean 'motion_tiny'"):
        build_motion("motion_tine", {})
    with pytest.raises(ShapeError, match="5 channels"):
        build_motion("motion_tiny", {}).eyes(torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 2))
    recipe, _ = build_recipe(file=RECIPES / "motion_small.yaml", flags={"data.source": str(sets / "train")})
    with pytest.raises(ConfigError, match="other rigs"):
        get_task("motion").open(recipe.data, recipe.augment, Card(model="motion_tiny"), seed=0)


def test_the_recipe_trains_and_its_weights_open_again(sets, tmp_path):
    flags = {
        "data.source": str(sets / "train"), "data.val": str(sets / "develop"), "model.name": "motion_tiny",
        "data.batch": 4, "run.max_steps": 2, "run.device": "cpu", "run.threads": 1,
    }  # fmt: skip
    result = train(
        build_recipe(file=RECIPES / "motion_small.yaml", flags=flags)[0],
        tmp_path / "run",
        log=lambda line: None,
    )
    assert set(result.metrics) >= {"mean", "blind", "hour", "way"}
    model, card = load_model(tmp_path / "run")
    assert card.task == "motion"
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in build_motion("motion_tiny", {}).parameters()
    )
