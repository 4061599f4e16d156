"""The training loop. One for every task; it knows only the task interface.

Read `train`, then `run_epoch`, then `step`. What is random is drawn from what a thing is, not from what
went before: a sample's augmentation from (seed, epoch, index), a batch's mixing from (seed, step,
process). Only dropout draws from torch's generators, whose states a checkpoint holds. So a run may die at
any moment and end with the same bits.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from saccade.data.dataset import sample_seed
from saccade.engine.train.checkpoint import (
    Progress,
    Snapshot,
    go_back_to,
    load_snapshot,
    remove_strays,
    save_snapshot,
    saving,
)
from saccade.engine.train.judge import evaluate
from saccade.engine.train.log import RunLog, Ticker, write_environment
from saccade.engine.train.optim import clip_gradients, set_lr, train_mode
from saccade.engine.train.recipe import Recipe, check_places, dump_recipe
from saccade.engine.train.setup import (
    AutocastCopy,
    Session,
    alone,
    build_session,
    describe,
    is_first_process,
)
from saccade.engine.train.state import gather_snapshot, restore_snapshot
from saccade.engine.train.steps import (
    GRAD_NORM,
    Report,
    Reports,
    finite,
    first_not_finite,
    several_values,
    skip_limit,
    take_step,
)
from saccade.errors import ConfigError, SaccadeError, Stopped, memory_enough
from saccade.files import write_rows, write_text
from saccade.tasks.base import Batch, LossContext
from saccade.trust import trusting
from saccade.weights import Card

SHOWN_SKIPPED = 5
"""So many unreadable images are named when they are met; all of them are in skipped.csv."""
LESS_MEMORY = "halve --data.batch (and double --run.accumulate), or pass --run.recompute true"
"""What a user does whose device is too small."""
SAVE_SHARE = 0.05
"""Saving at epoch ends may take so much of the time; short epochs are not all saved."""
ECHO_SECONDS = 1.0
"""A second Ctrl-C sooner than this is the launcher's, which passes on what its processes had already."""


@dataclass
class TrainResult:
    """What came out of a run."""

    folder: Path
    metrics: dict[str, float]
    """Metrics of the best weights."""
    epoch: int
    """Epoch of the best weights, from 0; -1 when nothing was evaluated."""
    epochs: int
    """Epochs done."""
    steps: int
    seconds: float
    reason: str
    """Why it ended."""
    skipped: int
    """Images that could not be read."""

    @property
    def weights(self) -> Path:
        """File of the best weights."""
        return self.folder / "best.safetensors"


class Interrupted(Stopped):
    """Ctrl-C or SIGTERM, after everything was saved."""


def train(
    recipe: Recipe,
    folder: Path | str,
    *,
    resume: bool | str = False,
    log: Callable[[str], None] | None = None,
    quiet: bool = False,
    allow_pipe: bool = False,
    allow_address: bool = False,
) -> TrainResult:
    """Train by a recipe into a run folder.

    Args:
        recipe: Checked; its automatic settings are filled in, in place.
        folder: Run folder; made when absent.
        resume: Go on from the folder's newest checkpoint (from the start when it has none yet), or from the one
            of this name; newer ones are then removed.
        log: Takes lines for the user; None: stderr, from the first process only.
        quiet: Show no progress.
        allow_pipe: Run the commands that `data.source` and `data.val` are (pipe:...), unless they come from a file.
        allow_address: Fetch addresses and hub ids that come from a file, such as a recipe that was loaded.

    Returns:
        Metrics and place of the best weights.

    Raises:
        SaccadeError: Data, settings or weights that cannot be used; a damaged checkpoint; another process that
            writes there; a full disk; a loss that is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state was saved and `resume` goes on from it.
    """
    with trusting(pipe=allow_pipe, address=allow_address), alone(folder, "training"):
        return train_held(recipe, Path(folder), resume=resume, log=log, quiet=quiet)


