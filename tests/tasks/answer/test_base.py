"""Bases that cannot be used: each one sentence that says what to do."""

import json
import shutil

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tests.tasks.answer.tiny import FAMILIES

from saccade.errors import ConfigError, WeightsError
from saccade.tasks.answer.vlm.base import CLASSES, family_of, load_base, load_processor


@pytest.fixture
def copy(bases, tmp_path):
    """A base of one's own to spoil."""
    return shutil.copytree(bases("llava_onevision"), tmp_path / "base")


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 420, text
    return text


@pytest.mark.parametrize("family", FAMILIES)
def test_bases_are_known_by_their_config(bases, family):
    assert family_of(bases(family)) == family
    assert type(load_base(bases(family))).__name__ == CLASSES[family]


def test_a_folder_that_is_not_there():
    with pytest.raises(WeightsError, match="no such folder; expected the folder of a model") as error:
        family_of("nowhere")
    one_sentence(error)


def test_the_hub_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for call in (family_of, load_processor, load_base):
        with pytest.raises(
            WeightsError, match=r"no folder here, and config\.json cannot be fetched"
        ) as error:
            call("nobody/nothing-7b")
        said = one_sentence(error)
        assert "hf download nobody/nothing-7b --local-dir FOLDER` and pass --base or --model FOLDER" in said


def test_a_base_without_video_support(copy):
    (copy / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ConfigError, match="is a qwen2 model, which takes no videos here") as error:
        load_base(str(copy))
    assert "LlavaOnevisionForConditionalGeneration" in one_sentence(error)


def test_a_folder_that_holds_no_model(tmp_path):
    with pytest.raises(WeightsError, match=r"no config\.json in this folder"):
        family_of(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="names no model_type"):
        family_of(str(tmp_path))


def test_a_processor_without_videos(copy):
    values = json.loads((copy / "processor_config.json").read_text())
    del values["video_processor"]
    (copy / "processor_config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="has no video processor, so it takes no videos") as error:
        load_processor(str(copy))
    one_sentence(error)


def test_a_tokenizer_without_a_chat_template(copy):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template, so a question cannot be put to it") as error:
        load_processor(str(copy))
    one_sentence(error)


def test_weights_that_are_not_there(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"its weights \(\*.safetensors\) cannot be read") as error:
        load_base(str(copy))
    one_sentence(error)


def test_weights_that_lack_a_tensor(copy):
    tensors = load_file(copy / "model.safetensors")
    gone = next(name for name in tensors if "q_proj" in name)
    del tensors[gone]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="the weights lack 1 tensors") as error:
        load_base(str(copy))
    assert "q_proj" in one_sentence(error)


def test_weights_that_are_damaged(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError) as error:
        load_base(str(copy))
    one_sentence(error)


def test_pickled_weights_are_not_read(copy):
    import torch

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_base(str(copy))


def test_code_of_a_base_is_not_run(copy, tmp_path):
    """Its config names a class in a file of its own; that file would leave a trace."""
    trace = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Config: ...\nclass Model: ...\n")
    values = json.loads((copy / "config.json").read_text())
    values["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(values))
    load_base(str(copy))
    load_processor(str(copy))
    assert not trace.exists()
