"""Inputs as people name them: files, patterns, folders, archives, lists, addresses."""

import http.server
import io
import stat
import sys
import threading
import types
import zipfile

import pytest

from saccade.data import fetch
from saccade.data.dataset import ImageDataset
from saccade.data.inputs import is_plain, open_list
from saccade.data.opening import open_source
from saccade.data.preprocess import Preprocess
from saccade.errors import ConfigError, DataError

from .pictures import encode, photo

JPEG = encode(photo(40, 30))


def open_one(place):
    return ImageDataset(open_source(place, classes=False), Preprocess(16))


def read(samples):
    """Name of each sample, with the reason of those that cannot be read."""
    found = []
    for place, name in enumerate(samples.names):
        try:
            sample = samples[place]
            assert (sample["index"], sample["name"]) == (place, name)
            found.append((name, sample["skipped"][0][1] if sample["skipped"] else ""))
        except DataError as error:
            found.append((name, str(error)))
    return found


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a10.jpg", "a2.jpg", "sub/b.jpg", "sub/deep/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    (tmp_path / "notes.md").write_text("x")
    return tmp_path


def test_files_patterns_and_folders_in_the_order_given(home):
    assert is_plain("sub")
    assert not is_plain("*.jpg")
    assert read(open_list(["sub", "a10.jpg", "a*.jpg"], open_one)) == [
        (name, "") for name in ("sub/b.jpg", "sub/deep/c.jpg", "a10.jpg", "a2.jpg", "a10.jpg")
    ]
    assert [name for name, _ in read(open_list(["**/*.jpg"], open_one))][-1] == "sub/deep/c.jpg"
    found = dict(read(open_list(["*"], open_one)))
    assert "neither picture" in found["notes.md"]
    with pytest.raises(DataError, match="nothing matches"):
        open_list(["*.png"], open_one)
    with pytest.raises(DataError, match=r"a11.jpg: no such file.*a10"):
        open_list(["a2.jpg", "a11.jpg"], open_one)


@pytest.mark.parametrize("named", ["@list", "list.txt", "-"])
def test_lists_name_what_is_missing_and_fetch_nothing(home, named, monkeypatch):
    lines = b"a2.jpg\r\n\ngone.jpg\nhttp://127.0.0.1:1/x.jpg\npipe:touch ran\nsub\ncaf\xe9.jpg\n"
    (home / "caf\udce9.jpg").write_bytes(JPEG)
    (home / named.removeprefix("@").replace("-", "list")).write_bytes(lines)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(lines)))
    found = dict(read(open_list([named], open_one)))
    assert [name for name, reason in found.items() if not reason] == [
        *("a2.jpg", "sub/b.jpg", "sub/deep/c.jpg", "caf\udce9.jpg")
    ]
    assert "no such file" in found["gone.jpg"]
    assert "addresses in files are not fetched" in found["http://127.0.0.1:1/x.jpg"]
    assert "commands are never run from a file" in found["pipe:touch ran"]
    assert not (home / "ran").exists()


def test_lists_are_beside_their_names_and_bounded(home, monkeypatch):
    (home / "sub" / "mine.txt").write_text("b.jpg\n")
    assert read(open_list(["sub/mine.txt"], open_one)) == [("b.jpg", "")]
    (home / "sub" / "mine.txt").write_text("\n\n")
    with pytest.raises(DataError, match="the list is empty"):
        open_list(["sub/mine.txt"], open_one)
    monkeypatch.setattr("saccade.data.inputs.MAX_LIST_BYTES", 1)
    with pytest.raises(DataError, match="a list of over"):
        open_list(["sub/mine.txt"], open_one)


