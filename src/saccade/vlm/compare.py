"""A model's scores beside those of what it has to beat: blank frames, the best constant, the base before tuning.

A model that takes boxes as channels also answers from the boxes alone and from the pixels alone: how much of a score
is read off the boxes that it is given cannot be told otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.engine.predict.geometry_answers import read_contender
from saccade.engine.predict.predict import Prediction
from saccade.errors import ConfigError, WeightsError
from saccade.files import write_text, writing
from saccade.kinematics.answer_scores import score_answer
from saccade.kinematics.answers import UNPARSABLE
from saccade.kinematics.blind import fit_blind
from saccade.kinematics.kinds import task_names
from saccade.kinematics.records import Question, read_questions
from saccade.kinematics.scoring import (
    Score,
    ScoredAnswer,
    bootstrap_by_clip,
    mean_of_seven,
    read_answers,
    score,
)
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.splits import check_apart
from saccade.tasks.answer.vlm.adapters import Adapter
from saccade.tasks.answer.vlm.answering import Answers
from saccade.tasks.answer.vlm.clips import Exchange, only_boxes, only_pixels
from saccade.tasks.answer.vlm.data import Exchanges
from saccade.trust import Stored, check_place
from saccade.vlm.answers import answer_questions

MODEL, BLANK, UNTUNED, CONSTANT = "model", "question only", "untuned", "constant"
BOXES, PIXELS = "boxes only", "pixels only"
PARTS: dict[str, Callable[[Exchange], Exchange]] = {BOXES: only_boxes, PIXELS: only_pixels}
"""Rows of models that take boxes as channels: what is left of a clip."""


@dataclass(frozen=True)
class Accuracy:
    """A share with its 95 % interval, drawn by clips."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ({100 * self.low:.0f}-{100 * self.high:.0f})"


@dataclass
class Comparison:
    """The rows of the table."""

    rows: dict[str, dict[str, Accuracy]]
    """{who: {task, or mean: accuracy}}; the mean only where all seven tasks were asked."""
    score: Score
    """Everything about the model itself."""
    runs: dict[str, Prediction]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        rows = {who: {task: vars(found) for task, found in row.items()} for who, row in self.rows.items()}
        return {"rows": rows, "model": self.score.to_dict(), "notes": self.notes}

    def table(self) -> list[dict[str, str]]:
        """Write it for people: a line for each, per cent with intervals."""
        tasks = list(dict.fromkeys(task for row in self.rows.values() for task in row))
        return [
            {"who": who, **{task: str(row[task]) if task in row else "" for task in tasks}}
            for who, row in self.rows.items()
        ]


