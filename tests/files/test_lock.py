"""Two writers of one folder: the second is told who the first one is, and a dead one holds nothing."""

import subprocess
import sys

import pytest

from saccade.errors import ConfigError
from saccade.files import writing

HOLD = """
import sys
from saccade.files import writing
with writing(sys.argv[1], "training", beside=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("beside", [False, True])
def test_the_second_writer_is_refused_and_told_of_the_first(tmp_path, beside):
    run = tmp_path / "run"
    words = [sys.executable, "-c", HOLD, str(run), *(["beside"] if beside else [])]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(ConfigError, match=rf"process {first.pid} on .*\(training\)"),
        writing(run, "x", beside=beside),
    ):
        pass
    first.kill()
    first.wait()
    first.stdout.close()
    first.stdin.close()
    with writing(run, "x", beside=beside):  # a dead process holds nothing
        assert run.exists() != beside
    with writing(run, "x", beside=beside):
        pass
    assert not list(tmp_path.rglob("*owner*"))
