"""Print constraints.txt: what `saccade[all]` and the dev group need, with the versions installed somewhere.

Run: .venv/bin/python tools/constraints.py [PREFIX] > constraints.txt, PREFIX being the environment to
read the versions from (this one when left out).
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HEADER = """\
# The versions this project is developed and tested with: what the `all` extra and the dev group need only.
# Names and versions only. After a change to pyproject.toml or to renew: see CONTRIBUTING.md, "Dependencies".
"""
BUILD = ["hatchling", "pip"]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements: list[str], installed: dict[str, metadata.Distribution]) -> dict[str, str]:
    """Follow requirements through the installed packages' metadata; returns versions by normalised name."""
    extras_seen: dict[str, set[str]] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = _normal(requirement.name)
        wanted = {"", *requirement.extras}
        if wanted <= extras_seen.get(name, set()):
            continue
        extras_seen[name] = extras_seen.get(name, set()) | wanted
        for text in installed[name].requires or []:
            further = Requirement(text)
            if further.marker is None or any(
                further.marker.evaluate({"extra": extra}) for extra in extras_seen[name]
            ):
                waiting.append(further)
    return {name: installed[name].version for name in sorted(extras_seen)}


def main() -> None:
    """Read pyproject.toml and the environment, print the file."""
    prefix = Path(sys.argv[1] if len(sys.argv) > 1 else sys.prefix)
    folders = [str(folder) for folder in prefix.glob("lib/python3*/site-packages")]
    installed = {_normal(d.metadata["Name"]): d for d in metadata.distributions(path=folders)}
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"], *BUILD]
    wanted += [text for name, texts in extras.items() if name != "all" for text in texts]
    print(HEADER, end="")
    for name, version in closure(wanted, installed).items():
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
