"""`saccade kinematics score`: scores for a file of answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saccade.cli import show

if TYPE_CHECKING:
    from saccade.kinematics.scoring import TaskScore


def score(
    answers: Path,
    /,
    *,
    bench: Path,
    train: Path | None = None,
    blank: Path | None = None,
    out: Path | None = None,
    lenient: bool = False,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Score a model's answers: seven accuracies with intervals, errors, parse rates and blind baselines.

    Distances and speeds are right within 25 %, hours when exact, intervals from an overlap of one half. What was not
    answered or could not be understood is wrong. Differences below 7 points of 200 questions are no evidence.

    Example: saccade kinematics score answers.jsonl --bench bench.jsonl --train questions.jsonl

    Args:
        answers: JSON lines with id and answer.
        bench: The questions, from `saccade kinematics questions`.
        train: Training questions, on which the constants and majorities of the blind baseline are fitted.
        blank: Answers of the same model with blank frames.
        out: Also write everything, each answer's score included, as JSON.
        lenient: Count directions in words, such as "forward and right", when the true hour is among theirs.
        seed: Of the bootstrap over clips.
        json: Print one JSON object.
    """
    from saccade.kinematics.blind import fit_blind
    from saccade.kinematics.records import read_questions
    from saccade.kinematics.scoring import read_answers
    from saccade.kinematics.scoring import score as score_answers
    from saccade.kinematics.splits import check_apart

    questions = list(read_questions(bench))
    blind = None
    if train is not None:
        fitted_on = list(read_questions(train))
        check_apart(fitted_on, questions)
        blind = fit_blind(fitted_on)
    given = read_answers(answers)
    found = score_answers(
        questions,
        given,
        blind=blind,
        question_only=None if blank is None else read_answers(blank),
        lenient=lenient,
        seed=seed,
    )
    if out is not None:
        _write(found, out)
    if json:
        show.result(found.to_dict(), as_json=True)
        return
    show.rows([score_row(task) for task in found.tasks], as_json=False, title="answers")
    if found.mean is not None:
        show.result(
            {
                "mean of seven": f"{100 * found.mean:.1f} % ({100 * (found.mean_low or 0):.1f} to "
                f"{100 * (found.mean_high or 0):.1f})",
                **({} if found.blind_mean is None else {"blind mean": f"{100 * found.blind_mean:.1f} %"}),
            },
            as_json=False,
        )
    else:
        show.note("no mean: it is over seven tasks, and this benchmark does not ask all of them")
    for name, tasks in found.by_source.items():
        if len(found.by_source) > 1:
            show.rows([{"source": name, **score_row(task)} for task in tasks], as_json=False, title=name)
    for name, tasks in found.by_rig.items():
        if len(found.by_rig) > 1:
            show.rows([{"camera": name, **score_row(task)} for task in tasks], as_json=False, title=name)
    if len(given) < len(questions):
        show.note(
            f"{len(questions) - len(given)} of {len(questions)} questions have no answer and count as wrong"
        )
    if blind is None:
        show.note("no blind baseline: name the training questions with --train")


def score_row(task: TaskScore) -> dict[str, Any]:
    """Return what a line of the table shows."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    return {
        "task": task.task,
        "n": task.n,
        "accuracy %": share(task.accuracy),
        "from": share(task.low),
        "to": share(task.high),
        "blind %": share(task.blind),
        "blank frames %": share(task.question_only),
        "MAE": "" if task.mae is None else f"{task.mae:.2f} {task.mae_unit or ''}".strip(),
        "IoU": "" if task.mean_iou is None else f"{task.mean_iou:.2f}",
        "MRA": "" if task.mra is None else f"{task.mra:.2f}",
        "understood %": share(task.parse_rate),
        "refused %": share(task.refusals),
    }


def _write(found, path: Path) -> None:
    """Write the report."""
    import json

    from saccade.files import write_text

    rows = [
        {
            "id": row.question.id,
            "task": row.question.task,
            "truth": row.question.value,
            "parsed": row.parsed.to_dict(),
            "correct": row.score.correct,
            "error": row.score.error,
        }
        for row in found.rows
    ]
    write_text(
        path, json.dumps({**found.to_dict(), "answers": rows}, ensure_ascii=False, indent=1, allow_nan=False)
    )
