"""Names in results: valid UTF-8, and back to the bytes."""

import csv
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.files import write_rows
from saccade.files.journal import Journal, skipped_path
from saccade.files.names import from_cell, json_text, to_cell


@given(
    st.binary(max_size=12)
    | st.lists(st.sampled_from([b"%", b"4", b"a", b"F", b"\xff", b"\xc3\xa9"])).map(b"".join)
)
def test_every_name_comes_back_from_a_cell_and_from_json(data):
    name = os.fsdecode(data)
    assert os.fsencode(from_cell(to_cell(name))) == data
    to_cell(name).encode("utf-8")
    assert json.loads(json_text([name]).encode("utf-8")) == [name]


def test_ordinary_names_stay_as_they_are():
    for name in ("50% off.jpg", "größe/ü 100%.png", "%zz", "a;b"):
        assert to_cell(name) == name
    assert to_cell("caf\udce9.jpg") == "caf%E9.jpg"
    assert to_cell("a%41") == "a%2541"
    assert to_cell(3) == 3


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_results_are_utf8_and_hold_the_bytes(tmp_path, suffix):
    out, name = tmp_path / f"p{suffix}", "caf\udce9%41.jpg"
    facts = {"weights": "w"}
    with Journal(out, facts) as journal:
        journal.append([(0, {"name": name, "label": "cat"})], [(1, "\udcff.jpg", "no \udcff")])
    (tmp_path / f"p{suffix}.part").read_text("utf-8")
    with Journal(out, facts) as journal:  # gone on with: its links hold
        assert journal.done == 2
        journal.finish()
    if suffix == ".csv":
        rows = list(csv.DictReader(out.read_text("utf-8").splitlines()))
        found = from_cell(rows[0]["name"])
    elif suffix == ".jsonl":
        assert "caf\\udce9%41" in out.read_text("utf-8")
        found = json.loads(out.read_text("utf-8"))["name"]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        found = from_cell(parquet.read_table(out).to_pylist()[0]["name"])
    assert found == name
    listed = skipped_path(out).read_text("utf-8").splitlines()
    assert [from_cell(cell) for cell in listed[1].split(",")] == ["\udcff.jpg", "no \udcff"]


def test_other_tables_follow(tmp_path):
    write_rows(tmp_path / "t.csv", [{"name": "\udcff"}])
    assert (tmp_path / "t.csv").read_text("utf-8") == "name\n%FF\n"