def compare_answers(
    model: Answers,
    adapter: Adapter | None,
    bench: Path | str,
    out: Path | str,
    *,
    train: Path | str,
    untuned: Callable[[], tuple[Answers, Adapter]] | None = None,
    others: Mapping[str, Path] | None = None,
    labels: str = "",
    pictures: str = "",
    batch: int = 4,
    seed: int = 0,
    restart: bool = False,
    settings: dict[str, Any] | None = None,
    label_settings: Settings = DEFAULT,
    progress: Callable[[str, int, int], None] = lambda who, done, total: None,
) -> Comparison:
    """Answer a benchmark with and without frames, and mark that beside the baselines.

    Args:
        model: What is measured.
        adapter: Its adapter; None for one behind a URL.
        bench: Questions.
        out: Folder for answers and `score.json`; a stopped run goes on there.
        train: Questions that the constants are fitted on.
        untuned: Opens the base as it comes; None where there is none.
        others: {name: file} of other contenders: answers, or the tracks that a geometry tool measured.
        labels: Tracks of the benchmark, to draw boxes at the model's resolution.
        pictures: Folder that their pictures are relative to.
        batch: Questions at a time.
        seed: Of the bootstrap.
        restart: Answer anew.
        settings: What else decides the answers.
        label_settings: Definitions by which the tracks of others answer.
        progress: Called with who answers, questions done and in all.

    Raises:
        ConfigError: Another process is writing into the folder.
        DataError: Files that cannot be read.
        CheckFailed: Training questions about scenes of the benchmark.
    """
    questions = list(read_questions(bench))
    fitted_on = training_set(list(read_questions(train)))
    check_apart(fitted_on, questions)
    blind = fit_blind(fitted_on)
    # A file that cannot be read should not be found out about after hours of answering.
    contenders = {}
    for name, path in (others or {}).items():
        if name in (MODEL, BLANK, CONSTANT, UNTUNED, *PARTS):
            raise ConfigError(f"--also {name}: there is such a row already; choose another name")
        contenders[name] = read_contender(path, questions, labels, label_settings)
    exchanges = Exchanges(bench, labels, pictures)
    folder = Path(out)
    runs: dict[str, Prediction] = {}

    def run(who: str, answers: Answers, how: Adapter | None, blank: bool = False) -> Mapping[str, Any]:
        part = PARTS.get(who)
        runs[who] = answer_questions(
            answers,
            questions,
            exchanges.showing(part) if part else exchanges,
            how,
            folder / f"{who.replace(' ', '_')}.jsonl",
            batch=batch,
            blank=blank,
            restart=restart,
            settings={**(settings or {}), **({"shown": who} if part else {})},
            progress=lambda done: progress(who, done, len(questions)),
        )
        return read_answers(runs[who].out) if runs[who].rows else {}

    with writing(folder, "scoring"):
        said = run(MODEL, model, adapter)
        alone = run(BLANK, model, adapter, blank=True)
        found = score(questions, said, blind=blind, question_only=alone or None, seed=seed)
        marked = {MODEL: found.rows, BLANK: score(questions, alone, seed=seed).rows}
        for who in PARTS if adapter is not None and adapter.box_channels else ():
            marked[who] = score(questions, run(who, model, adapter), seed=seed).rows
        marked[CONSTANT] = [
            ScoredAnswer(q, UNPARSABLE, score_answer(q.task, q.value, blind.get(q.task))) for q in questions
        ]
        notes = ["differences below 7 points of 200 questions are no evidence"]
        if untuned is not None:
            base, its = untuned()
            marked[UNTUNED] = score(questions, run(UNTUNED, base, its), seed=seed).rows
        else:
            notes.append("no untuned row: this model was not tuned by us, or is the base itself")
        for name, said in contenders.items():
            marked[name] = score(questions, said, seed=seed).rows
        if missing := sorted({q.task for q in questions} - set(blind)):
            notes.append(f"no constant for {', '.join(missing)}: {train} does not ask it")
        for who, done in runs.items():
            if done.skipped:
                notes.append(
                    f"{who}: {len(done.skipped)} questions count as wrong, the first because {done.skipped[0][1]}"
                )
        result = Comparison({who: _row(rows, seed) for who, rows in marked.items()}, found, runs, notes)
        write_text(folder / "score.json", json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    return result


def _row(rows: Sequence[ScoredAnswer], seed: int) -> dict[str, Accuracy]:
    """Sum up one contender: the mean first, then every task that was asked."""
    found: dict[str, Accuracy] = {}
    mean, low, high = mean_of_seven(rows, seed)
    if mean is not None and low is not None and high is not None:
        found["mean of seven"] = Accuracy(mean, low, high)
    for task in task_names():
        part = [row for row in rows if row.question.task == task]
        if part:
            correct = np.array([row.score.correct for row in part], float)
            bounds = bootstrap_by_clip(correct, [row.question.clip_id for row in part], seed=seed)
            found[task] = Accuracy(float(correct.mean()), *bounds)
    return found


def training_questions(run: Path | str) -> Path:
    """Return the questions that a run was tuned on, by its recipe.

    Raises:
        WeightsError: Not such a run.
    """
    path = Path(run) / "recipe.yaml"
    if not path.is_file():
        raise WeightsError(
            f"{run}: no recipe.yaml that says what it was tuned on; name the training questions with --train, which "
            "the constant baseline is fitted on"
        )
    from saccade.engine.train.recipe import load_recipe

    source = load_recipe(path).data.source
    check_place(Stored(source, path, "data.source", way="name the questions with --train"))
    return Path(source)


def training_set(questions: Sequence[Question]) -> list[Question]:
    """Return those of the split train, or all where nothing is called so."""
    train = [question for question in questions if question.split == "train"]
    return train or list(questions)
