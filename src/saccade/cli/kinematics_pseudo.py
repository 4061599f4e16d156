"""`saccade kinematics pseudo-label`: tracks and labels from plain videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from saccade.cli import show
from saccade.cli.flags import names_of
from saccade.cli.kinematics_label import Tokens

if TYPE_CHECKING:
    from saccade.kinematics.pseudo_plan import Plan

Hidden = Parameter(show=False)


def pseudo_label(
    source: Path,
    /,
    *settings: Tokens,
    out: Path,
    detect: str | None = None,
    track: str | None = None,
    depth: str | None = None,
    masks: Path | None = None,
    names: str | None = None,
    focal: float | None = None,
    engine: str = "local",
    workers: int | None = None,
    seed: int = 0,
    second: Annotated[str | None, Hidden] = None,
    device: Annotated[str, Hidden] = "auto",
    size: Annotated[int | None, Hidden] = None,
    dtype: Annotated[Literal["float32", "bf16"], Hidden] = "float32",
    batch: Annotated[int, Hidden] = 4,
    split: Annotated[str, Hidden] = "train",
    json: bool = False,
) -> None:
    """Label plain videos: find things, follow them, measure depth and the camera's path, lift to metres, filter.

    Networks are those of transformers: a folder, or a hub id. Writes the folder that `kinematics label` writes, and
    goes on where a killed run was. What cannot be used is in rejected.jsonl with its reason. Settings: --label.NAME,
    --pseudo.NAME (filters), --find.threshold, --find.every, --find.same-overlap. Less common: --second DEPTH (has to
    agree), --device, --size, --dtype bf16, --batch, --split.

    Example: saccade kinematics pseudo-label videos --out labels --track facebook/sam3 --depth apple/DepthPro-hf

    Args:
        source: A video, or a folder of videos.
        settings: Definitions and filters.
        out: Folder to write.
        detect: Grounding DINO, MM Grounding DINO, OWLv2 or OmDet-Turbo; not with SAM 3.
        track: SAM 2 video, or SAM 3 video, which finds by names itself.
        depth: Depth Pro, Depth Anything (metric) or ZoeDepth; or a folder of depth maps.
        masks: Folder of masks, in place of --detect and --track.
        names: What to look for, joined by commas; car,truck,bus,motorcycle,bicycle,person when left out.
        focal: Focal length in pixels of the videos, where it is known.
        engine: local, or ray for a cluster.
        workers: Processes or CPUs; all cores when left out, one on a GPU.
        seed: Of the random draws of the camera's path.
        second: Another depth network or folder; labels on which the two do not agree are rejected.
        device: cpu, cuda or mps; the best there is when left out.
        size: Longer side of the frames that the stages see, pixels; 640 when left out.
        dtype: Of the networks: float32 or bf16.
        batch: Frames that pass through a network at once.
        split: Of the records.
        json: Print one JSON object.
    """
    import dataclasses
    from json import dumps

    from saccade.devices import pick_device
    from saccade.errors import ConfigError, DataError
    from saccade.files import replacing, usable_cores, writing
    from saccade.kinematics.forms import write_json
    from saccade.kinematics.lift.settings import PseudoSettings
    from saccade.kinematics.pseudo import run_pseudo
    from saccade.kinematics.pseudo_plan import SIZE, Finding, Place, Plan
    from saccade.kinematics.records import read_tracks
    from saccade.kinematics.selection import label_row
    from saccade.kinematics.settings import Settings
    from saccade.settings import make, read_groups

    given = read_groups(
        settings, {"label": Settings, "pseudo": PseudoSettings, "find": Finding}, names_of(pseudo_label)
    )
    if names is not None:
        if "names" in given["pseudo"]:
            raise ConfigError("--names and --pseudo.names say the same; give one of them")
        given["pseudo"]["names"] = tuple(name.strip() for name in names.split(","))
    if workers is not None and workers < 0:
        raise ConfigError(f"--workers is {workers}; expected 0 or more")
    plan = Plan(
        detect=detect, track=track, masks=None if masks is None else str(masks), depth=depth, second=second,
        focal_px=focal, size=SIZE if size is None else size, dtype=dtype, seed=seed, split=split,
        find=make(Finding, given["find"], "find"), pseudo=make(PseudoSettings, given["pseudo"], "pseudo"),
        label=make(Settings, given["label"], "label"),
    )  # fmt: skip
    device = pick_device(device)
    if workers is None:
        workers = usable_cores() if device == "cpu" or engine == "ray" else 1
    place = Place(device, batch, threads=max(1, usable_cores() // max(1, workers)))
    with writing(out, "labelling"):
        with show.progress() as bar:
            task = bar.add_task("labelling", total=None, info="clips")
            found, key = run_pseudo(
                source, out, plan, place=place, engine=engine, workers=workers,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        # Another form from an earlier run would hold every track a second time.
        (out / "tracks.jsonl").unlink(missing_ok=True)
        statuses: Counter[str] = Counter()

        def rows() -> Iterator[dict[str, Any]]:
            for record in read_tracks(out / "tracks.parquet"):
                row = label_row(record, plan.label)
                statuses[row["selection"]] += 1
                yield row

        write_json(rows(), out / "labels.jsonl")
        with replacing(out / "plan.json") as temporary:
            temporary.write_text(
                dumps({"config_hash": key, **_plain(plan)}, indent=1) + "\n", encoding="utf-8"
            )
    if not found.tracks:
        reasons = ", ".join(f"{name} {count}" for name, count in found.reasons.most_common())
        raise DataError(
            f"{source}: none of {found.clips} clips gave a track ({reasons}); see {out / 'rejected.jsonl'}"
        )
    facts = {name: value for name, value in dataclasses.asdict(found).items() if name != "reasons"}
    show.result(
        {"out": str(out), **facts, "config_hash": key,
         **{f"selection {name}": number for name, number in statuses.most_common()},
         **{f"rejected {name}": number for name, number in found.reasons.most_common()}},
        as_json=json,
    )  # fmt: skip
    if found.failed:
        show.note(f"{found.failed} clips failed for reasons not of their own; run again to try them again")


def _plain(plan: Plan) -> dict[str, Any]:
    """A plan as it is written down, without what it does not use."""
    import dataclasses

    return {name: value for name, value in dataclasses.asdict(plan).items() if value is not None}
