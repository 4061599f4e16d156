"""Two writers of one folder: the second is told who the first one is, and a dead one holds nothing."""

import contextlib
import errno
import fcntl
import subprocess
import sys

import pytest

from saccade.errors import ConfigError
from saccade.files import writing

HOLD = r"""
import errno, fcntl, os, sys, time
from saccade.files import writing

def flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")

if "no-flock" in sys.argv:
    fcntl.flock = flock
with writing(sys.argv[1], "training", beside="beside" in sys.argv):
    if "fork" in sys.argv and os.fork() == 0:
        os.write(1, b"forked\n")
        time.sleep(30)
        os._exit(0)
    os.write(1, b"held\n")
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(folder, *words):
    """Another process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLD, str(folder), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = {process.stdout.readline() for _ in range(2 if "fork" in words else 1)}
        assert "held\n" in said
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("words", [(), ("beside",), ("no-flock",)])
def test_the_second_writer_is_refused_and_told_of_the_first(tmp_path, words, monkeypatch):
    if "no-flock" in words:

        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
    run, beside = tmp_path / "run", "beside" in words
    with (
        held(run, *words) as first,
        pytest.raises(ConfigError, match=rf"process {first.pid} on .*\(training\)"),
        writing(run, "x", beside=beside),
    ):
        pass
    with writing(run, "x", beside=beside):  # a dead process holds nothing
        assert run.exists() != beside
    with writing(run, "x", beside=beside):
        pass
    assert not list(tmp_path.rglob("*owner*"))
    assert not list(tmp_path.rglob("*.held"))


def test_children_that_outlive_a_killed_writer_hold_nothing(tmp_path):
    """As the loader processes of a training that was killed."""
    with held(tmp_path, "fork") as first:
        first.kill()
        first.wait()
        with writing(tmp_path, "x"):
            pass


def test_a_lock_does_not_nest(tmp_path):
    with (
        writing(tmp_path, "one"),
        pytest.raises(ConfigError, match=r"\(one\); wait for it"),
        writing(tmp_path, "two"),
    ):
        pass


def test_many_writers_one_after_the_other_are_never_two_at_once(tmp_path):
    code = """
import sys, time, pathlib
from saccade.errors import ConfigError
from saccade.files import writing
inside, done = pathlib.Path(sys.argv[1], "inside"), 0
end = time.monotonic() + 20
while done < 40 and time.monotonic() < end:
    try:
        with writing(sys.argv[1], "x"):
            inside.mkdir()
            inside.rmdir()
            done += 1
    except ConfigError:
        time.sleep(0.001)
assert done == 40, done
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE) for _ in "abc"
    ]
    for process in processes:
        error = process.communicate()[1]
        assert process.returncode == 0, error
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_writes_nothing_leaves_no_folder(tmp_path):
    with writing(tmp_path / "a" / "b", "x"):
        pass
    assert list(tmp_path.iterdir()) == []
    with writing(tmp_path / "a" / "b", "x"):
        (tmp_path / "a" / "b" / "file").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "file"]


def test_a_file_in_the_way_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"), writing(tmp_path / "file" / "run", "x"):
        pass
    with pytest.raises(ConfigError, match="cannot be written"), writing(tmp_path / "file", "x"):
        pass
