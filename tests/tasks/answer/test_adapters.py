"""What the model is told: times, boxes, the answer it learns; and that a sample does not depend on its company."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tasks.answer.tiny import FAMILIES

from saccade.errors import ConfigError, DataError
from saccade.tasks.answer.vlm.adapters import IGNORED, adapter_for, metadata_of
from saccade.tasks.answer.vlm.clips import Exchange

RED = (255, 0, 0)


def pictures(count=4, size=(80, 48), seed=0):
    random = np.random.default_rng(seed)
    return [
        Image.fromarray(random.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(count)
    ]


def asked(question="How far does it go?", answer="It covers 12.34 meters.", count=4, start=0.0, **more):
    times = [start + 0.5 * place for place in range(count)]
    return Exchange([(question, answer)], pictures(count), times, **more)


@pytest.fixture(params=FAMILIES)
def adapter(request, bases):
    return adapter_for(bases(request.param))


def text_of(adapter, sample):
    return adapter.tokenizer.decode(sample["input_ids"][0])


def learned(adapter, sample):
    labels = sample["labels"][0]
    assert torch.equal(sample["input_ids"][0][labels != IGNORED], labels[labels != IGNORED])
    return adapter.tokenizer.decode(labels[labels != IGNORED])


def test_only_the_answer_is_learned_and_it_follows_the_prompt_that_asks_for_it(adapter):
    sample = adapter.encode(asked())
    end = adapter.tokenizer.eos_token
    assert learned(adapter, sample).strip() == f"It covers 12.34 meters.{end}"
    # What comes before is, token by token, what the model is given when it has to answer.
    prompt = adapter.encode(asked(answer=""))
    length = prompt["input_ids"].shape[1]
    assert torch.equal(sample["input_ids"][:, :length], prompt["input_ids"])
    assert (sample["labels"][:, :length] == IGNORED).all()
    assert (prompt["labels"] == IGNORED).all()


def test_every_answer_of_a_conversation_is_learned(adapter):
    turns = [("What is it?", "A car."), ("Which colour?", "Red.")]
    for exchange in (Exchange(turns), Exchange(turns, image=pictures(1)[0])):
        end = adapter.tokenizer.eos_token
        said = learned(adapter, adapter.encode(exchange))
        assert re.sub(r"\s", "", said) == re.sub(r"\s", "", f"A car.{end}Red.{end}")


def seconds_in(text):
    """The frames' seconds as the text has them."""
    sentence = re.search(r"taken at ([\d., ]+) seconds", text)
    return [float(part) for part in sentence[1].split(",")] if sentence else None


def seconds_by_frame(text):
    """Those that stand before the tokens of each frame."""
    return [float(second) for second in re.findall(r"([\d.]+)s<\|video\|>", text)]


def test_the_seconds_of_the_frames_are_told(adapter):
    """From 3.5 s on: a model that believes the clip to begin at 0 would answer in wrong seconds."""
    sample = adapter.encode(asked(start=3.5))
    text = text_of(adapter, sample)
    if adapter.family == "qwen3_vl":
        # Two frames are one step of time; the class writes their mean, to one decimal.
        assert re.findall(r"<([\d.]+) seconds>", text) == ["3.8", "4.8"]
        assert seconds_in(text) is None
        return
    if adapter.family == "saccade_vl":
        assert seconds_by_frame(text) == [3.5, 4.0, 4.5, 5.0]
        assert sample["frame_seconds"].tolist() == [[3.5, 4.0, 4.5, 5.0]]
        return
    assert seconds_in(text) == [3.5, 4.0, 4.5, 5.0]
    if adapter.family == "qwen2_5_vl":
        assert sample["second_per_grid_ts"].tolist() == [1.0]  # two frames of half a second
    if adapter.family == "smolvlm":
        assert re.findall(r"Frame from (\d\d:\d\d)", text) == ["00:03", "00:04", "00:04", "00:05"]


@pytest.mark.parametrize(
    ("times", "spacing"), [([0, 0.5, 1.0], 0.5), ([2.0, 2.2, 2.4, 2.6], 0.2), ([7.0], 0.5)]
)
def test_metadata_has_the_true_seconds_and_the_true_rate(times, spacing):
    found = metadata_of(times)
    assert found.timestamps == pytest.approx(times, abs=1e-3)
    assert found.sampled_fps == pytest.approx(1 / spacing, rel=1e-3)


def test_frames_with_uneven_seconds_are_named_one_by_one(adapter):
    exchange = Exchange([("How far?", "1 m.")], pictures(4), [0.0, 0.5, 2.0, 2.25])
    text = text_of(adapter, adapter.encode(exchange))
    if adapter.family == "saccade_vl":
        assert seconds_by_frame(text) == [0.0, 0.5, 2.0, 2.25]
    elif adapter.family != "qwen3_vl":
        assert seconds_in(text) == [0.0, 0.5, 2.0, 2.25]
    else:
        assert re.findall(r"<([\d.]+) seconds>", text) == ["0.2", "2.1"]


