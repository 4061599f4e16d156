"""Evaluation between epochs: mark the weights and their average, and keep the best that there were."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

from saccade.engine.run import gather_metrics
from saccade.engine.train.checkpoint import saving
from saccade.engine.train.setup import AutocastCopy
from saccade.engine.train.state import model_tensors
from saccade.engine.train.steps import finite, has_nan
from saccade.errors import SaccadeError
from saccade.tasks.base import Batch
from saccade.weights import save_state

if TYPE_CHECKING:
    from saccade.engine.train.loop import Run

BLIND_IN_ROW = 3
"""So many evaluations in a row without one number among the answers end a run."""


def evaluate(run: Run) -> None:
    """Mark the weights and their average; keep the better one's file when it beats all before.

    What answers with NaN is never the best. An evaluation where nothing answers with numbers counts as one without a
    better mark; three in a row, or a run that ends without any other, are an error.

    Raises:
        SaccadeError: No sample could be read, or no answers were numbers for too long.
    """
    session, progress = run.session, run.progress
    main = session.task.main_metric
    metrics, spoilt = measure(run)
    parts = {"model": {"count": metrics["model"]["count"]}} | {
        n: m for n, m in metrics.items() if n not in spoilt
    }
    progress.metrics = finite(parts["model"])
    progress.metrics |= {f"ema_{k}": v for k, v in finite(parts.get("ema", {})).items() if k != "count"}
    # Among equal metrics the smaller loss, which on a small validation set says more.
    ranks = {name: (m[main], -m.get("loss", 0.0)) for name, m in metrics.items() if name not in spoilt}
    source = max(ranks, key=lambda name: ranks[name], default="")
    better = higher = False
    if source:
        best, unknown = progress.best, math.inf if "loss" in metrics[source] else 0.0
        better = not best or ranks[source] > (best["value"], -best["metrics"].get("loss", unknown))
        higher = not best or ranks[source][0] > best["value"]
    progress.waited = 0 if higher else progress.waited + session.recipe.run.eval_every
    if better:
        progress.best = {
            "value": ranks[source][0],
            "epoch": progress.epoch,
            "source": source,
            "metrics": finite(metrics[source]),
        }
        save_best(run, source)
    mean = progress.loss_sum / max(1, progress.loss_count)
    run.journal.write(
        "epoch",
        epoch=progress.epoch,
        step=progress.step,
        lr=session.schedule.lr(progress.step - 1),
        train_loss=mean,
        seconds=round(time.monotonic() - run.begun, 3),
        **progress.metrics,
    )
    shown = "  ".join(
        f"{n} {main} {session.task.show_metric(m[main]) if n in ranks else 'NaN'}" for n, m in metrics.items()
    )
    run.report(
        f"epoch {progress.epoch + 1}/{session.schedule.num_epochs}  loss {mean:.4f}  {shown}"
        f"{'  (best so far)' if better else ''}"
    )
    run.blind_in_row = 0 if ranks else run.blind_in_row + 1
    if run.blind_in_row >= BLIND_IN_ROW:
        run.give_up(
            f"the answers on the validation samples were NaN {BLIND_IN_ROW} times in a row, the last time"
        )


def measure(run: Run) -> tuple[dict[str, dict[str, float]], set[str]]:
    """Run the weights and their average over the validation samples of all processes.

    Returns:
        (metrics by candidate: `model`, and `ema` where there is one; the candidates that answered with NaN).

    Raises:
        SaccadeError: Not one sample could be read.
    """
    session = run.session
    accelerator, main = session.accelerator, session.task.main_metric
    session.share_buffers()
    candidates: dict[str, Any] = {"model": session.model if session.sharded else session.plain}
    if session.ema is not None:
        candidates["ema"] = AutocastCopy(session)
    spoilt: set[str] = set()

    def watch(batch: Batch) -> None:
        run.note_skipped(batch)
        if run.interrupted and accelerator.num_processes == 1:
            run.stop(run.interrupted[0])

    def look(name: str, outputs: Any) -> None:
        if name not in spoilt and has_nan(outputs):
            spoilt.add(name)

    gathered = gather_metrics(session.task, candidates, session.val_loader, session.card, watch, look)
    metrics: dict[str, dict[str, float]] = {}
    for name, part in gathered.items():
        everyone = session.gather(part)
        everyone[0].merge(everyone[1:])
        metrics[name] = everyone[0].compute()
    spoilt = set().union(*session.gather(spoilt))
    run.skipped_everywhere()
    if not metrics["model"].get("count"):
        raise SaccadeError(
            "not one validation sample could be read, so nothing can be measured; "
            "skipped.csv says why, and `saccade data check` looks at pictures beforehand"
        )
    spoilt |= {n for n, m in metrics.items() if not math.isfinite(m[main]) or math.isnan(m.get("loss", 0.0))}
    return metrics, spoilt


def save_best(run: Run, source: str) -> None:
    """Write best.safetensors with its card.

    Args:
        run: Its `progress.best` says what the weights achieved.
        source: model or ema.
    """
    session = run.session
    state = model_tensors(session) if source == "model" else session.ema.module.state_dict()  # type: ignore
    run.refuse_spoilt(state)
    if not session.accelerator.is_main_process:
        return
    best = run.progress.best
    card = dataclasses.replace(
        session.card,
        origin=str(run.folder),
        numbers={
            **best["metrics"],
            "count": int(best["metrics"]["count"]),
            "epoch": best["epoch"],
            "weights": source,
        },
    )
    path = run.folder / "best.safetensors"
    with saving(path):
        save_state(state, path, card)
