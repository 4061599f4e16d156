"""`saccade data split` and `saccade data convert`: divide images, or write them in another form."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from saccade.cli import show

if TYPE_CHECKING:
    from saccade.data.source import Source

Flag = Annotated[bool, cyclopts.Parameter(negative="")]
SHOWN = 20
"""Images left out that are named before the rest is only counted."""


def split(
    data: str,
    /,
    *,
    out: Path,
    fraction: float = 0.2,
    seed: int = 0,
    form: str = "",
    link: Flag = False,
    dry_run: Flag = False,
    json: Flag = False,
) -> None:
    """Divide images into training and validation, class by class, the same way every time.

    Example: saccade data split photos/ --out split.csv

    Args:
        data: Folder of class folders, table, shards or a built-in name, not divided yet.
        out: A .csv table to write, or a new folder for train/ and val/.
        fraction: Share for validation, in (0, 1).
        seed: Another seed, another split; training with the same seed makes the same one.
        form: folder, table or shards; default: by the name of --out.
        link: In a folder, make links to the images instead of copies.
        dry_run: Only say what would be written.
        json: Print one JSON object.
    """
    from saccade.data.convert import split_parts

    _write(split_parts(data, fraction, seed=seed), out, form, link, seed, dry_run, json)


def convert(
    data: str,
    /,
    *,
    out: Path,
    form: str = "",
    link: Flag = False,
    seed: int = 0,
    shard_mb: int = 256,
    dry_run: Flag = False,
    json: Flag = False,
) -> None:
    """Write data as class folders, table of paths or WebDataset shards, or objects as COCO; images stay as they are.

    Example: saccade data convert photos/ --out shards/ --form shards

    Args:
        data: Folder, table, shards or a built-in name; for coco labels of YOLO, Pascal VOC, LabelMe, Label Studio,
            Open Images or COCO.
        out: A .csv table to write, or a new folder.
        form: folder, table, shards or coco; default: by the name of --out.
        link: In a folder, make links to the images instead of copies.
        seed: Of the order in shards, which is shuffled.
        shard_mb: Size of a shard, in MiB.
        dry_run: Only say what would be written.
        json: Print one JSON object.
    """
    if form == "coco":
        from saccade.data.labels.write import write_coco

        counts, notes = write_coco(data, out, link=link, dry_run=dry_run)
        for note in notes:
            show.note(note)
        values = {"out": str(out), "form": form} | counts | ({"dry_run": True} if dry_run else {})
        show.result(values, as_json=json)
        return
    from saccade.data.convert import open_parts

    _write(open_parts(data), out, form, link, seed, dry_run, json, shard_bytes=shard_mb << 20)


def _write(
    parts: dict[str, "Source"],
    out: Path,
    form: str,
    link: bool,
    seed: int,
    dry_run: bool,
    json: bool,
    **options: int,
) -> None:
    """Write sources and say how many images went where."""
    from saccade.data.convert import form_of, write_parts

    form = form_of(out, form)
    counts = {part: len(source) for part, source in parts.items()}
    if not dry_run:
        with show.progress() as bar:
            task = bar.add_task("writing", total=None, info="")
            written = write_parts(
                parts,
                out,
                form=form,
                link=link,
                seed=seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
                **options,
            )
        counts = written.counts
        for name, reason in written.skipped[:SHOWN]:
            show.note(f"left out: {reason if name in reason else f'{name}: {reason}'}")
        if written.skipped:
            show.note(
                f"{len(written.skipped)} images cannot be read and were left out; `saccade data check` lists them"
            )
    values = {"out": str(out), "form": form} | {part or "images": count for part, count in counts.items()}
    show.result(values | ({"dry_run": True} if dry_run else {}), as_json=json)
