"""Tracks answer questions: exact ones everything, others what they tell, and things are found by their boxes."""

import dataclasses

import pytest

from saccade.data.motion import MotionPlan, draw_set
from saccade.data.motion_questions import ask
from saccade.engine.predict.geometry_answers import answers_of_tracks, read_contender
from saccade.errors import DataError
from saccade.kinematics.answers import MULTI_STEP, TASKS
from saccade.kinematics.records import write_records
from saccade.kinematics.scoring import score


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    motion = draw_set(folder / "set", MotionPlan(clips=24, seed=4, size=32, frames=8))
    return motion, ask(motion).questions


def test_exact_tracks_answer_all_nine_tasks(made):
    motion, questions = made
    assert {question.task for question in questions} == {*TASKS, *MULTI_STEP}
    answers = answers_of_tracks(questions, motion.tracks(), settings=motion.plan.settings)
    found = score(questions, answers)
    assert found.mean == 1
    assert all(task.accuracy == 1 for task in found.tasks)


def test_tracks_too_long_by_a_third_fail_where_metres_count(made):
    motion, questions = made
    longer = [
        dataclasses.replace(track, xyz_world=[[1.35 * x for x in row or ()] for row in track.xyz_world])
        for track in motion.tracks()
    ]
    found = score(questions, answers_of_tracks(questions, longer, settings=motion.plan.settings))
    by_task = {task.task: task.accuracy for task in found.tasks}
    assert by_task["traveled_distance"] == by_task["travel_time"] == 0
    assert by_task["distance_comparison"] == by_task["direction_comparison"] == 1


def test_things_are_found_by_their_boxes(made, tmp_path):
    motion, questions = made
    renamed = [
        dataclasses.replace(
            track,
            track_id=f"tool-{track.track_id}",
            boxes_2d=[None if box is None else [2 * value for value in box] for box in track.boxes_2d or ()],
            camera={"K": [[60.0, 0, 32], [0, 60, 24], [0, 0, 1]], "width": 64, "height": 48},
        )
        for track in motion.tracks()
    ]
    write_records(renamed, tmp_path / "tool.jsonl")
    write_records(motion.tracks(), tmp_path / "tracks.jsonl")
    known = read_contender(
        tmp_path / "tool.jsonl", questions, tmp_path / "tracks.jsonl", motion.plan.settings
    )
    assert (score(questions, known).mean or 0) > 0.9
    assert read_contender(tmp_path / "tool.jsonl", questions) == {}  # no track has such a name


def test_a_file_of_answers_is_read_as_such(made, tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(f'{{"id": "{made[1][0].id}", "answer": "12 m"}}\n', encoding="utf-8")
    assert read_contender(file, made[1]) == {made[1][0].id: "12 m"}
    with pytest.raises(DataError, match="no such file"):
        read_contender(tmp_path / "none.jsonl", made[1])
