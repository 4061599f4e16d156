import json

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import main
from saccade.data import open_source
from saccade.data.check import check_data
from saccade.data.convert import open_parts, split_parts, write_parts
from saccade.data.shards import ShardSource
from saccade.data.table import read_table
from saccade.errors import ConfigError, DataError

from .pictures import encode, photo
from .test_sources import samples, write_tar


@pytest.fixture
def divided(tmp_path):
    """Two classes, divided, with one of every fault."""
    for part, first in (("train", 0), ("val", 50)):
        for label, step in (("cat", 0), ("dog", 100)):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.jpg").write_bytes(encode(photo(80, 60, first + step + number)))
    cat = tmp_path / "train" / "cat"
    good = encode(photo(80, 60, 900))
    (cat / "cut.jpg").write_bytes(good[: len(good) // 2])
    (cat / "text.jpg").write_text("hello")
    (cat / "empty.png").touch()
    (cat / "really.png").write_bytes(good)
    (cat / "again.jpg").write_bytes(good)
    (tmp_path / "train" / "dog" / "mixed-up.jpg").write_bytes(good)
    (cat / "cmyk.jpg").write_bytes(encode(photo(80, 60, 901).convert("CMYK")))
    (cat / "deep.png").write_bytes(
        encode(Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80)), "PNG")
    )
    frames = [photo(80, 60, seed) for seed in (902, 903)]
    (cat / "moving.gif").write_bytes(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    (cat / "tiny.jpg").write_bytes(encode(photo(80, 60, 904).resize((20, 20))))
    (cat / "long.jpg").write_bytes(encode(photo(80, 60, 905).resize((400, 40))))
    (cat / "damaged.jpg").write_bytes(good[:-200] + b"\xff\xd5" + good[-198:])
    (tmp_path / "val" / "cat" / "leak.jpg").write_bytes((cat / "1.jpg").read_bytes())
    again = photo(80, 60, 2).resize((160, 120))
    (tmp_path / "val" / "cat" / "near.jpg").write_bytes(encode(again, quality=60))
    (tmp_path / "val" / "wolf").mkdir()
    (tmp_path / "val" / "wolf" / "0.jpg").write_bytes(encode(photo(80, 60, 906)))
    (tmp_path / "train" / "notes.txt").write_text("x")
    return tmp_path


def found(report, level):
    return {
        (finding.kind, finding.name.rpartition("/")[2])
        for finding in report.findings
        if finding.level == level
    }


def test_check_finds_each_fault(divided):
    report = check_data(str(divided), threads=2)
    assert found(report, "error") == {
        ("unreadable", "cut.jpg"),
        ("unreadable", "text.jpg"),
        ("unreadable", "empty.png"),
        ("two-labels", "mixed-up.jpg"),
        ("leak", "leak.jpg"),
        ("class-mismatch", "wolf"),
    }
    warnings = found(report, "warning")
    assert {
        ("extension", "really.png"),
        ("duplicate", "really.png"),
        ("cmyk", "cmyk.jpg"),
        ("16-bit", "deep.png"),
        ("animated", "moving.gif"),
        ("tiny", "tiny.jpg"),
        ("long", "long.jpg"),
        ("near-leak", "near.jpg"),
        ("damaged", "damaged.jpg"),
    } <= warnings
    assert any(
        "beside the class folders (1 .txt; first: notes.txt)" in finding.detail for finding in report.findings
    )
    # Sound pictures are not suspected of anything.
    assert not {name for kind, name in warnings | found(report, "error") if name in ("0.jpg", "2.jpg")}
    assert report.images == sum(sum(counts.values()) for counts in report.parts.values()) == 27


def test_check_of_sound_data_is_quiet(photos):
    report = check_data(str(photos))
    assert [finding.kind for finding in report.findings] == []


def test_check_of_classes(tmp_path, photos):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.jpg").write_bytes(encode(photo(64, 64)))
    report = check_data(str(tmp_path))
    assert ("one-class") in {finding.kind for finding in report.findings}
    assert report.errors == 1
    for number in range(12):
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / "two" / f"{number}.jpg").write_bytes(encode(photo(64, 64, number + 1)))
    (tmp_path / "three").mkdir()
    kinds = {finding.kind for finding in check_data(str(tmp_path)).findings}
    assert kinds == {"imbalance", "few", "note"}
    flat = check_data(str(photos / "class2"))
    assert {finding.kind for finding in flat.findings} == {"no-classes"}
    with pytest.raises(DataError, match="no such file"):
        check_data(str(tmp_path / "gone"))


def test_check_refuses_bombs(photos):
    report = check_data(str(photos), max_pixels=1000)
    assert report.errors == 16
    assert "decompression bomb" in report.findings[0].detail


