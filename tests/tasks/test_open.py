"""Opening a network from any source, and tasks that come from outside of the package."""

import pytest
import torch
from PIL import Image

import saccade
from saccade.cli.main import main
from saccade.errors import ConfigError, WeightsError
from saccade.tasks import TASKS, get_task
from saccade.tasks.classify.task import Classify
from saccade.tasks.open import card_of_source, open_network
from saccade.weights import Card


class Sorting(Classify):
    """A task of somebody else."""

    name = "sorting"


@pytest.fixture
def sorting():
    saccade.register_task("sorting", Sorting)
    yield
    del TASKS["sorting"]


def write(folder, task, **options):
    model = saccade.create_model("shvit_s1", num_classes=2)
    folder.mkdir(exist_ok=True)
    card = Card("shvit_s1", num_classes=2, labels=["a", "b"], task=task, **options)
    saccade.save_weights(model, folder / "best.safetensors", card)
    return model


def test_a_run_folder_of_somebody_elses_task_opens(sorting, tmp_path):
    model = write(tmp_path / "run", "sorting")
    net, card, task = open_network(tmp_path / "run")
    assert isinstance(task, Sorting)
    assert card.task == "sorting"
    assert card_of_source(tmp_path / "run") == Card(
        "shvit_s1", num_classes=2, labels=["a", "b"], task="sorting"
    )
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_name_is_registered_once(sorting):
    saccade.register_task("sorting", Sorting)
    saccade.register_task("sorting_too", "saccade.tasks.classify.task:Classify")
    assert isinstance(get_task("sorting_too"), Classify)
    del TASKS["sorting_too"]
    with pytest.raises(ConfigError, match="is here already"):
        saccade.register_task("classify", Sorting)
    for kind in (int, "saccade.tasks", 3):
        with pytest.raises(ConfigError, match="expected a subclass of Task"):
            saccade.register_task("other", kind)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("verb", ["eval", "predict", "export"])
def test_a_run_folder_of_an_unknown_task_is_one_sentence(verb, tmp_path, capsys):
    write(tmp_path / "run", "sorting")
    Image.new("RGB", (40, 30)).save(tmp_path / "picture.png")
    out = tmp_path / "out"
    tokens = {
        "eval": ["eval", "--weights", str(tmp_path / "run"), "--data", "digits"],
        "predict": ["predict", str(tmp_path), "--weights", str(tmp_path / "run"), "--out", f"{out}.csv"],
        "export": ["export", "--weights", str(tmp_path / "run"), "--to", "onnx", "--out", str(out)],
    }
    assert main(tokens[verb]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "unknown task 'sorting'" in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_a_foreign_file_is_asked_about(tmp_path):
    model = saccade.create_model("srvit_swift")
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    _, card, task = open_network(tmp_path / "w.pth")
    assert (card.model, card.task, task.name, card.in_chans) == ("srvit_swift", "restore", "restore", 1)


def test_a_bundle_says_what_it_is_and_builds_nothing(tmp_path):
    (tmp_path / "manifest.json").write_text('{"card": {"model": "shvit_s1", "task": "classify"}}')
    assert card_of_source(tmp_path) == Card("shvit_s1")
    with pytest.raises(WeightsError, match="a bundle holds an exported file"):
        open_network(tmp_path)


def test_a_file_of_nobody_is_refused(tmp_path):
    torch.save({"model": {"nobody.weight": torch.zeros(3)}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="belong to none of our models"):
        open_network(tmp_path / "x.pth")
