"""`saccade radar` from a scan to a sharp image, as a user types it, and what bad input meets."""

import json

import numpy as np
import pytest
import torch

from saccade.cli.main import main
from saccade.engine.predict.sharpen import shipped_weights
from saccade.engine.sessions.open import open_runner
from saccade.radar import read_image, read_scan
from saccade.tasks.open import load_model

pytest.importorskip("h5py")
SMALL = ["--path.nx", "24", "--path.ny", "3", "--waveform", "empm"]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("radar") / "scan.h5"
    assert main(["radar", "simulate", "--target", "0,0,0.25+0.01,0.005,0.25,0.7", "--position-error", "0.0002",
                 "--snr", "25", "--out", str(path), *SMALL]) == 0  # fmt: skip
    return path


def test_simulate_writes_a_scan_and_says_so(tmp_path, capsys):
    out = tmp_path / "scan.h5"
    assert main(["radar", "simulate", "--out", str(out), "--plot", str(tmp_path / "way.png"), "--json", *SMALL,
                 "--path.per-channel", "true", "--path.swing", "0.01"]) == 0  # fmt: skip
    printed = capsys.readouterr()
    assert json.loads(printed.out)["poses"] == 72
    assert f"wrote {out}: 72 poses x 8 channels x 32 samples" in printed.err
    found = read_scan(out)
    assert found.meta["target"] == "star+points"
    assert found.meta["depth"] == pytest.approx(0.3)
    assert (tmp_path / "way.png").exists()


@pytest.mark.parametrize("geometry", ["linear", "cylindrical", "circular", "uav", "automotive"])
def test_every_geometry_simulates_and_images(tmp_path, geometry):
    flags = {"linear": ["--path.ny", "3"], "uav": ["--path.nx", "8", "--path.ny", "2"]}.get(
        geometry, ["--path.poses", "40"]
    )
    scan, out = tmp_path / "s.h5", tmp_path / "i.h5"
    assert main(["radar", "simulate", "--geometry", geometry, "--target", "points:3", "--array", "monostatic",
                 "--waveform", "empm", "--out", str(scan), *flags]) == 0  # fmt: skip
    assert main(["radar", "image", str(scan), "--out", str(out), "--x", "-0.02:0.02:0.01", "--y", "-0.02:0.02:0.02",
                 "--method", "range-compressed"]) == 0  # fmt: skip
    assert read_image(out).values.shape == (5, 3)


