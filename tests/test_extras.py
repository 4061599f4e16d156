import subprocess
import sys

import pytest

from saccade.errors import MissingExtraError
from saccade.extras import require


def test_require_names_the_extra_that_brings_a_missing_package():
    with pytest.raises(
        MissingExtraError, match=r"no_such_package.sub is needed to fly; .*'saccade\[wings\]'"
    ):
        require("no_such_package.sub", "wings", "to fly")


def test_require_imports_what_is_there():
    assert require("json.decoder", "x", "y").JSONDecoder


def test_a_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_module_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_it_needs"):
        require("half_installed", "x", "y")


@pytest.mark.parametrize("first", ["openvino", pytest.param("nncf", marks=pytest.mark.slow)])
def test_nothing_reports_home(first):
    """OpenVINO and NNCF send usage data by default; after `require` they have only their silent stand-in."""
    for name in ("openvino", first):
        pytest.importorskip(name)
    code = f"""
from saccade.extras import require
require({first!r}, "int8", "here")
import openvino.tools.ovc.telemetry_utils as utils, sys
assert utils.tm.__name__.endswith("telemetry_stub"), utils.tm
if {first!r} == "nncf":
    from nncf.telemetry import wrapper
    assert isinstance(wrapper.telemetry, wrapper.NNCFTelemetryStub), wrapper.telemetry
assert sys.modules["openvino_telemetry"] is None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
