"""The example as a user starts it, and what Saccade knows of it without."""

import subprocess
import sys
from pathlib import Path

import pytest

import saccade.tasks
from motion_demo.command import main
from saccade.errors import ConfigError
from saccade.tasks import get_task, register_task
from saccade.vlm import register_eyes

FOLDER = Path(__file__).parents[3] / "examples" / "motion_demo"


def test_the_folder_runs_from_anywhere(tmp_path):
    run = subprocess.run(
        [sys.executable, str(FOLDER), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert "--eyes-steps" in run.stdout


def test_errors_are_one_sentence(tmp_path, capsys):
    (tmp_path / "demo.json").write_text('{"clips": 7}', encoding="utf-8")
    for tokens, said in (
        (["--out", str(tmp_path), "--clips", "8"], "with clips 7, not 8"),
        (["--eyes-steps", "0"], "eyes_steps is 0 but should be at least 1"),
        (["--clip", "8"], "--clip"),
    ):
        assert main(tokens) == 2
        error = capsys.readouterr().err
        assert error.startswith("motion_demo: ")
        assert error.count("\n") == 1
        assert said in error


def test_saccade_runs_with_the_tasks_of_the_example(tmp_path, capsys):
    tokens = ["train", "--task", "motion", "--config", str(FOLDER / "recipes" / "motion_small.yaml")]
    assert main(["saccade", *tokens, "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "data.val is empty; name a set of clips by other rigs" in capsys.readouterr().err


def test_without_the_example_its_names_are_unknown(monkeypatch):
    monkeypatch.setattr(saccade.tasks, "TASKS", {"answer": "saccade.tasks.answer.task:Answer"})
    with pytest.raises(ConfigError, match="unknown task 'motion'"):
        get_task("motion")


def test_a_name_stands_for_one_thing():
    register_task("motion", "motion_demo.task:Motion")  # once more is nothing new
    with pytest.raises(ConfigError, match=r"a task 'motion' is here already"):
        register_task("motion", "elsewhere:Motion")
    with pytest.raises(ConfigError, match="under another name"):
        register_task("classify", "elsewhere:Classify")
    with pytest.raises(ConfigError, match=r"eyes 'motion_small' are .* already"):
        register_eyes("motion_small", "elsewhere:Eyes")
