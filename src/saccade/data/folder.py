"""Folders of images: one folder per class, train/ and val/ beside each other, or pictures without classes."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from saccade.data.decode import EXTENSIONS, is_image_name
from saccade.data.left_out import HIDDEN, NOWHERE, LeftOut
from saccade.data.source import NO_LABEL, FileSource, index_labels, natural_key, natural_sorted
from saccade.errors import DataError

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test", "testing"),
}
"""Folder names, and values of a table's split column, for each part; the first that exists is taken."""
SKIPPED_FOLDERS = frozenset({"__MACOSX", "__pycache__", "lost+found"})


NO_PICTURE, NO_VIDEO = "not pictures", "not videos"


def walk_images(root: Path, *, start: str = "", left_out: LeftOut | None = None) -> Iterator[str]:
    """List the image files under a folder; as `walk_files`."""
    return walk_files(root, is_image_name, NO_PICTURE, start=start, left_out=left_out)


def walk_files(
    root: Path,
    wanted: Callable[[str], bool],
    reason: str,
    *,
    start: str = "",
    left_out: LeftOut | None = None,
) -> Iterator[str]:
    """List the files of a kind under a folder, hidden ones left out, in natural order within each folder.

    Links to folders are followed, each folder once.

    Args:
        root: Folder.
        wanted: Whether a file of this name is asked for. What has such a name and is no file after all shows when it
            is read.
        reason: Why the others are not taken.
        start: Begin at this folder below `root`.
        left_out: Counts all files that are not given.

    Yields:
        Paths relative to `root`, with forward slashes.

    Raises:
        DataError: A folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [start]
    while waiting:
        below = waiting.pop()
        try:
            status = (root / below).stat()
        except OSError as error:
            raise DataError(f"{root / below}: cannot be read ({error.strerror or error})") from None
        if (status.st_dev, status.st_ino) in seen:  # a link back up would go round for ever
            continue
        seen.add((status.st_dev, status.st_ino))
        folders = []
        entries = list_folder(root / below, left_out, f"{below}/" if below else "")
        for name, is_folder in entries:
            path = f"{below}/{name}" if below else name
            if is_folder:
                folders.append(path)
            elif wanted(name):
                yield path
            elif left_out is not None:
                lost = (root / path).is_symlink() and not (root / path).exists()
                left_out.add(path, NOWHERE if lost else reason)
        waiting += reversed(folders)


def list_folder(folder: Path, left_out: LeftOut | None = None, below: str = "") -> list[tuple[str, bool]]:
    """List the visible entries of a folder in natural order, each with whether it is a folder.

    Args:
        folder: To list.
        left_out: Counts the hidden ones.
        below: What their names begin with.

    Raises:
        DataError: The folder cannot be read.
    """
    found: list[tuple[str, bool]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in SKIPPED_FOLDERS:
                    if left_out is not None:
                        left_out.add(below + entry.name, HIDDEN)
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link to itself
                    is_folder = False
                found.append((entry.name, is_folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None
    return sorted(found, key=lambda pair: natural_key(pair[0]))


def find_parts(folder: Path) -> tuple[Path | None, Path | None]:
    """Find the train/ and val/ folders inside a folder, by any of their usual names.

    A folder of that name that holds images directly is a class (of railway engines, say) and not a part.

    Returns:
        The training and the validation folder, each None when there is none.
    """
    names = {name.lower(): name for name, is_folder in list_folder(folder) if is_folder}
    found: list[Path | None] = []
    for part in ("train", "val"):
        folders = [folder / names[name] for name in PART_NAMES[part] if name in names]
        found.append(next((path for path in folders if has_class_folders(path)), None))
    return found[0], found[1]


def descend(folder: Path) -> Path:
    """Go down while a folder holds nothing but one other folder that is not a class itself.

    photos/images/cat and photos/images/dog are two classes, not one called "images". A single folder that holds
    images directly is a class and stays one.
    """
    while True:
        entries = list_folder(folder)
        folders = [name for name, is_folder in entries if is_folder]
        if len(folders) != 1 or any(is_image_name(name) for name, is_folder in entries if not is_folder):
            return folder
        inner = list_folder(folder / folders[0])
        if not any(is_folder for _, is_folder in inner) or any(
            is_image_name(name) for name, is_folder in inner if not is_folder
        ):
            return folder
        folder = folder / folders[0]


def open_classes(folder: Path, labels: list[str] | None = None, *, where: str = "") -> FileSource:
    """Open a folder whose sub-folders are the classes; deeper folders belong to the class they are in.

    Args:
        folder: Of class folders.
        labels: Fixed class names; None: the folder names in natural order, empty folders left out.
        where: What the user called it.

    Returns:
        The images, class by class.

    Raises:
        DataError: No images in any class folder, or a folder that is not among the fixed names.
    """
    where = where or str(folder)
    left_out = LeftOut()
    notes, files, found = [], [], []
    for name, is_folder in list_folder(folder, left_out):
        if not is_folder:
            left_out.add(name, "beside the class folders")
            continue
        inside = list(walk_images(folder, start=name, left_out=left_out))
        if not inside:
            notes.append(f"{where}: class folder {name!r} has no images and is left out")
        files += inside
        found += [name] * len(inside)
    if not files:
        raise DataError(_nothing(folder, where))
    notes += left_out.notes(where)
    targets, names = index_labels(found, labels, where)
    return FileSource(folder, files, targets, names, where=where, notes=notes)


def open_flat(folder: Path, *, where: str = "") -> FileSource:
    """Open any folder of images without looking for classes.

    Raises:
        DataError: No images anywhere in it.
    """
    left_out = LeftOut()
    where = where or str(folder)
    files = list(walk_images(folder, left_out=left_out))
    if not files:
        raise DataError(_nothing(folder, where))
    notes = left_out.notes(where)
    return FileSource(folder, files, [NO_LABEL] * len(files), [], where=where, notes=notes)


def has_class_folders(folder: Path) -> bool:
    """Whether any sub-folder holds an image, at any depth."""
    return any(
        is_folder and next(walk_images(folder, start=name), None) is not None
        for name, is_folder in list_folder(folder)
    )


def _nothing(folder: Path, where: str) -> str:
    """Say what is in a folder instead of images."""
    kinds = Counter(
        (Path(name).suffix.lower() or "without a suffix")
        for _, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )
    if not kinds:
        return f"{where}: the folder is empty; expected images, or one folder of images per class"
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
    known = " ".join(natural_sorted(EXTENSIONS)[:6])
    return f"{where}: no images among its files ({listed}); expected files ending in {known} or the like"
