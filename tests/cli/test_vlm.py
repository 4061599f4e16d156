"""`saccade vlm` from questions to a table, as a user types it, on a tiny base."""

import json

import pytest
from tests.tasks.answer.questions import make_stkit
from tests.tasks.answer.tiny import make_base

from saccade.cli.main import main
from saccade.kinematics.records import read_questions, write_records


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = make_stkit(tmp_path_factory.mktemp("stkit"))
    make_base("llava_onevision", home / "base")
    write_records(
        (q for q in read_questions(home / "questions.jsonl") if q.split == "val"), home / "bench.jsonl"
    )
    return home


@pytest.fixture(scope="module")
def run(home):
    tokens = (
        f"vlm tune --base {home}/base --data {home}/questions.jsonl --mix {home}/general.jsonl:0.05 --lora 4"
    )
    tokens += (
        f" --labels {home}/tracks.jsonl --pictures {home} --out {home}/run --epochs 1 --batch 4 --device cpu"
    )
    tokens += " --threads 1 --run.accumulate 2 --data.workers 0 --json"
    assert main(tokens.split()) == 0
    return home / "run"


def said(capsys, tokens, code=0):
    assert main(tokens if isinstance(tokens, list) else tokens.split()) == code
    out = capsys.readouterr()
    assert out.err.count("\n") == 1 or code == 0
    return out.out if code == 0 else out.err


def test_tune_writes_a_run(run, home, capsys):
    names = {path.name for path in run.iterdir()}
    assert {"best.safetensors", "last.safetensors", "recipe.yaml", "checkpoints", "metrics.csv"} <= names
    text = (run / "recipe.yaml").read_text()
    assert "lora: 4" in text
    assert "precision: float32" in text  # the processor has no use for bfloat16
    assert f"mix: {home}/general.jsonl:0.05" in text
    over = said(capsys, f"vlm tune --resume {run} --json")
    assert json.loads(over)["ended"] == "all epochs done"


def test_score_prints_the_baselines(run, home, capsys):
    command = (
        f"vlm score --model {run} --bench {home}/bench.jsonl --labels {home}/tracks.jsonl --pictures {home}"
    )
    command += " --tokens 4 --batch 8 --device cpu --json"
    found = json.loads(said(capsys, command))
    assert list(found["rows"]) == ["model", "question only", "constant", "untuned"]
    count = len(list(read_questions(home / "bench.jsonl")))
    for who in ("model", "question_only", "untuned"):
        lines = (run / "score-bench" / f"{who}.jsonl").read_text().splitlines()
        assert len(lines) == count
    for row in found["rows"].values():
        assert all(0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1 for cell in row.values())
    table = said(capsys, command.removesuffix(" --json"))
    assert table.splitlines()[0].split("\t")[0] == "who"
    assert table.splitlines()[1].startswith("model\t")


def test_ask(run, home, capsys):
    command = [
        "vlm",
        "ask",
        f"{home}/clip0",
        "How far?",
        "--model",
        str(run),
        "--tokens",
        "4",
        "--device",
        "cpu",
    ]
    boxes = ["--box", "10,10,30,30@0.0", "--box", "20,10,40,30@3.5"]
    found = json.loads(said(capsys, [*command, *boxes, "--json"]))
    assert found["frame_times_s"] == [0.5 * place for place in range(8)]
    assert said(capsys, [*command, *boxes]).strip() == found["answer"]
    # The base itself can be asked too.
    assert main(["vlm", "ask", f"{home}/clip0", "How far?", "--model", f"{home}/base", "--tokens", "2"]) == 0


def test_new_makes_a_base_that_is_tuned_asked_and_scored(home, capsys):
    """From nothing to a score, with boxes as channels, all by flags."""
    base, data = home / "own", f"{home}/questions.jsonl"
    new = f"vlm new --eyes stvit/test_vit --words {data} --size 64 --tokens 4 --boxes --width 32 --layers 1"
    facts = json.loads(said(capsys, f"{new} --out {base} --json"))
    assert facts["tokens_per_frame"] == 4
    assert facts["parameters"] > facts["eyes_parameters"] > 0
    given = f"--labels {home}/tracks.jsonl --pictures {home} --device cpu --threads 1"
    tune = f"vlm tune --base {base} --data {data} {given} --lora 0 --vision --epochs 1 --batch 8 --out {home}/tuned"
    assert json.loads(said(capsys, f"{tune} --data.workers 0 --json"))["count"] == 8
    score = f"vlm score --model {home}/tuned --bench {home}/bench.jsonl {given} --tokens 4 --batch 8 --json"
    rows = list(json.loads(said(capsys, score))["rows"])
    assert rows == ["model", "question only", "boxes only", "pixels only", "constant", "untuned"]
    ask = ["vlm", "ask", f"{home}/clip0", "How far?", "--model", f"{home}/tuned", "--box", "10,10,30,30@0.0"]
    assert main([*ask, "--tokens", "2", "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (
            "ask {home}/clip0 q --model {home}/base --box 10,10,90,30@0",
            "leaves the frame; expected x up to 80",
        ),
        ("ask {home}/clip0 q", "say what to ask: --model RUN or --endpoint URL"),
        ("ask {home}/none.mp4 q --model {home}/base", "no such video"),
        ("score --bench {home}/bench.jsonl --model {home}/base", "name the training questions with --train"),
        ("score --bench {home}/bench.jsonl --endpoint http://localhost:1/v1", "name the training questions"),
        ("score --bench {home}/bench.jsonl --model {home}/base --also x", "expected NAME=FILE"),
        ("tune --base {home}/base", "nothing to train on; say where the data is with --data"),
        ("tune --base {home}/nothing --data {home}/questions.jsonl", "no such folder"),
        ("tune --base {home}/base --data x --recipe digits", "the recipe is for the task classify"),
        ("tune --base {home}/base --data x --model.options.lora 4", "unknown flag --model.options.lora"),
        (
            "new --out {home}/b --eyes stvit_diet_small --words {home}/questions.jsonl",
            "did you mean 'stvit_deit_small'",
        ),
        ("new --out {home}/b", "say what the eyes stand before: --text MODEL, or --words"),
        ("new --out {home}/b --words {home}/none.jsonl", "none.jsonl"),
        ("new --out {home}/base --words {home}/questions.jsonl", "is there already"),
        (
            "new --out {home}/b --eyes none.safetensors --words {home}/questions.jsonl",
            "expected eyes written by",
        ),
        (
            "new --out {home}/b --eyes e.safetensors --size 64 --words {home}/questions.jsonl",
            "leave out --size",
        ),
        ("new --out {home}/b --text {home}/nothing --width 64", "width, layers and vocabulary are those of"),
        ("tune --resume {home} --lora 4", "goes on with a run as it was begun"),
    ],
)
def test_errors_are_one_sentence(home, tokens, message, capsys):
    assert message in said(capsys, "vlm " + tokens.format(home=home), code=2)


def test_dry_run_prints_the_published_recipe(capsys):
    text = said(capsys, "vlm tune --data stkit/questions.jsonl --recipe stvlm_llava_onevision_7b --dry-run")
    for line in (
        "name: llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "lr: 1.0e-05",
        "accumulate: 16",
        "precision: bf16",
    ):
        assert line in text
