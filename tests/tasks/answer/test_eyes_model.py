"""Our eyes before a text model: made from parts, opened by transformers' own classes, generating, refusing."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from tests.tasks.answer.tiny import CHATML, make_own_base, make_tokenizer

from saccade.errors import ConfigError, DataError, ShapeError, WeightsError
from saccade.kinematics.records import read_questions, write_records
from saccade.tasks.answer.vlm.adapters import adapter_for, metadata_of
from saccade.tasks.answer.vlm.answering import open_answerer
from saccade.tasks.answer.vlm.assemble import TextPlan, new_base, register
from saccade.tasks.answer.vlm.clips import Exchange, fill_boxes, only_boxes, only_pixels
from saccade.tasks.answer.vlm.data import Exchanges
from saccade.tasks.answer.vlm.eyes import Eyes, EyesConfig, save_eyes
from saccade.tasks.answer.vlm.model import build_vlm
from saccade.vlm.compare import compare_answers

SEEN: dict[str, Any] = {"encoder": "stvit/test_vit", "img_size": 64, "tokens": 4, "depth": 1}


def make_text(folder, *, kind="qwen2", tied=False, template=True):
    """Save a tiny text model as a user would find one."""
    tokenizer = make_tokenizer("qwen2_5_vl")
    if template:
        tokenizer.chat_template = CHATML.replace("VIDEO", "''").replace("IMAGE", "''")
    ends: Any = tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "gpt2":
            sizes: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}
            config: Any = transformers.GPT2Config(vocab_size=len(tokenizer), **sizes)
        else:
            config = transformers.Qwen2Config(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=tied,
                eos_token_id=ends,
            )  # fmt: skip
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A base of trained eyes and a text model with weights and chat template of its own."""
    home = tmp_path_factory.mktemp("parts")
    torch.manual_seed(3)
    save_eyes(Eyes(EyesConfig(**SEEN)), home / "eyes.safetensors")
    text = make_text(home / "text")
    facts = new_base(home / "base", eyes=home / "eyes.safetensors", text=text)
    return home, facts


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    """A base whose boxes are channels."""
    return str(make_own_base(tmp_path_factory.mktemp("channels") / "base", in_chans=5))