def test_boxes_are_drawn_at_the_models_resolution(adapter):
    """A box in a frame much larger than what the model sees: its lines are three pixels there, and pure red."""
    frames = [Image.new("RGB", (640, 480), (20, 20, 20)) for _ in range(2)]
    exchange = Exchange([("q", "a")], frames, [0, 0.5], [{"red": [160, 120, 480, 360]}, {"red": None}])
    shown, plain = adapter.fit(exchange)
    size = adapter.frame_size(640, 480, 2)
    assert shown.size == plain.size == size
    pixels = np.asarray(shown).astype(int)
    red = (pixels == RED).all(-1)
    middle = red[size[1] // 2]
    assert middle.sum() == 6  # two lines of three pixels
    assert np.flatnonzero(middle).mean() == pytest.approx(size[0] / 2 - 0.5, abs=1)
    assert not (np.asarray(plain) == RED).all(-1).any()
    # And this is what the network gets: nothing is resized after drawing.
    inputs = adapter.encode(exchange)
    pixels = next(value for name, value in inputs.items() if name in ("pixel_values_videos", "pixel_values"))
    if pixels.dim() == 5:
        assert tuple(pixels.shape[-2:]) == (size[1], size[0])
    else:
        patch = adapter.processor.video_processor.patch_size
        assert inputs["video_grid_thw"][0, 1:].tolist() == [size[1] // patch, size[0] // patch]
    mean, std = (
        np.array(getattr(adapter.processor.video_processor, f"image_{part}")) for part in ("mean", "std")
    )
    brightest = (1 - mean[0]) / std[0]
    assert pixels.max().item() == pytest.approx(brightest, abs=1e-3)


def test_red_stays_red_and_blue_blue(adapter):
    exchange = asked(count=2, boxes=[{"red": [5, 5, 30, 30], "blue": [40, 10, 70, 40]}] * 2)
    pixels = np.asarray(adapter.fit(exchange)[0]).astype(int)
    red, blue = (pixels == RED).all(-1), (pixels == (0, 64, 255)).all(-1)
    assert 0 < np.nonzero(red)[1].mean() < np.nonzero(blue)[1].mean()


def test_blank_frames_hide_clip_and_boxes(adapter):
    exchange = asked(boxes=[{"red": [5, 5, 30, 30]}] * 4)
    shown = adapter.fit(exchange, blank=True)
    assert {frame.getpixel((3, 3)) for frame in shown} == {(127, 127, 127)}
    assert all(len(frame.getcolors()) == 1 for frame in shown)
    seen, blank = adapter.encode(exchange), adapter.encode(exchange, blank=True)
    assert torch.equal(seen["input_ids"], blank["input_ids"])


def test_a_batch_is_its_samples_padded(adapter):
    samples = [
        adapter.encode(asked("How far?")),
        adapter.encode(asked("How far does the object in the red box go?")),
        adapter.encode(Exchange([("Hello?", "Hi.")])),
    ]
    batches = adapter.join(samples)
    assert sorted(place for places, _ in batches for place in places) == [0, 1, 2]
    for left in (False, True):
        for places, inputs in adapter.join(samples, left=left):
            for row, place in enumerate(places):
                own = inputs["attention_mask"][row].bool()
                assert torch.equal(inputs["input_ids"][row][own], samples[place]["input_ids"][0])
                assert torch.equal(inputs["labels"][row][own], samples[place]["labels"][0])
                assert (inputs["labels"][row][~own] == IGNORED).all()


def test_marks_inside_a_question_are_refused_or_harmless(adapter):
    with pytest.raises(DataError, match=r"the processor of .* refuses it"):
        adapter.encode(asked(f"What is {adapter.processor.video_token} {adapter.processor.video_token}?"))


def test_frames_that_do_not_fit_together(adapter):
    mixed = [*pictures(1), *pictures(1, (40, 40))]
    with pytest.raises(DataError, match="frames of different sizes"):
        adapter.encode(Exchange([("q", "a")], mixed, [0, 0.5]))
    with pytest.raises(DataError, match="2 frames and 1 times"):
        Exchange([("q", "a")], mixed, [0])
    with pytest.raises(DataError, match="do not rise"):
        Exchange([("q", "a")], mixed, [0.5, 0.5])


def test_a_template_that_loses_the_answer_is_refused(bases, monkeypatch):
    adapter = adapter_for(bases("llava_onevision"))
    monkeypatch.setattr(type(adapter), "_template", lambda self, messages, asks: f"{len(messages)}")
    with pytest.raises(ConfigError, match="does not put an answer after the prompt"):
        adapter.encode(asked())
