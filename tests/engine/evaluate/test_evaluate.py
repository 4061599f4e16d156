"""One evaluation for every task: what is held out, which settings a task has, its page."""

import json
import shutil

import pytest
from tests.tasks.answer.questions import make_stkit
from tests.tasks.answer.tiny import make_base

from saccade.cli.main import main
from saccade.data.radar_pairs import make_pairs
from saccade.data.scenes import scenes_folder
from saccade.engine.evaluate.evaluate import evaluate, find_held_out
from saccade.engine.predict.sharpen import shipped_weights
from saccade.errors import ConfigError, DataError
from saccade.radar.dataset import PairConfig
from saccade.tasks.dense.nets import build_dense
from saccade.weights import Card
from saccade.zoo.loading import save_weights

HEADS = {"detect": ("retinanet", {"width": 8}), "segment": ("semantic_fpn", {"width": 8})}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Five annotated pictures, divided: four to train on and one to validate with."""
    return scenes_folder(counts={"train": 4, "val": 1}, home=tmp_path_factory.mktemp("data") / "scenes")


def dense_run(folder, task, labels, recipe=""):
    """Save an untrained network as a run."""
    head, options = HEADS[task]
    net = build_dense("shvit_s1", head, len(labels), **options).eval()
    card = Card(
        "shvit_s1", num_classes=len(labels), task=task, labels=labels, head=head, head_options=options,
        preprocess={"size": 64, "max_size": 128},
    )  # fmt: skip
    folder.mkdir()
    save_weights(net, folder / "best.safetensors", card)
    if recipe:
        (folder / "recipe.yaml").write_text(recipe)
    return folder


@pytest.mark.parametrize("known", [False, True])
def test_a_detector_is_measured_on_what_its_run_did_not_learn(known, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes / "images" / "train", data / "images" / "train")
    (data / "annotations").mkdir()
    annotations = scenes / "annotations" / "instances_train.json"
    shutil.copy(annotations, data / "annotations")
    labels = [entry["name"] for entry in json.loads(annotations.read_text())["categories"]]
    recipe = f"data:\n  source: {data}\n  val_fraction: 0.25\n" if known else ""
    found = evaluate(dense_run(tmp_path / "run", "detect", labels, recipe), str(data), threads=1)
    assert found.count == (1 if known else 4)
    assert len(found.per_class) == len(labels)


def test_what_a_run_was_validated_on_stands_for_what_it_learned(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data:\n  source: a\n  val: b\nrun:\n  seed: 5\n")
    for data, source, kept, told in (("", "b", False, 0), ("a", "b", False, 1), ("c", "c", False, 0)):
        held = find_held_out(data, tmp_path)
        assert (str(held.config.source), held.kept_back, len(held.notes)) == (source, kept, told)
    (tmp_path / "recipe.yaml").write_text("data:\n  source: a\n")
    for data, kept in (("", True), ("a", True), ("c", False)):
        assert find_held_out(data, tmp_path).kept_back == kept
    with pytest.raises(ConfigError, match="--data"):
        find_held_out("", tmp_path / "none")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    make_pairs(path, PairConfig(nx=10, ny=2, size=32, points=(1, 2)), 4, shard_size=2)
    return path


def test_a_radar_network_has_a_page_beside_what_needs_no_network(pairs, tmp_path, capsys):
    tokens = ["eval", "--weights", str(shipped_weights()), "--data", str(pairs), "--threads", "1"]
    assert main([*tokens, "--out", str(tmp_path / "r.html"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["count"] == 4
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    for word in ("all zero", "empm", "minmax", "PSNR"):
        assert word in page
        assert word in text
    assert main([*tokens, "--views", "4x3"]) == 2
    assert "task restore has no setting 'views'" in capsys.readouterr().err


def test_pairs_that_training_kept_back(pairs, tmp_path):
    shutil.copy(shipped_weights(), tmp_path / "best.safetensors")
    (tmp_path / "recipe.yaml").write_text(f"data:\n  source: {pairs}\n  val_fraction: 0.5\n")
    found = evaluate(tmp_path, threads=1)
    assert [row["pair"] for row in found.gallery.samples[::4]] == ["pair-000002", "pair-000003"]
    assert "kept back" in found.notes[0]


def test_a_damaged_pair_is_refused(pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "pairs")
    shard = next((tmp_path / "pairs").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="checksum"):
        evaluate(shipped_weights(), str(tmp_path / "pairs"), threads=1)


def test_a_language_model_is_measured_by_the_likelihood_of_answers(tmp_path, capsys):
    home = make_stkit(tmp_path)
    make_base("llava_onevision", home / "base")
    given = f"--labels {home}/tracks.jsonl --pictures {home} --device cpu --threads 1"
    tune = f"vlm tune --base {home}/base --data {home}/questions.jsonl --lora 4 --epochs 1 --batch 4 {given}"
    assert main(f"{tune} --data.workers 0 --out {home}/run --json".split()) == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["eval", "--weights", f"{home}/run", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["likelihood"] == pytest.approx(trained["likelihood"], rel=1e-5)
    assert values["count"] == trained["count"]
    assert "workers" not in values  # one copy of the network only
    assert values["batch"] == 8
    assert "Likelihood" in (home / "run" / "report.html").read_text()
