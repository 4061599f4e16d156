"""Only who makes the call says what is run or fetched: by command, with canaries that must not sing."""

import copy
import functools
import http.server
import pickle
import tarfile
import threading

import numpy as np
import pytest
import yaml
from PIL import Image

from saccade import create_model, load_model, save_weights
from saccade.cli.main import main
from saccade.data.opening import open_source
from saccade.data.shards import open_address
from saccade.errors import ConfigError, DataError, WeightsError
from saccade.trust import Stored, given, scheme_of, trusting
from saccade.weights import Card


@pytest.fixture
def photos(tmp_path):
    """Two classes of four small pictures."""
    for label in ("cat", "dog"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(np.full((40, 40, 3), 20 * number + 9, np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def run(tmp_path):
    """Make a run folder whose recipe says what a test wants."""

    def make(**data):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        model = create_model("shvit_s1", num_classes=2)
        card = Card("shvit_s1", num_classes=2, labels=["cat", "dog"])
        save_weights(model, folder / "best.safetensors", card)
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"task": "classify", "data": data}))
        return folder

    return make


def fails(tokens, capsys, code=2):
    assert main([str(token) for token in tokens]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


COMMANDS = (
    "pipe:touch {canary}; cat none.tar",
    " PIPE:touch {canary}",
    "pi\tpe:touch {canary}",
    "digits::pipe:touch {canary}",
    "{{pipe:touch {canary},b.tar}}.tar",
    "PIPE:touch {canary} # s3://bucket/x.tar",
)


@pytest.mark.parametrize("setting", ["source", "val"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_of_a_run_folder_runs_in_eval(setting, command, run, tmp_path, capsys):
    canary = tmp_path / "CANARY"
    folder = run(**{"source": "digits", setting: command.format(canary=canary)})
    error = fails(["eval", "--weights", folder], capsys)
    assert not canary.exists()
    if command.startswith("pipe:"):
        assert f"data.{setting} is 'pipe:touch" in error
        assert "--data" in error


@pytest.mark.parametrize("extra", [[], ["--allow-pipe"], ["--allow-pipe", "--allow-address"]])
@pytest.mark.parametrize("setting", ["source", "val"])
@pytest.mark.parametrize("how", ["config", "recipe", "resume"])
def test_no_command_of_a_file_runs_in_training(how, setting, extra, run, tmp_path, capsys):
    canary = tmp_path / "CANARY"
    folder = run(**{"source": "digits", setting: f"pipe:touch {canary}; cat none.tar"})
    place = folder if how == "resume" else folder / "recipe.yaml"
    out = [] if how == "resume" else ["--out", tmp_path / "new"]
    error = fails(["train", f"--{how}", place, *out, *extra], capsys)
    assert not canary.exists()
    assert f"data.{setting} is 'pipe:touch" in error
    assert f"{'--data' if setting == 'source' else '--data.val'} together with --allow-pipe" in error
    assert not (tmp_path / "new").exists()


def test_a_typed_command_needs_the_flag_and_then_runs(tmp_path, capsys):
    canary = tmp_path / "CANARY"
    typed = ["train", "--data", f"pipe:touch {canary}; cat none.tar", "--data.val", "digits"]
    error = fails([*typed, "--out", tmp_path / "new"], capsys)
    assert "runs a command; add --allow-pipe" in error
    assert not canary.exists()
    fails([*typed, "--out", tmp_path / "new", "--allow-pipe"], capsys)
    assert canary.exists()


@pytest.mark.parametrize(
    "tokens",
    [["data", "check"], ["data", "convert", "--out", "new"], ["predict"]],
)
def test_what_cannot_stream_runs_no_command(tokens, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "in training" in fails(
        [*tokens, "pipe:touch CANARY", *(["--weights", "x"] if tokens == ["predict"] else [])], capsys
    )
    assert not (tmp_path / "CANARY").exists()


def test_a_typed_command_in_the_place_of_a_stored_one(run, tmp_path, capsys):
    stored, typed = tmp_path / "STORED", tmp_path / "TYPED"
    folder = run(source=f"pipe:touch {stored}", val="digits")
    tokens = ["train", "--config", folder / "recipe.yaml", "--out", tmp_path / "new", "--allow-pipe"]
    fails([*tokens, "--data", f"pipe:touch {typed}; cat none.tar"], capsys)
    assert typed.exists()
    assert not stored.exists()


def test_a_sparsify_plan_runs_nothing_either(tmp_path, capsys):
    from saccade.engine.train.convert import PLAN, ConvertPlan, plan_text
    from saccade.engine.train.recipe import build_recipe

    recipe, _ = build_recipe("sparsify_small", flags={"data.source": f"pipe:touch {tmp_path}/CANARY"})
    folder = tmp_path / "plan"
    folder.mkdir()
    (folder / PLAN).write_text(plan_text(ConvertPlan("vit_tiny_patch16_224", "", {}, "self", 0, recipe)))
    assert "never run from a file" in fails(["sparsify", "--resume", folder], capsys)
    assert not (tmp_path / "CANARY").exists()


@pytest.fixture
def server():
    """A server of this machine that counts what it is asked for and has nothing."""

    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)  # pyright: ignore
            self.send_error(404)

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Nothing)) as found:
        found.asked = []  # pyright: ignore
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset's failed pipe
def test_an_address_of_a_file_is_fetched_only_with_the_word(server, run, tmp_path, capsys):
    address = f"http://127.0.0.1:{server.server_port}/a.tar"
    folder = run(source=address, val="digits")
    tokens = ["train", "--config", folder / "recipe.yaml", "--out", tmp_path / "new"]
    error = fails(tokens, capsys)
    assert f"data.source is '{address}', an address" in error
    assert "--allow-address" in error
    assert f"'{address}', an address" in fails(
        ["eval", "--weights", run(source="digits", val=address)], capsys
    )
    assert not server.asked
    folder = run(source=address, val="digits")
    error = fails([*tokens, "--allow-address"], capsys)
    assert "/a.tar" in server.asked
    assert "names data.source" in error
    server.asked.clear()
    fails([*tokens, "--data", address], capsys)  # typed is word enough
    assert "/a.tar" in server.asked


@pytest.mark.parametrize(
    "setting",
    [{"loss": {"distill": "soft", "teacher": "owner/teacher"}}, {"model": {"weights": "owner/start"}}],
)
def test_a_hub_id_of_a_file_is_not_fetched(setting, tmp_path, capsys, monkeypatch):
    """Also where the hub would answer."""
    import huggingface_hub

    from saccade import hub

    asked = []

    def download(hub_id, filename, *, local_files_only):
        asked.append((hub_id, local_files_only))
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"data": {"source": "digits", "size": 32}, **setting}))
    tokens = ["train", "--config", tmp_path / "r.yaml", "--model.pretrained", "no", "--out", tmp_path / "new"]
    assert "--allow-address" in fails(tokens, capsys)
    fails([*tokens, "--allow-address"], capsys)
    assert [local for _, local in asked] == [True, False]


