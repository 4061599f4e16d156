"""Put questions to a model behind a URL that speaks the chat completions of OpenAI, as vLLM, SGLang and others do.

Standard library only. The key is read from the environment, is sent nowhere but to that URL, and is never printed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from saccade.errors import ConfigError, SaccadeError
from saccade.files import parse_json
from saccade.kinematics.forms import say_times
from saccade.tasks.answer.vlm.clips import Exchange, fit_frames

KEYS = ("SACCADE_API_KEY", "OPENAI_API_KEY")
"""Environment variables that a key is looked for in."""
MAX_REPLY = 1 << 20
WAITS_S = (1.0, 4.0, 15.0)
"""Pauses before further attempts."""
MAX_WAIT_S = 60.0
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
LOCAL = ("localhost", "127.0.0.1", "::1")


class Endpoint:
    """One model behind a URL."""

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        size: int = 448,
        timeout_s: float = 120.0,
        max_new_tokens: int = 64,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Check the address; nothing is sent yet.

        Args:
            url: Up to the version, such as http://localhost:8000/v1.
            model: Name that the server knows; asked for when empty and the server has only one.
            size: Longest side of the frames that are sent, pixels; boxes are drawn at that size.
            timeout_s: For each attempt.
            max_new_tokens: Longest answer.
            sleep: Waits between attempts.

        Raises:
            ConfigError: An address that is none, or a key that would go over an open line.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(
                f"--endpoint is {_bare(url)!r}; expected an address such as http://localhost:8000/v1"
            )
        if parts.username or parts.password:
            raise ConfigError(
                f"--endpoint {_bare(url)} holds a name or password; put the key into the environment as {KEYS[0]}"
            )
        if size < 32 or timeout_s <= 0 or max_new_tokens < 1:
            raise ConfigError(
                f"size {size}, timeout {timeout_s:g} s, {max_new_tokens} new tokens; expected at least 32, above 0, 1"
            )
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        self._key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
        if self._key and parts.scheme == "http" and parts.hostname not in LOCAL:
            raise ConfigError(
                f"{self.url}: the key in the environment would be sent unencrypted; use https, or unset "
                f"{' and '.join(KEYS)}"
            )
        self.size, self.timeout_s, self.max_new_tokens, self._sleep = size, timeout_s, max_new_tokens, sleep
        self._opener = urllib.request.build_opener(_NoRedirects)
        self.model = model
        self.name = model or parts.hostname

    def answer(self, exchanges: Sequence[Exchange], *, blank: bool = False) -> list[str]:
        """Ask one question after the other.

        Raises:
            SaccadeError: The server cannot be reached, refuses, or answers something else.
        """
        return [self._answer(exchange, blank) for exchange in exchanges]

    def messages(self, exchange: Exchange, *, blank: bool = False) -> list[dict[str, Any]]:
        """Write an exchange as chat messages, the frames as JPEG pictures with full colour resolution."""
        frames: list[Image.Image] = []
        if exchange.frames:
            width, height = exchange.frames[0].size
            scale = min(1.0, self.size / max(width, height))
            shape = max(1, round(width * scale)), max(1, round(height * scale))
            frames = fit_frames(exchange.frames, exchange.boxes, shape, blank=blank)
        if exchange.image is not None:
            frames = [exchange.image]
        written: list[dict[str, Any]] = []
        for number, (question, answer) in enumerate(exchange.turns):
            content: list[dict[str, Any]] = []
            if number == 0:
                content = [{"type": "image_url", "image_url": {"url": _data_url(frame)}} for frame in frames]
                if exchange.times_s:
                    question = f"{say_times(exchange.times_s)} {question}"
            written.append({"role": "user", "content": [*content, {"type": "text", "text": question}]})
            if answer:
                written.append({"role": "assistant", "content": answer})
        return written

    def _answer(self, exchange: Exchange, blank: bool) -> str:
        if not self.model:
            found = self._call("GET", "/models").get("data")
            if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
                raise ConfigError(f"{self.url}: offers no single model; name one with --endpoint-model")
            self.model = self.name = str(found[0].get("id"))
        reply = self._call(
            "POST",
            "/chat/completions",
            {
                "model": self.model,
                "messages": self.messages(exchange, blank=blank),
                "max_tokens": self.max_new_tokens,
                "temperature": 0,
            },
        )
        try:
            text = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = 0
        if text is not None and not isinstance(text, str):
            raise SaccadeError(
                f"{self.url}: the reply holds no choices[0].message.content; expected a chat completion"
            )
        return (text or "").strip()

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request until it is answered, at most four times."""
        data = None if body is None else json.dumps(body).encode()
        reason = ""
        for pause in (*WAITS_S, None):
            request = urllib.request.Request(self.url + path, data, method=method)
            request.add_header("Content-Type", "application/json")
            if self._key:
                request.add_unredirected_header("Authorization", f"Bearer {self._key}")
            wait = pause
            try:
                with self._opener.open(request, timeout=self.timeout_s) as reply:
                    text = reply.read(MAX_REPLY + 1)
                if len(text) > MAX_REPLY:
                    raise SaccadeError(f"{self.url}: the reply is longer than {MAX_REPLY} bytes")
                return parse_json(text, dict[str, Any], where="the reply")
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {self._safe(error.read(300).decode('utf-8', 'replace'))}"
                error.close()
                if error.code not in AGAIN:
                    raise SaccadeError(f"{self.url}{path} refuses: {reason[:200]}") from None
                wait = _retry_after(error.headers.get("Retry-After"), pause)
            except (
                OSError,
                ValueError,
            ) as error:  # also timeouts, refused connections, unreadable JSON (a DataError)
                reason = self._safe(str(getattr(error, "reason", "") or error))
            if wait is not None and pause is not None:
                self._sleep(wait)
        raise SaccadeError(
            f"{self.url}{path} gave no answer in {len(WAITS_S) + 1} attempts ({reason[:160]}); see that the "
            "server runs"
        )

    def _safe(self, text: str) -> str:
        """Take the key out of what a server says."""
        text = " ".join(text.split())
        return text.replace(self._key, "***") if self._key else text


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Go nowhere else: a redirect could carry frames and key to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse; the reply then counts as an error."""


def _retry_after(value: str | None, usual: float | None) -> float | None:
    """Read how long a server wants us to wait."""
    try:
        return min(MAX_WAIT_S, max(0.0, float(value))) if value else usual
    except ValueError:
        return usual


def _data_url(frame: Image.Image) -> str:
    file = io.BytesIO()
    frame.convert("RGB").save(file, "JPEG", quality=95, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _bare(url: str) -> str:
    """Return an address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}" if parts.scheme else url[:80]
