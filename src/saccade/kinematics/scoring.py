"""Score a file of answers: seven accuracies with intervals, errors, parse rates, baselines, breakdowns.

Two hundred questions have a standard error of about 3.5 points: differences below 7 are no evidence, which is why no
accuracy stands here without its interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError, did_you_mean
from saccade.files import read_lines
from saccade.kinematics.answer_scores import AnswerScore, score_answer, score_parsed
from saccade.kinematics.answers import TASKS, Parsed, parse_answer
from saccade.kinematics.kinds import kind_of, task_names
from saccade.kinematics.records import Question
from saccade.kinematics.settings import DEFAULT, Settings

RESAMPLES = 1000
_TEXT_FIELDS = ("answer", "text", "response", "prediction")


@dataclass(frozen=True)
class ScoredAnswer:
    """One question with what was answered."""

    question: Question
    parsed: Parsed
    score: AnswerScore


@dataclass(frozen=True)
class TaskScore:
    """Scores of one task, or of one part of it."""

    task: str
    n: int
    clips: int
    accuracy: float
    """0 to 1; what was not answered or not understood is wrong."""
    low: float
    high: float
    """95 % bootstrap interval over clips."""
    mae: float | None
    """Over the answers that were understood; never read it without the parse rate."""
    mae_unit: str | None
    mean_iou: float | None
    mra: float | None
    parse_rate: float
    """Share of answers that were understood."""
    refusals: float
    """Share of refusals."""
    blind: float | None
    """Accuracy of the best answer that looks at nothing."""
    question_only: float | None
    """Accuracy of the same model with blank frames."""


@dataclass(frozen=True)
class Score:
    """Scores of one file of answers."""

    tasks: list[TaskScore]
    mean: float | None
    """Unweighted mean of the seven accuracies; None unless all seven were asked."""
    mean_low: float | None
    mean_high: float | None
    blind_mean: float | None
    by_source: dict[str, list[TaskScore]]
    by_rig: dict[str, list[TaskScore]]
    config_hash: str
    rows: list[ScoredAnswer]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single answers as plain values."""
        return {
            "mean": self.mean,
            "mean_low": self.mean_low,
            "mean_high": self.mean_high,
            "blind_mean": self.blind_mean,
            "tasks": [vars(task) for task in self.tasks],
            "by_source": {name: [vars(task) for task in tasks] for name, tasks in self.by_source.items()},
            "by_rig": {name: [vars(task) for task in tasks] for name, tasks in self.by_rig.items()},
            "config_hash": self.config_hash,
        }


def score(
    questions: Sequence[Question],
    answers: Mapping[str, Any],
    *,
    blind: Mapping[str, Any] | None = None,
    question_only: Mapping[str, Any] | None = None,
    lenient: bool = False,
    settings: Settings = DEFAULT,
    seed: int = 0,
) -> Score:
    """Score answers against a benchmark.

    Args:
        questions: The benchmark.
        answers: {id: text}; a question without one is wrong and counts as not understood.
        blind: From `blind.fit_blind`, fitted on the training split.
        question_only: {id: text} of the same model with blank frames.
        lenient: Count directions in words, see `score_parsed`.
        settings: Bands.
        seed: Of the bootstrap.

    Raises:
        DataError: No questions, or an answer to a question that the benchmark does not have.
    """
    if not questions:
        raise DataError("the benchmark holds no questions; expected at least one")
    known = {question.id for question in questions}
    for name, given in (("answers", answers), ("question-only answers", question_only or {})):
        if strangers := [key for key in given if key not in known]:
            raise DataError(
                f"{name}: {len(strangers)} answers, such as {strangers[0]!r}, are to no question of the benchmark"
                f"{did_you_mean(strangers[0], known)}"
            )

    def scored(given: Mapping[str, Any]) -> list[ScoredAnswer]:
        found = []
        for question in questions:
            parsed = parse_answer(question.task, given.get(question.id), question.context)
            found.append(
                ScoredAnswer(
                    question,
                    parsed,
                    score_parsed(question.task, question.value, parsed, settings, lenient=lenient),
                )
            )
        return found

    rows = scored(answers)
    alone = {row.question.id: row.score.correct for row in scored(question_only)} if question_only else None
    guessed = None
    if blind is not None:
        guessed = {
            question.id: score_answer(
                question.task, question.value, blind.get(question.task), settings
            ).correct
            for question in questions
        }

    def table(part: Sequence[ScoredAnswer]) -> list[TaskScore]:
        names = [task for task in task_names() if any(row.question.task == task for row in part)]
        return [
            _task(name, [row for row in part if row.question.task == name], guessed, alone, seed)
            for name in names
        ]

    tasks = table(rows)
    mean, low, high = mean_of_seven(rows, seed)
    seven = [task.blind for task in tasks if task.task in TASKS]
    blinds = [value for value in seven if value is not None]
    return Score(
        tasks,
        mean,
        low,
        high,
        float(np.mean(blinds)) if len(blinds) == len(TASKS) else None,
        {name: table(part) for name, part in _groups(rows, "source").items()},
        {name: table(part) for name, part in _groups(rows, "camera_name").items()},
        settings.config_hash,
        rows,
    )


