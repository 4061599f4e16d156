"""A kind of question is one file and one row: a tenth one is asked and scored, and no other file knows a name."""

import ast
import io
import json
import tokenize
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.engine.predict.geometry_answers import answers_of_tracks
from saccade.errors import ConfigError, DataError
from saccade.kinematics.answers import MULTI_STEP, TASKS, parse_answer
from saccade.kinematics.blind import fit_blind
from saccade.kinematics.draw import write_frames
from saccade.kinematics.kinds import KINDS, kind_of, task_names
from saccade.kinematics.kinds.base import Search
from saccade.kinematics.labels import label_track
from saccade.kinematics.lmms import process_results, write_task
from saccade.kinematics.questions import Plan, make_questions
from saccade.kinematics.records import check_question, read_questions, write_records
from saccade.kinematics.report import write_report
from saccade.kinematics.schema import question_schema
from saccade.kinematics.scoring import score
from saccade.kinematics.settings import DEFAULT
from saccade.kinematics.variants import make_variant

from .tracks import many
from .turning_direction import TurningDirection

SOURCE = Path(__file__).parents[2] / "src" / "saccade"
ROOMS = ("kinematics", "predict", "cli", "vlm", "tasks", "data", "evaluate", "train")


@pytest.fixture
def tenth(monkeypatch):
    """The one row of a tenth kind."""
    monkeypatch.setitem(KINDS, TurningDirection.name, TurningDirection())
    return TurningDirection.name


@pytest.fixture
def tracks(tmp_path):
    for step in range(20):
        Image.new("RGB", (160, 90), (90, 90, 90)).save(tmp_path / f"{step:03d}.jpg")
    return many(12, images=[f"{step:03d}.jpg" for step in range(20)])


def test_the_seven_and_the_two():
    assert len(TASKS) == 7
    assert set(TASKS) | set(MULTI_STEP) == set(KINDS)
    assert task_names() == (*TASKS, *MULTI_STEP)
    assert all(name == kind.name for name, kind in KINDS.items())
    with pytest.raises(ConfigError, match=r"no task 'traveled_distanse'.*traveled_distance"):
        kind_of("traveled_distanse")


def test_a_tenth_kind_walks_through_everything(tenth, tracks, tmp_path):
    made = make_questions(tracks, Plan(num_frames=3))
    asked = [question for question in made.questions if question.task == tenth]
    assert task_names()[-1] == tenth
    assert len(asked) > 20
    assert {question.value for question in asked} == {"left", "right", "straight"}
    of = {(track.clip_id, track.track_id): label_track(track.times, track.points) for track in tracks}
    for question in asked:
        hour = of[question.clip_id, question.objects[0]["track_id"]].end_clock
        assert question.value == ("straight" if hour == 12 else "right" if hour < 6 else "left")

    # Records: written, checked, read; a value that it cannot have is named.
    for name in ("questions.jsonl", "questions.parquet"):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        write_records(made.questions, tmp_path / name)
        assert list(read_questions(tmp_path / name)) == made.questions
    with pytest.raises(
        DataError, match="'back'; expected left, right or straight for task turning_direction"
    ):
        check_question({**asked[0].to_dict(), "value": "back"}, "here")
    assert tenth in question_schema()["properties"]["task"]["enum"]

    # Answers: ours are read, a refusal is one, and the score stands beside the others without a part in the mean.
    assert all(parse_answer(tenth, question.answer).choice == question.value for question in asked)
    assert parse_answer(tenth, "I cannot tell.").status == "refusal"
    blind = fit_blind(made.questions)
    frequent = Counter(question.value for question in asked).most_common(1)[0]
    assert blind[tenth] == frequent[0]
    texts = {question.id: question.answer for question in made.questions}
    found = score(made.questions, texts, blind=blind)
    row = next(task for task in found.tasks if task.task == tenth)
    assert (row.accuracy, row.blind, found.mean) == (1, pytest.approx(frequent[1] / len(asked)), 1)
    wrong = score(made.questions, texts | {question.id: "backwards" for question in asked}, blind=blind)
    assert wrong.mean == 1
    assert next(task for task in wrong.tasks if task.task == tenth).parse_rate == 0

    # A geometry tool, and the same truth shown differently.
    said = answers_of_tracks(asked, tracks)
    assert score(asked, said).tasks[0].accuracy == 1
    mirrored = [make_variant("mirror", question, tracks).question for question in asked[:12]]
    swap = {"left": "right", "right": "left", "straight": "straight"}
    assert [question.value for question in mirrored] == [swap[question.value] for question in asked[:12]]
    assert all(parse_answer(tenth, question.answer).choice == question.value for question in mirrored)
    swapped = make_variant("swap", asked[0], tracks).question
    assert swapped.value == asked[0].value
    assert swapped.objects[0]["colour"] != asked[0].objects[0]["colour"]

    # lmms-eval, and the page.
    few = asked[:3]
    for question in few:
        write_frames(question, tracks, tmp_path / "frames", root=tmp_path, size=32)
    task = write_task(few, tmp_path / "frames", tmp_path / "lmms")
    assert f"metric: {tenth}" in (task / "stkit_bench.yaml").read_text()
    doc = json.loads((task / "questions.jsonl").read_text().splitlines()[0])
    assert process_results(doc, [few[0].answer])[tenth] == 1
    write_records(tracks, tmp_path / "tracks.jsonl")
    write_report(tmp_path / "tracks.jsonl", tmp_path / "page.html", clips=1, size=64)
    page = (tmp_path / "page.html").read_text()
    assert "turning direction" in page
    assert "straight on for" in page


