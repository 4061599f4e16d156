"""Conversion runs: what they leave behind, what they say, and that a stopped one ends as an uninterrupted one."""

import json

import pytest
import torch
import yaml

from saccade.cli.main import main
from saccade.data.opening import open_pair
from saccade.engine.train.compare import compare, compare_speed
from saccade.engine.train.convert import (
    BASE,
    CONVERTED,
    UNTRAINED,
    ConvertPlan,
    adopt_split,
    convert,
    convert_only,
    load_plan,
    open_base,
    plan_text,
    sparsify_and_tune,
)
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe
from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.tasks.open import load_model
from saccade.weights import read_weights
from saccade.zoo.loading import save_weights

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}
BARE = {
    "model.options": VIT,
    "model.pretrained": "no",
    "schedule.epochs": 2,
    "ema.decay": 0,
    "run.save_minutes": 0,
    "run.log_every": 1,
}
NAME = "deit_tiny_patch16_224"


@pytest.fixture(scope="module")
def plan_for(photos):
    """Make a plan for the two colours, with changes of dotted settings given as group__name."""

    def make(base=NAME, teacher="self", weights="", options=None, **changes):
        flags = {
            "data.source": str(photos), "data.size": 32, "data.batch": 6, "data.workers": 0, "run.device": "cpu",
            "run.threads": 1, **BARE, **{name.replace("__", "."): value for name, value in changes.items()},
        }  # fmt: skip
        recipe, _ = build_recipe("sparsify_small", "", flags)
        return ConvertPlan(str(base), weights, {"tokens": 4} | (options or {}), teacher, None, recipe)

    return make


@pytest.fixture(scope="module")
def whole(plan_for, tmp_path_factory):
    """A conversion run from a bare name to its comparison, and what it said."""
    folder, lines = tmp_path_factory.mktemp("whole") / "run", []
    base = sparsify_and_tune(plan_for(), folder, log=lines.append)
    found = compare(folder, base.source, folder / CONVERTED, seconds=0, command="again", log=lines.append)
    return folder, base, found, lines


