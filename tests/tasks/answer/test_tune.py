"""Tuning on the one training engine: it learns, dies and goes on with the same bits, and is opened again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tasks.answer.tiny import FAMILIES

from saccade.engine.train.loop import Run, train
from saccade.engine.train.recipe import build_recipe, load_recipe
from saccade.errors import SaccadeError, WeightsError, memory_enough
from saccade.kinematics.records import read_questions
from saccade.tasks import get_task
from saccade.tasks.answer.vlm.adapters import adapter_for
from saccade.tasks.answer.vlm.answering import open_answerer
from saccade.tasks.answer.vlm.data import AnswerData, Exchanges
from saccade.tasks.open import load_model

DRIVER = Path(__file__).parents[2] / "engine" / "train" / "driver.py"


@pytest.fixture
def flags_for(bases, stkit):
    """Make the dotted settings of a run of a few steps."""

    def make(family, **options):
        return {
            "task": "answer", "model.name": bases(family), "model.options": options,
            "data.source": f"{stkit}/questions.jsonl", "data.labels": f"{stkit}/tracks.jsonl",
            "data.pictures": str(stkit), "data.mix": f"{stkit}/general.jsonl", "data.workers": 0, "data.batch": 6,
            "schedule.epochs": 2, "optim.lr": 3e-3, "ema.decay": 0.0, "run.device": "cpu", "run.threads": 1,
            "run.log_every": 1,
        }  # fmt: skip

    return make


def tune(flags, folder, **more):
    return train(build_recipe("", "", flags | more)[0], folder, log=lambda line: None)


def losses_of(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row.get("kind", row.get("event")) == "step" or "loss" in row]


def tensors_of(folder):
    newest = folder / "checkpoints" / (folder / "checkpoints/LATEST").read_text().strip()
    files = [*newest.glob("*.safetensors"), folder / "best.safetensors"]
    return {f"{file.name}:{name}": value for file in files for name, value in load_file(file).items()}


def assert_same(one, other):
    a, b = tensors_of(one), tensors_of(other)
    assert a.keys() == b.keys()
    assert len(a) > 50
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_learns_and_is_opened_again(flags_for, family, tmp_path):
    result = tune(flags_for(family, vision=True), tmp_path / "run")
    losses = losses_of(tmp_path / "run")
    assert len(losses) >= result.steps == 14
    assert sum(losses[-4:]) < sum(losses[:4]) - 2
    assert result.skipped == 0
    assert result.metrics["count"] == 8
    assert 0 < result.metrics["likelihood"] < 1
    model, card = load_model(tmp_path / "run")
    assert card.task == "answer"
    assert card.numbers["likelihood"] == result.metrics["likelihood"]
    # What was marked is what was written: the same questions give the same loss.
    task, flags = get_task("answer"), flags_for(family)
    recipe = build_recipe("", "", flags)[0]
    data = task.open(recipe.data, recipe.augment, card, seed=0, train=False)
    metrics = task.metrics(card)
    batch = task.collate([data.val[place] for place in range(len(data.val))])
    with torch.no_grad():
        outputs = task.run(model, batch)
    metrics.update(outputs, batch)
    assert metrics.compute()["loss"] == pytest.approx(result.metrics["loss"], rel=1e-5)
    rows = task.rows(outputs, batch, card, None)
    assert [row["name"] for row in rows] == batch["name"]
    assert all(0 < row["likelihood"] < 1 for row in rows)


class Died(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(
    ("family", "options"),
    [("qwen3_vl", {"lora": 4}), ("smolvlm", {"vision": True}), ("saccade_vl", {"vision": True})],
)
def test_a_run_that_died_ends_with_the_same_bits(flags_for, family, options, tmp_path, monkeypatch):
    flags = flags_for(family, **options, **({"lora_dropout": 0.1} if "lora" in options else {}))
    flags |= {"run.save_steps": 2, "run.recompute": family == "qwen3_vl"}
    tune(flags, tmp_path / "whole")
    original = Run.step

    def step(self, batches, lr):
        if self.progress.step == 9:
            raise Died
        return original(self, batches, lr)

    monkeypatch.setattr(Run, "step", step)
    with pytest.raises(Died):
        tune(flags, tmp_path / "died")
    monkeypatch.undo()
    recipe = load_recipe(tmp_path / "died" / "recipe.yaml")
    train(recipe, tmp_path / "died", resume=True, log=lambda line: None)
    assert_same(tmp_path / "whole", tmp_path / "died")


def test_killed_and_resumed_in_another_process(flags_for, tmp_path):
    flags = flags_for("llava_onevision", lora=4) | {"run.save_steps": 2, "schedule.epochs": 1}
    command = [sys.executable, str(DRIVER), str(tmp_path / "killed"), json.dumps(flags)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        steps = (int(line.split()[1]) for line in process.stdout)
        assert any(step >= 3 for step in steps), process.stderr.read()
        process.send_signal(signal.SIGKILL)
    folder = tmp_path / "killed"
    train(load_recipe(folder / "recipe.yaml"), folder, resume=True, log=lambda line: None)
    tune(flags, tmp_path / "whole")
    assert_same(folder, tmp_path / "whole")


def test_lora_keeps_the_adapter_only(flags_for, bases, stkit, tmp_path):
    tune(flags_for("llava_onevision", lora=2, projector=False), tmp_path / "run", **{"run.max_steps": 2})
    names = load_file(tmp_path / "run" / "best.safetensors")
    assert names
    assert all(".lora_" in name for name in names)
    size = (tmp_path / "run" / "best.safetensors").stat().st_size
    assert size < (Path(bases("llava_onevision")) / "model.safetensors").stat().st_size / 4
    tuned = open_answerer(tmp_path / "run", device="cpu", max_new_tokens=4)
    question = next(read_questions(stkit / "questions.jsonl"))
    exchanges = Exchanges(stkit / "questions.jsonl", str(stkit / "tracks.jsonl"), str(stkit))
    assert len(tuned.answer([exchanges.make(question, tuned.adapter, answered=False)])) == 1


def test_a_batch_holds_the_answers_and_nothing_else(bases, stkit):
    adapter = adapter_for(bases("llava_onevision"))
    task = get_task("answer")
    task._adapter = adapter
    questions = list(read_questions(stkit / "questions.jsonl"))[:3]
    data = AnswerData(
        questions, Exchanges(stkit / "questions.jsonl", str(stkit / "tracks.jsonl"), str(stkit)), adapter
    )
    batch = task.collate([data[place] for place in range(3)])
    (part,) = batch["parts"]
    for row, question in enumerate(questions):
        said = part["targets"][row][part["targets"][row] != -100]
        assert adapter.tokenizer.decode(said) == question.answer + "<|im_end|>"
        # Each target stands right behind the position that has to tell it.
        ids = part["inputs"]["input_ids"][row]
        for position, target in zip(part["keep"], part["targets"][row], strict=True):
            assert target in (-100, ids[position + 1])
    assert "labels" not in part["inputs"]


def test_memory_that_is_not_enough_names_two_ways_out(bases, stkit, monkeypatch):
    task = get_task("answer")

    def full(*args):
        raise torch.OutOfMemoryError

    part = {
        "inputs": {},
        "keep": torch.zeros(1, dtype=torch.int64),
        "targets": torch.zeros(1, 1),
        "places": [0],
    }
    with pytest.raises(SaccadeError, match=r"halve --data.batch .* --run.recompute true"):
        task.run(full, {"parts": [part]})


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("[enforce] can't allocate memory")])
def test_memory_that_ends_in_the_backward_pass(flags_for, tmp_path, monkeypatch, error):
    def full(*args):
        raise error

    monkeypatch.setattr("accelerate.Accelerator.backward", full)
    with pytest.raises(SaccadeError, match=r"not enough; halve --data.batch .* --run.recompute true"):
        tune(flags_for("saccade_vl"), tmp_path / "run")


def test_memory_of_this_machine_that_ends():
    with (
        pytest.raises(SaccadeError, match="the device's memory is not enough; buy some"),
        memory_enough("buy some"),
    ):
        torch.empty(1 << 52)
    with pytest.raises(RuntimeError, match="another"), memory_enough("buy some"):
        raise RuntimeError("another")


def test_a_run_whose_base_is_gone(flags_for, tmp_path):
    tune(flags_for("smolvlm", lora=2), tmp_path / "run", **{"run.max_steps": 1})
    card = load_model(tmp_path / "run")[1]
    assert Path(card.model).is_absolute()
    text = (tmp_path / "run" / "best.safetensors").read_bytes()
    gone = text.replace(card.model.encode(), b"/" + b"x" * (len(card.model.encode()) - 1))
    (tmp_path / "run" / "best.safetensors").write_bytes(gone)
    with pytest.raises(WeightsError, match="no such folder; expected the folder of a model"):
        load_model(tmp_path / "run")
