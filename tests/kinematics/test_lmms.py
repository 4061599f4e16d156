"""The task folder for lmms-eval: its files name functions that exist and mark as we do."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from saccade.errors import DataError
from saccade.kinematics.draw import write_frames
from saccade.kinematics.lmms import MEAN, UNDERSTOOD, write_task
from saccade.kinematics.questions import Plan, make_questions
from saccade.kinematics.scoring import score

from .tracks import many


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    for step in range(20):
        Image.new("RGB", (160, 90), (90, 90, 90)).save(folder / f"{step:03d}.jpg")
    tracks = many(3, images=[f"{step:03d}.jpg" for step in range(20)])
    questions = make_questions(tracks, Plan(per_task=4, num_frames=3)).questions
    for question in questions:
        write_frames(question, tracks, folder / "frames", root=folder, size=32)
    return folder, questions, write_task(questions, folder / "frames", folder / "tasks")


def functions(task):
    spec = importlib.util.spec_from_file_location("stkit_utils", task / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Named(yaml.SafeLoader):
    """Reads `!function utils.name` as its text, as lmms-eval does before it looks the name up."""


Named.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def test_the_settings_name_what_is_there(bench):
    _, questions, task = bench
    settings = yaml.load((task / "stkit_bench.yaml").read_text(), Named)
    utils = functions(task)
    named = [settings[key] for key in ("doc_to_visual", "doc_to_text", "process_results")]
    named += [metric["aggregation"] for metric in settings["metric_list"]]
    assert all(callable(getattr(utils, name.removeprefix("utils."))) for name in named)
    data = Path(settings["dataset_kwargs"]["data_files"]["test"]).read_text()
    docs = [json.loads(line) for line in data.splitlines()]
    assert [doc["id"] for doc in docs] == [question.id for question in questions]
    assert {metric["metric"] for metric in settings["metric_list"]} == {
        MEAN,
        UNDERSTOOD,
        *(q.task for q in questions),
    }
    # Every column has one type, which a data set's reader needs.
    assert all(
        {*map(type, column)} in ({str}, {list})
        for column in zip(*(doc.values() for doc in docs), strict=True)
    )


def test_marks_are_those_of_score(bench):
    _, questions, task = bench
    utils = functions(task)
    docs = [json.loads(line) for line in (task / "questions.jsonl").read_text().splitlines()]
    texts = {q.id: q.answer if index % 3 else "I cannot tell." for index, q in enumerate(questions)}
    rows = [utils.process_results(doc, [texts[doc["id"]]]) for doc in docs]
    expected = score(questions, texts)
    assert utils.mean_of_seven([row[MEAN] for row in rows]) == pytest.approx(100 * expected.mean)
    for found in expected.tasks:
        assert utils.mean([row[found.task] for row in rows if found.task in row]) == pytest.approx(
            100 * found.accuracy
        )
    assert utils.mean([row[UNDERSTOOD] for row in rows]) == pytest.approx(
        100 * np.mean([texts[q.id] != "I cannot tell." for q in questions])
    )
    pictures = utils.doc_to_visual(docs[0])
    assert [picture.size for picture in pictures] == [(32, 18)] * 3
    assert utils.doc_to_text(docs[0], {"post_prompt": " Be brief."}).startswith("These are 3 frames")
    assert utils.doc_to_text(docs[0], {"post_prompt": " Be brief."}).endswith(" Be brief.")
    assert utils.process_results(docs[0], [])[UNDERSTOOD] == 0


def test_frames_that_are_not_there(bench, tmp_path):
    _, questions, _ = bench
    with pytest.raises(DataError, match="no frames in"):
        write_task(questions, tmp_path, tmp_path / "tasks")
    with pytest.raises(DataError, match="no questions"):
        write_task([], tmp_path, tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()
