"""Training from Python: `saccade.train` does what the command does, and prints nothing."""

import pytest
import torch
from safetensors.torch import load_file

import saccade
from saccade.cli.main import main
from saccade.engine.train.begin import dotted
from saccade.engine.train.recipe import load_recipe
from saccade.errors import ConfigError

SMALL = {"epochs": 1, "batch": 16, "size": 32, "threads": 1, "device": "cpu", "seed": 3}


def test_train_makes_the_run_that_the_command_makes_and_prints_nothing(tmp_path, capfd):
    lines = []
    found = saccade.train(
        "digits", model="shvit_s1", out=tmp_path / "python", run={"max_steps": 2}, log=lines.append,
        **{**SMALL, "data.workers": 0, "model.pretrained": "no"},
    )  # fmt: skip
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
    assert found.steps == 2
    assert found.weights.is_file()
    assert lines
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    assert main(
        ["train", "--data", "digits", "--model", "shvit_s1", "--out", str(tmp_path / "command"), *flags,
         "--run.max-steps", "2", "--data.workers", "0", "--model.pretrained", "no"]
    ) == 0  # fmt: skip
    assert load_recipe(found.folder / "recipe.yaml") == load_recipe(tmp_path / "command" / "recipe.yaml")
    mine, theirs = load_file(found.weights), load_file(tmp_path / "command" / "best.safetensors")
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, r"unknown setting epoch; did you mean 'epochs'"),
        ({"optim": {"lrr": 3}}, r"unknown setting optim\.lrr; did you mean 'optim\.lr'"),
        ({"epochs": 3, "schedule": {"epochs": 4}}, r"schedule\.epochs is given twice"),
        ({"epochs": 0}, r"schedule\.epochs is 0 but should be between"),
        ({"task": "clasify"}, r"unknown task 'clasify'; did you mean 'classify'"),
        ({}, r"nothing to train on"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        saccade.train(None, out=tmp_path / "run", **values)
    assert not list(tmp_path.iterdir())


def test_groups_short_and_dotted_names_are_one_setting():
    assert dotted({"optim": {"lr": 1}}) == dotted({"optim.lr": 1}) == {"optim.lr": 1}
    assert dotted({"batch": 4, "freeze": None}) == {"data.batch": 4}
