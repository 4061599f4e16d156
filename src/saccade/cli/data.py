"""`saccade data`: check a place of images, divide it, or write it in another form."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from saccade.cli import show
from saccade.errors import CheckFailed

if TYPE_CHECKING:
    from saccade.data.source import Source

app = cyclopts.App(name="data", help="Check, convert and split data.")
Flag = Annotated[bool, cyclopts.Parameter(negative="")]
SHOWN = 20
"""Findings of one kind printed before the rest is only counted."""


@app.command
def check(
    data: str,
    /,
    *,
    task: str = "classify",
    val: str = "",
    max_pixels: int = 178_956_970,
    threads: int = 0,
    out: Path | None = None,
    every: Flag = False,
    json: Flag = False,
) -> None:
    """Find unreadable, odd, doubled and leaking images and lopsided classes; exit 1 when there are errors.

    Example: saccade data check photos/

    Args:
        data: Folder, table, shards or a built-in name; for detect COCO annotations, for segment class maps.
        task: classify, detect or segment.
        val: Validation data, when it lies elsewhere.
        max_pixels: Larger pictures are errors (decompression bombs).
        threads: Cores to use; 0: all.
        out: Also write all findings to this CSV file.
        every: Print every finding, not only the first 20 of each kind.
        json: Print one JSON object with every finding.
    """
    from saccade.data.check import check_data

    if task != "classify":
        _check_dense(task, data, val, max_pixels, out, every, json)
        return
    with show.progress() as bar:
        line = bar.add_task("checking", total=None, info="")
        report = check_data(
            data,
            val=val,
            max_pixels=max_pixels,
            threads=threads or None,
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )
    facts = report.to_dict()
    if out is not None:
        _write_findings(out, facts["findings"])
    if json:
        show.result(facts, as_json=True)
    else:
        seen: Counter[str] = Counter()
        printed = []
        for finding in facts["findings"]:
            seen[finding["kind"]] += 1
            if every or seen[finding["kind"]] <= SHOWN:
                printed.append(finding)
        show.rows(printed, as_json=False)
        for kind, count in seen.items():
            if not every and count > SHOWN:
                show.note(
                    f"{count - SHOWN} more of kind {kind}; --every prints them, --out writes them to a file"
                )
        for part, counts in report.parts.items():
            show.note(f"{part}: {sum(counts.values())} labelled images in {len(counts)} classes")
        keys = ("images", "classes", "errors", "warnings")
        show.result({key: facts[key] for key in keys}, as_json=False)
    if report.errors:
        raise CheckFailed(
            f"{data}: {report.errors} errors in {report.images} images; mend or remove those files"
        )


@app.command
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


@app.command
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
    """Write data as class folders, as a table of paths, or as WebDataset shards; images are not compressed anew.

    Example: saccade data convert photos/ --out shards/ --form shards

    Args:
        data: Folder, table, shards or a built-in name.
        out: A .csv table to write, or a new folder.
        form: folder, table or shards; default: by the name of --out.
        link: In a folder, make links to the images instead of copies.
        seed: Of the order in shards, which is shuffled.
        shard_mb: Size of a shard, in MiB.
        dry_run: Only say what would be written.
        json: Print one JSON object.
    """
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


def _write_findings(out: Path, findings: list[dict]) -> None:
    """Write findings as a CSV file."""
    from saccade.files import write_rows

    write_rows(out, findings, ("level", "kind", "name", "detail"))


def _check_dense(
    task: str, data: str, val: str, max_pixels: int, out: Path | None, every: bool, as_json: bool
) -> None:
    """Look over pictures with boxes or class maps; see `check`."""
    from saccade.engine.evaluate.check_dense import check_dense

    with show.progress() as bar:
        line = bar.add_task("checking", total=None, info="")
        found = check_dense(
            task,
            data,
            val,
            max_pixels=max_pixels,
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )
    findings = [{"part": part, "name": name, "reason": reason} for part, name, reason in found.skipped]
    if out is not None:
        _write_findings(out, findings)
    values = {"pictures": sum(found.pictures.values()), "classes": len(found.labels), "errors": len(findings)}
    if as_json:
        show.result(
            {**values, "labels": found.labels, "notes": found.notes, "findings": findings}, as_json=True
        )
    else:
        for note in found.notes:
            show.note(note)
        if findings:
            show.rows(findings if every else findings[:SHOWN], as_json=False)
        if not every and len(findings) > SHOWN:
            show.note(f"{len(findings) - SHOWN} more; --every prints them, --out writes them to a file")
        show.result(values, as_json=False)
    if findings:
        raise CheckFailed(f"{data}: {len(findings)} pictures cannot be read; mend or remove them")
