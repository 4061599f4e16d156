"""Several inputs as one: files, globs, folders, archives, lists and addresses, for whatever task predicts on them."""

from __future__ import annotations

import bisect
import glob
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from saccade.data.clips import is_video_name
from saccade.data.dataset import TolerantDataset
from saccade.data.decode import is_image_name
from saccade.data.fetch import fetch_picture, is_picture_address
from saccade.data.shards import need_local
from saccade.data.source import PackedStrings, natural_sorted
from saccade.errors import DataError, SaccadeError
from saccade.files import open_regular
from saccade.trust import Stored, check_place, scheme_of

MAX_LIST_BYTES = 64 << 20
STDIN = "-"


class Opened(Protocol):
    """What a task opens: samples in a fixed order."""

    @property
    def names(self) -> Sequence[str]:
        """What to call each."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> dict[str, Any]: ...


Open = Callable[[str], Opened]
"""How the task opens one place."""


@dataclass
class _One:
    """A single file or address, opened when its turn comes; or the reason why that cannot be."""

    place: str
    open: Open
    error: str = ""

    @property
    def names(self) -> list[str]:
        return [self.place]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: int) -> dict[str, Any]:
        if self.error:
            raise DataError(self.error)
        if not is_picture_address(self.place):
            return self.open(self.place)[place]
        with TemporaryDirectory(prefix="saccade-") as folder:
            # What it is shows in its contents, and the ending only says that it is a picture.
            path = Path(folder) / "picture.jpg"
            path.write_bytes(fetch_picture(self.place))
            return self.open(str(path))[place]


class InputList:
    """Samples of many places, one after the other.

    What cannot be opened counts as one sample that cannot be read. Names are the places as given; what lies in a
    folder or an archive has the place before its own name.
    """

    def __init__(self, parts: Sequence[tuple[str, Opened]]) -> None:
        self.notes: list[str] = []
        names: list[str] = []
        self._parts, self._ends = [part for _, part in parts], []
        for place, part in parts:
            if isinstance(part, _One):
                names.append(place)
            else:
                names += [f"{place.rstrip('/')}/{name}" for name in part.names]
                self.notes += part.notes if isinstance(part, TolerantDataset) else ()
            self._ends.append(len(names))
        self.names: Sequence[str] = PackedStrings(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """Make a sample under its name and number here.

        Raises:
            DataError: It cannot be opened.
        """
        number = bisect.bisect_right(self._ends, place)
        first = self._ends[number - 1] if number else 0
        sample = self._parts[number][place - first]
        name = self.names[place]
        skipped = [(name, reason) for _, reason in sample["skipped"]]
        return {**sample, "index": place, "name": name, "skipped": skipped}


def is_plain(place: str, *, text_lists: bool = True) -> bool:
    """Whether a place is one that the task opens by itself: no list, pattern or address of a picture.

    Args:
        place: As of `open_list`.
        text_lists: As of `Task.text_lists`.
    """
    return not (_is_list(place, text_lists) or _is_pattern(place) or is_picture_address(place))


def open_list(places: Sequence[str], open_one: Open, *, text_lists: bool = True) -> InputList:
    """Open what a user named.

    Args:
        places: Files, folders, archives, patterns (`*`, `?`, `[..]`, `**`), lists of names (`@list`, `list.txt`, or
            `-` for the standard input), and http(s) addresses of pictures.
        open_one: Opens a place for the task.
        text_lists: As of `Task.text_lists`.

    Raises:
        DataError: A place that is not there, a pattern that nothing matches, a list that cannot be read, no inputs.
        ConfigError: A command, or an address in a file, without the caller's word; see `saccade.trust`.
    """
    parts: list[tuple[str, Opened]] = []
    for place in places:
        if _is_list(place, text_lists) or _is_pattern(place):
            found = _matches(place) if _is_pattern(place) else _read_list(place)
            parts += [(shown, _open_listed(each, open_one)) for shown, each in found]
        elif is_picture_address(place):
            check_place(place)
            parts.append((place, _One(place, open_one)))
        elif Path(place).is_file() and _is_single(place):
            parts.append((place, _One(place, open_one)))
        else:
            need_local(place)
            parts.append((place, open_one(place)))
    if not parts:
        raise DataError("no inputs; name files, folders, archives, a list or addresses of pictures")
    return InputList(parts)


def _open_listed(place: str, open_one: Open) -> Opened:
    """Open what a list or a pattern names; a fault is that one's alone."""
    try:
        check_place(place)
        if scheme_of(place) and not is_picture_address(place):
            raise DataError(f"{place}: expected a file, a folder or an http(s) address of a picture")
        path = Path(place)
        if path.is_dir() or (path.is_file() and path.suffix.lower() in (".zip", ".tar")):
            return open_one(str(place))
        if path.is_file() and not _is_single(place):
            raise DataError(f"{place}: neither picture, video, folder nor archive")
        if not path.exists() and not scheme_of(place):
            raise DataError(f"{place}: no such file or folder")
    except (SaccadeError, OSError, ValueError) as error:
        return _One(place, open_one, str(error))
    return _One(str(place), open_one)


def _is_single(place: str) -> bool:
    return is_image_name(place) or is_video_name(place)


def _is_list(place: str, text_lists: bool) -> bool:
    if place == STDIN or (place.startswith("@") and not Path(place).exists()):
        return True
    return text_lists and place.lower().endswith(".txt") and Path(place).is_file()


def _is_pattern(place: str) -> bool:
    return any(sign in place for sign in "*?[") and not scheme_of(place) and not Path(place).exists()


def _matches(pattern: str) -> list[tuple[str, str]]:
    """List what a pattern matches, sorted as people do."""
    found = natural_sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))  # noqa: PTH207
    if not found:
        raise DataError(f"{pattern}: nothing matches this pattern")
    return [(name, name) for name in found]


def _read_list(place: str) -> Iterator[tuple[str, str]]:
    """Give the names of a list, one a line, as they stand there and as paths; relative ones are beside the list."""
    name = place.removeprefix("@")
    home = Path() if place == STDIN else Path(name).expanduser().parent
    if place == STDIN:
        data = sys.stdin.buffer.read(MAX_LIST_BYTES + 1)
    else:
        with open_regular(Path(name).expanduser()) as file:
            data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise DataError(f"{place}: a list of over {MAX_LIST_BYTES >> 20} MiB; name the folder instead")
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    lines = [line.strip("\r") for line in lines if line.strip()]
    if not lines:
        raise DataError(f"{place}: the list is empty; expected a file name a line")
    for line in lines:
        if scheme_of(line):
            yield line, Stored(line, name, "a line", way="type the address yourself")
        else:
            yield line, str(home / Path(line).expanduser())
