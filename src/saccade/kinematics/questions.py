"""From labelled clips to a balanced set of questions.

What could be asked is gathered first; then colours, words and polarity are dealt out so that no answer is more
frequent than its opposite: every deal comes in complementary pairs, so any even number of questions is balanced.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np

from saccade.errors import ConfigError
from saccade.files import within
from saccade.kinematics.candidates import candidates_of, clips_of, open_clip
from saccade.kinematics.kinds import KINDS, task_names
from saccade.kinematics.kinds.base import Candidate, Deal
from saccade.kinematics.records import Question, Track
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.kinematics.wordings import CLOCK, GROUND, HELD_OUT
from saccade.settings import check


@dataclass(frozen=True)
class Plan:
    """How many questions are made, and of which kinds."""

    seed: Annotated[int, within(0)] = 0
    tasks: tuple[str, ...] = field(default_factory=task_names)
    colours: tuple[str, str] = ("red", "blue")
    per_clip: Annotated[int, within(1)] = 4
    """At most so many questions of a task about one clip."""
    per_task: Annotated[int, within(1)] | None = None
    """At most so many of a task in a split; a benchmark has 200."""
    num_frames: Annotated[int, within(2)] | None = None
    """Frames shown of a clip, evenly chosen; all points of the grid by default. Scores move with it."""
    held_out: bool = False
    """Use the wordings that are kept from training: the test of paraphrases."""
    max_hour_share: Annotated[float, within(high=1, above=0)] = 0.5
    """No clock hour is the answer to more than this share of the questions about end directions."""
    max_interval_share: Annotated[float, within(high=1, above=0)] = 0.9
    """An interval that fills more of the object's run is not asked for."""

    def __post_init__(self) -> None:
        check(self)
        if unknown := [task for task in self.tasks if task not in KINDS]:
            raise ConfigError(f"tasks: no task {unknown[0]!r}; choose from {', '.join(task_names())}")
        if len(set(self.colours)) != 2:
            raise ConfigError(f"colours is {self.colours}; expected two different ones")


@dataclass
class Made:
    """Questions, and what became of what could have been asked."""

    questions: list[Question] = field(default_factory=list)
    objects: Counter[str] = field(default_factory=Counter)
    """Objects by what became of them: ok, or why they were not used."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Candidates left out for balance, by task and reason."""


def make_questions(tracks: Iterable[Track], plan: Plan | None = None, settings: Settings = DEFAULT) -> Made:
    """Make a balanced set of questions.

    Args:
        tracks: Of any number of clips, with boxes.
        plan: Numbers and kinds.
        settings: Definitions and rules.

    Returns:
        Questions in random order, by seed: the same tracks and settings give the same file.
    """
    plan = plan or Plan()
    made = Made()
    pools: dict[tuple[str, str], list[tuple[Candidate, float]]] = defaultdict(list)
    for group in clips_of(tracks):
        clip = open_clip(group, made.objects, settings)
        # Seeded by the clip's own name, so that a clip more or less changes no other clip's questions.
        random = _random(plan.seed, clip.clip_id)
        found: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates_of(clip, random, settings, max_interval_share=plan.max_interval_share):
            if candidate.task in plan.tasks:
                found[candidate.task].append(candidate)
        for task, candidates in found.items():
            order = random.permutation(len(candidates))
            made.left_out[f"{task}: enough of this clip"] += max(0, len(candidates) - plan.per_clip)
            for index in order[: plan.per_clip]:
                pools[candidates[index].tracks[0].split, task].append((candidates[index], clip.duration_s))
    config = _config_hash(plan, settings)
    for (split, task), pool in sorted(pools.items()):
        random = _random(plan.seed, split, task)
        mixed = [pool[index] for index in random.permutation(len(pool))]
        chosen = KINDS[task].balanced(mixed, plan, made.left_out)
        deals = _deals(len(chosen), KINDS[task].sides, random)
        for (candidate, duration), deal in zip(chosen, deals, strict=True):
            made.questions.append(_question(candidate, duration, deal, plan, config, random, settings))
    order = _random(plan.seed, "order").permutation(len(made.questions))
    made.questions = [made.questions[index] for index in order]
    return made