@pytest.fixture(scope="module")
def trained(plan_for, photos, tmp_path_factory):
    """An ordinary run of the base on the same pictures, divided by another seed."""
    flags = {
        "data.source": str(photos), "data.size": 32, "data.batch": 6, "data.workers": 0, "run.device": "cpu",
        "run.threads": 1, "run.seed": 7, "model.name": f"timm/{NAME}", **BARE, "schedule.epochs": 1,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(build_recipe("finetune_small", "", flags)[0], folder, log=lambda line: None)
    return folder


def test_a_base_without_weights_is_trained_first_and_teaches(whole):
    folder, base, _, lines = whole
    assert base.source == str(folder / "base")
    assert base.trained
    assert any("no trained weights" in line and "trained on them first" in line for line in lines)
    assert any(
        line.startswith("converted timm/deit_tiny") and "multiply-accumulates" in line for line in lines
    )
    recipe = load_plan(folder).recipe
    assert recipe.loss.teacher == "self"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert any("loss_teacher" in line for line in log)
    _, card = read_weights(folder / "best.safetensors")
    assert card is not None
    assert card.model == f"stvit/{NAME}"
    assert card.options == {**VIT, "tokens": 4}
    assert card.labels == ["blue", "red"]


def test_the_run_folder_opens_like_any_other(whole):
    folder, base, _, _ = whole
    model, _ = load_model(folder)
    picture = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(picture).shape == (2, 2)
        assert not torch.equal(model(picture), base.model(picture))


def test_the_comparison_is_of_the_same_images(whole):
    folder, _, found, _ = whole
    assert [row["stage"] for row in found.rows] == ["base", "converted", "fine-tuned"]
    assert found.images == 4
    first, middle, last = found.rows
    assert found.change == pytest.approx(last["top1"] - first["top1"])
    assert found.change_interval[0] <= found.change <= found.change_interval[1]
    assert last["macs_g"] < first["macs_g"]
    assert found.macs_change == pytest.approx(last["macs_g"] / first["macs_g"] - 1)
    assert middle["latency_ms"] is None
    assert middle["top1"] is not None
    assert first["times"] == 1
    assert json.loads((folder / "comparison.json").read_text())["rows"][2]["top1"] == last["top1"]
    page = (folder / "report.html").read_text()
    assert "Before and after" in page
    assert found.sentence()[1:] in page
    assert (folder / "report.md").is_file()


@pytest.mark.parametrize("stage", ["base", "tune"])
def test_a_stopped_run_ends_with_the_same_bits(whole, plan_for, tmp_path, stage):
    """Stopped after the first epoch of either training, then gone on with from the folder alone."""

    def stop(line):
        if line.startswith("epoch 1/2") and (stage == "base" or (folder / "recipe.yaml").exists()):
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        sparsify_and_tune(plan_for(), folder, log=stop)
    assert (folder / CONVERTED).exists() == (stage == "tune")
    sparsify_and_tune(load_plan(folder), folder, resume=True, log=lambda line: None)
    for name in ("base/best.safetensors", CONVERTED, "best.safetensors", "last.safetensors"):
        want, have = read_weights(whole[0] / name)[0], read_weights(folder / name)[0]
        assert want.keys() == have.keys()
        assert all(torch.equal(want[key], have[key]) for key in want), name


def test_a_base_trained_on_the_data_teaches_at_once(trained, plan_for, photos, tmp_path):
    plan = plan_for(trained, schedule__epochs=1, data__size=None)
    notes = adopt_split(plan, set())
    assert "divided as it was" in notes[0]
    assert plan.recipe.run.seed == 7
    lines = []
    base = sparsify_and_tune(plan, tmp_path / "run", log=lines.append)
    assert base.source == str(trained)
    assert not (tmp_path / "run" / "base").exists()
    found = compare(tmp_path / "run", base.source, tmp_path / "run" / CONVERTED, seconds=0)
    held = open_pair(plan.recipe.data, seed=7).val
    assert found.images == len(held)
    other = plan_for(trained, run__seed=3)
    with pytest.raises(ConfigError, match="judged on images that it learned"):
        adopt_split(other, {"run.seed"})


@pytest.mark.parametrize("teacher", ["none", "trained"])
def test_other_teachers_leave_the_base_alone(teacher, trained, plan_for, tmp_path):
    folder, lines = tmp_path / "run", []
    source = str(trained) if teacher == "trained" else teacher
    plan = plan_for(teacher=source, schedule__epochs=1, loss__distill="hard")
    base = sparsify_and_tune(plan, folder, log=lines.append)
    assert not base.trained
    assert any("no accuracy before" in line for line in lines)
    assert read_weights(folder / BASE)[1].origin == UNTRAINED
    has_teacher = "loss_teacher" in (folder / "log.jsonl").read_text()
    assert has_teacher == (teacher == "trained")
    again = sparsify_and_tune(load_plan(folder), folder, resume=True, log=lines.append)
    assert not again.trained
    found = compare(folder, base.source, folder / CONVERTED, judged=base.trained, seconds=0)
    assert found.change is None
    assert found.rows[0]["top1"] is None
    assert "nothing to compare with" in found.sentence()


def test_conversion_keeps_every_weight_and_leaves_the_base_as_it_is(plan_for):
    base = open_base(plan_for(), lambda line: None)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    model, card = convert(base, {"tokens": 4})
    assert all(torch.equal(before[name], value) for name, value in base.model.state_dict().items())
    assert card.preprocess["size"] == 32
    carried = [value for value in model.state_dict().values() if value.ndim == 2]
    assert sum(any(w.shape == v.shape and torch.equal(w, v) for v in carried) for w in before.values()) >= 16


def test_without_data_it_only_converts(plan_for, tmp_path):
    weights = convert_only(plan_for(data__source=""), tmp_path / "run", lambda line: None)
    model, card = load_model(weights)
    assert card.num_classes == 1000
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 1000)
    found = compare_speed(tmp_path / "run" / BASE, weights, seconds=0)
    assert found.rows[1]["macs_g"] < found.rows[0]["macs_g"]


def test_a_named_base_takes_a_local_file(trained, plan_for, tmp_path):
    model, card = load_model(trained)
    save_weights(model, tmp_path / "w.safetensors", card)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    for file in ("w.safetensors", "w.pth"):
        base = open_base(plan_for(weights=str(tmp_path / file)), lambda line: None)
        assert base.card.num_classes == 2
        assert torch.equal(base.model.state_dict()["head.weight"], model.state_dict()["head.weight"])
    with pytest.raises(WeightsError, match="these weights are for timm/deit_tiny"):
        open_base(plan_for("deit_small_patch16_224", weights=str(tmp_path / "w.safetensors")), print)


