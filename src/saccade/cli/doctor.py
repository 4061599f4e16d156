"""`saccade doctor`: what is installed, what works here, what does not, and the way out."""

from saccade.cli import show


def doctor(*, cache: bool = False, json: bool = False) -> None:
    """Say what is installed, what works here, and what to do about the rest.

    Example: saccade doctor

    Nothing is sent anywhere. Exit code 1 when something is broken that every command needs; a missing
    optional package is no failure.

    With --cache: what the cache folder holds, and the exported files made on the way that it had too many of, the
    longest unused first, are removed (above 4 GB, or what SACCADE_CACHE_GB says; 0 removes all).

    Args:
        cache: Show the cache folder and bring it below its limit.
        json: Print one JSON object.
    """
    if cache:
        _show_cache(json)
        return
    import dataclasses

    from saccade.engine.doctor import examine
    from saccade.errors import CheckFailed

    findings = examine()
    show.rows([dataclasses.asdict(finding) for finding in findings], as_json=json, title="")
    broken = [finding.name for finding in findings if finding.state == "broken"]
    if broken:
        raise CheckFailed(f"{', '.join(broken)} broken; the fix column above says what to do")
    show.note("everything that every command needs works here")


def _show_cache(json: bool) -> None:
    """List the cache and prune it."""
    from saccade.engine.export.cache import cache_limit, list_cache, prune_bundles
    from saccade.files import cache_dir

    kept, limit = list_cache(), cache_limit()
    removed = {one.path for one in prune_bundles(limit)}
    rows = [
        {
            "folder": one.name,
            "megabytes": round(one.megabytes, 1),
            "days_unused": one.days,
            "removed": one.path in removed,
        }
        for one in kept
    ]
    show.rows(rows, as_json=json, title="")
    show.note(
        f"{cache_dir()}: {len(rows)} folders, {len(removed)} removed; bundles may take {limit:g} GB "
        "(SACCADE_CACHE_GB)"
    )
