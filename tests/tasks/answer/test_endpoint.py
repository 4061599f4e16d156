"""A model behind a URL: a real server on this machine, well and ill behaved."""

import base64
import http.server
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image
from tests.tasks.answer.test_adapters import asked

from saccade.errors import ConfigError, SaccadeError
from saccade.tasks.answer.vlm.clips import Exchange
from saccade.tasks.answer.vlm.endpoint import KEYS, Endpoint

KEY = "sk-very-secret"


class Server(http.server.ThreadingHTTPServer):
    """Answers by a list of (status, headers, body), the last one again and again, and remembers what came."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.seen = [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body) if body else None))
        status, headers, text = self.server.replies[0]
        if len(self.server.replies) > 1:
            self.server.replies.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def said(text):
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def ask(server, waits=None, **more):
    waits = [] if waits is None else waits
    endpoint = Endpoint(server.url, more.pop("model", "tiny"), sleep=waits.append, size=64, **more)
    return endpoint.answer([asked(answer="", boxes=[{"red": [10, 10, 40, 40]}] * 4)])


def test_frames_times_and_boxes_are_sent(server, monkeypatch):
    monkeypatch.setenv(KEYS[0], KEY)
    server.replies = [said(" It covers 3 meters. ")]
    assert ask(server) == ["It covers 3 meters."]
    ((path, headers, body),) = server.seen
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0, 64)
    *frames, text = body["messages"][0]["content"]
    assert text["text"].startswith(
        "These are 4 frames of a clip, taken at 0.0, 0.5, 1.0, 1.5 seconds. How far"
    )
    assert len(frames) == 4
    data = frames[0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert pixels.shape == (38, 64, 3)
    red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(-1) < 90)
    assert red.sum() > 100


def test_blank_frames_and_several_turns(server):
    server.replies = [said("x")]
    endpoint = Endpoint(server.url, "tiny", size=64)
    talk = Exchange([("a?", "b."), ("c?", "")], image=Image.new("RGB", (8, 8)))
    assert [message["role"] for message in endpoint.messages(talk)] == ["user", "assistant", "user"]
    frames = endpoint.messages(asked(boxes=[{"red": [1, 1, 9, 9]}] * 4), blank=True)[0]["content"][:-1]
    assert len({frame["image_url"]["url"] for frame in frames}) == 1


def test_it_tries_again_when_the_server_is_busy(server):
    waits = []
    server.replies = [
        (429, {"Retry-After": "7"}, "slow down"),
        (503, {}, ""),
        (200, {}, "no json"),
        said("yes"),
    ]
    assert ask(server, waits) == ["yes"]
    assert waits == [7.0, 4.0, 15.0]


def test_it_gives_up_with_one_sentence(server, monkeypatch):
    monkeypatch.setenv(KEYS[1], KEY)
    server.replies = [(500, {}, f"your key {KEY} broke us")]
    waits = []
    with pytest.raises(SaccadeError, match="gave no answer in 4 attempts") as error:
        ask(server, waits)
    assert KEY not in str(error.value)
    assert len(waits) == 3
    assert len(server.seen) == 4


def test_a_refusal_is_not_repeated(server, monkeypatch):
    monkeypatch.setenv(KEYS[0], KEY)
    server.replies = [(401, {}, f"bad key {KEY}")]
    with pytest.raises(SaccadeError, match="refuses: HTTP 401 bad key") as error:
        ask(server)
    assert KEY not in str(error.value)
    assert len(server.seen) == 1


def test_it_follows_nobody(server, monkeypatch):
    """A redirect would carry frames and key elsewhere."""
    monkeypatch.setenv(KEYS[0], KEY)
    server.replies = [(302, {"Location": f"{server.url}/elsewhere"}, "")]
    with pytest.raises(SaccadeError, match="refuses: HTTP 302"):
        ask(server)
    assert [path for path, _, _ in server.seen] == ["/v1/chat/completions"]


def test_no_server_at_all():
    waits = []
    endpoint = Endpoint("http://127.0.0.1:9/v1", "tiny", sleep=waits.append)
    with pytest.raises(SaccadeError, match="gave no answer in 4 attempts"):
        endpoint.answer([Exchange([("q", "")])])
    assert waits == [1.0, 4.0, 15.0]


def test_a_reply_of_another_kind(server):
    server.replies = [(200, {}, json.dumps({"error": "?"}))]
    with pytest.raises(SaccadeError, match=r"holds no choices\[0\]"):
        ask(server)


def test_the_only_model_need_not_be_named(server):
    server.replies = [(200, {}, json.dumps({"data": [{"id": "the-one"}]})), said("ok")]
    assert ask(server, model="") == ["ok"]
    assert server.seen[1][2]["model"] == "the-one"
    server.replies = [(200, {}, json.dumps({"data": [{"id": "a"}, {"id": "b"}]}))]
    with pytest.raises(ConfigError, match="name one with --endpoint-model"):
        ask(server, model="")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "expected an address such as"),
        ("ftp://host/v1", "expected an address such as"),
        ("https://host/v1?key=secret", "expected an address such as"),
        ("https://me:secret@host/v1", "holds a name or password"),
    ],
)
def test_addresses_that_are_refused(url, message):
    with pytest.raises(ConfigError, match=message) as error:
        Endpoint(url)
    assert "secret" not in str(error.value)


def test_no_key_over_an_open_line(monkeypatch):
    monkeypatch.setenv(KEYS[0], KEY)
    Endpoint("https://example.org/v1")
    with pytest.raises(ConfigError, match="would be sent unencrypted"):
        Endpoint("http://example.org/v1")
