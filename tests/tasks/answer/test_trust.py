"""Code beside a base runs when this call says so, whatever the card of a tuned run wishes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import main
from saccade.tasks.answer.vlm.model import build_vlm
from saccade.weights import Card
from saccade.zoo.loading import save_weights

EVIL = """
import pathlib
pathlib.Path({canary!r}).write_text("code ran")
from transformers import PreTrainedTokenizerFast
class T(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def hostile(bases, tmp_path, monkeypatch):
    """A tuned run with its base, whose tokenizer is code, and a clip to ask about."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    run, canary = tmp_path / "run", tmp_path / "CANARY"
    shutil.copytree(bases("llava_onevision"), run / "base")
    options = {"lora": 2, "projector": False}
    model = build_vlm(str(run / "base"), options)
    card = Card(str(run / "base"), {**options, "trust_remote_code": True}, num_classes=0, task="answer")
    save_weights(model, run / "best.safetensors", card)
    config = run / "base" / "tokenizer_config.json"
    values = json.loads(config.read_text())
    values |= {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}, "tokenizer_class": "T"}
    config.write_text(json.dumps(values))
    (run / "base" / "evil.py").write_text(EVIL.format(canary=str(canary)))
    clip = tmp_path / "clip"
    clip.mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(clip / f"{number}.png")
    return run, clip, canary


def test_the_wish_of_a_card_does_not_count(hostile, capsys):
    run, clip, canary = hostile
    tokens = ["vlm", "ask", str(clip), "How far?", "--model", str(run), "--device", "cpu", "--tokens", "1"]
    assert main(tokens) == 2
    error = capsys.readouterr().err
    assert "model.options.trust_remote_code" in error
    assert "--trust-remote-code" in error
    assert not canary.exists()
    main([*tokens, "--trust-remote-code"])
    assert canary.exists()


def test_nor_does_that_of_a_recipe(hostile, stkit, tmp_path, capsys):
    run, _, canary = hostile
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        json.dumps(
            {
                "task": "answer",
                "model": {"name": str(run / "base"), "options": {"trust_remote_code": True}},
                "data": {"source": str(stkit)},
            }
        )
    )
    assert (
        main(["vlm", "tune", "--config", str(recipe), "--out", str(tmp_path / "new"), "--device", "cpu"]) == 2
    )
    assert "model.options.trust_remote_code" in capsys.readouterr().err
    assert not canary.exists()
