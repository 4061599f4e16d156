"""What a video language model learns from: questions about motion, and general conversations mixed in.

Questions are those of `saccade kinematics questions`. General data are LLaVA conversations (a JSON list or JSON
lines) about a video, a folder of frames, a picture, or nothing, with paths relative to their own file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.data.dataset import TolerantDataset
from saccade.errors import ConfigError, DataError
from saccade.files import read_json, read_lines
from saccade.kinematics.draw import WIDTH_PX, frames_key, frames_of, open_image, pictures_root
from saccade.kinematics.records import Question, Track, read_questions, read_tracks
from saccade.kinematics.splits import assign_splits
from saccade.tasks.answer.vlm.adapters import Adapter
from saccade.tasks.answer.vlm.clips import Exchange, clip_frames

MAX_FILE = 1 << 31
"""Bytes of a file of conversations."""
THIN_PX = 2.0
"""Lines that become thinner than this when frames are made smaller lose their colour."""
_MARKS = ("<image>", "<video>")


@dataclass(frozen=True)
class General:
    """One conversation of general data."""

    id: str
    turns: list[tuple[str, str]]
    video: str = ""
    """Path of a video or of a folder of frames."""
    image: str = ""


Item = Question | General


class Exchanges:
    """Makes the exchange of a question: its frames with boxes, or those that were drawn before."""

    def __init__(self, questions_file: Path | str, labels: str = "", pictures: str = "") -> None:
        """Say where frames come from.

        Args:
            questions_file: File or folder of questions; `frames/` beside it holds the drawn frames.
            labels: Tracks to draw from instead, which keeps lines at the width the model sees.
            pictures: Folder that the tracks' pictures are relative to.

        Raises:
            DataError: Tracks that cannot be read.
        """
        path = Path(questions_file)
        self.drawn = (path if path.is_dir() else path.parent) / "frames"
        self.labels, self.pictures = labels, pictures
        self.tracks: dict[str, list[Track]] = {}
        for track in read_tracks(labels) if labels else ():
            self.tracks.setdefault(track.clip_id, []).append(track)
        self._show: Callable[[Exchange], Exchange] | None = None

    def showing(self, change: Callable[[Exchange], Exchange]) -> Exchanges:
        """Return the same of which only a part is shown, such as `clips.only_boxes`."""
        other = copy.copy(self)
        other._show = change
        return other

    def make(self, question: Question, adapter: Adapter | None, *, answered: bool = True) -> Exchange:
        """Open the frames of a question, and hide what is not shown.

        Args:
            question: With frame times.
            adapter: Of the model, which knows how large it sees them; None: as large as they are.
            answered: Whether its answer is part of it.

        Raises:
            DataError: Frames that are not there, or boxes that were drawn for so much larger frames that the model
                would not see their colour.
        """
        found = self._open(question, adapter, answered)
        return found if self._show is None else self._show(found)

    def _open(self, question: Question, adapter: Adapter | None, answered: bool) -> Exchange:
        times = list(question.frame_times_s or ())
        if not times:
            raise DataError(
                f"question {question.id}: field frame_times_s is missing; expected the seconds of its frames"
            )
        turns = [(question.question, question.answer if answered else "")]
        if self.tracks:
            tracks = self.tracks.get(question.clip_id, [])
            root = pictures_root(tracks, self.labels, self.pictures or None)
            shown = list(frames_of(question, tracks, root=root))
            return Exchange(
                turns, [image for image, _ in shown], times, [boxes for _, boxes in shown], name=question.id
            )
        if adapter is not None and adapter.box_channels:
            raise DataError(
                f"question {question.id}: the model takes boxes as channels, and in the frames that were drawn they "
                "are lines; name the tracks with --labels"
            )
        folder = self.drawn / frames_key(question)
        frames = [
            open_image(folder / f"{place:03d}.jpg", f"question {question.id}") for place in range(len(times))
        ]
        seen = (
            max(frames[0].size) if adapter is None else max(adapter.frame_size(*frames[0].size, len(frames)))
        )
        if WIDTH_PX * seen / max(frames[0].size) < THIN_PX:
            raise DataError(
                f"question {question.id}: its frames are {max(frames[0].size)} pixels wide and the model sees "
                f"{seen}, so the boxes would fade; draw them with --size {seen}, or name the tracks with --labels"
            )
        return Exchange(turns, frames, times, name=question.id)


class Asked:
    """Questions to be answered, in their order: a sample has the `exchange` whose last answer is empty."""

    def __init__(
        self,
        questions: Sequence[Question],
        exchanges: Exchanges,
        adapter: Adapter | None,
        *,
        blank: bool = False,
    ) -> None:
        """Number the questions.

        Args:
            questions: In a fixed order.
            exchanges: Opens their frames.
            adapter: Of the model; None: frames of any size.
            blank: Hide the frames.
        """
        self.questions, self.exchanges, self.adapter, self.blank = questions, exchanges, adapter, blank
        self.names: Sequence[str] = [question.id for question in questions]

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, place: int, /) -> dict[str, Any]:
        """Open the frames of a question; `DataError` where that cannot be done."""
        exchange = self.exchanges.make(self.questions[place], self.adapter, answered=False)
        return {
            "exchange": exchange, "blank": self.blank, "index": place, "name": self.names[place], "skipped": [],
        }  # fmt: skip


class AnswerData(TolerantDataset):
    """Questions and conversations as tensors, made when they are asked for."""

    def __init__(
        self, items: Sequence[Item], exchanges: Exchanges, adapter: Adapter, *, replace: bool = False
    ) -> None:
        """Number the items.

        Args:
            items: In a fixed order.
            exchanges: Opens the frames of questions.
            adapter: Of the base.
            replace: Put the next item in the place of one that cannot be read, as training does.
        """
        self.items, self.exchanges, self.adapter = list(items), exchanges, adapter
        self.names, self.where, self.replace = [item.id for item in self.items], "questions", replace
        kinds = [
            len(item.frame_times_s or ()) if isinstance(item, Question)
            else -1 if item.video else -2 if item.image else -3
            for item in self.items
        ]  # fmt: skip
        self.groups = np.array(kinds, dtype=np.int64)
        """Alike items, which make one batch without padding."""

    @property
    def train(self) -> bool:
        """Whether other items may stand in."""
        return self.replace

    def make(self, index: int, seed: int) -> dict[str, Any]:
        """Return {"sample": tensors of the item}.

        Raises:
            DataError: Its frames cannot be read.
        """
        return {"sample": self.adapter.encode(self.exchange(self.items[index]))}

    def empty(self) -> dict[str, Any]:
        """Return no sample."""
        return {"sample": None}

    def exchange(self, item: Item) -> Exchange:
        """Open the frames of an item.

        Raises:
            DataError: Files that are missing or damaged.
        """
        if isinstance(item, Question):
            return self.exchanges.make(item, self.adapter)
        if item.video:
            frames, times = clip_frames(item.video)
            return Exchange(item.turns, frames, times, name=item.id)
        image = open_image(item.image, f"conversation {item.id}") if item.image else None
        return Exchange(item.turns, image=image, name=item.id)


def split_questions(
    source: str, val: str, share: float, seed: int
) -> tuple[list[Question], list[Question], str]:
    """Read the questions to learn from and those to judge by.

    Without a file of its own, `val` are the questions of the split val; without those, a share of all scenes.

    Returns:
        Training questions, validation questions, and a line that says how.

    Raises:
        DataError: Files without questions, or nothing left on one side.
    """
    asked = list(read_questions(source))
    if val:
        train, held, how = asked, list(read_questions(val)), f"of {val}"
    else:
        how = "of the split val"
        held = [question for question in asked if question.split != "train"]
        if not held:
            how = f"of {share:.0%} of the scenes"
            asked = assign_splits(asked, {"train": 1 - share, "val": share}, seed)
            held = [question for question in asked if question.split == "val"]
        train = [question for question in asked if question.split == "train"]
    if not train or not held:
        side = "to train on" if not train else "to validate with"
        raise DataError(
            f"{source}: no questions {side}; expected several scenes, or a validation file with --val"
        )
    return train, held, f"{len(train)} questions to train on, {len(held)} to validate with, {how}"


def read_mix(mix: str, count: int, seed: int) -> tuple[list[General], list[str]]:
    """Read general conversations by ratio.

    Args:
        mix: FILE:RATIO,FILE:RATIO; the ratio is conversations per question about motion, all of the file without one.
        count: Questions about motion.
        seed: Of the choice.

    Returns:
        Conversations and lines that say how many.

    Raises:
        ConfigError: A ratio that is none.
        DataError: Files that cannot be read as conversations.
    """
    found, notes = [], []
    for place, entry in enumerate(part.strip() for part in mix.split(",") if part.strip()):
        name, colon, ratio = entry.rpartition(":")
        if not colon or "/" in ratio or ratio.endswith((".json", ".jsonl")):
            name, ratio = entry, ""
        try:
            share = float(ratio) if ratio else -1.0
        except ValueError:
            share = float("nan")
        if ratio and not 0 < share < 1e6:
            raise ConfigError(
                f"data.mix: {entry!r} has the ratio {ratio!r}; expected FILE:RATIO, such as general.jsonl:0.8"
            )
        talks = read_conversations(name)
        wanted = len(talks) if not ratio else round(share * count)
        order = np.random.Generator(np.random.PCG64([seed, place])).permutation(len(talks))
        chosen = [talks[at] for at in sorted(order[:wanted])]
        found += chosen
        short = f" ({wanted} were asked for)" if len(chosen) < wanted else ""
        notes.append(f"{len(chosen)} of {len(talks)} conversations of {name} mixed in{short}")
    return found, notes


def read_conversations(path: Path | str) -> list[General]:
    """Read LLaVA conversations.

    Raises:
        DataError: No such file, or a record that is no conversation: file, record, field.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected LLaVA conversations, .json or .jsonl")
    if path.suffix == ".jsonl":
        values: Any = [value for _, value in read_lines(path)]
    else:
        values = read_json(path, max_bytes=MAX_FILE)
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: expected a list of LLaVA conversations that is not empty")
    return [_conversation(value, path, number) for number, value in enumerate(values, 1)]


