"""Answers of a model to a file of questions: in batches, resumable, one line a question."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from saccade.engine.predict.predict import Prediction, fill
from saccade.engine.sessions.open import Runner
from saccade.engine.sessions.pool import Pool
from saccade.errors import ConfigError, DataError
from saccade.files import read_json, write_text
from saccade.files.journal import Journal, skipped_path
from saccade.files.names import from_cell
from saccade.kinematics.records import Question
from saccade.tasks.answer.task import Answer
from saccade.tasks.answer.vlm.adapters import Adapter
from saccade.tasks.answer.vlm.answering import Answers
from saccade.tasks.answer.vlm.data import Asked, Exchanges
from saccade.tasks.base import PredictSettings
from saccade.weights import Card


def answer_questions(
    model: Answers,
    questions: Sequence[Question],
    exchanges: Exchanges,
    adapter: Adapter | None,
    out: Path | str,
    *,
    batch: int = 4,
    blank: bool = False,
    restart: bool = False,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Prediction:
    """Answer every question once and write the answers as JSON lines of id and answer.

    Stopped at any moment, the same call goes on where it was; once it is done, it does nothing.

    Args:
        model: Answers.
        questions: In a fixed order.
        exchanges: Opens their frames.
        adapter: Of the model; None for one behind a URL, which takes frames of any size.
        out: File to write, .jsonl; the journal lies beside it meanwhile.
        batch: Questions at a time.
        blank: Hide the frames.
        restart: Begin anew.
        settings: What else decides the answers; a journal of other settings is refused.
        progress: Called with the number of questions that are done.

    Raises:
        ConfigError: A batch below 1, or a journal of other settings.
        SaccadeError: The model cannot answer.
    """
    if batch < 1:
        raise ConfigError(f"--batch is {batch}; expected at least 1")
    content = hashlib.sha256("\n".join(repr(q.to_dict()) for q in questions).encode()).hexdigest()[:16]
    facts = {"model": model.name, "questions": content, "blank": blank, **(settings or {})}
    out = Path(out)
    if out.suffix != ".jsonl":
        raise ConfigError(f"{out}: answers are written as JSON lines; expected a name that ends in .jsonl")
    told = progress or (lambda done: None)
    done = out.with_suffix(".settings.json")
    if not restart and out.is_file() and _read(done) == facts:
        told(len(questions))
        lost = _read_skipped(skipped_path(out))
        there = len(questions) - len(lost)
        return Prediction(out, there, lost, there, 0.0, 0.0)
    net: Any = model  # `Answer.run` asks it
    task, card = Answer(), Card(model.name, task=Answer.name)
    runner = Runner(task, card, net, "torch", "", again=lambda: runner)
    pool = Pool(task, [runner], 0, model.name)  # in this thread, with all of torch's own
    asked = Asked(questions, exchanges, adapter, blank=blank)
    with Journal(out, facts, restart=restart) as journal:
        told(journal.done)
        found = fill(
            journal, pool, asked, batch, PredictSettings(), _silent, lambda count, total: told(count)
        )
    write_text(done, json.dumps(facts))
    return found


def _silent(text: str) -> None:
    """Say nothing: tables of scores say it."""


def _read(path: Path) -> Any:
    """Read the settings of a finished file; None where there are none."""
    try:
        return read_json(path)
    except DataError:
        return None


def _read_skipped(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(from_cell(row[0]), from_cell(row[1])) for row in list(csv.reader(file))[1:]]