def train_held(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool | str = False,
    log: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> TrainResult:
    """As `train`, in a folder whose lock the caller holds."""
    check_places(recipe)
    if resume and is_first_process():
        remove_strays(folder)
    snapshot = load_snapshot(folder, resume if isinstance(resume, str) else "") if resume else None
    if not resume and is_first_process() and (folder / "recipe.yaml").exists():
        raise ConfigError(
            f"{folder} holds a run already; go on with --resume {folder}, or choose another --out"
        )
    lines: list[str] = []
    card = Card.from_json(snapshot.card, str(folder)) if snapshot is not None else None
    session = build_session(recipe, lines.append, card=card)
    accelerator = session.accelerator
    first = accelerator.is_main_process
    progress = Progress()
    if snapshot is not None:
        check_same_work(session, snapshot, folder)
        restore_snapshot(session, snapshot)
        progress = snapshot.progress
    else:
        torch.manual_seed(sample_seed(recipe.run.seed, 0, accelerator.process_index))
    journal = RunLog(folder, tensorboard=recipe.run.tensorboard, quiet=not first)
    if first:
        with saving(folder / "recipe.yaml"):
            folder.mkdir(parents=True, exist_ok=True)
            if snapshot is None:
                write_text(folder / "recipe.yaml", dump_recipe(recipe))
            elif isinstance(resume, str):
                go_back_to(folder, resume)
            write_environment(folder, **describe(session))
            journal.rewind(progress.step if snapshot else -1, progress.epoch)
    total = min(session.schedule.num_steps, recipe.run.max_steps or session.schedule.num_steps)
    with Ticker(total, progress.step, quiet=quiet or not first) as ticker, _watch_interrupts() as interrupted:
        run = Run(session, folder, progress, journal, ticker, log or ticker.print, interrupted, total)
        for line in lines:
            run.report(line)
        run.report(_opening(session, progress))
        if not progress.finished:
            run.until_done()
    journal.close()
    return _finish(run)


def check_same_work(session: Session, snapshot: Snapshot, folder: Path) -> None:
    """Refuse to resume where the work is no longer divided as it was.

    Raises:
        ConfigError: Another number of processes or of training images.
    """
    here, images = session.accelerator.num_processes, len(session.data.train)
    if snapshot.num_processes != here:
        raise ConfigError(
            f"{folder} was trained by {snapshot.num_processes} processes and cannot be resumed by {here}; "
            f"start {snapshot.num_processes}"
        )
    if snapshot.num_images != images:
        raise ConfigError(
            f"{session.recipe.data.source} had {snapshot.num_images} training images when {folder} was begun and has "
            f"{images} now; put the data back, or start a new run with --weights {folder}"
        )


class Run:
    """A run under way: the session's parts, the position, and where things are written."""

    def __init__(
        self,
        session: Session,
        folder: Path,
        progress: Progress,
        journal: RunLog,
        ticker: Ticker,
        log: Callable[[str], None],
        interrupted: list[int],
        total: int,
    ):
        self.session, self.folder, self.progress = session, folder, progress
        self.journal, self.ticker, self.log, self.interrupted = journal, ticker, log, interrupted
        self.total = total
        self.begun = time.monotonic() - progress.seconds
        self.saved_at = time.monotonic()
        self.save_seconds = 0.0
        self.reports = Reports(session.accelerator)
        self.values: dict[str, float] = {}
        """What the latest step that was looked at said of itself."""
        self.skipped_in_row = 0
        self.blind_in_row = 0
        """Evaluations without one number among the answers."""

    # -- the loop ---------------------------------------------------------------------------------

    def until_done(self) -> None:
        """Train epoch after epoch, evaluate each, keep the best, stop when it is time."""
        session, progress = self.session, self.progress
        recipe = session.recipe
        while not progress.finished:
            self.run_epoch()
            last = progress.epoch + 1 >= session.schedule.num_epochs or progress.step >= self.total
            if last or (progress.epoch + 1) % recipe.run.eval_every == 0:
                evaluate(self)
            progress.epoch, progress.epoch_step = progress.epoch + 1, 0
            progress.loss_sum, progress.loss_count = 0.0, 0
            if last:
                capped = recipe.run.max_steps and progress.step >= recipe.run.max_steps
                progress.finished = "run.max_steps reached" if capped else "all epochs done"
            elif recipe.run.patience and progress.waited >= recipe.run.patience:
                progress.finished = f"no better {session.task.main_metric} for {progress.waited} epochs"
            elif recipe.run.target and progress.best.get("value", -1.0) >= recipe.run.target:
                progress.finished = f"{session.task.main_metric} reached {recipe.run.target:g}"
            if progress.finished and not progress.best:
                self.give_up(
                    "the answers on the validation samples were never numbers but NaN, for the last time"
                )
            since = time.monotonic() - self.saved_at
            if self.agree(1 if progress.finished or self.save_seconds <= SAVE_SHARE * since else 0):
                self.save()

    def run_epoch(self) -> None:
        """Train what is left of the present epoch; save when it is time, stop when Ctrl-C came."""
        session, progress, run = self.session, self.progress, self.session.recipe.run
        train_mode(session.model)
        clock, images = time.monotonic(), 0
        for batches in self.groups():
            lr = session.schedule.lr(progress.step)
            with memory_enough(LESS_MEMORY), several_values():
                losses = self.step(batches, lr)
            progress.step += 1
            progress.epoch_step += 1
            samples = sum(len(batch["index"]) for batch in batches)
            self.reports.add(progress.step, lr, samples, losses)
            images += samples * session.accelerator.num_processes
            if self.reports.free or progress.step % run.log_every == 0:
                self.look_at_losses()
            if progress.step % run.log_every == 0:
                rate = images / (time.monotonic() - clock)
                clock, images = time.monotonic(), 0
                self.show(lr, rate)
            self.save_or_stop()
            if progress.step >= self.total:
                break
        self.look_at_losses()

    def step(self, batches: list[Batch], lr: float) -> dict[str, Tensor]:
        """Take one step of the optimiser: the mean gradient of `batches`, clipped; then the average of weights.

        Returns:
            loss, its parts, and the norm of the gradient before clipping. Where that is not finite the step changes
            no weight.
        """
        session, recipe = self.session, self.session.recipe
        accelerator, optimizer = session.accelerator, session.optimizer
        context = self.context()
        losses: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            batch = self.prepare(batch, number)
            with nullcontext() if last else accelerator.no_sync(session.model):
                with accelerator.autocast():
                    parts = session.task.loss(session.model, batch, context)
                accelerator.backward(parts["loss"] / len(batches))
            for name, value in parts.items():
                losses[name] = losses.get(name, 0) + value.detach() / len(batches)
        losses[GRAD_NORM] = norm = clip_gradients(accelerator, session.model, recipe.optim)
        set_lr(optimizer, lr)
        take_step(accelerator, optimizer, norm)
        optimizer.zero_grad()
        if session.ema is not None:
            session.ema.update(session.plain)
        return losses

    def groups(self) -> Iterator[list[Batch]]:
        """Yield the batches of the rest of this epoch, as many at a time as make one step."""
        session, size = self.session, self.session.recipe.run.accumulate
        session.sampler.set_epoch(self.progress.epoch, self.progress.epoch_step * size)
        left = session.schedule.steps_per_epoch - self.progress.epoch_step
        if left <= 0:
            return
        group: list[Batch] = []
        for batch in session.train_loader:
            self.note_skipped(batch)
            group.append(batch)
            if len(group) == size:
                yield group
                group, left = [], left - 1
                if left == 0:
                    return
        if left and group:  # fewer batches in an epoch than one step adds up
            yield group

    def prepare(self, batch: Batch, number: int) -> Batch:
        """Move a batch to the device and mix it."""
        session, recipe = self.session, self.session.recipe
        device = session.accelerator.device
        batch = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
        if recipe.run.channels_last and "image" in batch:
            batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        place = session.accelerator.process_index + number * session.accelerator.num_processes
        seed = sample_seed(recipe.run.seed, self.progress.step, -2, place)
        return session.task.mix(batch, recipe.augment, session.card, seed=seed)

    def context(self) -> LossContext:
        """Tell the loss what it may know."""
        session, loss = self.session, self.session.recipe.loss
        return LossContext(
            progress=session.schedule.progress(self.progress.step),
            kind=loss.kind,
            target_threshold=loss.target_threshold,
            label_smoothing=loss.label_smoothing,
            teacher=session.teacher,
            distill=loss.distill,
            distill_alpha=loss.distill_alpha,
            distill_tau=loss.distill_tau,
            ema=AutocastCopy(session) if session.ema is not None else None,
            mesa=loss.mesa,
            mesa_start=loss.mesa_start,
        )

    # -- looking after the run --------------------------------------------------------------------

    def look_at_losses(self) -> None:
        """Add the losses up; stop the run if one is not finite, or too many gradients in a row.

        Every process must call this at the same place; all see the same numbers and decide alike.

        Raises:
            SaccadeError: Names step and learning rate.
        """
        limit = skip_limit(self.session.accelerator, self.total)
        for report in self.reports.collect():
            self.values = report.values
            loss = report.values["loss"]
            if not math.isfinite(loss):
                self.give_up(f"the loss is {loss}", report.step, report.lr)
            self.progress.loss_sum += loss
            self.progress.loss_count += 1
            self.skipped_in_row = self.skipped_in_row + 1 if report.skipped else 0
            if report.skipped:
                self.note_skipped_step(report)
            if self.skipped_in_row >= limit:
                self.give_up(
                    f"the gradients of {limit} steps in a row were not finite, the last",
                    report.step,
                    report.lr,
                )

    def note_skipped_step(self, report: Report) -> None:
        """Log a step that was left out, and say so once; under a loss scaler that is nothing unusual."""
        norm = report.values[GRAD_NORM]
        self.journal.write(
            "skipped", step=report.step, epoch=self.progress.epoch, lr=report.lr, grad_norm=str(norm)
        )
        self.progress.skipped_steps += 1
        if self.progress.skipped_steps == 1 and self.session.accelerator.scaler is None:
            self.report(
                f"step {report.step} was left out: the norm of its gradient is {norm}, though its loss is finite "
                "(log.jsonl lists all such steps)"
            )

    def give_up(self, what: str, step: int = 0, lr: float | None = None) -> NoReturn:
        """End a run whose numbers went astray; all processes must come here together.

        Raises:
            SaccadeError: Always. Says when it happened, what is left, and what to try.
        """
        step = step or self.progress.step
        lr = self.session.schedule.lr(step - 1) if lr is None else lr
        saved = any((self.folder / name).exists() for name in ("best.safetensors", "checkpoints/LATEST"))
        left = f"what was saved before is kept in {self.folder}" if saved else "nothing had been saved yet"
        raise SaccadeError(
            f"{what} at step {step} (epoch {self.progress.epoch + 1}, learning rate {lr:.3g}); {left}, "
            "so try a lower --optim.lr, --optim.clip norm or --run.precision float32"
        )

    def refuse_spoilt(self, *groups: Mapping[str, Tensor]) -> None:
        """Refuse to write tensors that are not finite over what was saved before; every process must call this.

        Raises:
            SaccadeError: Names the first of them.
        """
        name = first_not_finite(*groups)
        if self.agree(1 if name else 0):
            self.give_up(f"{name or 'a tensor of the network'} is not finite, so it was not saved,")

    def save_or_stop(self) -> None:
        """Save within an epoch when it is time; save and stop after a signal. All processes decide alike."""
        run, progress = self.session.recipe.run, self.progress
        late = run.save_minutes and time.monotonic() - self.saved_at >= 60 * run.save_minutes
        due = run.save_steps and progress.step % run.save_steps == 0
        # Signals have numbers from 2 (SIGINT) up.
        wish = self.interrupted[0] if self.interrupted else 1 if late or due else 0
        # Asking the others costs a round trip, so several processes do it now and then only.
        if self.session.accelerator.num_processes > 1 and not due and progress.step % 10:
            return
        decision = self.agree(wish)
        if decision > 1:
            self.stop(decision)
        elif decision == 1:
            self.save()

    def stop(self, number: int) -> None:
        """Save and leave after a signal, Ctrl-C's or SIGTERM.

        Raises:
            Interrupted: Always.
        """
        self.look_at_losses()
        self.save()
        self.report(f"interrupted and saved; go on with: saccade train --resume {self.folder}")
        raise Interrupted(number)

    def agree(self, wish: int) -> int:
        """Return the largest wish of all processes."""
        accelerator = self.session.accelerator
        if accelerator.num_processes == 1:
            return wish
        wishes = accelerator.gather(torch.tensor([wish], device=accelerator.device))
        return int(wishes.max())  # pyright: ignore[reportAttributeAccessIssue]

    def save(self) -> None:
        """Write a checkpoint of this very moment."""
        began = time.monotonic()
        self.look_at_losses()
        self.progress.seconds = began - self.begun
        self.skipped_everywhere()
        snapshot = gather_snapshot(self.session, self.progress)
        self.refuse_spoilt(snapshot.model, snapshot.ema, snapshot.optimizer)
        if self.session.accelerator.is_main_process:
            save_snapshot(snapshot, self.folder, keep=self.session.recipe.run.keep)
        self.session.accelerator.wait_for_everyone()
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - began

    def show(self, lr: float, rate: float) -> None:
        """Log the latest step and move the bar."""
        self.journal.write(
            "step",
            step=self.progress.step,
            epoch=self.progress.epoch,
            lr=lr,
            images_per_second=round(rate, 2),
            **finite(self.values),
        )
        epoch = f"epoch {self.progress.epoch + 1}/{self.session.schedule.num_epochs}"
        self.ticker.step(self.progress.step, epoch, self.values["loss"], self.values[GRAD_NORM], rate)

    def note_skipped(self, batch: Batch) -> None:
        """Remember images that could not be read, and name the first few."""
        for name, reason in batch["skipped"]:
            if name not in self.progress.skipped:
                self.progress.skipped[name] = reason
                if len(self.progress.skipped) <= SHOWN_SKIPPED:
                    self.report(f"left out: {reason}")

    def skipped_everywhere(self) -> None:
        """Join the lists of unreadable images of all processes."""
        for other in self.session.gather(self.progress.skipped):
            self.progress.skipped.update(other)

    def report(self, text: str) -> None:
        """Log a line from the first process."""
        if self.session.accelerator.is_main_process:
            self.log(text)


def _finish(run: Run) -> TrainResult:
    """Write the list of unreadable images and sum the run up."""
    progress, first = run.progress, run.session.accelerator.is_main_process
    if progress.skipped and first:
        rows = [{"name": name, "reason": reason} for name, reason in sorted(progress.skipped.items())]
        with saving(run.folder / "skipped.csv"):
            write_rows(run.folder / "skipped.csv", rows)
        run.report(
            f"{len(progress.skipped)} samples could not be read; they are listed in {run.folder / 'skipped.csv'}"
        )
    if progress.skipped_steps:
        run.report(
            f"{progress.skipped_steps} of {progress.step} steps were left out, because their gradient was not "
            f"finite; {run.folder / 'log.jsonl'} lists them"
        )
    return TrainResult(
        folder=run.folder,
        metrics=dict(progress.best.get("metrics", {})),
        epoch=progress.best.get("epoch", -1),
        epochs=progress.epoch,
        steps=progress.step,
        seconds=progress.seconds,
        reason=progress.finished,
        skipped=len(progress.skipped),
    )


def _opening(session: Session, progress: Progress) -> str:
    """Say in one line what is about to happen."""
    facts = describe(session)
    if progress.finished:
        return f"this run is over: {progress.finished}"
    begin = (
        f"resuming {facts['model']} at step {progress.step}"
        if progress.step
        else f"training {facts['model']}"
    )
    classes = f", {facts['classes']} classes" if facts["classes"] else ""
    return (
        f"{begin}: {facts['parameters'] / 1e6:.2f} M parameters{classes}, "
        f"{facts['training_images']} + {facts['validation_images']} images at {facts['size']} pixels, "
        f"{session.schedule.num_epochs} epochs of {session.schedule.steps_per_epoch} steps, {facts['device']}"
    )


@contextmanager
def _watch_interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list instead of raising, so that a step is never cut in two.

    A second Ctrl-C raises, for whoever cannot wait until all is saved.
    """
    seen: list[int] = []
    first = 0.0

    def note(number: int, frame: Any) -> None:
        nonlocal first
        if not seen:
            first = time.monotonic()
            seen.append(number)
        elif number == signal.SIGINT and time.monotonic() - first > ECHO_SECONDS:
            raise KeyboardInterrupt

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread, where signals never arrive
        yield seen
        return
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["Interrupted", "Run", "TrainResult", "train"]