def test_plans_survive_the_file(plan_for, tmp_path):
    plan = plan_for(options={"recover": True}, optim__lr=2e-4)
    (tmp_path / "sparsify.yaml").write_text(plan_text(plan))
    assert load_plan(tmp_path) == plan
    (tmp_path / "sparsify.yaml").write_text("base: x\n")
    with pytest.raises(ConfigError, match="damaged; expected the entries"):
        load_plan(tmp_path)
    with pytest.raises(ConfigError, match=r"no sparsify\.yaml here"):
        load_plan(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        ("shvit_s1", {}, "shvit_s1 is shvit_s1, which is not a transformer of timm"),
        ("stvit_deit_small", {}, "stvit_.* models are sparse already"),
        ("deit_tinny_patch16_224", {}, "did you mean 'deit_tiny_patch16_224'"),
        (NAME, {"model__weights": "x"}, "model.weights follows from the base"),
        (
            "resnet10t",
            {"model__options": {}, "data__size": None},
            "a ResNet cannot be converted: expected timm's VisionTransformer",
        ),
        (NAME, {"data__source": "nowhere"}, "nowhere"),
    ],
)
def test_refusals(base, changes, message, plan_for, tmp_path):
    with pytest.raises(SaccadeError, match=message):
        sparsify_and_tune(plan_for(base, **changes), tmp_path / "run", log=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_a_folder_is_not_used_twice(whole, plan_for):
    with pytest.raises(ConfigError, match="holds a run already; go on with --resume"):
        sparsify_and_tune(plan_for(), whole[0], log=lambda line: None)


def test_the_command_end_to_end(trained, photos, tmp_path, capsys):
    out = tmp_path / "run"
    tokens = [
        "sparsify", str(trained), "--data", str(photos), "--tokens", "4", "--epochs", "1", "--device", "cpu",
        "--out", str(out), "--batch", "6", "--data.workers", "0", "--threads", "1", "--seconds", "0",
    ]  # fmt: skip
    assert main([*tokens, "--dry-run"]) == 0
    text = capsys.readouterr()
    assert "tokens: 4" in text.out
    assert "nothing was done" in text.err
    assert not out.exists()
    assert main([*tokens, "--json"]) == 0
    text = capsys.readouterr()
    values = json.loads(text.out)
    assert [row["stage"] for row in values["rows"]] == ["base", "converted", "fine-tuned"]
    assert (out / "report.html").is_file()
    assert "divided as it was" in text.err
    assert main(["sparsify", "--resume", str(out), "--seconds", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split("\t")[:2] == ["network", "top-1 %"]


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (["sparsify"], "nothing to convert; name a ViT or Swin"),
        (["sparsify", "x", "--resume", "y"], "leave out the base"),
        (["sparsify", "x", "--tokns", "4"], "unknown flag --tokns"),
        (["sparsify", "--resume", "nowhere"], "no sparsify.yaml here"),
    ],
)
def test_slips_are_one_sentence(tokens, sentence, capsys):
    assert main(tokens) == 2
    text = capsys.readouterr()
    assert sentence in text.err
    assert text.err.count("\n") == 1


def test_built_in_data_is_seen_whole(capsys):
    for name, mirrored in (("digits", 0.0), ("shapes", 0.5)):
        assert main(["sparsify", NAME, "--data", name, "--dry-run"]) == 0
        plan = yaml.safe_load(capsys.readouterr().out)["recipe"]
        assert plan["model"]["preprocess"] == {"crop_pct": 1.0}
        assert plan["augment"]["scale"][1] == 1.0
        assert plan["augment"]["scale"][0] >= 0.8
        assert plan["augment"]["hflip"] == mirrored


def test_a_named_base_with_other_classes_starts_from_its_file(trained, plan_for, tmp_path):
    """The file was dropped once: the base was fine-tuned from fresh or published weights instead."""
    model, _ = load_model(trained)
    model.reset_classifier(5)
    torch.save(
        {"state_dict": {f"model.{name}": v for name, v in model.state_dict().items()}}, tmp_path / "w.ckpt"
    )
    plan = plan_for(
        weights=str(tmp_path / "w.ckpt"), schedule__epochs=1, optim__lr=1e-12, model__pretrained="auto"
    )
    folder, lines = tmp_path / "run", []
    sparsify_and_tune(plan, folder, log=lines.append)
    assert any("has 5 other classes" in line for line in lines)
    base, _ = load_model(folder / "base")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert (base.forward_features(x) - model.forward_features(x)).abs().mean() < 0.05