def test_without_its_row_a_tenth_kind_is_unknown(tracks):
    assert TurningDirection.name not in {question.task for question in make_questions(tracks).questions}
    with pytest.raises(ConfigError, match="no task 'turning_direction'"):
        parse_answer(TurningDirection.name, "left")
    assert TurningDirection.name not in question_schema()["properties"]["task"]["enum"]


def test_an_empty_pool_and_a_limit_leave_no_question_behind():
    """Every kind keeps to the limit of a task, also where there is nothing to balance."""
    for kind in KINDS.values():
        left = Counter()
        assert list(kind.balanced([], Plan(per_task=4), left)) == []
        assert sum(left.values()) == 0


def code_of(file):
    """Names and texts of a file's code, docstrings and comments left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saccade.kinematics.kinds."):
            yield node.lineno, node.module.rpartition(".")[2]
        elif isinstance(node, ast.Compare):
            # "task in COMPARISONS" is a branch on names, too, wherever the names are kept.
            asked = ast.unparse(node.left).rpartition(".")[2]
            for operator, other in zip(node.ops, node.comparators, strict=True):
                if (
                    asked == "task"
                    and isinstance(operator, ast.In | ast.NotIn)
                    and isinstance(other, ast.Name)
                ):
                    yield node.lineno, f"in {other.id}"


ALLOWED = {
    "in TASKS": {"kinematics/scoring.py", "kinematics/lmms.py"},  # the mean of seven
    "in KINDS": {"kinematics/questions.py"},
}


def test_no_other_file_knows_a_kind_by_name():
    found = []
    for room in ROOMS:
        for file in sorted((SOURCE / room).rglob("*.py")):
            name = file.relative_to(SOURCE).as_posix()
            if name.startswith("kinematics/kinds/"):
                continue
            for line, text in code_of(file):
                named = any(text == kind or text.startswith((f"{kind}/", f"{kind}-")) for kind in KINDS)
                branch = text.startswith("in ") and text[3:].isupper() and name not in ALLOWED.get(text, ())
                if named or (branch and room == "kinematics"):
                    found.append(f"{name}:{line}: {text}")
    assert not found


def test_each_kind_is_one_file_and_one_row():
    folder = SOURCE / "kinematics" / "kinds"
    assert {path.stem for path in folder.glob("*.py")} >= set(KINDS)
    source = (folder / "__init__.py").read_text()
    names = [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline)]
    for kind in KINDS.values():
        assert names.count(type(kind).__name__) == 2, f"{kind.name}: an import and a row"


def test_a_window_lies_within_both_runs():
    """Its ends are times that both objects have, also where they come and go at other times."""
    one, two = many(1, objects=2)
    early = label_track(one.times[:12], one.points[:12])
    late = label_track(two.times[6:], two.points[6:])
    kind, random = KINDS["direction_comparison"], np.random.default_rng(0)
    for _ in range(50):
        for candidate in kind.candidates(Search((one, two), (early, late), random, DEFAULT, 0.9)):
            start, stop = candidate.window_s
            assert 3.0 <= start < stop <= 5.5
