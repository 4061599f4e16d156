"""A benchmark as a task of lmms-eval, so that every model it runs can be scored here.

The folder that is written holds the task's YAML, a `utils.py` of a few lines that calls this file, and the questions
with their frames by path. lmms-eval gives a model the frames as pictures and the seconds at which they were taken as
text. Its own number parsers take "1,250 m" for 1; the scores here are those of `saccade kinematics score`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade.errors import DataError
from saccade.files import parse_json, replacing
from saccade.kinematics.answer_scores import score_parsed
from saccade.kinematics.answers import TASKS, parse_answer
from saccade.kinematics.draw import frames_key, open_image
from saccade.kinematics.forms import prompt
from saccade.kinematics.kinds import task_names
from saccade.kinematics.records import Question, check_question

NAME = "stkit_bench"
MEAN, UNDERSTOOD = "mean_of_seven", "understood"
_UTILS = '''"""Functions of the task; everything is done by Saccade, which must be installed beside lmms-eval."""

from saccade.kinematics.lmms import doc_to_text, doc_to_visual, mean, mean_of_seven, process_results

__all__ = ["doc_to_text", "doc_to_visual", "mean", "mean_of_seven", "process_results"]
'''


def write_task(questions: Sequence[Question], frames: Path | str, out: Path | str, name: str = NAME) -> Path:
    """Write a task folder for lmms-eval.

    Run it with `lmms-eval --include_path OUT --tasks stkit_bench --model ...`. Paths are absolute: write the folder
    again after moving the frames.

    Args:
        questions: The benchmark.
        frames: Folder of drawn frames, from `saccade kinematics questions`.
        out: Folder that gets the task's folder.
        name: Of the task.

    Returns:
        The task's folder.

    Raises:
        DataError: No questions, or a question whose frames are not there.
    """
    if not questions:
        raise DataError("the benchmark holds no questions; expected at least one")
    rows = []
    for question in questions:
        folder = (Path(frames) / frames_key(question)).resolve()
        paths = [folder / f"{index:03d}.jpg" for index in range(len(question.frame_times_s or ()))]
        if not paths or not all(path.is_file() for path in paths):
            raise DataError(
                f"question {question.id}: no frames in {folder}; expected those drawn with its question"
            )
        # One column of text for the record: the columns of a data set cannot hold numbers here and lists there.
        record = json.dumps(question.to_dict(), ensure_ascii=False, allow_nan=False)
        rows.append(
            {
                "id": question.id, "task": question.task, "prompt": prompt(question), "answer": question.answer,
                "frames": [path.as_posix() for path in paths], "record": record,
            }
        )  # fmt: skip
    target = Path(out) / name
    with replacing(target) as temporary:
        temporary.mkdir()
        (temporary / "questions.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
        (temporary / "utils.py").write_text(_UTILS, encoding="utf-8")
        asked = [task for task in task_names() if any(row["task"] == task for row in rows)]
        text = _yaml(name, (target.resolve() / "questions.jsonl").as_posix(), asked)
        (temporary / f"{name}.yaml").write_text(text, encoding="utf-8")
    return target


def _yaml(name: str, data: str, asked: Iterable[str]) -> str:
    """Write the task's settings."""
    metrics = "".join(
        f"  - metric: {metric}\n    aggregation: !function utils.{how}\n    higher_is_better: true\n"
        for metric, how in (
            (MEAN, "mean_of_seven"),
            *((task, "mean") for task in asked),
            (UNDERSTOOD, "mean"),
        )
    )
    return (
        f"task: {name}\n"
        "dataset_path: json\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        f"    test: {json.dumps(data)}\n"
        "test_split: test\n"
        "output_type: generate_until\n"
        "doc_to_visual: !function utils.doc_to_visual\n"
        "doc_to_text: !function utils.doc_to_text\n"
        "doc_to_target: answer\n"
        "process_results: !function utils.process_results\n"
        "generation_kwargs:\n"
        "  max_new_tokens: 128\n"
        "  temperature: 0\n"
        "  do_sample: false\n"
        f"metric_list:\n{metrics}"
        "metadata:\n"
        "  - version: 1\n"
    )


def doc_to_visual(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None
) -> list[Any]:
    """Open the frames of a question, in order.

    Raises:
        DataError: A frame that is gone or cannot be read.
    """
    del lmms_eval_specific_kwargs
    return [open_image(path, f"question {doc['id']}") for path in doc["frames"]]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> str:
    """Return the prompt: the frames' seconds and the question, between what a model's settings put around it."""
    around = lmms_eval_specific_kwargs or {}
    return f"{around.get('pre_prompt', '')}{doc['prompt']}{around.get('post_prompt', '')}"


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one answer: a row for the mean, one for its task, and whether it was understood."""
    question = check_question(
        parse_json(str(doc["record"]), where=f"question {doc['id']}"), f"question {doc['id']}"
    )
    parsed = parse_answer(question.task, results[0] if results else None, question.context)
    right = float(score_parsed(question.task, question.value, parsed).correct)
    return {
        MEAN: {"task": question.task, "correct": right},
        question.task: right,
        UNDERSTOOD: float(parsed.status in ("ok", "coarse")),
    }


def mean(values: Sequence[float]) -> float:
    """Return the mean in percent."""
    return 100 * sum(values) / len(values) if values else 0.0


def mean_of_seven(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the unweighted mean of the tasks' accuracies in percent; multi-step questions are not part of it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["task"] in TASKS:
            found.setdefault(row["task"], []).append(row["correct"])
    return mean([sum(values) / len(values) for values in found.values()])