def test_image_then_enhance(scan, tmp_path, capsys):
    out = tmp_path / "image.h5"
    assert main(["radar", "image", str(scan), "--out", str(out), "--method", "empm", "--window", "hann",
                 "--x", "-0.03:0.03:0.001", "--y", "-0.03:0.03:0.001",
                 "--plot", str(tmp_path / "i.png")]) == 0  # fmt: skip
    image = read_image(out)
    assert image.values.shape == (61, 61)
    assert np.iscomplexobj(image.values)
    assert image.meta["window"] == "hann"
    assert main(["radar", "enhance", str(out), "--plot", str(tmp_path / "e.png"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["model"] == "srvit_swift"
    sharp = read_image(tmp_path / "image-sharp.h5")
    assert 0 <= sharp.values.min() <= sharp.values.max() <= 1
    assert (tmp_path / "e.png").exists()
    assert main(["predict", str(out), "--weights", str(shipped_weights()), "--out", str(tmp_path / "p"), "--draw",
                 "true", "--floor", "-30", "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["rows"] == 1
    assert np.allclose(read_image(tmp_path / "p" / "sharp" / "image.h5").values, sharp.values, atol=1e-6)
    assert (tmp_path / "p" / "drawn" / "image.png").stat().st_size > 5000
    assert main(["radar", "image", str(scan), "--out", str(out), "--x", "0:0.01:0.005", "--y", "0:0.01:0.005",
                 "--depth", "0.2:0.3:0.05", "--magnitude", "--json"]) == 0  # fmt: skip
    assert read_image(out).values.shape == (3, 3, 3)
    assert not np.iscomplexobj(read_image(out).values)


def test_focus(scan, tmp_path, capsys):
    out = tmp_path / "focused.h5"
    assert main(["radar", "focus", str(scan), "--out", str(out), "--x", "-0.02:0.02:0.002", "--y", "-0.02:0.02:0.002",
                 "--iterations", "3", "--plot", str(tmp_path / "f.png"), "--json"]) == 0  # fmt: skip
    facts = json.loads(capsys.readouterr().out)
    assert facts["gain"] >= 1
    before, after = read_scan(scan), read_scan(out)
    assert np.array_equal(before.samples, after.samples)
    assert np.array_equal(before.tx, after.tx) == (not facts["focused"])
    assert after.meta.get("focused", False) == facts["focused"]


def test_dataset_train_eval(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--samples", "4", "--nx", "10", "--ny", "2", "--size", "32", "--workers", "1", "--points", "1:2",
             "--waveform", "empm", "--shard", "2"]  # fmt: skip
    assert main(["radar", "dataset", "--out", "train", *flags]) == 0
    assert "wrote train: 4 pairs, 4 of them now" in capsys.readouterr().err
    assert main(["radar", "dataset", "--out", "train", *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": "train", "pairs": 4, "made": 0}
    assert main(["radar", "train", "train", "--val", "train", "--epochs", "1", "--batch", "2", "--model", "srvit_s",
                 "--out", "run", "--device", "cpu", "--json", "--data.workers", "0"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["psnr"] > 0
    assert main(["radar", "train", "--resume", "run"]) == 0
    assert (
        main(["radar", "eval", "train", "--weights", "run", "--out", "s.csv", "--plot", "p.png", "--json"])
        == 0
    )
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert {row["method"] for row in rows} == {"srvit_s", "all zero", "empm"}
    assert (tmp_path / "s.csv").exists()
    assert (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["simulate", "--geometry", "freehnd", "--out", "x.h5"], "did you mean 'freehand'"),
        (["simulate", "--target", "strr", "--out", "x.h5"], "did you mean 'star'"),
        (["simulate", "--waveform", "fmcw", "--out", "x.h5"], "no waveform"),
        (["simulate", "--position-error", "-1", "--out", "x.h5"], "position_error is -1 but should be at least 0"),
        (["simulate", "--path.swng", "1", "--out", "x.h5"], "did you mean 'path.swing'"),
        (["simulate", "--path.swing", "a", "--out", "x.h5"], "should be a number, not"),
        (["simulate", "--path.nx", "100000", "--path.ny", "100000", "--out", "x.h5"], "at most 2000000"),
        (["simulate", "--snr", "nan", "--out", "x.h5"], "signal-to-noise ratio is nan"),
        (["simulate", "--target", "star", "--depth", "-1", "--out", "x.h5"], "has to lie in front of it"),
        (["simulate", "--target", "points:0", "--out", "x.h5"], "at least one point"),
        (["simulate", "--target", "points:5000", "--out", "x.h5"], "found room"),
        (["simulate", "--target", "0,0,0.3", "--threads", "-1", "--out", "x.h5"], "threads is -1"),
        (["simulate", "--path.per-channel", "maybe", "--out", "x.h5"], "should be true or false"),
        (["simulate", "--target", "0,0,0.3", "--out", "x.h5", "--plot", "x.gif", "--path.nx", "2", "--path.ny", "2"],
         "written as .png"),
        (["image", "none.h5", "--out", "x.h5"], "no such file"),
        (["image", "SCAN", "--out", "x.h5", "--method", "rna"], "no imaging method"),
        (["image", "SCAN", "--out", "x.h5", "--x", "1:0:1"], "expected metres"),
        (["image", "SCAN", "--out", "x.h5", "--depth", "-0.3"], "in front of them"),
        (["image", "SCAN", "--out", "x.h5", "--window", "han"], "no window"),
        (["image", "SCAN", "--out", "SCAN"], "is the file to read"),
        (["image", "SCAN", "--out", "x.h5", "--threads", "0", "--method", "empm"], "threads is 0"),
        (["image", "SCAN", "--out", "x.h5", "--plot", "x.png", "--floor", "3"], "expected a number below 0"),
        (["focus", "SCAN", "--out", "SCAN"], "is the file to read"),
        (["image", "SCAN", "--out", "x.h5", "--method", "polar"], "cylinder"),
        (["enhance", "SCAN"], "a radar image is expected"),
        (["enhance", "none.h5"], "no such file"),
        (["focus", "SCAN", "--out", "x.h5", "--sigma", "0"], "sigma"),
        (["dataset", "--out", "x", "--snr", "a:b"], "expected LOW:HIGH"),
        (["dataset", "--out", "x", "--snr", "40:10"], "smaller number first"),
        (["dataset", "--out", "x", "--snr", "nan"], "--snr is 'nan'"),
        (["dataset", "--out", "x", "--points", "1.5:2"], "pairs.points should be a whole number"),
        (["dataset", "--out", "x", "--methods", "rna"], "no imaging method"),
        (["train", "none"], "no manifest"),
        (["train", "--seed", "-1"], "run.seed is -1"),
        (["train", "none", "--model", "shvit_s1"], "does not sharpen"),
        (["eval", "none"], "no manifest"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_sentence_and_nothing_written(
    scan, tmp_path, capsys, monkeypatch, command, word
):
    monkeypatch.chdir(tmp_path)
    assert main(["radar", *[str(scan) if part == "SCAN" else part for part in command]]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("saccade: ")]
    assert len(said) == 1
    assert word in said[0]
    assert [path.name for path in tmp_path.iterdir()] in ([], ["runs"])


def test_commands_for_classifiers_say_where_to_go(tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("p.png")
    assert main(["explain", "p.png", "--weights", str(shipped_weights())]) == 2
    assert "use `saccade radar enhance` or `saccade radar eval`" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_the_sharpener_exports_at_one_size(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    command = [
        "export",
        "--weights",
        str(shipped_weights()),
        "--to",
        "onnx",
        "--size",
        "44",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    bundle = open_runner(tmp_path / "srvit_swift-44-onnx-float32", verb="evaluate")
    images = torch.rand(3, 1, 44, 44) ** 4
    network, _ = load_model(shipped_weights())
    with torch.no_grad():
        assert torch.allclose(bundle.net(images), network(images), atol=2e-6)
    capsys.readouterr()
    for more, words in ((["onnx", "--dynamic"], "leave out --dynamic"), (["litert"], "not to litert")):
        assert main([*command[:4], *more]) == 2
        assert words in capsys.readouterr().err
