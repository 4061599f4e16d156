"""The loop on real (small) pictures: it learns, it can be interrupted, it says what is wrong."""

import csv
import errno
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import saccade.engine.train.checkpoint
from saccade.engine.train.checkpoint import load_snapshot
from saccade.engine.train.loop import Interrupted, Run, train
from saccade.engine.train.recipe import build_recipe, check_unchanged, load_recipe
from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.tasks.classify.task import Classify
from saccade.tasks.open import load_model


@pytest.fixture(scope="session")
def recipe_for(settings_for):
    """Make a tiny recipe."""
    return lambda **changes: build_recipe("", "", settings_for(**changes))[0]


def quiet(line):
    """Take no notice."""


@pytest.fixture(scope="module")
def whole(recipe_for, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = train(recipe_for(), folder, log=quiet)
    return folder, result


def weights_of(folder):
    """Everything a checkpoint's tensors say, by file and name."""
    newest = folder / "checkpoints" / (folder / "checkpoints" / "LATEST").read_text().strip()
    return {
        f"{file.name}:{name}": tensor
        for file in newest.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def table(folder):
    """Rows of metrics.csv."""
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def assert_same(one, other):
    a, b = weights_of(one), weights_of(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_a_run_folder_holds_what_was_promised(whole):
    folder, result = whole
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "recipe.yaml",
        "env.json",
        "log.jsonl",
        "metrics.csv",
        "checkpoints",
        "last.safetensors",
        "best.safetensors",
    }
    assert len(list((folder / "checkpoints").glob("step-*"))) == 2
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.schedule.epochs == 4
    assert recipe.optim.lr > 0
    rows = table(folder)
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert {"top1", "ema_top1", "train_loss", "lr", "loss", "ece"} <= set(rows[0])
    steps = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in steps if entry["kind"] == "step"] == list(range(1, result.steps + 1))
    assert result.reason == "all epochs done"


def test_best_weights_carry_a_card_with_labels_and_numbers(whole):
    _, result = whole
    model, card = load_model(result.folder)
    assert card.labels == ["blue", "red"]
    assert card.preprocess["size"] == 32
    assert (
        card.numbers["top1"]
        == result.metrics["top1"]
        == max(max(float(row["top1"]), float(row["ema_top1"])) for row in table(result.folder))
    )
    assert not model.training


def test_loss_falls_and_two_colours_are_told_apart(recipe_for, tmp_path):
    recipe = recipe_for(schedule__epochs=12, augment__mixup=0.0, optim__lr=2e-3)
    result = train(recipe, tmp_path / "run", log=quiet)
    losses = [float(row["train_loss"]) for row in table(tmp_path / "run")]
    assert losses[-1] < losses[0] - 0.1
    assert result.metrics["top1"] == 1.0


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_interrupted_and_resumed_ends_with_the_same_bits(recipe_for, whole, tmp_path, monkeypatch, stop_at):
    """Ctrl-C after some step, in the middle of an epoch or at its end."""
    said = []
    original = Run.step

    def step(self, *arguments):
        losses = original(self, *arguments)
        if self.progress.step + 1 == stop_at:
            self.interrupted.append(2)
        return losses

    monkeypatch.setattr(Run, "step", step)
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(recipe_for(), folder, log=said.append)
    assert said[-1] == f"interrupted and saved; go on with: saccade train --resume {folder}"
    monkeypatch.setattr(Run, "step", original)
    torch.manual_seed(99)  # whatever happened in between must not matter
    result = train(load_recipe(folder / "recipe.yaml"), folder, resume=True, log=quiet)
    assert_same(folder, whole[0])
    assert result.metrics == whole[1].metrics
    ours = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    theirs = [json.loads(line) for line in (whole[0] / "log.jsonl").read_text().splitlines()]
    for entry in ours + theirs:
        entry.pop("images_per_second", None)
        entry.pop("seconds", None)
    assert ours == theirs


def test_resuming_a_finished_run_changes_nothing(photos, whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole[0], folder)
    said = []
    result = train(load_recipe(folder / "recipe.yaml"), folder, resume=True, log=said.append)
    assert "this run is over" in said[-1]
    assert result.metrics == whole[1].metrics
    assert_same(folder, whole[0])


def test_a_new_run_does_not_overwrite_an_old_one(recipe_for, whole):
    with pytest.raises(ConfigError, match="holds a run already; go on with --resume"):
        train(recipe_for(), whole[0], log=quiet)


def test_changed_settings_are_refused_on_resume(whole):
    with pytest.raises(ConfigError, match=r"begun with schedule\.epochs 4 and cannot be resumed with 9"):
        check_unchanged(load_recipe(whole[0] / "recipe.yaml"), {"schedule.epochs": "9"}, whole[0])


@pytest.fixture
def spoil(monkeypatch):
    """Make the losses of some steps (counted from 1) pass through a function."""

    def install(steps, change):
        original, count = Classify.loss, []

        def loss(self, model, batch, context):
            count.append(1)
            parts = original(self, model, batch, context)
            if len(count) in steps:
                parts["loss"] = change(parts["loss"])
            return parts

        monkeypatch.setattr(Classify, "loss", loss)

    return install


def endless_slope(loss):
    """Return the same value with a gradient that is infinite or no number at all."""
    return loss + (loss - loss).abs().sqrt()


def all_finite(folder):
    """Whether every tensor of every file below a folder is finite, and there are some."""
    files = list(folder.rglob("*.safetensors"))
    tensors = [t for file in files for t in load_file(file).values() if t.is_floating_point()]
    return bool(tensors) and all(t.isfinite().all() for t in tensors)


def entries(folder, kind):
    """Lines of log.jsonl of one kind; only what JSON can hold is in them."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (folder / "log.jsonl").read_text().splitlines()
    return [e for e in (json.loads(line, parse_constant=refuse) for line in lines) if e["kind"] == kind]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_saved(recipe_for, tmp_path, spoil):
    folder = tmp_path / "run"
    spoil({3}, lambda loss: loss * float("nan"))
    with pytest.raises(
        SaccadeError,
        match=r"the loss is nan at step 3 \(epoch 1, learning rate \d.*what was saved before is kept in",
    ):
        train(recipe_for(run__save_steps=1), folder, log=quiet)
    snapshot = load_snapshot(folder)
    assert snapshot is not None
    assert snapshot.progress.step == 2
    assert all_finite(folder)


def test_a_run_that_fails_before_anything_was_saved_says_so(recipe_for, tmp_path, spoil):
    spoil({1}, lambda loss: loss * float("nan"))
    with pytest.raises(SaccadeError, match=r"the loss is nan at step 1 .*; nothing had been saved yet"):
        train(recipe_for(), tmp_path / "run", log=quiet)


@pytest.mark.parametrize("clip", ["norm", "none", "agc"])
@pytest.mark.parametrize("step", [2, 3])  # within an epoch, with a checkpoint; at its end
def test_a_step_whose_gradient_is_not_finite_changes_nothing(recipe_for, tmp_path, spoil, clip, step):
    """The loss is finite, so nothing but the gradient tells."""
    said = []
    flags = {
        "optim__clip": clip,
        "run__save_steps": 1,
        "run__keep": 20,
        "run__accumulate": 1,
        "schedule__epochs": 2,
    }
    folder = tmp_path / "run"
    spoil({step}, endless_slope)
    result = train(recipe_for(**flags), folder, log=said.append)
    assert result.reason == "all epochs done"
    assert all_finite(folder)
    states = [
        {
            f"{name}:{key}": value
            for name in ("model", "optimizer")
            for key, value in load_file(folder / f"checkpoints/step-{n:09d}-00000/{name}.safetensors").items()
        }
        for n in (step - 1, step)
    ]
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    (left_out,) = entries(folder, "skipped")
    assert left_out["step"] == step
    assert left_out["grad_norm"] in ("nan", "inf")
    norms = [entry.get("grad_norm") for entry in entries(folder, "step")]
    assert [n for n, norm in enumerate(norms, start=1) if norm is None] == [step]
    assert any(f"step {step} was left out: the norm of its gradient is" in line for line in said)
    assert f"1 of {result.steps} steps were left out, because their gradient was not finite" in said[-1]


def test_gradients_that_stay_infinite_end_the_run(recipe_for, tmp_path, spoil):
    folder = tmp_path / "run"
    spoil(range(4, 100), endless_slope)
    with pytest.raises(
        SaccadeError, match=r"the gradients of 10 steps in a row were not finite, the last at step 13 "
    ):
        train(recipe_for(schedule__epochs=20), folder, log=quiet)
    assert [entry["step"] for entry in entries(folder, "skipped")] == list(range(4, 14))
    assert all_finite(folder)


def test_a_whole_run_without_a_finite_gradient_is_no_success(recipe_for, tmp_path, spoil):
    spoil(range(100), endless_slope)
    with pytest.raises(SaccadeError, match="the gradients of 3 steps in a row were not finite"):
        train(recipe_for(run__max_steps=3), tmp_path / "run", log=quiet)


@pytest.mark.parametrize("model", ["timm/test_vit2", "shvit_s1"])
def test_a_far_too_high_learning_rate_is_an_error_and_spoils_no_file(recipe_for, tmp_path, model):
    folder = tmp_path / "run"
    options = {"img_size": 32} if model.startswith("timm") else {}
    recipe = recipe_for(model__name=model, model__options=options, optim__lr=100.0, schedule__epochs=15)
    with pytest.raises(
        SaccadeError, match=r"at step \d+ \(epoch \d+, learning rate \d.*try a lower --optim\.lr"
    ):
        train(recipe, folder, log=quiet)
    assert entries(folder, "epoch")
    assert all_finite(folder) or not list(folder.rglob("*.safetensors"))


def test_answers_that_are_not_numbers_are_never_the_best(recipe_for, tmp_path, monkeypatch):
    """The network answers with NaN in evaluation after the first epoch only, where every class seems one of two."""
    original, count = Classify.run, []

    def run(self, net, batch):
        count.append(1)
        found = original(self, net, batch)
        return found * float("nan") if len(count) == 1 else found

    monkeypatch.setattr(Classify, "run", run)
    folder = tmp_path / "run"
    said = []
    result = train(recipe_for(ema__decay=0.0, schedule__epochs=2), folder, log=said.append)
    assert result.epoch == 1
    assert any("model top1 NaN" in line and "best" not in line for line in said)
    first, second = entries(folder, "epoch")
    assert "top1" not in first
    assert "top1" in second


def test_weights_that_are_not_finite_are_not_written_over_good_ones(recipe_for, tmp_path, monkeypatch):
    original = Run.step

    def step(self, *arguments):
        losses = original(self, *arguments)
        if self.progress.step == 1:
            self.session.optimizer.state[next(self.session.plain.parameters())]["exp_avg_sq"].view(-1)[0] = (
                torch.inf
            )
        return losses

    monkeypatch.setattr(Run, "step", step)
    folder = tmp_path / "run"
    with pytest.raises(SaccadeError, match=r"exp_avg_sq is not finite, so it was not saved, at step 2"):
        train(recipe_for(run__save_steps=1), folder, log=quiet)
    snapshot = load_snapshot(folder)
    assert snapshot is not None
    assert snapshot.progress.step == 1
    assert all_finite(folder)


def test_a_full_disk_costs_a_sentence_and_nothing_else(recipe_for, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    real = saccade.engine.train.checkpoint.save_file
    count = []

    def save_file(tensors, path, **options):
        count.append(path)
        real(tensors, path, **options)
        if len(count) > 5:  # in the middle of the second checkpoint
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saccade.engine.train.checkpoint, "save_file", save_file)
    with pytest.raises(SaccadeError, match=r"the disk is full; nothing saved before is lost.*--resume"):
        train(recipe_for(run__save_steps=2), folder, log=quiet)
    monkeypatch.undo()
    snapshot = load_snapshot(folder)
    assert snapshot is not None
    assert snapshot.progress.step == 2
    assert not [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]


def test_broken_images_are_listed_and_do_not_stop_the_run(recipe_for, photos, tmp_path):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    for name in ("red/0.png", "blue/3.png"):
        (data / name).write_bytes((data / name).read_bytes()[:40])
    said = []
    result = train(recipe_for(data__source=str(data), schedule__epochs=2), tmp_path / "run", log=said.append)
    rows = list(csv.DictReader((tmp_path / "run/skipped.csv").read_text().splitlines()))
    assert {row["name"] for row in rows} == {"red/0.png", "blue/3.png"}
    assert result.skipped == 2
    assert any("left out" in line and "0.png" in line for line in said)


def test_accumulating_batches_equals_one_large_batch(recipe_for, tmp_path):
    """Without mixing, dropout and clipping nothing depends on how a batch is cut up."""
    plain = {
        "augment__mixup": 0.0,
        "model__options": {"img_size": 32},
        "optim__clip": "none",
        "run__max_steps": 3,
    }
    train(recipe_for(data__batch=12, **plain), tmp_path / "a", log=quiet)
    train(
        recipe_for(data__batch=6, run__accumulate=2, optim__lr=1e-3, **plain),
        tmp_path / "c",
        log=quiet,
    )
    train(recipe_for(data__batch=12, optim__lr=1e-3, **plain), tmp_path / "b", log=quiet)
    one, other = load_file(tmp_path / "b/last.safetensors"), load_file(tmp_path / "c/last.safetensors")
    for name in one:
        # AdamW divides by the gradient's size, so rounding shows up to a share of the step, 1e-3.
        assert torch.allclose(one[name], other[name], atol=2e-5), name


def test_one_batch_can_be_learnt_by_heart(recipe_for, tmp_path):
    recipe = recipe_for(run__overfit=True, schedule__epochs=20, optim__lr=2e-3, loss__label_smoothing=0.0)
    recipe.model.options = {"img_size": 32}
    train(recipe, tmp_path / "run", log=quiet)
    assert recipe.augment.mixup == 0.0
    losses = [float(row["train_loss"]) for row in table(tmp_path / "run")]
    assert losses[-1] < 0.05 < losses[0]


def test_data_that_changed_is_refused_on_resume(photos, recipe_for, tmp_path):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    train(recipe_for(data__source=str(data), run__max_steps=1), tmp_path / "run", log=quiet)
    for i in range(6):
        (data / "red" / f"{i}.png").unlink()
    with pytest.raises(ConfigError, match=r"had 20 training images when .* was begun and has 15 now"):
        train(load_recipe(tmp_path / "run/recipe.yaml"), tmp_path / "run", resume=True, log=quiet)


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_and_recomputation_train(recipe_for, tmp_path, precision):
    flags = {"model__name": "shvit_s1", "model__options": {}, "run__recompute": True, "run__max_steps": 2}
    result = train(recipe_for(run__precision=precision, **flags), tmp_path / "run", log=quiet)
    assert result.steps == 2
    assert {t.dtype for t in load_file(tmp_path / "run/last.safetensors").values()} == {
        torch.float32,
        torch.int64,
    }


def test_a_batch_of_one_is_refused_where_the_network_needs_more(recipe_for, tmp_path):
    flags = {"model__name": "shvit_s1", "model__options": {}, "data__batch": 1}
    with pytest.raises(ConfigError, match=r"data.batch is 1, .* use --batch 2 or more"):
        train(recipe_for(**flags), tmp_path / "run", log=quiet)


def test_tensorboard_is_written_when_asked_for(recipe_for, tmp_path):
    pytest.importorskip("tensorboard")
    train(recipe_for(run__tensorboard=True, run__max_steps=1), tmp_path / "run", log=quiet)
    assert [path.name.startswith("events") for path in (tmp_path / "run/tensorboard").iterdir()] == [True]


def test_sharding_where_there_is_none_is_refused(recipe_for, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="FSDP was asked for, but it needs several GPU processes"):
        train(recipe_for(), tmp_path / "run", log=quiet)


def test_early_stopping_and_target(recipe_for, tmp_path):
    early = recipe_for(run__patience=1, schedule__epochs=30, optim__lr=1e-12, ema__decay=0.0)
    early.schedule.min_lr = early.schedule.warmup_lr = 0.0
    result = train(early, tmp_path / "early", log=quiet)
    assert result.reason == "no better top1 for 1 epochs"
    assert result.epochs == 2
    target = recipe_for(run__target=0.4, schedule__epochs=30)
    assert train(target, tmp_path / "target", log=quiet).reason == "top1 reached 0.4"


def test_fine_tuning_from_a_run_starts_from_its_weights(recipe_for, whole, tmp_path):
    recipe = recipe_for(
        model__weights=str(whole[0]), optim__freeze=("backbone",), run__max_steps=1, ema__decay=0.0
    )
    train(recipe, tmp_path / "run", log=quiet)
    before, after = load_file(whole[0] / "best.safetensors"), load_file(tmp_path / "run/last.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("head", "fc_norm")) for name in changed)


def test_weights_of_another_model_are_refused(recipe_for, whole, tmp_path):
    recipe = recipe_for(model__weights=str(whole[0]), model__name="shvit_s1", model__options={})
    with pytest.raises(ConfigError, match=r"holds timm/test_vit2 and model\.name is shvit_s1"):
        train(recipe, tmp_path / "run", log=quiet)


def test_published_weights_asked_for_and_not_to_be_had(recipe_for, tmp_path, monkeypatch):
    import saccade.zoo.published

    def fetch(*arguments):
        raise WeightsError("the hub cannot be reached")

    monkeypatch.setattr(saccade.zoo.published, "fetch_file", fetch)
    flags = {"model__name": "shvit_s1", "model__options": {}, "run__max_steps": 1}
    with pytest.raises(WeightsError, match="the hub cannot be reached"):
        train(recipe_for(model__pretrained="yes", **flags), tmp_path / "yes", log=quiet)
    said = []
    train(recipe_for(model__pretrained="auto", **flags), tmp_path / "auto", log=said.append)
    assert any(line.startswith("starting from random weights: the hub cannot") for line in said)