def test_check_command(divided, photos, capsys, tmp_path):
    assert main(["data", "check", str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 16
    assert main(["data", "check", str(divided), "--out", str(tmp_path / "found.csv")]) == 1
    output = capsys.readouterr()
    assert "errors: 6" in output.out
    assert "saccade: " in output.err
    assert "\nerror,unreadable," in (tmp_path / "found.csv").read_text()
    assert main(["data", "check", str(tmp_path / "gone")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_split_command(photos, capsys, tmp_path):
    table = tmp_path / "split.csv"
    assert main(["data", "split", str(photos), "--out", str(table), "--fraction", "0.25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(table), "form": "table", "train": 12, "val": 4}
    val = open_source(str(table), part="val")
    assert val.counts() == {"class2": 2, "class10": 2}
    assert val.path(0).is_file()
    folder = tmp_path / "divided"
    assert main(["data", "split", str(photos), "--out", str(folder), "--fraction", "0.25", "--link"]) == 0
    linked = open_source(str(folder), part="val")
    assert [name.rpartition("/")[2] for name in linked.names] == [
        name.rpartition("/")[2] for name in val.names
    ]
    assert linked.path(0).is_symlink()
    assert linked.path(0).read_bytes() == val.path(0).read_bytes()
    capsys.readouterr()
    assert main(["data", "split", str(folder), "--out", str(tmp_path / "x")]) == 2
    assert "divided into training and validation already" in capsys.readouterr().err
    assert main(["data", "split", str(photos), "--out", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["data", "split", str(photos), "--out", str(tmp_path / "y"), "--dry-run"]) == 0
    assert not (tmp_path / "y").exists()


def contents(source):
    """Label and bytes of every sample, in no order."""
    values = []
    for index in range(len(source)):
        data = source.read(index)
        data = data if isinstance(data, bytes) else data.read_bytes()
        values.append((source.labels[source.targets[index]], data))
    return sorted(values)


def test_convert_there_and_back(photos, tmp_path):
    original = contents(open_source(str(photos)))
    write_parts(open_parts(str(photos)), tmp_path / "shards", form="shards", shard_bytes=20_000)
    shards = open_source(str(tmp_path / "shards"))
    assert isinstance(shards, ShardSource)
    assert len(list((tmp_path / "shards").glob("*.tar"))) > 1
    assert contents(shards) == original
    assert shards.targets[:8].tolist() != sorted(shards.targets[:8].tolist())
    write_parts(open_parts(str(tmp_path / "shards")), tmp_path / "folder")
    assert contents(open_source(str(tmp_path / "folder"))) == original
    write_parts(open_parts(str(tmp_path / "folder")), tmp_path / "t.csv")
    assert contents(open_source(str(tmp_path / "t.csv"))) == original
    assert not read_table(tmp_path / "t.csv")[0].path.startswith("/")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_convert_keeps_the_split_and_what_webdataset_reads(photos, tmp_path):
    import webdataset

    write_parts(split_parts(str(photos), 0.25), tmp_path / "shards", form="shards")
    facts = json.loads((tmp_path / "shards" / "dataset.json").read_text())
    assert facts["shards"] == {"train-000000.tar": 12, "val-000000.tar": 4}
    assert facts["classes"] == ["class2", "class10"]
    assert len(open_source(str(tmp_path / "shards"), part="val")) == 4
    read = list(webdataset.WebDataset(str(tmp_path / "shards" / "val-000000.tar"), shardshuffle=False))
    assert sorted(int(sample["cls"]) for sample in read) == [0, 0, 1, 1]
    again = open_parts(str(tmp_path / "shards"))
    assert write_parts(again, tmp_path / "folder").counts == {"train": 12, "val": 4}
    assert len(open_source(str(tmp_path / "folder"), part="train")) == 12


def test_convert_builtin_and_refusals(tmp_path, photos):
    digits = open_source("digits", part="val").subset(range(5))
    write_parts({"": digits}, tmp_path / "digits")
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 5
    with pytest.raises(ConfigError, match="no files to list"):
        write_parts({"": digits}, tmp_path / "d.csv")
    with pytest.raises(ConfigError, match="no files to link to"):
        write_parts({"": digits}, tmp_path / "linked", link=True)
    assert not (tmp_path / "linked").exists()
    with pytest.raises(ConfigError, match="did you mean 'shards'"):
        write_parts({"": digits}, tmp_path / "x", form="shard")
    digits.labels = ["../up", *digits.labels[1:]]
    with pytest.raises(DataError, match="cannot be a folder name"):
        write_parts({"": digits}, tmp_path / "x")


def test_names_in_shards_cannot_lead_out_of_the_folder(tmp_path):
    write_tar(
        tmp_path / "s" / "a.tar",
        [("../../evil.jpg", encode(photo(24, 16))), ("../../evil.cls", b"1"), *samples(0, 3)],
    )
    write_parts(open_parts(str(tmp_path / "s")), tmp_path / "out" / "deep" / "folder")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.jpg")) == [
        "00000.jpg",
        "00001.jpg",
        "00002.jpg",
        "evil.jpg",
    ]
    assert not (tmp_path / "evil.jpg").exists()


def test_an_interrupted_conversion_leaves_nothing(photos, tmp_path):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parts(open_parts(str(photos)), tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []
