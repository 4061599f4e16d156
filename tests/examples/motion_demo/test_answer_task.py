"""Several questions about a clip that was seen beforehand: each is answered as if it were asked alone."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from PIL import Image

from motion_demo.answer_task import PADDING, PREFIX, SightData, sees
from motion_demo.eyes import eyes_of_run
from motion_demo.network import build_motion
from motion_demo.questions import ask, gather, gather_pairs, varied
from motion_demo.sets import MotionPlan, MotionSet, draw_set
from motion_demo.stages import RECIPES
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe
from saccade.errors import DataError
from saccade.kinematics.answer_scores import score_parsed
from saccade.kinematics.answers import parse_answer
from saccade.kinematics.records import write_records
from saccade.tasks import LossContext, get_task
from saccade.tasks.answer.vlm import Exchange, new_base
from saccade.tasks.answer.vlm.adapters import adapter_for
from saccade.tasks.answer.vlm.assemble import TextPlan
from saccade.tasks.answer.vlm.model import build_vlm
from saccade.weights import Card


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("demo")
    for name, rigs, clips in (("train", "train", 12), ("develop", "new", 6)):
        motion = draw_set(home / name, MotionPlan(clips=clips, seed=3, rigs=rigs, size=32, frames=6))
        write_records(ask(motion).questions, home / f"{name}.jsonl")
    torch.manual_seed(0)
    eyes = eyes_of_run(build_motion("motion_tiny", {}), "motion_tiny", {}, 32)
    words = [f"{q.question} {q.answer}" for q in ask(MotionSet(home / "train")).questions]
    plan = TextPlan(width=32, layers=1, vocabulary=400)
    new_base(home / "base", eyes=eyes, words=words, plan=plan)
    return home


def test_packed_questions_are_answered_as_if_asked_alone(home):
    motion, adapter = MotionSet(home / "train"), adapter_for(str(home / "base"))
    data = SightData(str(home / "train.jsonl"), motion, adapter, 0)
    index = max(range(len(data)), key=lambda k: len(data.sights[k].questions))
    sight, sample = data.sights[index], data[index]
    assert len(sight.questions) > 2
    task = get_task("motion_answer")
    task._adapter = adapter  # pyright: ignore[reportAttributeAccessIssue]
    card = Card(model=str(home / "base"), task="motion_answer")
    fast = task.build(card).eval()
    plain = build_vlm(str(home / "base"), {}).eval()
    part = task.collate([sample])["parts"][0]
    every = torch.arange(part["inputs"]["input_ids"].shape[1])
    with torch.no_grad():
        packed = fast(part["inputs"], every)[0]
    number = motion.plan.clips and data.numbers[sight.clip_id]
    tracks = [track for track in motion.tracks() if track.clip_id == sight.clip_id]
    boxes: list[Any] = [{} for _ in range(6)]
    for colour, name in zip(("red", "blue"), sight.boxes, strict=True):
        for track in tracks:
            for t, box in enumerate(track.boxes_2d or ()):
                if track.track_id == name:
                    boxes[t][colour] = box
    frames = [Image.fromarray(frame) for frame in motion.images(number)]
    for place, question in enumerate(sight.questions):
        turns = [(question.question, question.answer)]
        alone = adapter.encode(Exchange(turns, frames, list(question.frame_times_s or ()), boxes))
        mine = (sample["owner"] == place) | (sample["owner"] == PREFIX)
        assert torch.equal(sample["ids"][mine], alone["input_ids"][0])
        labels = alone.pop("labels")
        assert torch.equal(sample["labels"][mine], labels[0])
        with torch.no_grad():
            one = plain(alone, torch.arange(labels.shape[1]))[0]
        own = (sample["owner"] == place)[mine]
        assert torch.allclose(
            packed[mine][own], one[own], atol=0.02
        )  # what was seen is kept in half precision


def test_a_question_sees_the_clip_and_itself():
    mask = sees(torch.tensor([[PREFIX, PREFIX, 0, 0, 1, PADDING]]))[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_gathered_questions_keep_their_truth(home):
    asked = ask(MotionSet(home / "train")).questions
    sights = gather(asked)
    assert sum(len(sight.questions) for sight in sights) == len(asked)
    for sight in sights:
        for question in sight.questions:
            drawn = {thing["colour"] for thing in question.objects}
            assert {
                colour for colour, name in zip(("red", "blue"), sight.boxes, strict=True) if name
            } == drawn
            if len(drawn) == 1:
                named = set(re.findall(r"\b(?:red|blue)\b", question.question.lower()))
                assert named == drawn, question.question
            parsed = parse_answer(question.task, question.answer, question.context)
            assert score_parsed(question.task, question.value, parsed).correct, question


def test_the_recipe_trains_and_what_is_tuned_fits_the_base(home, tmp_path):
    flags = {
        "data.source": str(home / "train.jsonl"), "data.val": str(home / "develop.jsonl"),
        "data.labels": str(home / "train"), "data.pictures": str(home / "develop"), "model.name": str(home / "base"),
        "data.batch": 4, "run.max_steps": 2, "run.device": "cpu", "run.threads": 1,
    }  # fmt: skip
    result = train(
        build_recipe(file=RECIPES / "motion_answer.yaml", flags=flags)[0],
        tmp_path / "run",
        log=lambda line: None,
    )
    assert 0 < result.metrics["likelihood"] < 1
    from saccade.tasks.open import load_model

    model, card = load_model(tmp_path / "run")
    assert card.task == "answer"  # a tuned base as any other
    assert type(model).__name__ == "VideoLanguageModel"  # which is given frames


def test_the_loss_falls(home):
    task = get_task("motion_answer")
    card = Card(model=str(home / "base"), task="motion_answer")
    task.complete(card)
    data = SightData(str(home / "train.jsonl"), MotionSet(home / "train"), adapter_for(card.model), 0)
    task._adapter = data.adapter  # pyright: ignore[reportAttributeAccessIssue]
    batch = task.collate([data[k] for k in range(6)])
    model = task.build(card)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(20):
        loss = task.loss(model, batch, LossContext(0.0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_varied_questions_keep_their_truth(tmp_path):
    """Colours, wordings and what is asked for change; the things that are asked about, and so the answers, do not."""
    asked = ask(draw_set(tmp_path, MotionPlan(clips=24, seed=4, size=32, frames=8))).questions
    winners = {
        (names_of(question), question.task): winner_of(question) for question in asked if question.options
    }
    sights = gather_pairs(asked)
    pairs = [sight for sight in sights if None not in sight.boxes]
    assert {len(question.objects) for sight in pairs for question in sight.questions} == {1, 2}
    wordings, alone = set(), 0
    for sight in sights:
        for seed in range(6):
            found = varied(sight, seed, 5)
            assert found == varied(sight, seed, 5)
            assert 1 <= len(found.questions) <= 5
            alone += sight in pairs and None in found.boxes
            boxes: dict[str, str | None] = dict(zip(("red", "blue"), found.boxes, strict=True))
            for question in found.questions:
                wordings.add(question.template_id)
                drawn = {thing["colour"]: thing["track_id"] for thing in question.objects}
                assert all(boxes[colour] == name for colour, name in drawn.items())
                named = set(re.findall(r"\b(?:red|blue)\b", question.question.lower()))
                assert named == set(drawn), question.question
                parsed = parse_answer(question.task, question.answer, question.context)
                assert score_parsed(question.task, question.value, parsed).correct, question
                if question.options:
                    assert winners[names_of(question), question.task] == winner_of(question)
    assert alone
    assert len(wordings) > 2 * len({question.task for question in asked})
    # Wordings that are kept from training stay out of it.
    assert not any("/q8/" in wording or "/q9/" in wording for wording in wordings)


def test_questions_of_others_are_refused_for_training(home, tmp_path):
    motion = MotionSet(home / "train")
    foreign = [dataclasses.replace(question, template_id=None) for question in ask(motion).questions[:3]]
    write_records(foreign, tmp_path / "q.jsonl")
    adapter = adapter_for(str(home / "base"))
    with pytest.raises(DataError, match="has no template_id"):
        SightData(str(tmp_path / "q.jsonl"), motion, adapter, 0, vary=True)
    assert len(SightData(str(tmp_path / "q.jsonl"), motion, adapter, 0))


def names_of(question):
    """The clip and the things of a question."""
    return question.clip_id, *sorted(thing["track_id"] for thing in question.objects)


def winner_of(question):
    """What does not depend on colours and on what is asked for: who goes farther, or whether both go alike."""
    if question.task == "direction_comparison":
        return question.value
    drawn = {thing["colour"]: thing["track_id"] for thing in question.objects}
    names = [drawn[question.value], *(name for colour, name in drawn.items() if colour != question.value)]
    return names[0] if question.polarity == "more" else names[1]
