"""Tracks answer questions: exact ones everything, others what they tell, and things are found by their boxes."""

import dataclasses

import pytest

from saccade.engine.predict.geometry_answers import answers_of_tracks, read_contender
from saccade.errors import DataError
from saccade.kinematics.answers import MULTI_STEP, TASKS
from saccade.kinematics.questions import Plan, make_questions
from saccade.kinematics.records import write_records
from saccade.kinematics.scoring import score
from saccade.kinematics.settings import make_settings
from saccade.kinematics.sources import world

SETTINGS = make_settings(max_points=8, min_points=8, min_box_height_px=4.0, min_shown_share=0.8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    tracks = list(world.read(folder, clips=48, seed=4, seconds=3.5, size=64, need_images=False))
    return tracks, make_questions(tracks, Plan(per_clip=4), SETTINGS).questions


def test_exact_tracks_answer_all_nine_tasks(made):
    tracks, questions = made
    assert {question.task for question in questions} == {*TASKS, *MULTI_STEP}
    answers = answers_of_tracks(questions, tracks, settings=SETTINGS)
    found = score(questions, answers)
    assert found.mean == 1
    assert all(task.accuracy == 1 for task in found.tasks)


def test_tracks_too_long_by_a_third_fail_where_metres_count(made):
    tracks, questions = made
    longer = [
        dataclasses.replace(track, xyz_world=[[1.35 * x for x in row or ()] for row in track.xyz_world])
        for track in tracks
    ]
    found = score(questions, answers_of_tracks(questions, longer, settings=SETTINGS))
    by_task = {task.task: task.accuracy for task in found.tasks}
    assert by_task["traveled_distance"] == by_task["travel_time"] == 0
    assert by_task["distance_comparison"] == by_task["direction_comparison"] == 1


def test_things_are_found_by_their_boxes(made, tmp_path):
    tracks, questions = made
    renamed = [
        dataclasses.replace(
            track,
            track_id=f"tool-{track.track_id}",
            boxes_2d=[None if box is None else [2 * value for value in box] for box in track.boxes_2d or ()],
            camera={"K": [[120.0, 0, 64], [0, 120, 48], [0, 0, 1]], "width": 128, "height": 96},
        )
        for track in tracks
    ]
    write_records(renamed, tmp_path / "tool.jsonl")
    write_records(tracks, tmp_path / "tracks.jsonl")
    known = read_contender(tmp_path / "tool.jsonl", questions, tmp_path / "tracks.jsonl", SETTINGS)
    assert (score(questions, known).mean or 0) > 0.9
    assert read_contender(tmp_path / "tool.jsonl", questions) == {}  # no track has such a name


def test_a_file_of_answers_is_read_as_such(made, tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(f'{{"id": "{made[1][0].id}", "answer": "12 m"}}\n', encoding="utf-8")
    assert read_contender(file, made[1]) == {made[1][0].id: "12 m"}
    with pytest.raises(DataError, match="no such file"):
        read_contender(tmp_path / "none.jsonl", made[1])