def test_a_path_elsewhere_is_named_before_it_is_read(run, photos, capsys):
    folder = run(source="digits", val=str(photos))
    assert main(["eval", "--weights", str(folder), "--size", "64"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "names data.val" in line and "outside its own folder" in line] == [
        lines[0]
    ]
    inside = folder / "mine"
    photos.rename(inside)
    folder = run(source="digits", val=str(inside))
    assert main(["eval", "--weights", str(folder), "--size", "64"]) == 0
    assert "outside" not in capsys.readouterr().err
    (folder / "link").symlink_to(photos.parent)
    inside.rename(photos)
    folder = run(source="digits", val=str(folder / "link" / "photos"))
    assert main(["eval", "--weights", str(folder), "--size", "64"]) == 0
    assert "outside" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [{"pretrained_cfg_overlay": {"url": "x"}}, {"checkpoint_path": "x"}, {"pretrained": True}]
)
def test_a_card_cannot_make_timm_load_other_files(option, tmp_path):
    model = create_model("timm/resnet10t", num_classes=2)
    save_weights(model, tmp_path / "w.safetensors", Card("timm/resnet10t", option, num_classes=2))
    with pytest.raises((ConfigError, WeightsError), match=next(iter(option))):
        load_model(tmp_path / "w.safetensors")


def test_words_add_up_and_end():
    with trusting(pipe=True), trusting(address=True):
        assert given().pipe
        assert given().address
        assert not given().code
    assert not given().pipe
    assert not given().address


def test_a_stored_text_stays_one():
    text = Stored("pipe:x", "r.yaml", "data.val")
    for same in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert isinstance(same, Stored)
        assert same == "pipe:x"
        assert same.where == "r.yaml"
    assert type(str(text)) is str


@pytest.mark.parametrize(
    ("place", "scheme"),
    [
        ("pipe:x", "pipe"), ("\x01 Pipe:x", "pipe"), ("p\nipe:x", "pipe"), ("s3://b/x.tar", "s3"),
        ("HTTP://x", "http"), ("file:///x.tar", ""), ("photos/", ""), ("c:/x", ""),
        ("talks.json:0.5", ""), ("a/pipe:x", ""),
    ],
)  # fmt: skip
def test_schemes(place, scheme):
    assert scheme_of(place) == scheme


def test_shards_open_regular_files_only(tmp_path):
    import os

    os.mkfifo(tmp_path / "f.tar.gz")
    with pytest.raises(DataError, match="a pipe or device"):
        open_address(str(tmp_path / "f.tar.gz"))
    with pytest.raises(DataError, match="allow"):
        open_address(f"pipe:touch {tmp_path}/CANARY")
    with pytest.raises(ConfigError, match="never run from a file"):
        open_source(Stored("pipe:x", "r.yaml", "data.source"), allow_pipe=True)
    assert not (tmp_path / "CANARY").exists()
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    with open_address(f"file://{tmp_path}/a.tar") as file:
        assert file.read(1) == b"\0"
