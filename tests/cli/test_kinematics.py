"""`saccade kinematics` from a data set to marks, as a user types it, and what bad input meets."""

import json

import pytest
import yaml
from PIL import Image

from saccade.cli.main import main
from saccade.kinematics.records import read_questions, read_tracks, write_records
from saccade.tasks.answer.vlm.data import Exchanges

from ..kinematics import layouts
from ..kinematics.tracks import many

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Tracks of made-up clips with pictures."""
    folder = tmp_path_factory.mktemp("labels")
    _pictures(folder)
    tracks = many(6, images=[str(folder / f"{step:03d}.jpg") for step in range(20)])
    write_records(tracks, folder / "tracks.jsonl")
    return folder


@pytest.mark.parametrize("source", ["nuscenes", "argoverse2", "nuplan", "egoexo4d"])
def test_label_each_data_set(tmp_path, capsys, source):
    getattr(layouts, source)(tmp_path / "data")
    form = "parquet" if source == "nuplan" else "jsonl"
    assert main(["kinematics", "label", source, str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--json",
                 "--form", form,
                 "--label.min-box-height-px", "4", "--label.min-shown-share", "0.3"]) == 0  # fmt: skip
    printed = json.loads(capsys.readouterr().out)
    assert printed["rejected"] == 0
    assert printed["tracks"] == len(list(read_tracks(tmp_path / "out"))) == (1 if source == "egoexo4d" else 2)
    rows = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    moving = max(rows, key=lambda row: row["distance_m"])
    assert moving["distance_m"] == pytest.approx(8 * 5.5 / 6 if source == "egoexo4d" else 36, abs=0.05)
    if source != "egoexo4d":
        assert {row["selection"] for row in rows} == {"ok", "static"}
    assert (tmp_path / "out" / "rejected.jsonl").read_text() == ""


def test_label_says_what_was_rejected_and_goes_on(tmp_path, capsys):
    layouts.argoverse2(tmp_path / "data", sweeps=21)
    bad = tmp_path / "data" / "val" / "bad"
    bad.mkdir()
    (bad / "annotations.feather").write_bytes(b"nothing")
    command = ["kinematics", "label", "argoverse2", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "rejected: 1" in printed.out
    assert "bad/annotations.feather: cannot be read as Feather" in printed.err
    (row,) = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(row)["clip_id"] == "bad"
    assert main([*command, "--strict"]) == 2
    assert "bad/annotations.feather" in capsys.readouterr().err


def test_questions_then_score(labels, tmp_path, capsys):
    out = tmp_path / "stkit" / "questions.jsonl"
    assert main(["kinematics", "questions", str(labels), "--out", str(out), "--size", "64", "--frames", "4",
                 "--per-task", "8", "--val-share", "0.5", "--json"]) == 0  # fmt: skip
    printed = json.loads(capsys.readouterr().out)
    asked = list(read_questions(out))
    assert printed["questions"] == len(asked) > 60
    conversation = json.loads((out.parent / "train.llava.json").read_text())[0]
    assert len(list((out.parent / conversation["video"]).glob("*.jpg"))) == 4
    chat = json.loads((out.parent / "val.chat.jsonl").read_text().splitlines()[0])
    frames = [part["path"] for part in chat["messages"][0]["content"] if part["type"] == "image"]
    with Image.open(out.parent / frames[0]) as frame:
        assert frame.size == (64, 36)
    mixture = yaml.safe_load((out.parent / "mixture.yaml").read_text())
    assert mixture["datasets"] == [{"json_path": "train.llava.json", "sampling_strategy": "all"}]

    parts = {split: [question for question in asked if question.split == split] for split in ("train", "val")}
    assert not {q.clip_id for q in parts["train"]} & {q.clip_id for q in parts["val"]}
    for split, part in parts.items():
        write_records(part, tmp_path / f"{split}.jsonl")
        assert {q.id for q in read_questions(out.parent / f"{split}.jsonl")} == {q.id for q in part}
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"id": q.id, "answer": q.answer}) + "\n" for q in parts["val"]))
    command = ["kinematics", "score", str(answers), "--bench", str(tmp_path / "val.jsonl")]
    assert (
        main([*command, "--train", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "report.json")])
        == 0
    )
    printed = capsys.readouterr()
    assert "mean of seven: 100.0 %" in printed.out
    assert "blind mean" in printed.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["answers"]) == len(parts["val"])
    assert all(row["correct"] for row in report["answers"])
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == 1.0
    capsys.readouterr()
    answers.write_text(answers.read_text().partition("\n")[0])
    assert main(command) == 0
    assert (
        f"{len(parts['val']) - 1} of {len(parts['val'])} questions have no answer" in capsys.readouterr().err
    )
    answers.write_text("\n")
    assert main(command) == 2
    assert "answers.jsonl: holds no answers" in capsys.readouterr().err
    # A baseline must not be fitted on what is marked.
    assert main([*command, "--train", str(out)]) == 1
    assert "take them out" in capsys.readouterr().err
    # What is in the benchmark is left out of the training set.
    again = tmp_path / "again" / "q.jsonl"
    assert main(["kinematics", "questions", str(labels), "--out", str(again), "--size", "0",
                 "--exclude", str(tmp_path / "val.jsonl")]) == 0  # fmt: skip
    assert not {q.clip_id for q in read_questions(again)} & {q.clip_id for q in parts["val"]}


def test_variants_and_lmms_eval(labels, tmp_path, capsys):
    out = tmp_path / "bench" / "bench.jsonl"
    assert main(["kinematics", "questions", str(labels), "--out", str(out), "--size", "64", "--frames", "5",
                 "--per-task", "4"]) == 0  # fmt: skip
    asked = {question.id: question for question in read_questions(out)}
    command = [
        "kinematics",
        "variants",
        str(out),
        "--labels",
        str(labels),
        "--out",
        str(tmp_path / "r"),
        "--size",
        "48",
    ]
    capsys.readouterr()
    assert main([*command, "--crop", "0.7", "--json"]) == 0
    printed = capsys.readouterr()
    counts = json.loads(printed.out)
    assert counts["half-rate"] == counts["mirror"] == counts["swap"] == len(asked)
    assert 0 < counts["crop"] < len(asked)  # the outermost objects are cut away
    assert counts["double-rate"] == len(asked)  # five frames of 19: there are pictures in between
    for kind in ("half-rate", "mirror", "swap", "crop"):
        for question in read_questions(tmp_path / "r" / kind / "questions.jsonl"):
            before = asked[question.id.partition("~")[0]]
            if kind == "mirror" and question.task == "movement_direction":
                assert question.value % 12 == (12 - before.value) % 12
            elif kind == "swap" and question.task in ("distance_comparison", "speed_comparison"):
                assert question.value != before.value
            else:
                assert question.value == before.value
    half = next(read_questions(tmp_path / "r" / "half-rate" / "questions.jsonl"))
    assert len(half.frame_times_s) == 3
    folders = list((tmp_path / "r" / "half-rate" / "frames").iterdir())
    assert {len(list(folder.iterdir())) for folder in folders} == {3}
    assert main([*command, "--only", "mirrored"]) == 2
    assert "did you mean 'mirror'" in capsys.readouterr().err

    assert main(["kinematics", "lmms-eval", str(out), "--out", str(tmp_path / "tasks")]) == 0
    assert (tmp_path / "tasks" / "stkit_bench" / "stkit_bench.yaml").is_file()
    assert "--include_path" in capsys.readouterr().err
    assert (
        main(["kinematics", "lmms-eval", str(out), "--out", str(tmp_path / "t"), "--frames", str(tmp_path)])
        == 2
    )
    assert "no frames in" in capsys.readouterr().err


def test_clips_without_pictures_are_listed_and_the_rest_goes_on(labels, tmp_path, capsys):
    tracks = list(read_tracks(labels))
    skipped = [
        {**track.to_dict(), "image_paths": ["none.jpg"] * 20}
        for track in tracks
        if track.clip_id == "clip000"
    ]
    good = [track.to_dict() for track in tracks if track.clip_id != "clip000"]
    (tmp_path / "tracks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*skipped, *good]))
    out = tmp_path / "out" / "q.jsonl"
    command = ["kinematics", "questions", str(tmp_path), "--out", str(out), "--size", "64", "--frames", "2"]
    assert main([*command, "--per-clip", "1"]) == 0
    assert "none.jpg: no such picture" in capsys.readouterr().err
    rows = [json.loads(line) for line in (out.parent / "rejected.jsonl").read_text().splitlines()]
    assert {row["clip_id"] for row in rows} == {"clip000"}
    assert "clip000" not in {question.clip_id for question in read_questions(out)}


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["label", "nuscene", "x", "--out", "y"], "did you mean 'nuscenes'"),
        (["label", "nuscenes", "nowhere", "--out", "y"], "nowhere: no folder v1.0-*"),
        (["label", "tracks", "nowhere.jsonl", "--out", "y"], "nowhere.jsonl: no such file"),
        (["label", "nuplan", "x", "--out", "y", "--version", "v1"], "--version belongs to nuscenes"),
        (["label", "nuplan", "x", "--out", "y", "--form", "csv"], "expected jsonl or parquet"),
        (["label", "nuplan", "x", "--out", "y", "--label.min-steps-m", "1"], "label.min_step_m"),
        (
            ["label", "nuplan", "x", "--out", "y", "--label.dt", "fast"],
            "--label.dt should be a number, not 'fast'",
        ),
        (["label", "nuplan", "x", "--out", "y", "--label.dt", "0"], "dt is 0 but should be above 0"),
        (
            ["label", "nuplan", "x", "--out", "y", "--label.max-points", "1000000000"],
            "between 2 and 100000",
        ),
        (["label", "world", "--out", "y", "--clips", "0"], "expected 1 to 1000000 clips"),
        (["questions", "x", "--out", "y.jsonl", "--per-task", "0"], "per_task is 0 but should be at least 1"),
        (["questions", "x", "--out", "y.jsonl", "--seed", "-1"], "seed is -1 but should be at least 0"),
        (["questions", "x", "--out", "y.jsonl", "--size", "-5"], "--size is -5; expected at least 8"),
        (["questions", "x", "--out", "y.csv"], "expected a name that ends in .jsonl"),
        (["questions", "x", "--out", "y.jsonl", "--val-share", "2"], "--val-share"),
        (["score", "a.jsonl", "--bench", "b.jsonl"], "b.jsonl: no such file"),
    ],
)
def test_refusals_are_one_sentence(tokens, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["kinematics", *tokens]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # not even an empty folder


def test_a_failed_run_leaves_what_an_earlier_one_wrote(labels, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["kinematics", "label", "tracks", str(labels), "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "tracks.jsonl").write_text("nonsense\n")
    assert main(["kinematics", "label", "tracks", str(tmp_path / "tracks.jsonl"), "--out", str(out)]) == 2
    assert "no track could be used and 1 parts were rejected, the first because" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_names_of_splits_stay_in_the_folder(labels, tmp_path, capsys):
    rows = [{**track.to_dict(), "split": "../up"} for track in read_tracks(labels)]
    (tmp_path / "tracks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "deep" / "er" / "q.jsonl"
    assert (
        main(["kinematics", "questions", str(tmp_path / "tracks.jsonl"), "--out", str(out), "--size", "0"])
        == 2
    )
    assert "split '../up': is no name of a file" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()
    command = [
        "kinematics",
        "questions",
        str(labels),
        "--out",
        str(out.with_name("val.jsonl")),
        "--size",
        "0",
    ]
    assert main([*command, "--val-share", "0.5"]) == 2
    assert "name of a split's own file" in capsys.readouterr().err


def test_nothing_of_others_is_replaced(labels, tmp_path, capsys):
    out = tmp_path / "one" / "q.jsonl"
    command = ["kinematics", "questions", str(labels), "--size", "0", "--out"]
    assert main([*command, str(out)]) == 0
    assert main([*command, str(out)]) == 0  # the same again
    assert main([*command, str(out.with_name("bench.jsonl"))]) == 2
    assert "give --out a folder of its own, such as" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    assert main(["kinematics", "overlay", str(labels), "--out", str(tmp_path / "mine")]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "three years"


def test_files_of_another_kind_and_version_are_refused(labels, tmp_path, capsys):
    (tmp_path / "answers.jsonl").write_text('{"id": "x", "answer": "12 m"}\n')
    bench = tmp_path / "bench.jsonl"
    bench.write_text((labels / "tracks.jsonl").read_text())
    assert main(["kinematics", "score", str(tmp_path / "answers.jsonl"), "--bench", str(bench)]) == 2
    assert "field format is 'saccade-track/1'; expected 'saccade-question/1'" in capsys.readouterr().err
    still = [{**track.to_dict(), "xyz_world": [[0, 0, 0]] * 20} for track in read_tracks(labels)]
    (tmp_path / "tracks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in still))
    assert (
        main(["kinematics", "questions", str(tmp_path / "tracks.jsonl"), "--out", str(tmp_path / "q.jsonl")])
        == 2
    )
    assert "no question can be asked (static 24)" in capsys.readouterr().err


def test_inspect_writes_one_page(tmp_path, capsys, labels):
    command = [
        "kinematics",
        "inspect",
        str(labels),
        "--out",
        str(tmp_path / "page.html"),
        "--clips",
        "2",
        "--json",
    ]
    assert main([*command, "--label.static-radius-m", "2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["clips"], printed["tracks"], printed["shown"]) == (6, 24, 2)
    assert (tmp_path / "page.html").read_text().count('<div class="card">') == 2


def test_overlay_of_a_clip_and_of_a_video(tmp_path, capsys, monkeypatch, labels):
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    assert main(["kinematics", "overlay", str(labels), "--clip", "clip003", "--size", "160", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "out": "clip003-overlay.mp4", "clip": "clip003", "tracks": 4, "frames": 20,
    }  # fmt: skip
    # The tracks of a video are those that name it, or whose clip is called like it.
    (tmp_path / "clip003-overlay.mp4").rename(tmp_path / "clip003.mp4")
    command = [
        "kinematics",
        "overlay",
        "clip003.mp4",
        "--size",
        "160",
        "--out",
        "frames",
        "--rate",
        "1",
        "--json",
    ]
    assert main([*command, "--labels", str(labels)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["clip"], printed["frames"]) == ("clip003", 10)
    assert len(list((tmp_path / "frames").iterdir())) == 10
    assert main(command) == 2
    assert "make them with saccade kinematics pseudo-label" in capsys.readouterr().err
    assert main(["kinematics", "overlay", str(labels), "--clip", "clip0003"]) == 2
    assert "no clip 'clip0003'; did you mean 'clip003'" in capsys.readouterr().err


def _pictures(folder):
    """Write twenty frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in range(20):
        Image.new("RGB", (160, 90), (90, 90, 90)).save(folder / f"{step:03d}.jpg")


