"""Damaged, doubled and mixed-up training state is refused, and what is whole is offered."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from saccade.cli.main import main
from saccade.engine.train.checkpoint import load_snapshot
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe, load_recipe

PARTS = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "state.json",
    "state.sha256",
)


def quiet(line):
    """Take no notice."""


@pytest.fixture(scope="module")
def whole(settings_for, tmp_path_factory):
    """A run that was stopped by its number of steps, with two checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(build_recipe("", "", settings_for(run__save_steps=5))[0], folder, log=quiet)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it to damage."""
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def checkpoints(run):
    """Folders of the checkpoints, the newest first."""
    return sorted((run / "checkpoints").glob("step-*"), reverse=True)


def delete(file, older):
    file.unlink()


def edit(file, older):
    data = bytearray(file.read_bytes())
    # In numbers, or of state.json in a counter: what is still well formed.
    place = data.index(b'"num_images": ') + 14 if file.suffix == ".json" else len(data) - 5
    data[place] = ord("1") if data[place] != ord("1") else ord("2")
    file.write_bytes(data)


def swap(file, older):
    shutil.copyfile(older / file.name, file)


@pytest.mark.parametrize("damage", [delete, edit, swap])
@pytest.mark.parametrize("part", PARTS)
def test_each_damaged_part_is_refused_and_the_checkpoint_before_is_offered(run, capsys, part, damage):
    newest, older = checkpoints(run)
    damage(newest / part, older)
    assert main(["train", "--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "the checkpoint is damaged" in said
    assert f"saccade train --resume {older}" in said
    assert said.count("saccade: ") == 1


def test_weights_swapped_for_their_average_are_refused(run, capsys):
    newest, _ = checkpoints(run)
    shutil.copyfile(newest / "ema.safetensors", newest / "model.safetensors")
    assert main(["train", "--resume", str(run)]) == 2
    assert "model.safetensors: the checkpoint is damaged (its contents are not" in capsys.readouterr().err


def test_last_weights_edited_in_place_are_found(run, capsys):
    """`last.safetensors` may be the very file of the checkpoint."""
    last = run / "last.safetensors"
    last.unlink()
    last.hardlink_to(checkpoints(run)[0] / "model.safetensors")
    edit(last, None)
    assert main(["train", "--resume", str(run)]) == 2
    assert "model.safetensors: the checkpoint is damaged" in capsys.readouterr().err


def test_a_part_that_was_never_saved_is_refused(settings_for, tmp_path, capsys):
    run = tmp_path / "run"
    plain = settings_for(ema__decay=0.0, run__max_steps=1)
    train(build_recipe("", "", plain)[0], run, log=quiet)
    (newest,) = checkpoints(run)
    shutil.copyfile(newest / "model.safetensors", newest / "ema.safetensors")
    assert main(["train", "--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "ema.safetensors: the checkpoint is damaged (it was not saved with it)" in said
    assert f"no other one is kept, so start anew from {run}/best.safetensors" in said


def test_going_back_to_the_offered_one_ends_with_the_same_bits(run, whole, capsys):
    newest, older = checkpoints(run)
    delete(newest / "optimizer.safetensors", older)
    assert main(["train", "--resume", str(older)]) == 0
    assert [path.name for path in checkpoints(run)] == [path.name for path in checkpoints(whole)]
    for part in PARTS[:4]:
        ours, theirs = (load_file(checkpoints(place)[0] / part) for place in (run, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in steps if entry["kind"] == "step"] == list(range(1, 13))


def test_two_damaged_checkpoints_leave_the_best_weights(run, capsys):
    for folder in checkpoints(run):
        delete(folder / "random.safetensors", None)
    assert main(["train", "--resume", str(run)]) == 2
    assert f"no other one is kept, so start anew from {run}/best.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["step-000000099-00009\n", "", "../../elsewhere\n", "\0\xff\n"])
def test_a_pointer_to_nothing_is_refused(run, capsys, text):
    (run / "checkpoints" / "LATEST").write_text(text, encoding="latin-1")
    assert main(["train", "--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"saccade train --resume {checkpoints(run)[0]}" in said


def test_without_the_pointer_the_newest_whole_one_is_taken(run):
    """As after a kill between the first folder and LATEST: nothing starts from zero without a word."""
    (run / "checkpoints" / "LATEST").unlink()
    snapshot = load_snapshot(run)
    assert snapshot is not None
    assert snapshot.progress.step == 12


def old_format(folder):
    """Make a checkpoint what a version before the sums wrote."""
    state = json.loads((folder / "state.json").read_text())
    del state["parts"]
    (folder / "state.json").write_text(json.dumps({**state, "format": 1}))
    (folder / "state.sha256").unlink()
    return state


def test_checkpoints_without_sums_still_load(run):
    for folder in checkpoints(run):
        old_format(folder)
    older = checkpoints(run)[1]
    result = train(load_recipe(run / "recipe.yaml"), run, resume=older.name, log=quiet)
    assert result.steps == 12
    assert (checkpoints(run)[0] / "state.sha256").is_file()


@pytest.mark.parametrize("part", PARTS[:4])
def test_of_checkpoints_without_sums_a_missing_part_is_still_found(run, capsys, part):
    newest = checkpoints(run)[0]
    old_format(newest)
    (newest / part).unlink()
    assert main(["train", "--resume", str(run)]) == 2
    assert f"the checkpoint is damaged ({part} is missing)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"progress": {"step": "x"}}, "progress.step: expected"),
        ({"progress": {"step": -1}}, "step is -1"),
        ({"progress": {"best": {"value": 1.0}}}, "progress.best"),
        ({"num_processes": 10**30}, "is not of 1000"),
        ({"scaler": []}, "scaler"),
        ({"card": None}, "card"),
        ({"format": 99}, "newer Saccade"),
        ({"format": "1"}, "format"),
    ],
)
def test_a_state_of_another_kind_is_a_sentence(run, capsys, change, said):
    newest = checkpoints(run)[0]
    state = old_format(newest)
    state["format"] = 1
    for name, value in change.items():
        state[name] = {**state[name], **value} if isinstance(value, dict) else value
    (newest / "state.json").write_text(json.dumps(state))
    assert main(["train", "--resume", str(run)]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("saccade: ") == 1


def test_state_nested_without_end_is_a_sentence(run, capsys):
    (checkpoints(run)[0] / "state.json").write_text("[" * 100_000)
    assert main(["train", "--resume", str(run)]) == 2
    assert "Traceback" not in capsys.readouterr().err