def test_zip_archives_are_read_and_what_leads_out_is_left(home):
    with zipfile.ZipFile(home / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("in/b10.jpg", "in/b2.jpg", "../out.jpg", "/root.jpg", "in/x.qoi", "__MACOSX/b.jpg"):
            archive.writestr(name, JPEG)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("flat.bmp", encode(photo(40, 30).point(lambda value: 0).resize((2000, 900)), "BMP"))
        archive.writestr("cut.jpg", JPEG[:300])
    source = open_source("z.zip", classes=False)
    assert list(source.names) == ["cut.jpg", "flat.bmp", "in/b2.jpg", "in/b10.jpg"]
    said = " ".join(source.notes)
    for reason in (
        "2 files are left out, whose names lead out",
        "left out, links (1 .jpg",
        "1 .qoi",
        "hidden",
    ):
        assert reason in said
    found = read(open_list(["z.zip", "a2.jpg"], open_one))
    assert [name for name, reason in found if not reason] == [
        *("z.zip/flat.bmp", "z.zip/in/b2.jpg", "z.zip/in/b10.jpg", "a2.jpg")
    ]
    with pytest.raises(DataError, match="only predicted on"):
        open_source("z.zip")
    (home / "bad.zip").write_bytes((home / "z.zip").read_bytes()[:-50])
    with pytest.raises(DataError, match="the archive is damaged"):
        open_source("bad.zip", classes=False)


@pytest.fixture
def server():
    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            where = {
                "/away": "http://localhost:1/x",
                "/near": "/a.jpg",
                "/file": "file:///etc/passwd",
                "/loop": "/loop",
            }
            if self.path in where:
                self.send_response(302)
                self.send_header("Location", where[self.path])
                self.end_headers()
            elif self.path == "/other":
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_port}/a.jpg")
                self.end_headers()
            elif self.path.startswith(("/a.jpg", "/text")):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(JPEG if "a.jpg" in self.path else b"<html>")
            else:
                self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_addresses_of_pictures_are_fetched(server, monkeypatch):
    assert fetch.fetch_picture(f"{server}/a.jpg?size=1") == JPEG
    assert fetch.fetch_picture(f"{server}/near") == JPEG
    found = dict(read(open_list([f"{server}{path}" for path in ("/a.jpg", "/text", "/gone.jpg")], open_one)))
    assert not found[f"{server}/a.jpg"]
    assert "not an image" in found[f"{server}/text"]
    assert "the server answers 404" in found[f"{server}/gone.jpg"]
    with pytest.raises(DataError, match="which is no http"):
        fetch.fetch_picture(f"{server}/file")
    with pytest.raises(DataError, match="more than 5 redirections"):
        fetch.fetch_picture(f"{server}/loop")
    with pytest.raises(DataError, match=r"private address|cannot be fetched"):
        fetch.fetch_picture(f"{server}/away")
    with pytest.raises(DataError, match="localhost, a private address"):
        fetch.fetch_picture(f"{server}/other")
    monkeypatch.setattr(fetch, "MAX_FETCHED", 100)
    with pytest.raises(DataError, match="larger than"):
        fetch.fetch_picture(f"{server}/a.jpg")
    monkeypatch.setattr(fetch, "SECONDS", -1.0)
    with pytest.raises(DataError, match="takes longer"):
        fetch.fetch_picture(f"{server}/text")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/a.jpg", "http://[::1", "http:///x.jpg", "http://a b/x"]
)
def test_no_address_ends_in_a_library_error(address):
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch.fetch_picture(address)


@pytest.mark.parametrize(
    ("address", "picture"),
    [
        *(("https://x.org/a.jpg", True), ("HTTP://x.org/view?id=3", True), ("https://x.org/a.tar", False)),
        *(("https://x.org/s.tar.gz", False), ("https://x.org/{0..3}.jpg", False), ("s3://x/a.jpg", False)),
        *(("a.jpg", False), ("https://x.org/a.tarot/b.jpg", True)),
    ],
)
def test_shards_are_no_pictures(address, picture):
    assert fetch.is_picture_address(address) is picture
    if not picture and "://" in address:
        with pytest.raises((DataError, ConfigError)):
            open_list([address], open_one)


def test_text_files_of_a_task_whose_inputs_they_are(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("nowhere.jpg\n")
    places = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert not is_plain(places[0])
    assert is_plain(places[0], text_lists=False)
    opened = []

    def open_one(place):
        opened.append(place)
        return TwoSamples()

    assert len(open_list(places, open_one, text_lists=False)) == 4
    assert opened == places


class TwoSamples:
    """What a task of one's own opens."""

    names = ("x", "y")

    def __len__(self):
        return 2

    def __getitem__(self, place):
        return {"index": place, "name": self.names[place], "skipped": []}