def pictures(count=3, size=(80, 48), seed=0):
    random = np.random.default_rng(seed)
    return [
        Image.fromarray(random.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(count)
    ]


def asked(answer="", question="How far?", **more):
    frames = pictures()
    return Exchange([(question, answer)], frames, [0.5 * k for k in range(len(frames))], **more)


def inputs_of(base, *exchanges):
    ((_, inputs),) = adapter_for(str(base)).join(
        [adapter_for(str(base)).encode(e) for e in exchanges], left=True
    )
    inputs.pop("labels")
    return inputs


@torch.no_grad()
def test_parts_are_taken_over_and_every_auto_class_opens_the_whole(parts):
    home, facts = parts
    register()
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(home / "base").eval()
    assert type(model).__name__ == "SaccadeVLForConditionalGeneration"
    assert isinstance(transformers.AutoConfig.from_pretrained(home / "base"), type(model.config))
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    text = load_file(home / "text" / "model.safetensors")
    own = model.language_model.state_dict()
    # One row was added for the video token where there was no room for it.
    assert all(torch.equal(own[name][: len(value)], value) for name, value in text.items())
    assert len(own["lm_head.weight"]) == len(text["lm_head.weight"]) + 1
    inputs = inputs_of(home / "base", asked())
    logits = model(**inputs).logits
    for kind in (
        transformers.AutoModel,
        getattr(transformers, "AutoModelForMultimodalLM", transformers.AutoModel),
    ):
        assert torch.equal(kind.from_pretrained(home / "base").eval()(**inputs).logits, logits)
    # What is fed to the text model is the eyes' tokens, by hand.
    seen = model.projector(model.eyes(inputs["pixel_values_videos"], inputs["frame_seconds"]))
    words = model.get_input_embeddings()(inputs["input_ids"])
    words[inputs["input_ids"] == model.config.video_token_id] = seen.flatten(0, 2)
    torch.testing.assert_close(model.language_model(inputs_embeds=words).logits, logits)
    assert (inputs["input_ids"] == model.config.video_token_id).sum() == 3 * 4


@torch.no_grad()
def test_attention_kernels_switch_and_agree(parts):
    base = parts[0] / "base"
    register()
    inputs = inputs_of(base, asked())
    found = {}
    for name in ("eager", "sdpa"):
        model: Any = transformers.AutoModelForImageTextToText.from_pretrained(base, attn_implementation=name)
        assert model.language_model.config._attn_implementation == name
        found[name] = model.eval()(**inputs).logits
    torch.testing.assert_close(found["eager"], found["sdpa"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_generation_with_a_cache_is_that_without_and_company_changes_nothing(parts):
    base = parts[0] / "base"
    model = build_vlm(str(base), {}).eval()
    inputs = inputs_of(base, asked(), asked(question="How far does the object in the red box go?"))
    how = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with_cache = model.network.generate(**inputs, use_cache=True, **how)
    assert torch.equal(with_cache, model.network.generate(**inputs, use_cache=False, **how))
    assert torch.equal(with_cache[:1, -8:], model.network.generate(**inputs_of(base, asked()), **how)[:, -8:])
    assert with_cache.shape[1] == inputs["input_ids"].shape[1] + 8


@pytest.mark.parametrize("tied", [False, True])
def test_tied_words_stay_tied_and_are_written_once(tmp_path, tied):
    text = make_text(tmp_path / "text", tied=tied, template=False)
    new_base(tmp_path / "base", eyes=EyesConfig(**SEEN), text=text)
    model = build_vlm(str(tmp_path / "base"), {}).network
    words, last = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (words is last) == tied
    names = dict(model.named_parameters())
    assert ("language_model.lm_head.weight" in names) != tied
    model.save_pretrained(tmp_path / "again")
    again = type(model).from_pretrained(tmp_path / "again")
    assert (again.get_input_embeddings().weight is again.get_output_embeddings().weight) == tied
    assert all(torch.equal(p, names[name]) for name, p in again.named_parameters())
    # LoRA leaves the layer that gives logits alone: with tied words it would change what is read.
    tuned = build_vlm(str(tmp_path / "base"), {"lora": 2})
    lora = [name for name in tuned.kept if ".lora_" in name]
    assert lora
    assert not [name for name in lora if "lm_head" in name or "eyes" in name]


def test_any_text_model_and_its_own_chat_template(parts, tmp_path):
    gpt2 = make_text(tmp_path / "gpt2", kind="gpt2", template=False)
    new_base(tmp_path / "base", eyes=EyesConfig(**SEEN), text=gpt2)
    assert isinstance(open_answerer(tmp_path / "base", device="cpu").answer([asked()])[0], str)
    plain = adapter_for(str(tmp_path / "base")).render(asked("12 m."))
    assert plain == [("User: <|video|>\nHow far?\nAssistant: ", "12 m.<|im_end|>")]
    own = adapter_for(str(parts[0] / "base")).render(asked("12 m."))
    start, end = "<|im_start|>", "<|im_end|>"
    asks = f"{start}user\n<|video|>\nHow far?{end}\n{start}assistant\n"
    assert own == [(asks, f"12 m.{end}")]


def test_the_processor_alone_tells_the_seconds_or_refuses(parts):
    register()
    processor: Any = transformers.AutoProcessor.from_pretrained(parts[0] / "base")
    frames = np.stack([np.asarray(frame) for frame in pictures()])
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "How far?"}]}]
    )
    found = processor(
        text=[text], videos=[frames], video_metadata=[metadata_of([1.0, 1.5, 4.0])], return_tensors="pt"
    )
    assert found["pixel_values_videos"].shape == (1, 3, 3, 64, 64)
    assert found["frame_seconds"].tolist() == [[1.0, 1.5, 4.0]]
    written = processor.tokenizer.decode(found["input_ids"][0])
    token = "<|video|>" * 4
    assert f"1.0s{token}1.5s{token}4.0s{token}\nHow far?" in written
    with pytest.raises(DataError, match="frames came without their seconds; expected video_metadata"):
        processor(text=[text], videos=[frames], return_tensors="pt")


def test_boxes_as_channels(channels):
    adapter = adapter_for(channels)
    boxes: Any = [{"red": [0, 0, 40, 24], "blue": [60, 40, 60.5, 40.5]}, {"red": None}, {}]
    sample = adapter.encode(asked("It covers 12 meters.", boxes=boxes))
    pixels = sample["pixel_values_videos"]
    assert pixels.shape == (1, 3, 5, 64, 64)
    red, blue = pixels[0, 0, 3], pixels[0, 0, 4]
    assert red[:32, :32].min() == 1  # a quarter of the frame
    assert red.sum() == 32 * 32
    assert blue.nonzero().tolist() == [[53, 48]]  # smaller than a pixel
    assert pixels[0, 1:, 3:].abs().sum() == 0
    # The picture is that without boxes: nothing is drawn into it.
    bare = adapter.encode(asked("It covers 12 meters."))["pixel_values_videos"]
    assert torch.equal(bare[:, :, :3], pixels[:, :, :3])
    assert bare[:, :, 3:].abs().sum() == 0
    hidden = adapter.encode(asked(boxes=boxes), blank=True)["pixel_values_videos"]
    assert hidden[:, :, 3:].abs().sum() == 0
    assert torch.equal(hidden[0, 0], hidden[0, 1])
    with pytest.raises(DataError, match="have none for green; expected red or blue"):
        adapter.encode(asked(boxes=[{"green": [0, 0, 9, 9]}] * 3))
    assert fill_boxes([{"red": [-20, -20, -5, -5]}], (80, 48), (64, 64), ["red"]).sum() == 0
    assert fill_boxes([{"red": [-5, -5, 900, 900]}], (80, 48), (64, 64), ["red"]).mean() == 1


