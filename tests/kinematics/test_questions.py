"""Questions: balanced, true to the labels, read back by our own parser."""

import dataclasses
import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from saccade.errors import ConfigError
from saccade.kinematics.answer_scores import score_parsed
from saccade.kinematics.answers import MULTI_STEP, TASKS, parse_answer
from saccade.kinematics.kinds import KINDS
from saccade.kinematics.kinds.movement_direction import most_of_each
from saccade.kinematics.labels import label_track
from saccade.kinematics.questions import Plan, frame_times, make_questions, render
from saccade.kinematics.records import check_question
from saccade.kinematics.selection import covers, is_movable, select
from saccade.kinematics.settings import Settings
from saccade.kinematics.wordings import HELD_OUT

from .tracks import clip, many


@pytest.fixture(scope="module")
def tracks():
    return many(60)


@pytest.fixture(scope="module")
def made(tracks):
    return make_questions(tracks)


def test_every_task_is_asked(made):
    counts = Counter(question.task for question in made.questions)
    assert set(counts) == {*TASKS, *MULTI_STEP}
    assert min(counts.values()) >= 50
    assert len({question.id for question in made.questions}) == len(made.questions)
    assert made.objects["ok"] > 200


def balance_of(questions):
    """Shares of answers, polarities and colours by task: what a blind guesser could use."""
    counts, totals = defaultdict(Counter), Counter()
    for question in questions:
        have = counts[question.task]
        totals[question.task] += 1
        if isinstance(question.value, str):
            have[f"answer={question.value}"] += 1
        if question.polarity:
            have[f"polarity={question.polarity}"] += 1
        if question.task == "direction_comparison":
            have["yes"] += question.value == question.polarity
        if question.options:
            have[f"first={next(iter(question.options))}"] += 1
        if len(question.objects) == 1:
            have[f"colour={question.objects[0]['colour']}"] += 1
    return {
        task: {name: count / totals[task] for name, count in have.items()} for task, have in counts.items()
    }


def test_no_answer_is_more_frequent_than_its_opposite(made):
    for task, shares in balance_of(made.questions).items():
        for name, share in shares.items():
            assert abs(share - 0.5) <= 0.02, (task, name, share)
    # Neither is the one named first the right one, nor does it depend on what is asked.
    for task in ("distance_comparison", "speed_comparison"):
        asked = [question for question in made.questions if question.task == task]
        first = np.mean([next(iter(question.options)) == question.value for question in asked])
        assert abs(first - 0.5) <= 0.03
        for polarity in ("more", "less"):
            red = np.mean([question.value == "red" for question in asked if question.polarity == polarity])
            assert abs(red - 0.5) <= 0.06


def test_answers_are_true(made, tracks):
    of = {(track.clip_id, track.track_id): label_track(track.times, track.points) for track in tracks}
    for question in made.questions:
        labels = [of[question.clip_id, thing["track_id"]] for thing in question.objects]
        if question.task == "traveled_distance":
            assert question.value == pytest.approx(labels[0].distance_m, abs=0.006)
        elif question.task == "movement_direction":
            assert question.value == labels[0].end_clock
        elif question.task == "travel_time":
            assert question.value > 1
        elif "comparison" in question.task and question.task != "direction_comparison":
            name = "distance_m" if question.task.startswith("distance") else "speed_kmh"
            ends = sorted(
                zip((getattr(label, name) for label in labels), question.objects, strict=True),
                key=lambda x: x[0],
            )
            assert question.value == ends[-1 if question.polarity == "more" else 0][1]["colour"]
        assert all(label.status == "ok" for label in labels)


def test_our_parser_reads_our_answers(made):
    for question in made.questions:
        parsed = parse_answer(question.task, question.answer, question.context)
        assert score_parsed(question.task, question.value, parsed).correct, (
            question.question,
            question.answer,
        )
        check_question(question.to_dict(), "made")


@pytest.mark.parametrize("task", KINDS)
def test_every_wording(task):
    wordings = KINDS[task].wordings
    assert len(wordings.questions) - HELD_OUT >= 8
    assert len(wordings.answers) >= 4
    values = {
        "movement_direction": 10, "direction_timestamp": [1.5, 3.0], "distance_comparison": "blue",
        "speed_comparison": "red", "direction_comparison": "different",
    }  # fmt: skip
    seen = set()
    for which, answer, polarity in itertools.product(
        range(len(wordings.questions)), range(len(wordings.answers)), wordings.polarities
    ):
        known = "/k0" if task in MULTI_STEP else ""
        value = values.get(task, 15.04)
        text, reply = render(
            f"{task}/q{which}/a{answer}{known}", ("red", "blue"), value, polarity=polarity, clock=3,
            window_s=(1.0, 4.5), speed=36.0,
        )  # fmt: skip
        seen.add(text)
        assert "red" in text.lower()
        assert "{" not in text + reply
        assert text[0].isupper()
        if task in ("movement_direction", "direction_timestamp"):
            assert "12 o'clock" in text
        if task == "direction_comparison":
            assert "1.0" in text
            assert "4.5" in text
        context = {"options": {"red": ["red"], "blue": ["blue"]}, "asks": polarity, "polarity": polarity}
        parsed = parse_answer(task, reply, context)
        assert parsed.status == "ok", reply
        assert list(parsed.value) == value if isinstance(value, list) else parsed.value == value, reply
    assert len(seen) == len(wordings.questions) * len(wordings.polarities)
    with pytest.raises(ConfigError, match="no template"):
        render(f"{task}/q99/a0", ("red",), 1)


