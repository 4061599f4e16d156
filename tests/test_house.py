"""House rules that no tool checks: file lengths, no machine's paths, pinned names, true docs."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from saccade.cli.main import COMMANDS, build_app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
LONGEST = 600
MOST_IGNORES = 40


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text file of the project."""
    folders = ["src", "tests", "docs", "benchmarks", "examples", "tools", ".ci"]
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()]
    files += [file for file in ROOT.iterdir() if file.is_file() and file.name != ".git"]
    for file in files:
        if "__pycache__" not in file.parts and file.stat().st_size < 2_000_000:
            try:
                yield file, file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_python_file_is_too_long():
    lengths = {file: text.count("\n") for file, text in texts() if file.suffix == ".py"}
    assert len(lengths) > 50
    assert not {str(file.relative_to(ROOT)): n for file, n in lengths.items() if n > LONGEST}


def test_type_errors_are_not_silenced_more_often():
    """Declare the type instead; the number may only shrink, so lower it when some are gone."""
    found = sum(
        file.read_text(encoding="utf-8").count("pyright: ignore") for file in (ROOT / "src").rglob("*.py")
    )
    assert found <= MOST_IGNORES


def test_no_path_of_one_machine():
    """The project must stand alone: no home folders, no workplace."""
    places = ["/" + place + "/" for place in ("home", "root", "Users", "work", "mnt", "opt")]
    pattern = re.compile(r"(?<![\w.~}/)-])(" + "|".join(places) + r")\w|\.\./" + "shared" + r"\b")
    found = [
        f"{file.relative_to(ROOT)}: {match.group(0)}"
        for file, text in texts()
        if file.suffix not in (".svg", ".html")
        for match in pattern.finditer(text)
    ]
    assert not found


def test_constraints_are_names_and_versions_and_cover_the_package():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][\w.!+]*", line) for line in pins)
    assert pins == sorted(pins, key=lambda line: line.partition("==")[0])
    names = {line.partition("==")[0] for line in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [text for texts in project["project"]["optional-dependencies"].values() for text in texts]
    for text in wanted:
        name = re.match(r"[\w.-]+", text).group().lower().replace("_", "-")
        assert name in names | {"saccade"}, name


def test_every_dependency_is_accounted_for():
    text = (ROOT / "DEPENDENCIES.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"], project["dependency-groups"]["dev"]]
    lists += [texts for name, texts in project["project"]["optional-dependencies"].items() if name != "all"]
    for name in {re.match(r"[\w.-]+", entry).group() for entries in lists for entry in entries}:
        assert re.search(
            rf"(^\||,)( \w+ \|)?[^|\n]*\b{re.escape(name)}\b", text, flags=re.MULTILINE | re.IGNORECASE
        ), name


def test_versions_agree():
    import saccade

    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {saccade.__version__}\n" in citation
    assert saccade.__version__ in (ROOT / "CHANGELOG.md").read_text()


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name}: {target}"


def commands_of(text: str) -> Iterator[str]:
    """Yield the saccade commands in the fenced blocks of a page, comments and continuations resolved."""
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ")
            if words.startswith("saccade "):
                yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_docs_exist_as_written(page):
    app = build_app()
    for command in commands_of(page.read_text(encoding="utf-8")):
        tokens = shlex.split(command, comments=True)[1:]
        tokens = tokens[: tokens.index("|")] if "|" in tokens else tokens
        tokens = tokens[: tokens.index(">")] if ">" in tokens else tokens
        assert tokens[0] in COMMANDS or tokens[0].startswith("--"), command
        _, _, unused, _ = app.parse_known_args(tokens)
        assert not unused, f"{page.name}: {command}: {unused}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_docs_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    ):
        exec(compile(block, str(page), "exec"), names)


def test_commands_of_the_demo_exist_as_written():
    script = (ROOT / "examples" / "demo.sh").read_text()
    found = re.findall(r"^(?:run )?(saccade .+)$", script.replace("\\\n", " "), flags=re.MULTILINE)
    assert len(found) >= 4
    for command in found:
        tokens = shlex.split(command.replace("$out", "out").replace('"', ""))[1:]
        _, _, unused, _ = build_app().parse_known_args(tokens)
        assert not unused, command


def test_readme_shows_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_make_knows_its_targets():
    targets = ["demo", "test", "test-slow", "test-gpu", "lint", "format", "bench", "clean"]
    run = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
