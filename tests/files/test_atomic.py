"""Files and folders are written whole or not at all, and never in the place of somebody's folder."""

import random
import signal

import pytest

from saccade.errors import ConfigError
from saccade.files import replacing, write_text


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("mine")
    with pytest.raises(ConfigError, match="photos: is a folder"):
        write_text(tmp_path / "photos", "result")
    assert (tmp_path / "photos" / "a.jpg").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").touch()
    with replacing(tmp_path / "bundle") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["new"]


def test_what_fails_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "a.txt", "before")

    def interrupted():
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_places_that_cannot_be_written_are_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written there"):
        write_text(tmp_path / "file" / "a.txt", "")
    with pytest.raises(ConfigError, match="is a folder"):
        write_text(".", "")


@pytest.mark.filterwarnings("ignore:Exception ignored", "ignore:unclosed file")  # opened as the signal came
def test_a_signal_at_any_moment_leaves_nothing_half_written(tmp_path):
    class Ended(BaseException):
        pass

    def end(number, frame):
        if armed:
            raise Ended

    draw, armed, ended = random.Random(0), False, 0
    before = signal.signal(signal.SIGALRM, end)
    try:
        for number in range(400):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 1.5e-3))
                write_text(tmp_path / "a.txt", str(number))
                armed = False
            except Ended:
                armed, ended = False, ended + 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert not list(tmp_path.glob(".*")), number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended > 20
