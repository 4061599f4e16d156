"""Scores: the worked rows, known chances of blind answers, intervals over clips."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from saccade.errors import ConfigError, DataError
from saccade.kinematics.answer_scores import clock_error, interval_iou, score_answer, score_parsed
from saccade.kinematics.answers import TASKS, Parsed
from saccade.kinematics.blind import best_constant, fit_blind
from saccade.kinematics.records import Question
from saccade.kinematics.scoring import bootstrap_by_clip, read_answers, score

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "stkit_kinematics.json").read_text())
ROWS = next(example for example in GOLDEN["examples"] if example["kind"] == "score")["items"]
TRUTHS = {
    "traveled_distance": 20.0,
    "traveling_speed": 36.0,
    "movement_direction": 3,
    "direction_timestamp": [2.0, 4.0],
    "distance_comparison": "red",
    "speed_comparison": "blue",
    "direction_comparison": "same",
}
RIGHT = {
    "traveled_distance": "20 m",
    "traveling_speed": "10 m/s",
    "movement_direction": "3 o'clock",
    "direction_timestamp": "from 2 to 4 s",
    "distance_comparison": "the red one",
    "speed_comparison": "blue",
    "direction_comparison": "the same way",
}


def ask(task, index, *, source="made", clip=None, value=None, camera=None):
    two = [{"track_id": "a", "colour": "red"}, {"track_id": "b", "colour": "blue"}]
    return Question(
        f"{task}-{index}", clip or f"clip{index}", task, "?", "!", TRUTHS[task] if value is None else value,
        two if "comparison" in task else two[:1], source, "val", polarity="same" if task == TASKS[-1] else None,
        duration_s=6.0, camera_name=camera,
    )  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['task']}-{row['pred']}")
def test_worked_rows(row):
    found = score_answer(row["task"], row["gt"], row["pred"])
    assert found.correct is row["correct"]
    assert "clock_error" not in row or found.error == row["clock_error"]
    assert "iou" not in row or found.iou == pytest.approx(row["iou"])


def test_identities():
    assert interval_iou((3, 5), (3.5, 5.5)) == pytest.approx(0.6)
    assert interval_iou((3, 5), (4, 6)) == pytest.approx(1 / 3)
    assert interval_iou((3, 5), (4, 4)) == 0
    assert interval_iou((4, 4), (4, 4)) == 0
    assert [clock_error(12, hour) for hour in range(1, 13)] == [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0]
    assert score_answer("traveled_distance", 100, 71).mra == 0.5  # within 50 % to 30 %: five of ten
    with pytest.raises(ConfigError, match="traveled_distance"):
        score_answer("distance", 1, 1)


def test_coarse_directions_count_only_when_lenient():
    coarse = Parsed("coarse", hours=(1, 2))
    assert not score_parsed("movement_direction", 2, coarse).correct
    assert score_parsed("movement_direction", 2, coarse, lenient=True).correct
    assert not score_parsed("movement_direction", 3, coarse, lenient=True).correct
    assert score_parsed("movement_direction", 4, coarse).error == 2


@pytest.mark.parametrize(("low", "high"), [(1, 100), (5, 60)])
def test_best_constant_for_log_uniform_truths(low, high):
    truths = np.exp(np.linspace(math.log(low), math.log(high), 20001))
    assert best_constant(truths)[1] == pytest.approx(math.log(5 / 3) / math.log(high / low), abs=2e-3)


def test_best_constant_for_uniform_truths():
    value, share = best_constant(np.linspace(5, 60, 20001))
    assert share == pytest.approx(24 / 55, abs=2e-3)
    assert value == pytest.approx(45, abs=0.05)
    assert best_constant([10.0]) == (10.0, 1.0)
    assert best_constant([0.0, 0.0]) == (0.0, 1.0)


def test_a_wrong_scale_costs_two_tasks_of_seven_beyond_the_band():
    questions = [ask(task, index) for task in TASKS for index in range(3)]
    for factor, expected in ((1.25, 1.0), (0.75, 1.0), (1.26, 5 / 7), (0.5, 5 / 7)):
        texts = {**RIGHT, "traveled_distance": f"{20 * factor} m", "traveling_speed": f"{36 * factor} km/h"}
        found = score(questions, {question.id: texts[question.task] for question in questions})
        assert found.mean == pytest.approx(expected)


def test_score_table():
    questions = [
        ask(task, index, source=f"s{index % 2}", camera="front") for task in TASKS for index in range(4)
    ]
    answers = {question.id: RIGHT[question.task] for question in questions}
    answers["traveled_distance-0"] = "I cannot tell."
    answers["traveled_distance-1"] = "30 m"
    del answers["traveled_distance-2"]
    train = [ask(task, index) for task in TASKS for index in range(4)]
    found = score(
        questions,
        answers,
        blind=fit_blind(train),
        question_only={question.id: "no idea" for question in questions},
    )
    distance = found.tasks[0]
    assert (distance.task, distance.n, distance.clips, distance.accuracy) == ("traveled_distance", 4, 4, 0.25)
    assert distance.mae == pytest.approx(5.0)  # over the two that were understood
    assert distance.parse_rate == 0.5
    assert distance.refusals == 0.25
    assert distance.blind == 1.0
    assert distance.question_only == 0.0
    assert distance.low <= 0.25 <= distance.high
    assert found.mean == pytest.approx((6 + 0.25) / 7)
    assert found.mean_low <= found.mean <= found.mean_high
    assert found.blind_mean == 1.0
    assert found.by_source["s0"][0].accuracy == 0.0
    assert found.by_source["s1"][0].accuracy == 0.5
    assert list(found.by_rig) == ["front"]
    stamps = next(task for task in found.tasks if task.task == "direction_timestamp")
    assert stamps.mean_iou == 1.0
    json.dumps(found.to_dict(), allow_nan=False)
    assert score(questions[:4], {}).mean is None


def test_clips_are_drawn_whole():
    correct = np.array([1, 0] * 50)
    apart = bootstrap_by_clip(correct, [str(index) for index in range(100)])
    together = bootstrap_by_clip(np.sort(correct), [str(index // 10) for index in range(100)])
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])
    assert apart[1] - apart[0] == pytest.approx(4 * 0.05, abs=0.03)  # four standard errors of 100 coin flips
    assert bootstrap_by_clip(np.ones(3), ["a", "a", "b"]) == (1.0, 1.0)


def test_blind_answers_follow_the_training_split():
    train = [ask("movement_direction", index, value=12 if index < 6 else 3) for index in range(10)]
    train += [
        ask("direction_timestamp", index, value=[0.0, 6.0] if index < 3 else [index, index + 1.0])
        for index in range(6)
    ]
    train += [ask("distance_comparison", index, value="blue" if index < 6 else "red") for index in range(10)]
    assert fit_blind(train) == {
        "movement_direction": 12,
        "direction_timestamp": [0.0, 6.0],
        "distance_comparison": "blue",
    }


def test_files_of_answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "a", "answer": "12 m"}\n\n{"id": "b", "response": null}\n')
    assert read_answers(path) == {"a": "12 m", "b": None}
    for text, words in (
        ('{"id": "a", "answer": "1"}\n{"id": "a", "answer": "2"}', "record 2: a was answered before"),
        ('{"answer": "1"}', "record 1: field id is missing"),
        ('{"id": "a"}', "field answer is missing"),
        ("{", "record 1: not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_answers(path)
    with pytest.raises(DataError, match="no such file"):
        read_answers(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="to no question"):
        score([ask(TASKS[0], 0)], {"traveled_distance-1": "x"})
    with pytest.raises(DataError, match="no questions"):
        score([], {})
