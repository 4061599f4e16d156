"""Questions about a set of motion clips, and those of them that show the same boxes side by side.

One clip with one choice of boxes is looked at once and asked everything that can be asked of it. Questions do not see
each other, so nothing is learned from a neighbour's answer; see `saccade.tasks.motion_answer`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from saccade.data.motion import MotionSet
from saccade.data.motion_samples import BOXES
from saccade.kinematics.answers import MULTI_STEP, TASKS
from saccade.kinematics.questions import Made, Plan, make_questions, render
from saccade.kinematics.records import Question
from saccade.kinematics.wordings import WORDINGS

COLOURS = ("red", "blue")
MAX_HOUR_SHARE = 0.25
"""No clock hour is the answer to more than a quarter of the questions about the last heading."""


def ask(
    motion: MotionSet,
    *,
    seed: int = 0,
    per_task: int | None = None,
    per_clip: int = 4,
    multi_share: float = 1.0,
) -> Made:
    """Make questions of all nine tasks about a set.

    Args:
        motion: The set.
        seed: Of their choice and wording.
        per_task: At most so many of a task.
        per_clip: At most so many of a task about one clip.
        multi_share: Share of the multi-step questions that are kept; they have the longest answers.
    """
    plan = Plan(
        seed=seed, tasks=(*TASKS, *MULTI_STEP), colours=COLOURS, per_clip=per_clip, per_task=per_task,
        max_hour_share=MAX_HOUR_SHARE,
    )  # fmt: skip
    made = make_questions(motion.tracks(), plan, motion.plan.settings)
    made.questions = [
        question
        for question in made.questions
        if question.task not in MULTI_STEP or int(question.id[-4:], 16) < multi_share * 16**4
    ]
    return made


@dataclass(frozen=True)
class Sight:
    """A clip with its boxes, and what is asked of it."""

    clip_id: str
    boxes: tuple[str | None, ...]
    """track_id in the red box and in the blue one."""
    questions: tuple[Question, ...]


def boxes_of(question: Question) -> tuple[str | None, ...]:
    """Return the track_id in each box of a question, red first."""
    drawn = {thing["colour"]: thing["track_id"] for thing in question.objects}
    return tuple(drawn.get(colour) for colour in COLOURS)


def gather(questions: Iterable[Question], *, seed: int = 0) -> list[Sight]:
    """Put questions about the same boxes together.

    Questions about one thing are written anew with the colour that all of them about this thing have, which is drawn
    by seed; nothing else of them changes.
    """
    found: dict[tuple[str, tuple[str | None, ...]], list[Question]] = {}
    chosen: dict[tuple[str, str], str] = {}
    random = np.random.default_rng([seed, 0xC0])
    for question in sorted(questions, key=lambda question: question.id):
        if len(question.objects) == 1:
            thing = (question.clip_id, question.objects[0]["track_id"])
            if thing not in chosen:
                chosen[thing] = COLOURS[int(random.integers(BOXES))]
            question = painted(question, chosen[thing])
        found.setdefault((question.clip_id, boxes_of(question)), []).append(question)
    return [Sight(clip, boxes, tuple(asked)) for (clip, boxes), asked in found.items()]


def painted(question: Question, colour: str) -> Question:
    """Write a question about one thing anew, with a box of another colour."""
    if question.objects[0]["colour"] == colour or question.template_id is None:
        return question
    speed = None
    if question.task in MULTI_STEP:
        from saccade.kinematics.wordings import ROUTES, THINGS

        known = ROUTES if question.task == "travel_time" else THINGS
        place = int(question.template_id.rpartition("/k")[2])
        speed = known[place][1] / float(question.value)
    text, reply = render(
        question.template_id, (colour, colour), question.value, polarity=question.polarity, clock=question.clock,
        window_s=question.window_s, speed=speed,
    )  # fmt: skip
    thing = {**question.objects[0], "colour": colour}
    return replace(question, question=text, answer=reply, objects=[thing])


def all_wordings() -> list[str]:
    """Return every wording there is, for a tokenizer to learn words from; questions kept from training too."""
    return [
        text
        for wordings in WORDINGS.values()
        for text in (*(form for forms in wordings.questions for form in forms), *wordings.answers)
    ]