def _random(seed: int, *names: str) -> np.random.Generator:
    """Generator that depends on names and not on the order of work."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _config_hash(plan: Plan, settings: Settings) -> str:
    """Twelve digits that change with anything that changes the questions."""
    text = json.dumps([asdict(plan), asdict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _deals(count: int, sides: int, random: np.random.Generator) -> list[Deal]:
    """Deal coins in complementary pairs, each of the eight ways equally often, to each side by itself."""
    kinds = list(itertools.product((0, 1), repeat=3))

    def stream() -> list[Deal]:
        found: list[Deal] = []
        while len(found) < count:
            # Each way once, followed by its complement: eight pairs that balance every coin after every two.
            for index in random.permutation(len(kinds)):
                coins = kinds[index]
                found += [Deal(*coins), Deal(*(1 - coin for coin in coins))]
        return found[:count]

    streams = [iter(stream()) for _ in range(sides)]
    return [next(streams[index % sides]) for index in range(count)]


def _question(
    candidate: Candidate,
    duration: float,
    deal: Deal,
    plan: Plan,
    config: str,
    random: np.random.Generator,
    settings: Settings,
) -> Question:
    """Choose colours and words."""
    task, kind = candidate.task, KINDS[candidate.task]
    wordings = kind.wordings
    training = len(wordings.questions) - HELD_OUT
    which = (
        random.integers(training, len(wordings.questions)) if plan.held_out else random.integers(0, training)
    )
    answer = int(random.integers(0, len(wordings.answers)))
    extra = int(random.integers(0, 1 << 30))
    polarity = wordings.polarities[deal.polarity] if len(wordings.polarities) > 1 else None
    settled = kind.settle(candidate, deal, polarity, plan.colours, extra)
    value, painted = settled.value, settled.painted
    colours = plan.colours if not deal.order else plan.colours[::-1]
    if kind.things == 1:
        colours = (painted[0], painted[0])
    track = candidate.tracks[0]
    template = "/".join((task, f"q{which}", f"a{answer}", *settled.known))
    text, reply = render(
        template,
        colours,
        value,
        polarity=polarity,
        clock=candidate.clock,
        window_s=candidate.window_s,
        speed=candidate.speed_kmh,
    )
    names = [*(thing.track_id for thing in candidate.tracks), *painted, template, str(candidate.window_s)]
    name = hashlib.sha256("\0".join([track.clip_id, task, *names]).encode()).hexdigest()[:16]
    return Question(
        id=f"{task}-{name}",
        clip_id=track.clip_id,
        task=task,
        question=text,
        answer=reply,
        value=value,
        objects=[
            {"track_id": thing.track_id, "colour": colour}
            for thing, colour in sorted(
                zip(candidate.tracks, painted, strict=True), key=lambda pair: plan.colours.index(pair[1])
            )
        ],
        source=track.source,
        split=track.split,
        group=track.group,
        unit=wordings.unit,
        window_s=None if candidate.window_s is None else list(candidate.window_s),
        options={colour: [colour] for colour in colours} if len(painted) == 2 else None,
        polarity=polarity,
        clock=candidate.clock,
        template_id=template,
        config_hash=config,
        duration_s=duration,
        frame_times_s=frame_times(duration, plan.num_frames, settings),
        camera_name=(track.camera or {}).get("name"),
    )


def render(
    template_id: str,
    colours: Sequence[str],
    value: Any,
    *,
    polarity: str | None = None,
    clock: int | None = None,
    window_s: Sequence[float] | None = None,
    speed: float | None = None,
) -> tuple[str, str]:
    """Write a question and its answer.

    Args:
        template_id: "task/q3/a1", for multi-step tasks "task/q3/a1/k2".
        colours: Of the boxes, in the order they are named.
        value: Of the record.
        polarity: more or less, same or different.
        clock: The hour asked for.
        window_s: Of a comparison of directions.
        speed: The object's average in km/h, for multi-step answers.

    Raises:
        ConfigError: No such template.
    """
    try:
        task, question, answer, *known = template_id.split("/")
        kind = KINDS[task]
        forms = kind.wordings.questions[int(question[1:])]
        reply = kind.wordings.answers[int(answer[1:])]
        facts = kind.known_words(known)
    except (KeyError, ValueError, IndexError):
        raise ConfigError(f"no template {template_id!r}; expected task/qN/aN of this version") from None
    polarities = kind.wordings.polarities
    text = forms[polarities.index(polarity) if polarity in polarities else 0]
    first, last = colours[0], colours[-1]
    words: dict[str, Any] = {
        "c": first, "c1": first, "c2": last, "clock": CLOCK, "ground": GROUND, "s": speed or 0.0, "h": clock, **facts,
    }  # fmt: skip
    if window_s is not None:
        words |= {"a": window_s[0], "b": window_s[1]}
    text = text.format(**words)
    reply = reply.format(**words | kind.answer_words(value, (first, last), polarity))
    return text[0].upper() + text[1:], reply[0].upper() + reply[1:]


def rendered(question: Question) -> Question:
    """Write the words of a changed question again, with its own template.

    Raises:
        ConfigError: It has no template, or one that what it asks for does not fit.
    """
    if question.template_id is None:
        raise ConfigError(f"question {question.id} has no template_id; expected one made by Saccade")
    try:
        if question.template_id.partition("/")[0] != question.task:
            raise ValueError(question.template_id)
        colours = list(question.options or {}) or [question.objects[0]["colour"]] * 2
        text, answer = render(
            question.template_id, colours, question.value, polarity=question.polarity, clock=question.clock,
            window_s=question.window_s, speed=KINDS[question.task].speed_of(question),
        )  # fmt: skip
    except (LookupError, TypeError, ValueError, ArithmeticError):
        raise ConfigError(
            f"question {question.id}: its value or window_s does not fit its template {question.template_id!r}; "
            "expected a question made by Saccade"
        ) from None
    return dataclasses.replace(question, question=text, answer=answer)


def frame_times(duration_s: float, count: int | None = None, settings: Settings = DEFAULT) -> list[float]:
    """Times of the frames that are shown: points of the grid, all of them or evenly chosen ones.

    Args:
        duration_s: From the first to the last.
        count: How many; the first and the last are always among them.
        settings: dt is used.
    """
    grid = np.arange(0, duration_s + 1e-6, settings.dt)
    if count is not None and count < len(grid):
        grid = grid[np.round(np.linspace(0, len(grid) - 1, count)).astype(int)]
    return [round(float(time), 6) for time in grid]
