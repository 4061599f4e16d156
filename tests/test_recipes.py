"""Every shipped recipe says what to expect, builds, and takes two steps."""

import math
import re
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tasks.answer.questions import make_stkit
from tests.tasks.answer.tiny import make_base

from saccade.data.motion_clips import clips_folder
from saccade.data.radar_pairs import make_pairs
from saccade.data.scenes import scenes_folder
from saccade.engine.train.checkpoint import Progress
from saccade.engine.train.log import RunLog, Ticker
from saccade.engine.train.loop import Run, train
from saccade.engine.train.optim import no_decay_names
from saccade.engine.train.recipe import build_recipe, list_recipes
from saccade.engine.train.schedule import peak_lr
from saccade.engine.train.setup import build_session
from saccade.radar.dataset import PairConfig
from saccade.tasks.answer.vlm.model import tune_options
from saccade.zoo.registry import create_model, list_models


@pytest.fixture(scope="module")
def few_photos(tmp_path_factory):
    """Two classes of four pictures, and a small network trained on as many classes, to teach."""
    folder = tmp_path_factory.mktemp("few")
    rng = np.random.default_rng(0)
    for kind in ("a", "b"):
        (folder / kind).mkdir()
        for i in range(4):
            Image.fromarray(rng.integers(0, 255, (36, 36, 3), dtype=np.uint8)).save(
                folder / kind / f"{i}.png"
            )
    return folder


@pytest.fixture(scope="module")
def teacher(few_photos, tmp_path_factory):
    """A run folder to distil from."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    flags = {
        "data.source": str(few_photos),
        "data.size": 32,
        "model.name": "timm/test_vit2",
        "run.max_steps": 1,
    }
    flags |= {"model.options": {"img_size": 32}, "model.pretrained": "no", "data.workers": 0}
    train(build_recipe("finetune_small", "", flags)[0], folder, log=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def few_pairs(tmp_path_factory):
    """Eight small radar pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    make_pairs(folder, PairConfig(nx=8, ny=2, size=32, points=(1, 2)), 8, shard_size=4)
    return folder


@pytest.fixture(scope="module")
def few_questions(tmp_path_factory):
    """A tiny LLaVA-OneVision with random weights, and questions about six clips."""
    home = tmp_path_factory.mktemp("stkit")
    return make_base("llava_onevision", home / "base"), make_stkit(home)


@pytest.fixture(scope="module")
def few_scenes(tmp_path_factory):
    """Four small scenes with boxes, masks and class maps."""
    return scenes_folder(counts={"train": 4, "val": 2}, home=tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory):
    """Six small videos, one of each motion, and two to validate on."""
    return clips_folder(counts={"train": 6, "val": 2}, home=tmp_path_factory.mktemp("data") / "clips")