def bootstrap_by_clip(
    correct: np.ndarray,
    clips: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap of a share, drawing whole clips: questions of one clip succeed and fail together.

    Args:
        correct: (n,) of 0 and 1.
        clips: (n,) names.
        seed: Of the draws.
        resamples: Draws.
        level: Coverage.

    Returns:
        Lower and upper bound.
    """
    names, index = np.unique(np.asarray(clips, dtype=str), return_inverse=True)
    hits = np.bincount(index, weights=np.asarray(correct, np.float64))
    sizes = np.bincount(index).astype(np.float64)
    drawn = _draws(len(names), resamples, seed)
    shares = (drawn @ hits) / (drawn @ sizes)
    low, high = np.quantile(shares, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def read_answers(path: Path | str) -> dict[str, Any]:
    """Read answers: JSON lines with `id` and `answer` (or text, response, prediction).

    Raises:
        DataError: No such file, none in it, a line that is no such object, or an id that comes twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected answers, one JSON object a line with id and answer")
    found: dict[str, Any] = {}
    for number, value in read_lines(path, unit="record"):
        where = f"{path}: record {number}"
        if not isinstance(value, dict) or not isinstance(value.get("id"), str | int):
            raise DataError(f"{where}: field id is missing; expected the id of a question")
        names = [name for name in _TEXT_FIELDS if name in value]
        if not names:
            raise DataError(f"{where} ({value['id']}): field answer is missing; expected the model's text")
        if str(value["id"]) in found:
            raise DataError(f"{where}: {value['id']} was answered before; expected each id only once")
        found[str(value["id"])] = value[names[0]]
    if not found:
        raise DataError(f"{path}: holds no answers; expected one JSON object a line with id and answer")
    return found


def _task(
    name: str,
    rows: Sequence[ScoredAnswer],
    guessed: Mapping[str, bool] | None,
    alone: Mapping[str, bool] | None,
    seed: int,
) -> TaskScore:
    """Sum up one task."""
    kind = kind_of(name)
    correct = np.array([row.score.correct for row in rows], float)
    clips = [row.question.clip_id for row in rows]
    low, high = bootstrap_by_clip(correct, clips, seed=seed)
    errors = [row.score.error for row in rows if row.score.error is not None]
    understood = [row.parsed.status in ("ok", "coarse") for row in rows]
    return TaskScore(
        name,
        len(rows),
        len(set(clips)),
        float(correct.mean()),
        low,
        high,
        float(np.mean(errors)) if errors else None,
        kind.error_unit,
        float(np.mean([row.score.iou or 0.0 for row in rows])) if "iou" in kind.metrics else None,
        float(np.mean([row.score.mra or 0.0 for row in rows])) if "mra" in kind.metrics else None,
        float(np.mean(understood)),
        float(np.mean([row.parsed.status == "refusal" for row in rows])),
        None if guessed is None else float(np.mean([guessed[row.question.id] for row in rows])),
        None if alone is None else float(np.mean([alone[row.question.id] for row in rows])),
    )


def mean_of_seven(
    rows: Sequence[ScoredAnswer], seed: int = 0
) -> tuple[float | None, float | None, float | None]:
    """Unweighted mean of the seven accuracies, with an interval over clips drawn once for all tasks.

    Args:
        rows: ScoredAnswer questions.
        seed: Of the bootstrap.

    Returns:
        Mean and its 95 % interval; None unless all seven tasks were asked.
    """
    names = sorted({row.question.clip_id for row in rows})
    place = {name: index for index, name in enumerate(names)}
    hits, sizes = np.zeros((2, len(TASKS), len(names)))
    for row in rows:
        if row.question.task in TASKS:
            at = TASKS.index(row.question.task), place[row.question.clip_id]
            hits[at] += row.score.correct
            sizes[at] += 1
    if not sizes.sum(1).all():
        return None, None, None
    drawn = _draws(len(names), RESAMPLES, seed)
    asked = drawn @ sizes.T
    # A draw in which a task is not asked says nothing about it.
    shares = np.where(asked > 0, (drawn @ hits.T) / np.maximum(asked, 1), np.nan)
    low, high = np.quantile(np.nanmean(shares, 1), [0.025, 0.975])
    return float((hits.sum(1) / sizes.sum(1)).mean()), float(low), float(high)


def _draws(count: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of `count` clips is drawn, (resamples, count)."""
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}; expected at least 1")
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def _groups(rows: Iterable[ScoredAnswer], field: str) -> dict[str, list[ScoredAnswer]]:
    """Group answers by a field of their question."""
    found: dict[str, list[ScoredAnswer]] = {}
    for row in rows:
        if (name := getattr(row.question, field)) is not None:
            found.setdefault(name, []).append(row)
    return dict(sorted(found.items()))
