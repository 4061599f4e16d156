"""`saccade data check`: look over a place of images."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from saccade.cli import show
from saccade.errors import CheckFailed

Flag = Annotated[bool, cyclopts.Parameter(negative="")]
SHOWN = 20
"""Findings of one kind printed before the rest is only counted."""


def check(
    data: str,
    /,
    *,
    task: str | None = None,
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
        task: classify (unless said otherwise), detect or segment.
        val: Validation data, when it lies elsewhere.
        max_pixels: Larger pictures are errors (decompression bombs).
        threads: Cores to use; 0: all.
        out: Also write all findings to this CSV file.
        every: Print every finding, not only the first 20 of each kind.
        json: Print one JSON object with every finding.
    """
    from saccade.data.check import check_data, write_findings
    from saccade.tasks import get_task
    from saccade.weights import Card

    task = task or Card.task
    if not get_task(task).labelled_pictures:
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
        write_findings(out, facts["findings"])
    if json:
        show.result(facts, as_json=True)
    else:
        _show_findings(facts["findings"], every)
        for part, counts in report.parts.items():
            show.note(f"{part}: {sum(counts.values())} labelled images in {len(counts)} classes")
        keys = ("images", "classes", "errors", "warnings")
        show.result({key: facts[key] for key in keys}, as_json=False)
    if report.errors:
        raise CheckFailed(
            f"{data}: {report.errors} errors in {report.images} images; mend or remove those files"
        )


def _show_findings(findings: list[dict[str, Any]], every: bool) -> None:
    """Print findings, of each kind the first, and count the rest."""
    seen: Counter[str] = Counter()
    printed = []
    for finding in findings:
        seen[finding["kind"]] += 1
        if every or seen[finding["kind"]] <= SHOWN:
            printed.append(finding)
    show.rows(printed, as_json=False)
    for kind, count in seen.items():
        if not every and count > SHOWN:
            show.note(
                f"{count - SHOWN} more of kind {kind}; --every prints them, --out writes them to a file"
            )


def _check_dense(
    task: str, data: str, val: str, max_pixels: int, out: Path | None, every: bool, as_json: bool
) -> None:
    """Look over pictures with boxes or class maps; see `check`."""
    from saccade.data.check import write_findings
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
        write_findings(out, findings)
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
