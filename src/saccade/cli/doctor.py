"""`saccade doctor`: what is installed, what works here, what does not, and the way out."""

from saccade.cli import show


def doctor(*, json: bool = False) -> None:
    """Say what is installed, what works here, and what to do about the rest.

    Example: saccade doctor

    Nothing is sent anywhere. Exit code 1 when something is broken that every command needs; a missing
    optional package is no failure.

    Args:
        json: Print one JSON object.
    """
    import dataclasses

    from saccade.doctor import examine
    from saccade.errors import CheckFailed

    findings = examine()
    show.rows([dataclasses.asdict(finding) for finding in findings], as_json=json, title="")
    broken = [finding.name for finding in findings if finding.state == "broken"]
    if broken:
        raise CheckFailed(f"{', '.join(broken)} broken; the fix column above says what to do")
    show.note("everything that every command needs works here")