def _conversation(value: Any, path: Path, number: int) -> General:
    where = f"{path}: record {number}"
    talk = value.get("conversations") if isinstance(value, dict) else None
    if not isinstance(talk, list) or len(talk) < 2 or len(talk) % 2:
        raise DataError(
            f"{where}: field conversations is {str(talk)[:40]}; expected questions and answers in turn"
        )
    for place, said in enumerate(talk):
        who = "human" if place % 2 == 0 else "gpt"
        if (
            not isinstance(said, dict)
            or said.get("from") != who
            or not isinstance(said.get("value"), str)
            or not said["value"].strip()
        ):
            raise DataError(
                f"{where}: field conversations[{place}] is {str(said)[:60]}; expected {{from: {who}, value: TEXT}}"
            )
    turns = [
        (_bare(ask["value"]), answer["value"].strip())
        for ask, answer in zip(talk[::2], talk[1::2], strict=True)
    ]
    media: dict[str, str] = {}
    for kind in ("video", "image"):
        shown = value.get(kind)
        shown = shown[0] if isinstance(shown, list) and len(shown) == 1 else shown
        if shown is not None and not (isinstance(shown, str) and shown):
            raise DataError(f"{where}: field {kind} is {str(shown)[:60]}; expected one path")
        if shown:
            media[kind] = str(path.parent / shown)
    if len(media) > 1:
        raise DataError(f"{where}: has a video and an image; expected one of them")
    return General(str(value.get("id", f"{path.name}:{number}")), turns, **media)


def _bare(text: str) -> str:
    """Take the marks of pictures out: adapters put in those of their own class."""
    for mark in _MARKS:
        text = text.replace(mark, "")
    return text.strip()


def count_frames(items: Iterable[Item]) -> int:
    """Most frames of any question."""
    return max((len(item.frame_times_s or ()) for item in items if isinstance(item, Question)), default=0)
