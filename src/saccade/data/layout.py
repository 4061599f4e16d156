"""Find the parts of a dense data set in a folder: annotation files and picture folders, in the layouts people have.

Objects (COCO's JSON), wherever the names allow no doubt:

    annotations/instances_train2017.json, instances_val2017.json beside train2017/, val2017/ or images/...   (COCO)
    train/_annotations.coco.json, valid/_annotations.coco.json with the pictures beside them                  (exports
                                                                                             of labelling services)
    train.json, val.json, or one file alone, which is then split; pictures in images/ or anywhere named by the file

Class maps (one PNG of class numbers for each picture, same name):

    images/training + annotations/training, .../validation, objectInfo150.txt     (ADE20K: 0 means "none of them")
    images/train + masks/train (or annotations/, labels/), .../val, classes.txt   (one class name a line)
    img_dir/train + ann_dir/train (mmseg), leftImg8bit/train/CITY + gtFine/train/CITY (Cityscapes),
    JPEGImages + SegmentationClass (Pascal VOC), train + trainannot (CamVid)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.data.decode import is_image_name
from saccade.errors import DataError
from saccade.files import read_text

TRAIN, VAL = ("train", "training"), ("val", "valid", "validation", "test")
MAPS = ("annotations", "masks", "labels", "semantic", "segmentation")
PLACES = (
    *(("images", name) for name in MAPS),
    ("img_dir", "ann_dir"),
    ("JPEGImages", "SegmentationClass"),
    ("leftImg8bit", "gtFine"),
)
"""Folders of pictures and of class maps: most people's, mmseg's, Pascal VOC's, Cityscapes'."""
NAMES = ("classes.txt", "labels.txt", "objectInfo150.txt")


@dataclass(frozen=True)
class Part:
    """One side of a data set."""

    annotations: Path
    """The JSON file, or the folder of class maps."""
    pictures: tuple[Path, ...]
    """Folders of pictures, to be searched in order."""
    format: str = "json"
    """Of the annotations, a name of `labels.formats`."""


def find_coco(spec: str) -> dict[str, Part]:
    """Find annotation files.

    Args:
        spec: A folder, or an annotation file.

    Returns:
        Parts by name: "train" and "val", or "all" when there is one file only.

    Raises:
        DataError: No annotation file, or several that could be meant.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".json":
            raise DataError(f"{spec}: expected a folder or a .json file of COCO annotations")
        home = path.parent.parent if path.parent.name == "annotations" else path.parent
        return {"all": Part(path, _picture_folders(home, path))}
    if not path.is_dir():
        raise DataError(f"{spec}: no such file or folder")
    files = [file for folder in (path, path / "annotations") for file in sorted(folder.glob("*.json"))]
    for name in (*TRAIN, *VAL):
        files += sorted((path / name).glob("_annotations.coco.json"))
    found: dict[str, list[Path]] = {"train": [], "val": [], "all": []}
    for file in files:
        text = file.parent.name if file.name.startswith("_annotations") else file.stem
        found[_side(text)].append(file)
    parts: dict[str, Part] = {}
    for side, candidates in found.items():
        # COCO keeps captions and key points beside the instances.
        chosen = [file for file in candidates if "instances" in file.stem] or candidates
        if len(chosen) > 1 and side == "val":
            chosen = [
                file for file in chosen if "test" not in file.stem and file.parent.name != "test"
            ] or chosen
        if len(chosen) > 1 and side != "all":
            names = ", ".join(file.name for file in chosen[:3])
            raise DataError(
                f"{spec}: several files could hold the {side} annotations ({names}); name one with --data"
            )
        if chosen:
            parts[side] = Part(chosen[0], _picture_folders(path, chosen[0]))
    if "train" in parts:
        parts.pop("all", None)
        return parts
    if len(found["all"]) == 1:
        return {"all": parts["all"]}
    if "val" in parts:
        return {"val": parts["val"]}
    if found["all"]:
        names = ", ".join(file.name for file in found["all"][:3])
        raise DataError(f"{spec}: several files could hold the annotations ({names}); name one with --data")
    raise DataError(
        f"{spec}: no COCO annotations here; expected annotations/instances_train.json and instances_val.json, "
        "train/_annotations.coco.json, or one .json file"
    )


def _side(text: str) -> str:
    """Tell from a name whether something is for training or validation."""
    low = text.lower()
    if any(word in low for word in TRAIN):
        return "train"
    return "val" if any(word in low for word in VAL) else "all"


def _picture_folders(home: Path, file: Path) -> tuple[Path, ...]:
    """List where the pictures of an annotation file may be, the likeliest first."""
    tail = file.stem.split("_")[-1]
    side = {"train": TRAIN, "val": VAL, "all": ()}[_side(file.stem)]
    names = [tail, f"images/{tail}", *(f"images/{name}" for name in side), *side, "images", "."]
    return tuple(dict.fromkeys([*(home / name for name in names), file.parent]))


def find_maps(spec: str) -> tuple[dict[str, Part], list[str], bool]:
    """Find pictures with class maps.

    Returns:
        (parts by name, "train" and "val", or "all" where the folder is not divided; class names, empty when no file
        lists them; whether class number 0 means "none", as in ADE20K).

    Raises:
        DataError: No such folders.
    """
    home = Path(spec).expanduser()
    if not home.is_dir():
        raise DataError(f"{spec}: no such folder")
    if (home / "ADEChallengeData2016").is_dir():
        home = home / "ADEChallengeData2016"
    parts: dict[str, Part] = {}
    for side, names in (("train", TRAIN), ("val", VAL), ("all", ("",))):
        for name in names:
            places = [(home / first / name, home / second / name) for first, second in PLACES]
            places += [(home / name, home / f"{name}annot")] if name else []  # CamVid's
            for pictures, maps in places:
                if side not in parts and pictures.is_dir() and any(maps.rglob("*.png")):
                    parts[side] = Part(maps, (pictures,))
    if not parts:
        raise DataError(
            f"{spec}: expected images/train and masks/train with a PNG of class numbers for each picture "
            "(masks/ may be called annotations/, and train/ training/)"
        )
    if len(parts) > 1:
        parts.pop("all", None)
    listed = next((home / name for name in NAMES if (home / name).is_file()), None)
    ade = listed is not None and listed.name == "objectInfo150.txt"
    return parts, _read_names(listed) if listed else [], ade


def _read_names(path: Path) -> list[str]:
    """Read one class name a line; of ADE20K's table the first synonym of the last column."""
    lines = [
        line.strip() for line in read_text(path, what="one class name a line").splitlines() if line.strip()
    ]
    if path.name == "objectInfo150.txt":
        return [line.split("\t")[-1].split(",")[0].strip() for line in lines[1:]]
    if len(set(lines)) != len(lines):
        raise DataError(f"{path}: a class name occurs twice; give every class its own line and name")
    return lines


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder and those in it, sorted by name."""
    return sorted(path for path in folder.rglob("*") if is_image_name(path) and path.is_file())
