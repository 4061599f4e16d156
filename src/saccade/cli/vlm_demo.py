"""`saccade vlm demo`: from nothing to a scored video language model, in one command."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

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
    labels: str = "truth",
    also: tuple[str, ...] = (),
    device: str = "auto",
    threads: Annotated[int, Hidden] = 0,
    workers: int = 0,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Render worlds, label them, let eyes learn motion and a text model learn to answer, and mark it: from nothing.

    As it stands this is a smoke test of some minutes on a processor; docs/vlm.md has the numbers of a larger run and
    its flags. Cameras that are reported on have heights and focal lengths that training never saw. A run that was
    stopped goes on where it was with the same command. Less common: --per-task, --width and --layers of the text
    model, --threads.

    Example: saccade vlm demo --out demo --clips 12800 --held 512 --eyes-steps 2660 --text-steps 2600

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
    from saccade.cli.vlm_score import contenders
    from saccade.engine.predict.demo import DemoPlan, run_demo

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
        f"worlds, questions, weights, answers and numbers are in {out}; ask it with --model {out / 'text'}"
    )
