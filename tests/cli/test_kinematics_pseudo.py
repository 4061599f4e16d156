"""`saccade kinematics pseudo-label` as a user types it: from plain videos to labels that the other commands take."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from saccade.cli.main import main
from saccade.kinematics.records import read_tracks

pytest.importorskip("av")
pytest.importorskip("cv2")
pytest.importorskip("numba")
pytest.importorskip("pyarrow")

from ..kinematics.plain_videos import write_world

START = "import sys; from saccade.cli.main import main; sys.exit(main())"
SMALL = ("--names", "box,ball,cone,cylinder", "--label.min-box-height-px", "6")
"""What is in the worlds, and that their frames are small."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One world as a video, and one that is none."""
    folder = tmp_path_factory.mktemp("home")
    write_world(folder, 5, 0.5 * np.arange(7), name="street")
    (folder / "videos" / "skipped.mp4").write_bytes(b"")
    return folder


def command(home, out):
    return [
        "kinematics", "pseudo-label", str(home / "videos"), "--out", str(out), "--masks", str(home / "masks"),
        "--depth", str(home / "depths"), *SMALL,
    ]  # fmt: skip


def test_from_videos_to_questions(home, tmp_path, capsys):
    out = tmp_path / "labels"
    assert main([*command(home, out), "--workers", "0", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["clips"], printed["found"], printed["rejected decode"]) == (2, 0, 1)
    tracks = list(read_tracks(out))
    rows = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    assert [row["track_id"] for row in rows] == [track.track_id for track in tracks]
    assert len(rows) == printed["tracks"] >= 1
    assert sum(value for name, value in printed.items() if name.startswith("selection ")) == len(rows)
    plan = json.loads((out / "plan.json").read_text())
    assert plan["config_hash"] == printed["config_hash"]
    assert plan["depth"] == str(home / "depths")
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert "skipped.mp4: the file cannot be read as a video" in next(
        row["reason"] for row in rejected if row["clip_id"] == "skipped.mp4"
    )
    before = (out / "tracks.parquet").read_bytes()
    assert main([*command(home, out), "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"] == 2
    assert (out / "tracks.parquet").read_bytes() == before
    relaxed = ["--label.min-box-height-px", "6"]
    assert (
        main(["kinematics", "questions", str(out), "--out", str(tmp_path / "q" / "q.jsonl"), *relaxed]) == 0
    )
    assert list((tmp_path / "q" / "frames").glob("*/*.jpg"))
    assert main(["kinematics", "inspect", str(out), "--out", str(tmp_path / "page.html"), *relaxed]) == 0
    assert "street" in (tmp_path / "page.html").read_text()


def test_what_cannot_be_done_is_one_sentence(home, tmp_path, capsys):
    base = ["kinematics", "pseudo-label", str(home / "videos"), "--out", str(tmp_path / "out")]
    for extra, words in [
        ([], "nothing follows things through the videos"),
        (["--masks", str(home / "masks")], "nothing measures depth"),
        (["--track", "./sam", "--depth", str(home / "depths")], "./sam: no such folder"),
        (
            ["--masks", str(home / "masks"), "--depth", str(home / "depths"), "--names", "a.b"],
            "name 'a.b' cannot",
        ),
        (["--masks", str(home / "nowhere"), "--depth", str(home / "depths")], "expected a folder of masks"),
        (["--pseudo.max-speed", "3"], "unknown flag --pseudo.max_speed; did you mean"),
        (["--pseudo.smooth", "perhaps"], "--pseudo.smooth should be true or false, not 'perhaps'"),
        (["--find.every", "0"], "find.every is 0 but should be at least 1"),
        (["--workers", "-1"], "--workers is -1"),
        (
            ["--engine", "spark", "--masks", str(home / "masks"), "--depth", str(home / "depths")],
            "no engine 'spark'",
        ),
    ]:
        assert main([*base, *extra]) == 2
        assert words in capsys.readouterr().err
    assert main([*command(home, tmp_path / "none"), "--workers", "0", "--pseudo.max-depth-m", "0.1"]) == 2
    said = capsys.readouterr().err
    assert "none of 2 clips gave a track (" in said
    assert (tmp_path / "none" / "rejected.jsonl").read_text()


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(tmp_path, capsys):
    home = tmp_path / "home"
    for seed in range(6):
        write_world(home, seed, 0.5 * np.arange(7))
    out = tmp_path / "out"
    run = [sys.executable, "-c", START, *command(home, out), "--workers", "1"]
    child = subprocess.Popen(run, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while child.poll() is None and len(list(out.glob("parts/*/*/*.parquet"))) < 2:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (out / "tracks.parquet").exists()
    assert main([*command(home, out), "--workers", "0", "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert resumed["clips"] == 6
    assert 2 <= resumed["found"] < 6
    assert main([*command(home, tmp_path / "whole"), "--workers", "0", "--json"]) == 0
    for name in ("tracks.parquet", "rejected.jsonl", "labels.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own making
def test_ray_gives_the_same_files(home, tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for engine in ("local", "ray"):
        assert main([*command(home, tmp_path / engine), "--engine", engine, "--workers", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["clips"] == 2
    for name in ("tracks.parquet", "rejected.jsonl", "labels.jsonl"):
        one, two = ((tmp_path / engine / name).read_bytes() for engine in ("local", "ray"))
        assert one == two
