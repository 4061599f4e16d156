"""Faults are single changes that are drawn alike by seed; tests catch them or do not, and the copy is whole again."""

import ast
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("mutate", ROOT / "tools" / "mutate.py")
mutate = importlib.util.module_from_spec(spec)
sys.modules["mutate"] = mutate
spec.loader.exec_module(mutate)

AREA = '''"""Areas."""


def area(height: int, width: int, margin: int = 1) -> int:
    """Return what is left of a picture: 3 kinds of words stay."""
    if height < 1:
        raise ValueError(f"{height + 1} is too low")
    inner = max(width - margin, 0)
    return pair(height, width)[0] * inner


def pair(one, two):
    return one, two
'''
TESTS = """import pytest
from saccade.shapes.area import area


def test_area():
    assert area(2, 5) == 8


def test_limit():
    with pytest.raises(ValueError):
        area(0, 1)
"""


def faults():
    return [fault for found in mutate.faults_of("shapes/area.py", AREA.encode()).values() for fault in found]


def test_every_kind_is_found_and_words_are_left_alone():
    found = {(fault.kind, fault.before.split("\n")[0], fault.after) for fault in faults()}
    assert ("names swapped", "pair(height, width)", "(pair(width, height))") in found
    assert ("limit removed", "max(width - margin, 0)", "(width - margin)") in found
    assert ("refusal removed", "if height < 1:", "pass") in found
    assert ("comparison", "height < 1", "(height <= 1)") in found
    assert ("sign", "width - margin", "(width + margin)") in found
    assert ("term dropped", "width - margin", "width") in found
    assert ("off by one", "0", "1") in found
    assert not any(
        "words" in before or ("too low" in before and kind != "refusal removed") for kind, before, _ in found
    )
    assert ("sign", "height + 1", "(height - 1)") not in found  # in a message


def test_a_fault_is_one_change_of_valid_python():
    for fault in faults():
        planted = fault.plant(AREA.encode())
        ast.parse(planted)
        assert planted != AREA.encode()
        assert planted[: fault.start] == AREA.encode()[: fault.start]
        assert planted.endswith(AREA.encode()[fault.stop :])


def test_the_draw_is_the_same_by_seed_and_keeps_to_rooms():
    source = ROOT / "src" / "saccade"
    one, two, other = (mutate.draw(source, 12, seed, ["nn", "worlds"]) for seed in (1, 1, 2))
    assert one == two != other
    assert {fault.room for fault in one} <= {"nn", "worlds"}
    assert len({(fault.file, fault.function) for fault in one}) == 12
    assert mutate.draw(source, 3, 0, ["cli"]) == []


def test_every_room_has_tests():
    for path in (ROOT / "src" / "saccade").rglob("*.py"):
        file = path.relative_to(ROOT / "src" / "saccade").as_posix()
        near, whole = mutate.tests_of(file, ROOT)
        assert whole, file
        assert all((ROOT / name).exists() for name in (*near, *whole))
    near, whole = mutate.tests_of("engine/bench/timing.py", ROOT)
    assert near == ["tests/engine/bench/test_timing.py"]
    assert whole == ["tests/engine/bench"]


@pytest.fixture
def project(tmp_path):
    inits = [(f"src/saccade/{name}__init__.py", "") for name in ("", "shapes/")]
    for name, text in (*inits, ("src/saccade/shapes/area.py", AREA), ("tests/shapes/test_area.py", TESTS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_faults_are_judged_and_taken_back(project, capsys):
    kinds = {fault.kind: fault for fault in faults()}
    chosen = [kinds["sign"], kinds["refusal removed"], kinds["limit removed"]]
    verdicts = list(mutate.sample(chosen, project))
    assert [verdict.state for verdict in verdicts] == ["caught", "caught", "survived"]
    assert verdicts[0].test == "FAILED tests/shapes/test_area.py::test_area"
    assert (project / "src/saccade/shapes/area.py").read_text() == AREA
    assert "2 of 3 faults were caught, 67 %" in mutate.report(verdicts)
    assert "limit removed" in capsys.readouterr().out


def test_a_room_whose_tests_fail_anyway_says_nothing(project):
    (project / "tests/shapes/test_area.py").write_text("def test_wrong():\n    assert False\n")
    (verdict,) = mutate.sample(faults()[:1], project)
    assert verdict.state == "no tests"
    assert "0 of 0 faults were caught" in mutate.report([verdict])


def test_the_lines_of_a_report_are_json(project, tmp_path, monkeypatch):
    monkeypatch.setattr(mutate, "ROOT", project)
    assert mutate.main(["--count", "1", "--seed", "3", "--out", str(tmp_path / "faults.jsonl")]) == 0
    (line,) = (tmp_path / "faults.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["seed"] == 3
    assert row["fault"]["file"] == "shapes/area.py"
    assert row["state"] in ("caught", "survived")
