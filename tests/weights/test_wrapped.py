"""Weights as training scripts and libraries leave them: every wrapping gives the same network."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from saccade import Source
from saccade.cli.main import main
from saccade.errors import ConfigError, WeightsError
from saccade.tasks.open import load_model
from saccade.trust import Stored, trusting

NAME = "timm/test_vit"


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=5, img_size=32).eval()


def before(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def moved(state):
    """Other numbers under the same names."""
    return {name: value + 1 for name, value in state.items()}


WRAPPINGS = {
    "plain": lambda net: net.state_dict(),
    "under a key": lambda net: {"model": net.state_dict(), "epoch": 3},
    "timm": lambda net: {"state_dict": net.state_dict(), "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
    "parallel": lambda net: before("module.", net.state_dict()),
    "compiled": lambda net: before("_orig_mod.", net.state_dict()),
    "a part compiled": lambda net: {
        name.replace("blocks.", "blocks._orig_mod."): value for name, value in net.state_dict().items()
    },
    "Lightning": lambda net: {
        "state_dict": before("model.", net.state_dict()),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
    },
    "backbone": lambda net: {"state_dict": before("backbone.", net.state_dict())},
    "net": lambda net: before("net.", net.state_dict()),
    "any name": lambda net: before("trainer.student.encoder.", net.state_dict()),
    "nested": lambda net: {"checkpoint": {"model": before("module._orig_mod.model.", net.state_dict())}},
    "SWA": lambda net: AveragedModel(net).state_dict(),
    "SWA in Lightning": lambda net: {"state_dict": before("net.", AveragedModel(net).state_dict())},
    "raw and averaged": lambda net: {"state_dict": moved(net.state_dict()), "state_dict_ema": net.state_dict()},
    "raw and averaged, parallel": lambda net: {
        "model": before("module.", moved(net.state_dict())),
        "model_ema": {"module": net.state_dict(), "decay": 0.99},
    },
    "averaged in one dictionary": lambda net: {
        "state_dict": {
            **before("model.", moved(net.state_dict())),
            **before("ema_model.", AveragedModel(net).state_dict()),
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_every_wrapping_gives_the_same_network(kind, theirs, tmp_path):
    torch.save(WRAPPINGS[kind](theirs), tmp_path / "a.pth")
    net, card = load_model(Source(tmp_path / "a.pth", model=NAME), {"img_size": 32})
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(x), theirs(x))
    assert (card.model, card.num_classes, card.in_chans) == (NAME, 5, 3)


def test_safetensors_without_a_card_are_unwrapped_too(theirs, tmp_path):
    save_file(before("module.", theirs.state_dict()), tmp_path / "a.safetensors")
    net, _ = load_model(Source(tmp_path / "a.safetensors", model=NAME), {"img_size": 32})
    assert torch.equal(net.head.weight, theirs.head.weight)


def test_raw_or_averaged_is_said_and_can_be_chosen(theirs, tmp_path, capsys):
    state = theirs.state_dict()
    torch.save({"state_dict": state, "state_dict_ema": moved(state)}, tmp_path / "a.pth")
    with trusting():
        averaged, _ = load_model(Source(tmp_path / "a.pth", model=NAME), {"img_size": 32})
    assert (
        "took the averaged weights, under state_dict_ema; --raw-weights takes the others"
        in capsys.readouterr().err
    )
    with trusting():
        raw, _ = load_model(Source(tmp_path / "a.pth", model=NAME, raw=True), {"img_size": 32})
    assert "took the raw weights, under state_dict" in capsys.readouterr().err
    assert torch.equal(raw.head.weight, state["head.weight"])
    assert torch.equal(averaged.head.weight, state["head.weight"] + 1)


def test_several_networks_are_not_guessed_between(theirs, tmp_path):
    torch.save({"generator": theirs.state_dict(), "critic": theirs.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="several networks, under critic, generator"):
        load_model(Source(tmp_path / "a.pth", model=NAME))


def test_a_folder_of_timm_says_model_size_and_classes(tmp_path):
    net = timm.create_model("test_vit", num_classes=3, img_size=64).eval()
    about = {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n2": "dog", "n3": "owl"}}
    timm.models.save_for_hf(net, tmp_path / "hub", model_config=about, safe_serialization=True)
    ours, card = load_model(tmp_path / "hub")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), net(x))
    assert card.labels == ["cat", "dog", "owl"]
    assert (card.preprocess["size"], card.preprocess["mean"]) == (64, [0.5, 0.5, 0.5])


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (48, 1)])
def test_a_vit_of_transformers_computes_the_same(size, channels, tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=80, image_size=size,
        patch_size=8, num_channels=channels, id2label={0: "cat", 1: "dog", 2: "owl"}, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path / "vit")
    ours, card = load_model(tmp_path / "vit")
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x).logits, atol=1e-4)
    assert (card.labels, card.in_chans) == (["cat", "dog", "owl"], channels)
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))
    with pytest.raises(WeightsError, match="hidden_size is 'wide'"):
        load_model(tmp_path / "vit")


def test_a_folder_of_the_hubs_mixin_takes_the_model_named(theirs, tmp_path):
    import huggingface_hub

    class Mine(torch.nn.Module, huggingface_hub.PyTorchModelHubMixin):
        def __init__(self, width: int = 3):
            super().__init__()
            self.net = theirs

    Mine(width=5).save_pretrained(tmp_path / "mine")
    net, _ = load_model(Source(tmp_path / "mine", model=NAME), {"img_size": 32})
    assert torch.equal(net.head.weight, theirs.head.weight)


LABELS = {
    "a.txt": "cat\ndog\nowl\nhen\nsea lion\n",
    "a.json": '["cat", "dog", "owl", "hen", "sea lion"]',
    "b.json": '{"1": "dog", "0": "cat", "2": "owl", "4": "sea lion", "3": "hen"}',
    "c.json": '{"id2label": {"0": "cat", "1": "dog", "2": "owl", "3": "hen", "4": "sea lion"}}',
    "d.json": '{"cat": 0, "dog": 1, "owl": 2, "hen": 3, "sea lion": 4}',
    "a.csv": "id,name\n4,sea lion\n0,cat\n1,dog\n2,owl\n3,hen\n",
    "b.csv": "class\ncat\ndog\nowl\nhen\nsea lion\n",
    "c.csv": "0,cat\n1,dog\n2,owl\n3,hen\n4,sea lion\n",
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_come_in_every_usual_form(name, theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    (tmp_path / name).write_text(LABELS[name])
    _, card = load_model(Source(tmp_path / "w.pth", model=NAME, labels=tmp_path / name), {"img_size": 32})
    assert card.labels == ["cat", "dog", "owl", "hen", "sea lion"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cat\ndog\n", "2 labels for 5 outputs"),
        ("cat\n\nowl\nhen\nsea\n", "entry 2 is empty"),
        ("a\nb\nc\nd\ne\nf\n", "6 labels for 5 outputs"),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(text, sentence, theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(WeightsError, match=sentence):
        load_model(Source(tmp_path / "w.pth", model=NAME, labels=tmp_path / "l.txt"), {"img_size": 32})
    (tmp_path / "l.json").write_text('{"0": "a", "2": "b"}')
    with pytest.raises(WeightsError, match="each number from 0 to 1 once"):
        load_model(Source(tmp_path / "w.pth", model=NAME, labels=tmp_path / "l.json"), {"img_size": 32})


def test_a_source_is_its_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full = Source("dir/a.pth", model="timm/x", labels="l.txt", raw=True)
    assert full == "timm/x=dir/a.pth+labels=l.txt+raw"
    again = Source(str(full))
    assert (again.weights, again.model, again.labels, again.raw) == ("dir/a.pth", "timm/x", "l.txt", True)
    assert Source("shvit_s1").weights == Source(model="shvit_s1").weights == "shvit_s1"
    (tmp_path / "a=b.pth").write_bytes(b"")
    assert (Source("a=b.pth").weights, Source("a=b.pth").model) == ("a=b.pth", "")
    with pytest.raises(ConfigError, match="name the model timm/x and --model names y"):
        Source(full, model="y")
    with pytest.raises(ConfigError, match="no weights were given"):
        Source("")


def test_what_a_file_names_stays_a_place_of_that_file():
    told = Stored("timm/x=owner/name", "recipe.yaml", "model.weights")
    assert isinstance(Source(told).weights, Stored)
    with pytest.raises(ConfigError, match="an address"):
        Source(Stored("timm/x=https://a.b/c.pth", "recipe.yaml", "model.weights"))


def test_verify_counts_first_and_lists_few(theirs, tmp_path, capsys):
    torch.save(before("x.", {str(i): torch.zeros(2) for i in range(600)}), tmp_path / "a.pth")
    command = ["weights", "verify", str(tmp_path / "a.pth"), "--model", "shvit_s1"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "matched: 0" in out
    assert "unexpected: 600" in out
    assert len(out.splitlines()) < 30
    assert "--verbose lists them all" in err
    assert main([*command, "--verbose"]) == 1
    assert len(capsys.readouterr().out.splitlines()) > 600
