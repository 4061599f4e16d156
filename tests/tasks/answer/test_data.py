"""What is learned from: splits by scene, mixing by ratio, frames of questions, records that are refused."""

import json

import numpy as np
import pytest

from saccade.errors import ConfigError, DataError
from saccade.kinematics.draw import frames_key, write_frames
from saccade.kinematics.records import read_questions, read_tracks, write_records
from saccade.tasks.answer.vlm.adapters import adapter_for
from saccade.tasks.answer.vlm.data import AnswerData, Exchanges, read_conversations, read_mix, split_questions


@pytest.fixture
def adapter(bases):
    return adapter_for(bases("llava_onevision"))


def exchanges_of(stkit):
    return Exchanges(stkit / "questions.jsonl", str(stkit / "tracks.jsonl"), str(stkit))


def test_a_split_never_tears_a_scene_apart(stkit, tmp_path):
    train, val, note = split_questions(str(stkit / "questions.jsonl"), "", 0.2, 0)
    assert {q.split for q in train} == {"train"}
    assert {q.split for q in val} == {"val"}
    assert "of the split val" in note
    write_records(train, tmp_path / "questions.jsonl")
    few, held, note = split_questions(str(tmp_path / "questions.jsonl"), "", 0.5, 0)
    assert len(few) + len(held) == len(train)
    assert not {q.clip_id for q in few} & {q.clip_id for q in held}
    with pytest.raises(DataError, match="no questions to validate with"):
        split_questions(str(tmp_path / "questions.jsonl"), "", 0.0001, 0)


def test_frames_come_at_the_labels_own_instants_with_boxes(stkit, adapter):
    exchanges = exchanges_of(stkit)
    tracks = {(t.clip_id, t.track_id): t for t in read_tracks(stkit / "tracks.jsonl")}
    for question in list(read_questions(stkit / "questions.jsonl"))[:8]:
        exchange = exchanges.make(question, adapter)
        assert exchange.times_s == question.frame_times_s
        assert exchange.turns == [(question.question, question.answer)]
        for thing in question.objects:
            track = tracks[question.clip_id, thing["track_id"]]
            for time, drawn in zip(exchange.times_s, exchange.boxes, strict=True):
                assert drawn[thing["colour"]] == track.boxes_2d[track.timestamps_s.index(time)]
        assert exchanges.make(question, adapter, answered=False).turns == [(question.question, "")]


def test_frames_that_were_drawn_before(stkit, adapter, tmp_path):
    first, *rest = read_questions(stkit / "questions.jsonl")
    questions = [first, next(q for q in rest if frames_key(q) != frames_key(first))]
    tracks = list(read_tracks(stkit / "tracks.jsonl"))
    write_records(questions, tmp_path / "questions.jsonl")
    exchanges = Exchanges(tmp_path / "questions.jsonl")
    with pytest.raises(DataError, match="no such picture"):
        exchanges.make(questions[0], adapter)
    write_frames(questions[0], tracks, tmp_path / "frames", root=stkit, size=56)
    exchange = exchanges.make(questions[0], adapter)
    assert len(exchange.frames) == len(questions[0].frame_times_s)
    assert max(exchange.frames[0].size) == 56
    # Drawn for a model that sees more than this one: the lines would fade.
    write_frames(questions[1], tracks, tmp_path / "frames", root=stkit, size=200)
    with pytest.raises(DataError, match=r"the boxes would fade; draw them with --size 56"):
        exchanges.make(questions[1], adapter)


def test_mixing_by_ratio_is_repeatable(stkit, tmp_path):
    rows = [
        {"id": str(n), "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
        for n in range(50)
    ]
    (tmp_path / "many.json").write_text(json.dumps(rows))
    talks, notes = read_mix(f"{stkit}/general.jsonl, {tmp_path}/many.json:0.5", 40, 3)
    assert len(talks) == 3 + 20
    assert notes[1].startswith("20 of 50 conversations")
    again, _ = read_mix(f"{stkit}/general.jsonl,{tmp_path}/many.json:0.5", 40, 3)
    other, _ = read_mix(f"{stkit}/general.jsonl,{tmp_path}/many.json:0.5", 40, 4)
    assert talks == again != other
    _, notes = read_mix(f"{tmp_path}/many.json:9", 40, 0)
    assert notes == [f"50 of 50 conversations of {tmp_path}/many.json mixed in (360 were asked for)"]
    with pytest.raises(ConfigError, match="has the ratio 'x'"):
        read_mix(f"{tmp_path}/many.json:x", 40, 0)


def test_conversations_of_all_kinds_become_tensors(stkit, adapter):
    items = read_conversations(stkit / "general.jsonl")
    assert [item.turns[0][0] for item in items] == ["What is it?", "What is it?", "Hello?"]
    data = AnswerData(items, exchanges_of(stkit), adapter)
    assert data.groups.tolist() == [-1, -2, -3]
    names = [set(data[place]["sample"]) for place in range(3)]
    assert "pixel_values_videos" in names[0]
    assert "pixel_values" in names[1]
    assert names[2] == {"input_ids", "labels", "attention_mask"}
    assert not any(data[place]["skipped"] for place in range(3))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "x"}, "field conversations is None"),
        ({"conversations": [{"from": "human", "value": "q"}]}, "expected questions and answers in turn"),
        ({"conversations": [{"from": "gpt", "value": "q"}] * 2}, r"field conversations\[0\]"),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "image": ["a", "b"]},
            "field image is",
        ),
    ],
)  # fmt: skip
def test_records_that_are_no_conversations(tmp_path, record, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError, match=f"bad.jsonl: record 1.*{message}"):
        read_conversations(path)


def test_files_that_are_no_conversations(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_conversations(tmp_path / "a.json")
    with pytest.raises(DataError, match="no such file"):
        read_conversations(tmp_path / "b.json")


def test_what_cannot_be_read_is_named_and_replaced_in_training_only(stkit, adapter, tmp_path):
    bad = {"id": "gone", "video": "nowhere.mp4"}
    bad["conversations"] = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    (tmp_path / "bad.jsonl").write_text(json.dumps(bad) + "\n")
    items = [*read_conversations(tmp_path / "bad.jsonl"), *read_conversations(stkit / "general.jsonl")]
    training = AnswerData(items, exchanges_of(stkit), adapter, replace=True)[0]
    assert training["name"] == "seen"
    assert training["skipped"][0][0] == "gone"
    held = AnswerData(items, exchanges_of(stkit), adapter)[0]
    assert held["sample"] is None
    assert "nowhere.mp4" in held["skipped"][0][1]
    with pytest.raises(DataError, match="1 samples in a row cannot be read"):
        AnswerData(items[:1], exchanges_of(stkit), adapter, replace=True)[0]


def test_groups_are_numbers_of_frames(stkit, adapter):
    questions = list(read_questions(stkit / "questions.jsonl"))
    data = AnswerData(questions, exchanges_of(stkit), adapter)
    assert np.array_equal(data.groups, [len(q.frame_times_s) for q in questions])