@pytest.mark.parametrize("name", list_recipes())
def test_the_header_says_what_to_expect(name):
    text = (resources.files("saccade.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    for word in ("Expected:", "Source:", "Hours:", "Hardware:", "Command:"):
        assert f"# {word}" in text
    command = next(line for line in text.splitlines() if line.startswith("# Command:"))
    assert name in command or name in ("finetune_small", "digits")
    recipe, _ = build_recipe(name)
    if recipe.task == "answer":
        assert recipe.model.name.count("/") == 1  # a hub id
        tune_options(recipe.model.options)
        return
    assert recipe.model.name in list_models()


def smallest(model):
    """Name the smallest of a family: the recipe is what is tested, the sizes have tests of their own."""
    if model.startswith("srvit_"):
        return model
    if model.startswith("stvit_"):
        return model.rsplit("_", 1)[0] + "_tiny"
    family, dist, _ = model.partition("_dist")
    return f"{family[:-1]}1{dist}"


@pytest.mark.parametrize("name", list_recipes())
def test_two_steps(name, few_photos, few_pairs, few_scenes, few_clips, teacher, tmp_path, request):
    flags = {
        "data.source": str(few_photos),
        "data.size": 32,
        "data.batch": 2,
        "data.workers": 0,
        "data.val_fraction": 0.5,
        "run.device": "cpu",
        "run.threads": 1,
        "run.max_steps": 2,
        "run.precision": "float32",
        "run.eval_every": 1000,
        "model.pretrained": "no",
    }
    recipe, _ = build_recipe(name, "", flags)
    if recipe.task == "restore":
        recipe.data.source = str(few_pairs)
    if recipe.task == "video":
        recipe.data.source, recipe.data.frames = str(few_clips), 4
        if recipe.model.name.startswith("stvit_video"):
            recipe.model.options |= {"dim": 24, "heads": [1, 2, 4, 8]}
    if recipe.task in ("detect", "segment"):
        recipe.data.source, recipe.data.size, recipe.data.max_size = str(few_scenes), 64, None
        recipe.model.head_options |= {"width": 16}
        if recipe.task == "detect" and recipe.model.head != "retinanet":
            recipe.model.head_options |= {"fc_width": 16, "mask_width": 8, "samples": 8, "proposals": 16}
    if recipe.loss.distill != "none":
        recipe.loss.teacher = str(teacher)
    if recipe.loss.mesa:
        recipe.loss.mesa_start = 0.0
    if recipe.task == "answer":
        recipe.model.name, home = (str(part) for part in request.getfixturevalue("few_questions"))
        recipe.data.source, recipe.run.accumulate = f"{home}/questions.jsonl", 1
        recipe.data.labels, recipe.data.pictures = f"{home}/tracks.jsonl", home
    else:
        recipe.model.name = smallest(recipe.model.name)
    if recipe.model.name == "stvit_deit_tiny":
        recipe.model.options |= {"img_size": 32, "tokens": 4, "image_blocks": 1}
    session = build_session(recipe, lambda line: None)
    with Ticker(2, 0, quiet=True) as ticker:
        log = RunLog(tmp_path, quiet=True)
        run = Run(session, tmp_path, Progress(), log, ticker, lambda line: None, [], 2)
        learns = {name: p for name, p in session.plain.named_parameters() if p.requires_grad}
        before = {name: p.detach().clone() for name, p in learns.items()}
        run.run_epoch()
    assert run.progress.step == 2
    assert math.isfinite(run.progress.loss_sum)
    still = {name for name, p in learns.items() if torch.equal(p, before[name])}
    # What starts at zero behind a zero scale needs longer, and the vectors A have no effect at all.
    assert len(still) < len(before) / 2
    assert session.ema is None or session.ema.count == 2


def test_published_numbers_of_shvit():
    recipe, _ = build_recipe("shvit_s3_imagenet")
    assert peak_lr(recipe.optim.lr, recipe.optim.lr_batch, 2048) == 4e-3
    decays = [build_recipe(f"shvit_s{n}_imagenet")[0].optim.weight_decay for n in (1, 2, 3, 4)]
    assert decays == [0.025, 0.032, 0.035, 0.03]
    assert (recipe.optim.clip, recipe.optim.clip_value) == ("agc", 0.02)
    assert (recipe.ema.decay, recipe.ema.warmup, recipe.data.repeats) == (0.99996, False, 3)
    assert build_recipe("shvit_s4_imagenet")[0].data.size == 256
    distilled, _ = build_recipe("shvit_s1_distilled_imagenet")
    with torch.device("meta"):
        model = create_model(distilled.model.name, **distilled.model.options)
    assert sum(p.numel() for p in model.parameters()) == 6_652_448
    tuned, _ = build_recipe("shvit_s4_imagenet_512")
    assert (tuned.optim.lr, tuned.schedule.warmup_lr, tuned.schedule.min_lr) == (4e-5, 2e-8, 2e-7)
    assert tuned.model.preprocess == {"mode": "squash", "crop_pct": 1.0}


def test_published_numbers_of_efficientvim():
    recipe, _ = build_recipe("efficientvim_m2_imagenet_450")
    assert peak_lr(recipe.optim.lr, recipe.optim.lr_batch, 2048) == 2e-3
    assert (recipe.schedule.epochs, recipe.schedule.cooldown_epochs) == (450, 10)
    assert (recipe.optim.clip, recipe.optim.clip_value) == ("norm", 0.02)
    assert (recipe.loss.mesa, recipe.loss.mesa_start, recipe.data.repeats) == (1.0, 0.25, 1)
    with torch.device("meta"):
        model = create_model(recipe.model.name)
    spared = no_decay_names(model, recipe.optim.no_decay)
    assert "norms.0.weight" not in spared
    assert "norms.0.bias" in spared
    distilled, _ = build_recipe("efficientvim_m2_dist_imagenet")
    assert (distilled.loss.mesa, distilled.loss.distill) == (0.0, "hard")


def test_published_numbers_of_stvit():
    recipe, _ = build_recipe("stvit_r_swin_small_imagenet")
    assert peak_lr(recipe.optim.lr, recipe.optim.lr_batch, 1024) == 1e-3
    assert (recipe.schedule.epochs, recipe.schedule.warmup_epochs, recipe.schedule.min_lr) == (300, 20, 1e-5)
    assert (recipe.optim.clip, recipe.optim.clip_value, recipe.optim.weight_decay) == ("norm", 5.0, 0.05)
    assert (recipe.ema.decay, recipe.loss.distill, recipe.data.repeats) == (0, "none", 1)
    rates = [
        build_recipe(f"stvit_r_swin_{size}_imagenet")[0].model.options for size in ("tiny", "small", "base")
    ]
    assert [rate["drop_path"] for rate in rates] == [0.2, 0.3, 0.4]
    with torch.device("meta"):
        model = create_model("stvit_r_swin_small", global_centers=True)
    spared = no_decay_names(model, recipe.optim.no_decay)
    assert "global_centers" not in spared
    assert all(
        ("bias_table" in name) == (p.ndim > 1) for name, p in model.named_parameters() if name in spared
    )
    tuned, _ = build_recipe("sparsify_imagenet")
    assert (tuned.loss.distill, tuned.loss.teacher, tuned.schedule.epochs) == ("soft", "self", 30)


def test_published_numbers_of_stvlm():
    recipe, _ = build_recipe("stvlm_llava_onevision_7b")
    assert recipe.data.batch * 8 * recipe.run.accumulate == 128
    assert (recipe.schedule.epochs, recipe.optim.lr, recipe.schedule.shape) == (1, 1e-5, "cosine")
    text = (resources.files("saccade.recipes") / "stvlm_llava_onevision_7b.yaml").read_text(encoding="utf-8")
    ratios = [float(part) for part in re.findall(r"jsonl:([\d.]+)", text)]
    assert ratios == pytest.approx([100 / 117, 20 / 117], abs=5e-4)
