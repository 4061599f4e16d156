"""Answers to a file of questions: stopped and gone on with, and marked beside what has to be beaten."""

import json
from itertools import pairwise

import pytest
from tests.tasks.answer.questions import make_stkit

from saccade.errors import CheckFailed, ConfigError, WeightsError
from saccade.kinematics.records import read_questions, write_records
from saccade.tasks.answer.vlm.data import Exchanges
from saccade.vlm.answers import answer_questions
from saccade.vlm.compare import compare_answers, training_questions


class Stopped(Exception):
    """Stands for whatever ends a process."""


class Knows:
    """Answers what it is told to, counts what it is asked, and may stop."""

    def __init__(self, answers, stop_at=10**9):
        self.name, self.answers, self.stop_at = "knows", answers, stop_at
        self.asked, self.blanks = [], 0

    def answer(self, exchanges, *, blank=False):
        if len(self.asked) >= self.stop_at:
            raise Stopped
        self.asked += [exchange.name for exchange in exchanges]
        self.blanks += blank * len(exchanges)
        return ["I see nothing." if blank else self.answers[exchange.name] for exchange in exchanges]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = make_stkit(tmp_path_factory.mktemp("stkit"))
    questions = list(read_questions(home / "questions.jsonl"))
    write_records([q for q in questions if q.split == "train"], home / "train.jsonl")
    write_records([q for q in questions if q.split == "val"], home / "bench.jsonl")
    return home


@pytest.fixture
def questions(home):
    return list(read_questions(home / "questions.jsonl"))[:10]


def exchanges_of(home, tracks=True):
    return Exchanges(home / "questions.jsonl", str(home / "tracks.jsonl") if tracks else "", str(home))


def test_a_stopped_run_goes_on_and_asks_nothing_twice(home, questions, tmp_path):
    out, right = tmp_path / "answers.jsonl", {q.id: q.answer for q in questions}
    first = Knows(right, stop_at=6)
    with pytest.raises(Stopped):
        answer_questions(first, questions, exchanges_of(home), None, out, batch=3)
    assert not out.exists()
    second, seen = Knows(right), []
    found = answer_questions(second, questions, exchanges_of(home), None, out, batch=3, progress=seen.append)
    assert (found.rows, found.resumed, found.skipped) == (10, 6, [])
    assert first.asked + second.asked == [q.id for q in questions]
    assert seen == [6, 9, 10]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["id"], row["answer"]) for row in rows] == [(q.id, q.answer) for q in questions]
    # A finished file is not made again, unless something that decides it has changed.
    third = Knows(right)
    assert answer_questions(third, questions, exchanges_of(home), None, out, batch=4).resumed == 10
    assert third.asked == []
    answer_questions(third, questions, exchanges_of(home), None, out, settings={"tokens": 9})
    assert len(third.asked) == 10


def test_a_journal_of_other_settings_is_refused(home, questions, tmp_path):
    out = tmp_path / "answers.jsonl"
    with pytest.raises(Stopped):
        answer_questions(Knows({}, 0), questions, exchanges_of(home), None, out, settings={"tokens": 1})
    with pytest.raises(ConfigError, match="begun with tokens 1, now it is 2"):
        answer_questions(Knows({}), questions, exchanges_of(home), None, out, settings={"tokens": 2})


def test_questions_without_frames_are_named_and_left_out(home, questions, tmp_path):
    found = answer_questions(
        Knows({}), questions, exchanges_of(home, tracks=False), None, tmp_path / "answers.jsonl"
    )
    assert found.rows == 0
    assert [name for name, _ in found.skipped] == [q.id for q in questions]
    assert "no such picture" in found.skipped[0][1]
    again = answer_questions(
        Knows({}), questions, exchanges_of(home, tracks=False), None, tmp_path / "answers.jsonl"
    )
    assert again.skipped == found.skipped


@pytest.mark.parametrize(("out", "batch"), [("answers.csv", 2), ("answers.jsonl", 0)])
def test_what_is_refused(home, questions, tmp_path, out, batch):
    with pytest.raises(ConfigError):
        answer_questions(Knows({}), questions, exchanges_of(home), None, tmp_path / out, batch=batch)


def test_every_model_stands_beside_its_baselines(home, tmp_path):
    bench = list(read_questions(home / "bench.jsonl"))
    right = {q.id: q.answer for q in bench}
    (tmp_path / "tool.jsonl").write_text(
        "".join(json.dumps({"id": q.id, "answer": "?"}) + "\n" for q in bench)
    )
    model, untuned = Knows(right), Knows(dict.fromkeys(right, "Sorry."))
    seen = []
    found = compare_answers(
        model, None, home / "bench.jsonl", tmp_path / "score", train=home / "train.jsonl",
        untuned=lambda: (untuned, None), others={"tool": tmp_path / "tool.jsonl"}, labels=str(home / "tracks.jsonl"),
        pictures=str(home), progress=lambda who, done, total: seen.append((who, done, total)),
    )  # fmt: skip
    assert list(found.rows) == ["model", "question only", "constant", "untuned", "tool"]
    assert model.blanks == len(bench)
    for task in {q.task for q in bench}:
        assert found.rows["model"][task].value == 1.0
        for who in ("question only", "untuned", "tool"):
            assert found.rows[who][task].value == 0.0
        mine = next(row for row in found.score.tasks if row.task == task)
        assert found.rows["constant"][task].value == mine.blind
        assert found.rows["constant"][task].low <= mine.blind <= found.rows["constant"][task].high
    assert {"travel_time", "speed_ratio"} <= set(found.rows["model"])
    assert (tmp_path / "score" / "score.json").is_file()
    table = found.table()
    assert table[0]["who"] == "model"
    assert table[0]["traveled_distance"] == "100.0 (100-100)"
    assert [done for who, done, _ in seen if who == "model"] == sorted(
        done for who, done, _ in seen if who == "model"
    )
    assert all(a[0] == b[0] or b[1] == 0 for a, b in pairwise(seen))


def test_no_untuned_row_is_said(home, tmp_path):
    right = {q.id: q.answer for q in read_questions(home / "bench.jsonl")}
    found = compare_answers(
        Knows(right), None, home / "bench.jsonl", tmp_path, train=home / "train.jsonl",
        labels=str(home / "tracks.jsonl"), pictures=str(home),
    )  # fmt: skip
    assert "untuned" not in found.rows
    assert any("no untuned row" in note for note in found.notes)


def test_constants_are_never_fitted_on_the_benchmark(home, tmp_path):
    with pytest.raises(CheckFailed, match="are in the training set and in the benchmark"):
        compare_answers(Knows({}), None, home / "bench.jsonl", tmp_path, train=home / "bench.jsonl")


def test_the_training_questions_of_a_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text("task: answer\ndata: {source: stkit/questions.jsonl}\n")
    assert str(training_questions(tmp_path)) == "stkit/questions.jsonl"
    with pytest.raises(WeightsError, match="name the training questions with --train"):
        training_questions(tmp_path / "none")
