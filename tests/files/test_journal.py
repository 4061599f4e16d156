"""The journal: whole results whatever happens in between."""

import csv
import json
import os

import numpy as np
import pytest

from saccade.errors import ConfigError, DataError
from saccade.files.journal import Journal, skipped_path

SETTINGS = {"weights": "sha256:1", "topk": 1}


def rows(start, stop):
    return [(i, {"name": f"{i}.jpg", "label": "a,b", "confidence": i / 7}) for i in range(start, stop)]


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_in_one_go(tmp_path):
    out = tmp_path / "deep" / "p.csv"
    with Journal(out, SETTINGS) as journal:
        journal.append(rows(0, 2), [(2, "bad.jpg", "damaged")])
        journal.append(rows(3, 5))
        journal.finish()
    assert [row["name"] for row in read_csv(out)] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    assert read_csv(out)[1] == {"name": "1.jpg", "label": "a,b", "confidence": "0.142857"}
    assert read_csv(skipped_path(out)) == [{"name": "bad.jpg", "reason": "damaged"}]
    assert sorted(p.name for p in out.parent.iterdir()) == ["p.csv", "p.skipped.csv"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npz"])
def test_any_cut_gives_the_same_result(tmp_path, suffix):
    """Cut the journal at every byte of its tail: the result of going on is always the same."""
    vectors = np.arange(18, dtype=np.float32).reshape(6, 3)
    width = 3 if suffix == ".npz" else 0

    def run(journal, stop):
        for i in range(journal.done, stop):
            if i == 2:
                journal.append([], [(2, "bad", "why")])
            else:
                journal.append(rows(i, i + 1), vectors=vectors[i : i + 1] if width else None)

    whole = tmp_path / f"whole{suffix}"
    with Journal(whole, SETTINGS, width=width) as journal:
        run(journal, 4)
        size = journal.path.stat().st_size
        text = journal.path.read_bytes()
        raw = journal.vectors_path.read_bytes() if width else b""
        run(journal, 6)
        journal.finish()
    for cut in range(len(text.split(b"\n")[0]) - 3, size, 7):
        out = tmp_path / f"cut{suffix}"
        out.with_name(out.name + ".part").write_bytes(text[:cut])
        if width:  # the vectors are written first, so there may be more of them
            out.with_name(out.name + ".part.f32").write_bytes(raw + b"\0\1")
        with Journal(out, SETTINGS, width=width) as journal:
            assert journal.done <= 4
            run(journal, 6)
            journal.finish()
        if suffix == ".npz":
            with np.load(out) as mine, np.load(whole) as theirs:
                assert mine["logits"].tolist() == vectors[[0, 1, 3, 4, 5]].tolist()
                assert {k: mine[k].tolist() for k in mine} == {k: theirs[k].tolist() for k in theirs}
        else:
            assert out.read_bytes() == whole.read_bytes()
        assert read_csv(skipped_path(out)) == [{"name": "bad", "reason": "why"}]


def test_jsonl_keeps_names_that_are_not_text(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xe2\x82\xac.jpg")
    with Journal(tmp_path / "p.jsonl", SETTINGS) as journal:
        journal.append([(0, {"name": name, "label": "ß"})])
    with Journal(tmp_path / "p.jsonl", SETTINGS) as journal:
        assert journal.resumed == 1
        journal.finish()
    assert b'"caf\\udce9 \xe2\x82\xac.jpg"' in (tmp_path / "p.jsonl").read_bytes()


def test_changed_settings_are_refused_and_named(tmp_path):
    out = tmp_path / "p.csv"
    with Journal(out, SETTINGS) as journal:
        journal.append(rows(0, 1))
    with pytest.raises(ConfigError, match=r"begun with topk 1, now it is 3; .*--restart"):
        Journal(out, SETTINGS | {"topk": 3})
    with Journal(out, SETTINGS) as journal:  # nothing was lost by the attempt
        assert journal.resumed == 1
    with Journal(out, SETTINGS | {"topk": 3}, restart=True) as journal:
        assert journal.resumed == 0


def test_a_second_run_is_refused(tmp_path):
    with Journal(tmp_path / "p.csv", SETTINGS) as journal:
        journal.append(rows(0, 1))
        for restart in (False, True):
            with pytest.raises(ConfigError, match=rf"process {os.getpid()} on .*\(predicting\); wait for it"):
                Journal(tmp_path / "p.csv", SETTINGS, restart=restart)
        journal.append(rows(1, 2))
        journal.finish()
    assert len(read_csv(tmp_path / "p.csv")) == 2


def double(lines, vectors):
    lines.insert(3, lines[3])
    vectors.insert(2, vectors[2])


def double_the_last(lines, vectors):
    lines.append(lines[-1])
    vectors.append(vectors[-1])


def swap(lines, vectors):
    lines[2], lines[3] = lines[3], lines[2]
    vectors[1], vectors[2] = vectors[2], vectors[1]


def edit(lines, vectors):
    lines[2] = lines[2].replace(b"1.jpg", b"7.jpg")


def lose(lines, vectors):
    del lines[2], vectors[1]


def edit_the_settings(lines, vectors):
    lines[0] = lines[0].replace(b'"format": 2', b'"format":  2')


def spoil(lines, vectors):
    lines[3] = b"[" * 100_000 + b"\n"


def take_from_elsewhere(lines, vectors):
    lines[3] = b'["row", {"name": "x"}, "0123456789abcdef"]\n'


def swap_vectors(lines, vectors):
    vectors[0], vectors[2] = vectors[2], vectors[0]


CHANGES = [
    double,
    double_the_last,
    swap,
    edit,
    lose,
    edit_the_settings,
    spoil,
    take_from_elsewhere,
]


@pytest.mark.parametrize(
    ("suffix", "change"),
    [(s, change) for s in (".jsonl", ".npz") for change in CHANGES] + [(".npz", swap_vectors)],
)
def test_a_changed_journal_is_refused_and_left_as_it_is(tmp_path, suffix, change):
    out, width = tmp_path / f"p{suffix}", 3 if suffix == ".npz" else 0
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    with Journal(out, SETTINGS, width=width) as journal:
        journal.append(rows(0, 4), vectors=values if width else None)
    part, raw = journal.path, journal.vectors_path
    lines, vectors = part.read_bytes().splitlines(keepends=True), [row.tobytes() for row in values]
    change(lines, vectors)
    part.write_bytes(b"".join(lines))
    if width:
        raw.write_bytes(b"".join(vectors))
    before = part.read_bytes()
    with pytest.raises(DataError, match=r"line \d+ .*--restart"):
        Journal(out, SETTINGS, width=width)
    assert part.read_bytes() == before
    with Journal(out, SETTINGS, width=width, restart=True) as journal:
        assert journal.done == 0


def test_a_journal_that_was_begun_without_links_is_gone_on_with(tmp_path):
    def old(path):
        lines = [json.dumps({"saccade": "predictions", "format": 1, "settings": SETTINGS})]
        lines += [json.dumps(["row", row]) for _, row in rows(0, 2)] + [
            json.dumps(["skipped", "b.jpg", "why"])
        ]
        path.write_text("".join(line + "\n" for line in lines))

    out = tmp_path / "p.csv"
    old(tmp_path / "p.csv.part")
    for place in (3, 4):  # in two goes
        with Journal(out, SETTINGS) as journal:
            assert journal.resumed == place
            journal.append(rows(place, place + 1))
    with Journal(out, SETTINGS) as journal:
        journal.finish()
    assert [row["name"] for row in read_csv(out)] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    assert read_csv(skipped_path(out)) == [{"name": "b.jpg", "reason": "why"}]


@pytest.mark.parametrize(
    "head",
    [
        b"[" * 100_000,
        b'{"saccade": "predictions", "format": "x", "settings": {}}',
        b"\xff",
        b"null",
        b"9" * 9999,
    ],
)
def test_a_head_of_another_kind_is_a_sentence(tmp_path, head):
    (tmp_path / "p.csv.part").write_bytes(head + b"\n")
    with pytest.raises(DataError, match="not a journal"):
        Journal(tmp_path / "p.csv", SETTINGS)
    (tmp_path / "p.csv.part").write_text('{"saccade": "predictions", "format": 9, "settings": {}}\n')
    with pytest.raises(DataError, match="newer Saccade"):
        Journal(tmp_path / "p.csv", SETTINGS)


def test_a_foreign_file_is_not_overwritten(tmp_path):
    (tmp_path / "p.csv.part").write_text("precious\nwork\n")
    with pytest.raises(DataError, match="not a journal"):
        Journal(tmp_path / "p.csv", SETTINGS)
    assert (tmp_path / "p.csv.part").read_text() == "precious\nwork\n"


@pytest.mark.parametrize("name", ["p.txt", "p", "p.csv.gz"])
def test_other_formats_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"\.csv, \.jsonl, \.npz or \.parquet"):
        Journal(tmp_path / name, SETTINGS)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(ConfigError, match="this is a folder"):
        Journal(tmp_path / "p.csv", SETTINGS)


def test_gaps_and_doubles_cannot_be_written(tmp_path):
    with Journal(tmp_path / "p.csv", SETTINGS) as journal:
        journal.append(rows(0, 2))
        for wrong in (rows(1, 3), rows(3, 4)):
            with pytest.raises(AssertionError, match="gap or a double"):
                journal.append(wrong)


def test_an_old_list_of_broken_pictures_goes(tmp_path):
    skipped_path(tmp_path / "p.csv").write_text("old")
    with Journal(tmp_path / "p.csv", SETTINGS) as journal:
        journal.append(rows(0, 1))
        journal.finish()
    assert not skipped_path(tmp_path / "p.csv").exists()


def test_nothing_readable_gives_an_empty_result(tmp_path):
    for suffix in (".csv", ".jsonl", ".npz"):
        out = tmp_path / f"p{suffix}"
        with Journal(out, SETTINGS, width=2 if suffix == ".npz" else 0) as journal:
            journal.append([], [(0, "a", "b")])
            journal.finish()
        assert out.exists()


def test_rows_are_on_disk_when_appended(tmp_path):
    with Journal(tmp_path / "p.csv", SETTINGS) as journal:
        journal.append(rows(0, 3))
        lines = journal.path.read_bytes().splitlines()
        assert json.loads(lines[0])["settings"] == SETTINGS
        assert len(lines) == 4


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
    part = tmp_path / "p.csv.part"
    if kind == "pipe":
        os.mkfifo(part)
    elif kind == "folder":
        part.mkdir()
    else:
        part.symlink_to("/dev/zero" if kind == "device" else part.name)
    with pytest.raises(DataError, match=r"p\.csv\.part: cannot be written"):
        Journal(tmp_path / "p.csv", {})
    assert not (tmp_path / "p.csv").exists()
