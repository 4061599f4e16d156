import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from saccade.cli.main import main
from saccade.engine import doctor

ROOT = Path(__file__).parents[2]


def test_everything_that_is_needed_works_here(capsys):
    assert main(["doctor", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {rows[name]["state"] for name in ("python", "torch", "torchvision", "timm", "model")} == {"ok"}
    assert {f"extra {name}" for name in doctor.EXTRAS} < set(rows)


def test_it_knows_the_extras_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras) - {"all"}
    for name, packages in doctor.EXTRAS.items():
        assert sorted(package for package, _ in packages) == sorted(
            re.match(r"[\w-]+", text).group() for text in extras[name]
        )


def test_a_missing_extra_comes_with_its_command(monkeypatch):
    monkeypatch.setitem(doctor.EXTRAS, "wings", [("pip", "pip"), ("no-such-dist", "no_such_module")])
    finding = doctor._extra("wings")
    assert (finding.state, finding.detail) == ("missing", "no-such-dist not installed")
    assert finding.fix == "pip install 'saccade[wings]'"


@pytest.mark.parametrize(
    ("blocked", "broken"),
    [("torch", {"torch", "torchvision", "timm", "model"}), ("torchvision.ops", {"torchvision"})],
)
def test_a_library_that_does_not_load_is_a_finding(blocked, broken):
    code = (
        f"import sys; sys.modules[{blocked!r}] = None; from saccade.cli.main import main; "
        "sys.exit(main(['doctor', '--json']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    rows = json.loads(run.stdout)["rows"]
    assert broken <= {row["name"] for row in rows if row["state"] == "broken"}
    assert all(row["fix"] for row in rows if row["state"] == "broken")
    assert re.fullmatch(r"saccade: .*torchvision.* broken; .*\n", run.stderr), run.stderr
    assert next(row for row in rows if row["name"] == "processor")