def test_a_part_of_a_clip_is_shown_alone(channels):
    adapter = adapter_for(channels)
    whole = asked(boxes=[{"red": [0, 0, 40, 24]}] * 3)
    both, nothing = (adapter.encode(whole, blank=blank)["pixel_values_videos"] for blank in (False, True))
    boxes = adapter.encode(only_boxes(whole))["pixel_values_videos"]
    pixels = adapter.encode(only_pixels(whole))["pixel_values_videos"]
    assert torch.equal(boxes, torch.cat([nothing[:, :, :3], both[:, :, 3:]], 2))
    assert torch.equal(pixels, torch.cat([both[:, :, :3], nothing[:, :, 3:]], 2))
    assert boxes[:, :, 3:].any()
    assert not torch.equal(pixels[:, :, :3], boxes[:, :, :3])


class Looks:
    """Is right where it sees what it looks for, the boxes or the pixels."""

    name = "looks"

    def __init__(self, right, part):
        self.right, self.part = right, part

    def answer(self, exchanges, *, blank=False):
        seen = [self._sees(exchange) and not blank for exchange in exchanges]
        return [self.right[e.name] if sees else "?" for e, sees in zip(exchanges, seen, strict=True)]

    def _sees(self, exchange):
        if self.part == "boxes":
            return any(box is not None for boxes in exchange.boxes for box in boxes.values())
        return any(low != high for frame in exchange.frames for low, high in frame.getextrema())


@pytest.mark.parametrize("part", ["boxes", "pixels"])
def test_a_model_of_box_channels_is_scored_by_each_alone(part, channels, stkit, tmp_path):
    for split in ("train", "val"):
        kept = (q for q in read_questions(stkit / "questions.jsonl") if q.split == split)
        write_records(kept, tmp_path / f"{split}.jsonl")
    right = {q.id: q.answer for q in read_questions(tmp_path / "val.jsonl")}
    how: dict[str, Any] = {"labels": str(stkit / "tracks.jsonl"), "pictures": str(stkit)}
    how |= {"train": tmp_path / "train.jsonl", "batch": 64}
    looks, bench = Looks(right, part), tmp_path / "val.jsonl"
    found = compare_answers(looks, adapter_for(channels), bench, tmp_path / "score", **how)
    assert list(found.rows) == ["model", "question only", "boxes only", "pixels only", "constant"]
    for who, share in (("model", 1), ("question only", 0), (f"{part} only", 1)):
        assert {cell.value for cell in found.rows[who].values()} == {share}, who
    other = {"boxes": "pixels only", "pixels": "boxes only"}[part]
    assert {cell.value for cell in found.rows[other].values()} == {0}
    with pytest.raises(ConfigError, match="there is such a row already"):
        compare_answers(looks, None, bench, tmp_path / "b", others={"boxes only": bench}, **how)
    drawn = compare_answers(looks, None, bench, tmp_path / "drawn", **how)
    assert list(drawn.rows) == ["model", "question only", "constant"]


def test_frames_with_drawn_boxes_are_refused_where_boxes_are_channels(channels, stkit):
    question = next(read_questions(stkit / "questions.jsonl"))
    with pytest.raises(DataError, match=r"takes boxes as channels, .* name the tracks with --labels"):
        Exchanges(stkit / "questions.jsonl").make(question, adapter_for(channels))


@torch.no_grad()
def test_held_in_bfloat16_it_says_about_the_same(channels):
    inputs = inputs_of(channels, asked(boxes=[{"red": [10, 10, 70, 40]}] * 3))
    keep = torch.tensor([inputs["input_ids"].shape[1] - 1])
    whole = build_vlm(channels, {}).eval()(inputs, keep)
    for options in ({"dtype": "bf16"}, {"dtype": "bf16", "lora": 2}):
        half = build_vlm(channels, options).eval()(inputs, keep)
        assert half.dtype == torch.bfloat16
        assert (half.float() - whole).abs().max() < 0.05 * whole.abs().max()


