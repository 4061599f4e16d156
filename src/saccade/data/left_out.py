"""What a listing did not take, so that no file vanishes without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

NOWHERE = "links that lead nowhere"
HIDDEN = "hidden"


class LeftOut:
    """Files that were not taken, counted by reason and ending, each reason with the first name."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._first: dict[str, str] = {}

    def add(self, name: str, reason: str) -> None:
        """Count one file.

        Args:
            name: Its path, as the user would look for it.
            reason: Why, as the plural "are ..." or a noun: "not pictures", "hidden".
        """
        path = PurePosixPath(name)
        ending = path.suffix.lower() or (path.name if reason == HIDDEN else "without an ending")
        self.counts.setdefault(reason, Counter())[ending] += 1
        self._first[reason] = min(name, self._first.get(reason, name))

    def notes(self, where: str) -> list[str]:
        """Return one sentence for each reason: how many, which endings, and the first name."""
        found = []
        for reason, endings in self.counts.items():
            listed = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
            files = "file is" if endings.total() == 1 else "files are"
            found.append(
                f"{where}: {endings.total()} {files} left out, {reason} ({listed}; first: {self._first[reason]})"
            )
        return found
