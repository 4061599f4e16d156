"""The command: the demonstration itself, or any command of Saccade with its tasks and eyes registered."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from motion_demo import register
from motion_demo.sets import Labels
from motion_demo.stages import DemoPlan, run_demo
from saccade.cli import main as saccade
from saccade.cli import show
from saccade.cli.vlm_score import contenders
from saccade.errors import SaccadeError
from saccade.shown import one_line

Hidden = Parameter(show=False)


def demo(
    *,
    out: Path = Path("vlm-demo"),
    clips: int | None = None,
    held: int | None = None,
    eyes_steps: int | None = None,
    text_steps: int | None = None,
    per_task: Annotated[int | None, Hidden] = None,
    width: Annotated[int | None, Hidden] = None,
    layers: Annotated[int | None, Hidden] = None,
    size: int | None = None,
    labels: Labels = "truth",
    also: tuple[str, ...] = (),
    device: str = "auto",
    threads: Annotated[int, Hidden] = 0,
    workers: int = 0,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Render worlds, label them, let eyes learn motion and a text model learn to answer, and score it: from nothing.

    As it stands this is a smoke test of some minutes on a processor; docs/vlm.md has the numbers of a larger run and
    its flags. Cameras that are reported on have heights and focal lengths that training never saw. A run that was
    stopped goes on where it was with the same command. Less common: --per-task, --width and --layers of the text
    model, --threads.

    Example: python -m motion_demo --out demo --clips 12800 --held 512 --eyes-steps 2660 --text-steps 2600

    Args:
        out: Folder for everything.
        clips: Clips to train on.
        held: Clips to develop with, and as many to report on.
        eyes_steps: Steps in which the eyes learn motion.
        text_steps: Steps in which the text model learns to answer.
        per_task: Questions of a task that are reported on.
        width: Channels of the text model.
        layers: Layers of the text model.
        size: Width of the clips in pixels.
        labels: What the clips to train on are labelled by: truth, pixels (as plain video would be) or both by turns.
        also: NAME=FILE, answers or tracks of another contender, such as a geometry tool; again for more.
        device: cpu, cuda or mps; the best there is when left out.
        threads: CPU threads.
        workers: Processes that render; 0: this one.
        seed: Of everything random.
        json: Print one JSON object.
    """
    given = {
        "clips": clips, "held": held, "eyes_steps": eyes_steps, "text_steps": text_steps, "per_task": per_task,
        "width": width, "layers": layers, "size": size,
    }  # fmt: skip
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    plan = DemoPlan(seed=seed, labels=labels, device=device, threads=threads, **values)
    with show.progress() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, info="")
            bar.update(tasks[what], completed=done)

        found = run_demo(out, plan, workers=workers, others=contenders(also), progress=progress)
    if json:
        show.result({"out": str(out), **found.to_dict()}, as_json=True)
        return
    show.rows(found.table(), as_json=False, title="per cent right, with 95 % intervals over clips")
    for note in found.notes:
        show.note(note)
    show.note(
        f"worlds, questions, weights, answers and numbers are in {out}; "
        f"ask it with `python -m motion_demo saccade vlm ask CLIP QUESTION --model {out / 'text'}`"
    )


def main(tokens: Sequence[str]) -> int:
    """Run the demonstration, or a command of Saccade that knows its tasks and eyes; return the exit code."""
    register()
    if tokens[:1] == ["saccade"]:
        return saccade.main(list(tokens[1:]))
    app = cyclopts.App(name="motion_demo", default_parameter=Parameter(negative=()))
    app.default(demo)
    try:
        app(list(tokens), exit_on_error=False, print_error=False, result_action="return_value")
    except (SaccadeError, cyclopts.CycloptsError) as error:
        print(f"motion_demo: {one_line(str(error))}", file=sys.stderr)
        return error.exit_code if isinstance(error, SaccadeError) else 2
    return 0
