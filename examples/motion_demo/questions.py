"""Questions about a set of motion clips, and those of them that show the same boxes side by side.

One clip with one choice of boxes is looked at once and asked everything that can be asked of it. Questions do not see
each other, so nothing is learned from a neighbour's answer; see `motion_demo.answer_task`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from motion_demo.samples import BOXES
from motion_demo.sets import MotionSet
from saccade.kinematics.kinds import KINDS, kind_of
from saccade.kinematics.questions import Made, Plan, make_questions, rendered
from saccade.kinematics.records import Question
from saccade.kinematics.wordings import HELD_OUT

COLOURS = ("red", "blue")
TURNED = 0.5
"""How often "which goes less far?" is asked beside "which goes farther?", in training. Were both as frequent, which
one goes farther would by itself say nothing about the answer, and nothing would be learned of either at first."""
ALONE = 0.3
"""How often one thing of a pair is shown alone, in training, with the questions about it."""
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
        seed=seed, colours=COLOURS, per_clip=per_clip, per_task=per_task, max_hour_share=MAX_HOUR_SHARE
    )
    made = make_questions(motion.tracks(), plan, motion.plan.settings)
    made.questions = [
        question
        for question in made.questions
        if not KINDS[question.task].multi_step or int(question.id[-4:], 16) < multi_share * 16**4
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
            question = painted(question, {thing[1]: chosen[thing]})
        found.setdefault((question.clip_id, boxes_of(question)), []).append(question)
    return [Sight(clip, boxes, tuple(asked)) for (clip, boxes), asked in found.items()]


def gather_pairs(questions: Iterable[Question]) -> list[Sight]:
    """Put questions about any of the same two things together, for training.

    A comparison then stands beside the questions about either thing by itself, which are asked with both boxes in
    view: so it has to be learned which box is which before they can be compared. Things that are in no pair stand
    alone. Boxes are in the order of the names of their things; `varied` draws colours.
    """
    alone: dict[tuple[str, str], list[Question]] = {}
    pairs: dict[tuple[str, tuple[str, str]], list[Question]] = {}
    for question in sorted(questions, key=lambda question: question.id):
        names = sorted(thing["track_id"] for thing in question.objects)
        if len(names) == 1:
            alone.setdefault((question.clip_id, names[0]), []).append(question)
        else:
            pairs.setdefault((question.clip_id, (names[0], names[1])), []).append(question)
    paired = {(clip, name) for clip, names in pairs for name in names}
    found = [
        Sight(clip, (name, None), tuple(asked))
        for (clip, name), asked in alone.items()
        if (clip, name) not in paired
    ]
    for (clip, names), asked in pairs.items():
        both = [question for name in names for question in alone.get((clip, name), ())]
        found.append(Sight(clip, names, (*asked, *both)))
    return found


def varied(sight: Sight, seed: int, most: int) -> Sight:
    """Ask about a sight in other words: colours of boxes, wordings and what is asked for are drawn by seed.

    Args:
        sight: From `gather_pairs`. Of a pair, one thing is now and then shown alone.
        seed: Of this time.
        most: At most so many questions; comparisons come first.
    """
    random = np.random.default_rng([seed, 0xC1])
    boxes = sight.boxes if random.random() < 0.5 else sight.boxes[::-1]
    single = {question.objects[0]["track_id"] for question in sight.questions if len(question.objects) == 1}
    lone = [name for name in boxes if name in single]
    if None not in boxes and lone and random.random() < ALONE:
        chosen = lone[int(random.integers(len(lone)))]
        boxes = tuple(name if name == chosen else None for name in boxes)
    colours = {name: colour for name, colour in zip(boxes, COLOURS, strict=True) if name is not None}
    asked: list[Question] = []
    for place in random.permutation(len(sight.questions)):
        question = sight.questions[place]
        if any(thing["track_id"] not in colours for thing in question.objects):
            continue
        if len(question.objects) == 1:
            asked.append(painted(question, colours, random))
            continue
        plain, turned = KINDS[question.task].wordings.polarities
        asked.insert(0, painted(question, colours, random, plain))
        if random.random() < TURNED:
            asked.insert(1, painted(question, colours, random, turned))
    return Sight(sight.clip_id, boxes, tuple(asked[:most]))


def painted(
    question: Question,
    colours: Mapping[str, str],
    random: np.random.Generator | None = None,
    polarity: str | None = None,
) -> Question:
    """Write a question anew, with boxes of other colours.

    Args:
        question: Any of ours; others stay as they are.
        colours: {track_id: colour} of the things that it is about.
        random: Draws other wordings of question and answer, and which box is named first; None: they stay.
        polarity: Asked for in place of the question's own.
    """
    if question.template_id is None:
        return question
    task, wording, answer, *known = question.template_id.split("/")
    kind = kind_of(task)
    was = {thing["colour"]: thing["track_id"] for thing in question.objects}
    named = [colours[was[colour]] for colour in question.options or was]
    if random is not None:
        wording = f"q{random.integers(len(kind.wordings.questions) - HELD_OUT)}"
        answer = f"a{random.integers(len(kind.wordings.answers))}"
        if random.random() < 0.5:
            named.reverse()
    template = "/".join((task, wording, answer, *known))
    polarity = polarity or question.polarity
    things = [{**thing, "colour": colours[thing["track_id"]]} for thing in question.objects]
    changed = replace(
        question, polarity=polarity, template_id=template,
        value=kind.recoloured(question, {colour: colours[name] for colour, name in was.items()}, polarity),
        objects=sorted(things, key=lambda thing: COLOURS.index(thing["colour"])),
        options={colour: [colour] for colour in named} if len(named) == 2 else None,
    )  # fmt: skip
    return rendered(changed)