def test_boxes_are_learned_from_and_gradients_reach_the_eyes(channels):
    adapter, model = adapter_for(channels), build_vlm(channels, {"vision": True}).train()
    said = [("red", " red"), ("blue", " blue")]
    samples = [
        adapter.encode(asked(answer, boxes=[{colour: [10, 10, 70, 40]}] * 3)) for colour, answer in said
    ]
    ((_, inputs),) = adapter.join(samples)
    labels = inputs.pop("labels")
    keep = (labels[:, 1:] != -100).any(0).nonzero()[:, 0]
    targets = labels[:, keep + 1]
    step = torch.optim.AdamW(model.parameters(), 2e-3)
    torch.manual_seed(0)
    losses = []
    for _ in range(95):
        logits = model(inputs, keep)
        loss = torch.nn.functional.cross_entropy(logits[targets != -100], targets[targets != -100])
        loss.backward()
        if not losses:
            dead = [n for n, p in model.network.eyes.named_parameters() if p.grad is None or not p.grad.any()]
            assert [name for name in dead if "norm_in.bias" not in name] == []
        step.step()
        step.zero_grad()
        losses.append(float(loss.detach()))
    # The pictures are the same: only the channels tell the answers apart. Without them no loss is below log(2) / 2.
    assert losses[-1] < 0.3 < math.log(2) / 2 < losses[0]


def test_recomputation_reaches_the_eyes_and_changes_no_gradient(channels):
    inputs, found = inputs_of(channels, asked()), []
    keep = torch.tensor([inputs["input_ids"].shape[1] - 1])
    for on in (False, True):
        model = build_vlm(channels, {"vision": True}).train()
        model.set_grad_checkpointing(on)
        assert model.network.eyes.recompute == on
        model(inputs, keep).square().mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-7) for name in found[0])


def test_nothing_of_transformers_is_loaded_or_told_before_it_is_asked_for():
    code = "import sys\nfrom saccade.tasks.answer.vlm import assemble, eyes\nassert 'transformers' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_inputs_that_do_not_fit(parts):
    model: Any = build_vlm(str(parts[0] / "base"), {}).network
    inputs = inputs_of(parts[0] / "base", asked())
    with pytest.raises(ShapeError, match="the text has 12 video tokens and the clips give 8"):
        model(**inputs | {"pixel_values_videos": inputs["pixel_values_videos"][:, :2],
                          "frame_seconds": inputs["frame_seconds"][:, :2]})  # fmt: skip
    with pytest.raises(ShapeError, match="clips came without input_ids or frame_seconds"):
        model(**{name: value for name, value in inputs.items() if name != "frame_seconds"})


def test_parts_that_do_not_fit(parts, tmp_path):
    home, eyes, out = parts[0], EyesConfig(**SEEN), tmp_path / "base"
    with pytest.raises(ConfigError, match="say what the eyes stand before"):
        new_base(out, eyes=eyes)
    with pytest.raises(ConfigError, match="say what the eyes stand before"):
        new_base(out, eyes=eyes, text=str(home / "text"), words=["a"])
    with pytest.raises(ConfigError, match="is there already; name a folder that is not"):
        new_base(home / "base", eyes=eyes, words=["a"])
    with pytest.raises(ConfigError, match="width, layers and vocabulary are those of"):
        new_base(out, eyes=eyes, text=str(home / "text"), plan=TextPlan())
    with pytest.raises(WeightsError, match="no such folder"):
        new_base(out, eyes=eyes, text="./nowhere")
    with pytest.raises(WeightsError, match="no such file; expected eyes written by save_eyes"):
        new_base(out, eyes=tmp_path / "no.safetensors", words=["a"])
    with pytest.raises(WeightsError, match=r"--text FOLDER"):
        new_base(out, eyes=eyes, text="someone/nothing-that-is-there")
    transformers.SiglipVisionConfig().save_pretrained(tmp_path / "siglip")
    with pytest.raises(ConfigError, match="siglip_vision_model model, which writes no text"):
        new_base(out, eyes=eyes, text=str(tmp_path / "siglip"))
    (tmp_path / "torn").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "torn" / name).write_bytes((home / "text" / name).read_bytes())
    with pytest.raises(WeightsError, match=r"its weights \(\*.safetensors\) cannot be read"):
        new_base(out, eyes=eyes, text=str(tmp_path / "torn"))
    with pytest.raises(ConfigError, match="expected a width that is a multiple of 32"):
        TextPlan(width=40)
    assert not out.exists()