def _questions(labels, out):
    """Draw the frames of a few questions; exit status."""
    return main(["kinematics", "questions", str(labels), "--out", str(out / "questions.jsonl"), "--size", "64",
                 "--frames", "4", "--per-task", "1"])  # fmt: skip


def test_a_set_names_its_pictures_from_its_own_folder_and_may_be_moved(tmp_path, monkeypatch):
    pytest.importorskip("numba")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    world = ["kinematics", "label", "world", "--clips", "1", "--size", "64"]
    for out in ("labels", str(tmp_path / "work" / "whole")):
        assert main([*world, "--out", out]) == 0
        for track in read_tracks(out):
            assert all(path.startswith("frames/world-") for path in track.image_paths)
    (tmp_path / "work" / "labels").rename(tmp_path / "moved")
    # Another set's pictures of the same names lie in the working folder: they are not taken.
    (tmp_path / "work" / "frames" / "world-0-000000").mkdir(parents=True)
    for step in range(21):
        (tmp_path / "work" / "frames" / "world-0-000000" / f"{step:03d}.png").write_bytes(b"another set's")
    assert main(["kinematics", "overlay", "../moved", "--out", "shown", "--size", "64"]) == 0
    assert len(list((tmp_path / "work" / "shown").glob("*.png"))) == 21