def test_the_same_seed_gives_the_same_questions_and_another_seed_others(tracks):
    some = tracks[:40]
    assert make_questions(some).questions == make_questions(some).questions
    other = make_questions(some, Plan(seed=1)).questions
    assert {question.id for question in other} != {question.id for question in make_questions(some).questions}
    assert other[0].config_hash != make_questions(some).questions[0].config_hash


def test_held_out_wordings_are_apart(tracks):
    def used(held_out):
        questions = make_questions(tracks, Plan(held_out=held_out)).questions
        return {question.template_id.rsplit("/a", 1)[0] for question in questions}

    train, test = used(False), used(True)
    assert not train & test
    assert len(test) == HELD_OUT * len(KINDS)


def test_plan_limits(tracks):
    made = make_questions(tracks, Plan(per_task=21, num_frames=8, tasks=TASKS))
    counts = Counter(question.task for question in made.questions)
    assert set(counts) == set(TASKS)
    assert max(counts.values()) == 21
    assert counts["direction_comparison"] == 20
    assert len(made.questions[0].frame_times_s) == 8
    assert sum(made.left_out.values()) > 0
    alone = make_questions(many(4), Plan(per_clip=1)).questions
    assert max(Counter((question.clip_id, question.task) for question in alone).values()) == 1
    hours = Counter(question.value for question in made.questions if question.task == "movement_direction")
    assert max(hours.values()) <= 0.5 * 21 + 1


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("per_clip", 0, 1), ("per_task", 0, 1), ("num_frames", 1, 2), ("seed", -1, 0), ("max_hour_share", 0, 1),
        ("max_interval_share", 1.001, 1), ("colours", ("red", "red"), ("red", "blue")),
        ("tasks", ("x",), ("travel_time",)),
    ],
)  # fmt: skip
def test_a_plan_out_of_range(name, wrong, right):
    Plan(**{name: right})
    with pytest.raises(ConfigError, match=name):
        Plan(**{name: wrong})


def test_directions_are_not_asked_on_the_sports_field():
    tasks = {question.task for question in make_questions(many(12, source="egoexo4d")).questions}
    assert "traveled_distance" in tasks
    assert "movement_direction" not in tasks
    assert "direction_timestamp" not in tasks


def test_frame_times():
    assert frame_times(2.0) == [0, 0.5, 1, 1.5, 2]
    assert frame_times(19.5, 20)[0] == 0
    assert frame_times(19.5, 20)[-1] == 19.5
    assert len(frame_times(19.5, 20)) == 20
    assert len(frame_times(19.5)) == 40


def verdict(track, **options):
    settings = Settings(**options)
    return select(track, label_track(track.times, track.points, settings=settings), settings).reason


def test_who_may_be_asked_about():
    (track,) = clip("c", np.random.default_rng(3), objects=1)
    assert verdict(track) == "ok"
    change = dataclasses.replace
    assert verdict(change(track, source="nuscenes", category="movable_object.barrier")) == "not_movable"
    assert verdict(change(track, source="nuscenes", category="vehicle.car")) == "ok"
    assert verdict(change(track, xyz_world=[[0.0, 0, 0]] * 20)) == "static"
    assert verdict(change(track, xyz_world=[None] * 17 + track.xyz_world[17:])) == "too_short"
    assert verdict(change(track, boxes_2d=None)) == "no_boxes"
    half = [box if index % 2 else None for index, box in enumerate(track.boxes_2d)]
    assert verdict(change(track, boxes_2d=half)) == "hardly_seen"
    assert verdict(change(track, boxes_2d=half), min_shown_share=0.5) == "ok"
    flat = [[box[0], box[1], box[2], box[1] + 23.9] for box in track.boxes_2d]
    assert verdict(change(track, boxes_2d=flat)) == "hardly_seen"
    assert verdict(change(track, visibility=[1.0] * 11 + [2.0] * 9)) == "low_visibility"
    assert verdict(change(track, visibility=[1.0] * 10 + [4.0] * 10)) == "ok"
    assert verdict(change(track, num_points=[0.0] * 11 + [9.0] * 9)) == "few_points"
    assert verdict(change(track, num_points=[4.0] * 20)) == "ok"
    assert verdict(change(track, num_points=[4.0] * 20, source="argoverse2", category="BUS")) == "few_points"
    assert is_movable("argoverse2", "PEDESTRIAN")
    assert not is_movable("argoverse2", "BOLLARD")
    assert not is_movable("nuplan", "traffic_cone")


def test_boxes_that_hide_each_other_are_no_pair():
    one, two = clip("c", np.random.default_rng(3), objects=2)
    labels = [label_track(track.times, track.points) for track in (one, two)]

    def hidden(boxes):
        selections = [select(one, labels[0]), select(dataclasses.replace(two, boxes_2d=boxes), labels[1])]
        return covers(*selections, labels[0].times, labels[1].times)

    assert not hidden(two.boxes_2d)
    assert hidden(one.boxes_2d)
    small = [None] * 19 + [[one.boxes_2d[19][0] + 2, 20, one.boxes_2d[19][0] + 8, 50]]
    assert hidden(small)


def test_no_hour_is_more_than_its_share_even_when_two_are_frequent():
    counts = [100, 90, 8, 7, 6, 5]
    most = most_of_each(counts, 0.25)
    kept = [min(count, most) for count in counts]
    assert max(kept) <= 0.25 * sum(kept)
    more = [min(count, most + 1) for count in counts]
    assert max(more) > 0.25 * sum(more)
    assert most_of_each([5], 0.5) == 1
    assert most_of_each([3, 3], 0.5) == 3
