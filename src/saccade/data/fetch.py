"""Pictures at http(s) addresses that the user typed: bounded in size and time, and no way into a private network."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from saccade.errors import DataError

MAX_FETCHED = 64 << 20
"""Bytes of a picture that is fetched."""
SECONDS = 30.0
"""For a whole picture, redirections included."""
REDIRECTIONS = 5


def is_picture_address(place: str) -> bool:
    """Whether a text is an address of one picture: http or https, and by its name no shard."""
    address = place.strip().lower()
    if not address.startswith(("http://", "https://")) or "::" in address or "{" in address:
        return False
    return ".tar" not in urlsplit(address).path.rpartition("/")[2]


def fetch_picture(address: str) -> bytes:
    """Fetch what the user typed.

    A redirection may lead to public addresses only, or stay with the host and port that were typed. The connection
    itself is asked whom it reached, so that a name that changes its address between two questions gains nothing.

    Raises:
        DataError: No such host, an answer other than 200, too large, too slow, or a redirection elsewhere.
    """
    try:
        typed = place = urlsplit(address.strip())
        until = time.monotonic() + SECONDS
        for _ in range(REDIRECTIONS + 1):
            found = _ask(place, until, free=(place.scheme, place.netloc) == (typed.scheme, typed.netloc))
            if isinstance(found, bytes):
                return found
            place = urlsplit(urljoin(place.geturl(), found))
            if place.scheme not in ("http", "https"):
                raise DataError(f"{address}: is redirected to {found[:80]!r}, which is no http(s) address")
    except DataError as error:
        raise DataError(f"{address}: {str(error).removeprefix(f'{address}: ')}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{address}: cannot be fetched ({reason}); check the address") from None
    raise DataError(
        f"{address}: more than {REDIRECTIONS} redirections; give the address of the picture itself"
    )


def _ask(place: SplitResult, until: float, *, free: bool) -> bytes | str:
    """Ask one host; returns the contents, or where it sends us."""
    host = place.hostname or ""
    seconds = max(0.1, until - time.monotonic())
    link: http.client.HTTPConnection
    if place.scheme == "https":
        link = http.client.HTTPSConnection(
            host, place.port, timeout=seconds, context=ssl.create_default_context()
        )
    else:
        link = http.client.HTTPConnection(host, place.port, timeout=seconds)
    try:
        link.connect()
        sock = link.sock  # an answer that ends with the connection takes it away
        reached = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
        if not free and not (getattr(reached, "ipv4_mapped", None) or reached).is_global:
            raise DataError(
                f"is redirected to {host}, a private address; give the address of the picture itself"
            )
        link.request("GET", (place.path or "/") + (f"?{place.query}" if place.query else ""))
        answer = link.getresponse()
        if answer.status in (301, 302, 303, 307, 308) and (onward := answer.getheader("Location")):
            return onward
        if answer.status != http.client.OK:
            raise DataError(f"the server answers {answer.status} {answer.reason}; check the address")
        return _read(answer, sock, until)
    finally:
        link.close()


def _read(answer: http.client.HTTPResponse, link: socket.socket, until: float) -> bytes:
    """Read an answer piece by piece, within size and time."""
    pieces, size = [], 0
    while piece := answer.read1(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_FETCHED:
            raise DataError(f"larger than {MAX_FETCHED >> 20} MiB; download it yourself")
        left = until - time.monotonic()
        if left <= 0:
            raise DataError(f"takes longer than {SECONDS:g} seconds; download it yourself")
        link.settimeout(max(0.1, left))
    if answer.length:
        raise DataError("ends before its time; try again")
    return b"".join(pieces)