def test_a_set_made_from_another_still_leads_to_its_pictures(tmp_path, monkeypatch, capsys):
    _pictures(tmp_path / "one")
    write_records(
        many(6, images=[f"{step:03d}.jpg" for step in range(20)]), tmp_path / "one" / "tracks.jsonl"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["kinematics", "label", "tracks", "one", "--out", "two/again"]) == 0
    assert next(iter(read_tracks("two/again"))).image_paths[0] == "../../one/000.jpg"
    assert _questions("two/again", tmp_path / "asked") == 0
    monkeypatch.chdir(tmp_path / "two")
    asked = next(read_questions(tmp_path / "asked" / "questions.jsonl"))
    exchange = Exchanges(tmp_path / "asked" / "questions.jsonl", labels="again").make(asked, None)
    assert exchange.frames[0].size == (160, 90)


def test_pictures_outside_of_a_set_are_named_from_it_too(tmp_path, monkeypatch):
    layouts.nuscenes(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["kinematics", "label", "nuscenes", "data", "--out", "deep/er/labels",
                 "--label.min-box-height-px", "4"]) == 0  # fmt: skip
    monkeypatch.chdir(tmp_path / "deep")
    for track in read_tracks("er/labels"):
        for path in track.image_paths:
            assert path.startswith("../../../data/samples/")
            assert (tmp_path / "deep" / "er" / "labels" / path).is_file()


def test_sets_of_earlier_versions_still_find_their_pictures(tmp_path, monkeypatch):
    """They name pictures from the folder in which the command was started."""
    _pictures(tmp_path / "a" / "labels" / "frames")
    tracks = many(6, images=[f"a/labels/frames/{step:03d}.jpg" for step in range(20)])
    write_records(tracks, tmp_path / "a" / "labels" / "tracks.jsonl")
    monkeypatch.chdir(tmp_path)
    assert _questions("a/labels", tmp_path / "asked") == 0
