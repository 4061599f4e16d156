"""From a live session to the tensors of a checkpoint and back."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from saccade.engine.train.checkpoint import Progress, Snapshot, load_optimizer, optimizer_tensors
from saccade.engine.train.setup import Session
from saccade.errors import SaccadeError, WeightsError


def _whole() -> Any:
    """Gather sharded tensors in the first process. Imported where it is needed: a second of every start else."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def model_tensors(session: Session) -> dict[str, Tensor]:
    """Return the network's tensors by name, whole; with FSDP every process must call this."""
    if session.sharded:
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        return cast("dict[str, Tensor]", get_model_state_dict(session.model, options=_whole()))
    return session.plain.state_dict()


def gather_snapshot(session: Session, progress: Progress) -> Snapshot:
    """Collect the full state; every process must call this, the first one gets everything."""
    if session.ema is not None:
        progress.ema_count = session.ema.count
    optimizer = session.optimizer.optimizer  # pyright: ignore[reportAttributeAccessIssue]
    if session.sharded:
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        state: Any = get_optimizer_state_dict(session.model, optimizer, options=_whole())["state"]
        moments = {f"{name}/{entry}": value for name, item in state.items() for entry, value in item.items()}
    else:
        moments = optimizer_tensors(optimizer)
    random: dict[str, Tensor] = {}
    for number, states in enumerate(session.gather(_random_states(session))):
        random |= {f"{number}/{device}": state for device, state in states.items()}
    scaler = session.accelerator.scaler
    return Snapshot(
        progress=progress,
        model=model_tensors(session),
        optimizer=moments,
        ema=session.ema.module.state_dict() if session.ema is not None else {},
        random=random,
        scaler=dict(scaler.state_dict()) if scaler is not None else {},
        num_processes=session.accelerator.num_processes,
        num_images=len(session.data.train),
        card=session.card.to_json(),
    )


def restore_snapshot(session: Session, snapshot: Snapshot) -> None:
    """Put a snapshot back into a session built by the same recipe.

    Raises:
        WeightsError: It is of another model, or not what was saved.
    """
    optimizer = session.optimizer.optimizer  # pyright: ignore[reportAttributeAccessIssue]
    try:
        if session.sharded:
            _restore_sharded(session, snapshot, optimizer)
        else:
            session.plain.load_state_dict(snapshot.model)
            load_optimizer(optimizer, snapshot.optimizer)
        if session.ema is not None:
            session.ema.module.load_state_dict(snapshot.ema)
            session.ema.count = snapshot.progress.ema_count
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SaccadeError):
            raise
        text = " ".join(str(error).split())[:200]
        raise WeightsError(f"the checkpoint does not fit the model of its recipe ({text})") from None
    scaler = session.accelerator.scaler
    if scaler is not None and snapshot.scaler:
        try:
            scaler.load_state_dict(snapshot.scaler)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"the checkpoint's loss scaler cannot be taken over ({error})") from None
    own = f"{session.accelerator.process_index}/"
    states = {
        name.removeprefix(own): value for name, value in snapshot.random.items() if name.startswith(own)
    }
    try:
        torch.set_rng_state(states["cpu"])
        if session.accelerator.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], session.accelerator.device)
    except (RuntimeError, TypeError, KeyError):
        number = session.accelerator.process_index
        raise WeightsError(
            f"the checkpoint holds no state of the random numbers of process {number}; it is damaged"
        ) from None


def _restore_sharded(session: Session, snapshot: Snapshot, optimizer: torch.optim.Optimizer) -> None:
    """Spread whole tensors over the processes again."""
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    set_model_state_dict(
        session.model, cast("Any", snapshot.model), options=StateDictOptions(full_state_dict=True)
    )
    blank: dict[str, Any] = dict(get_optimizer_state_dict(session.model, optimizer, options=_whole()))
    state: dict[str, dict[str, Tensor]] = {}
    for key, value in snapshot.optimizer.items():
        name, _, entry = key.rpartition("/")
        state.setdefault(name, {})[entry] = value
    set_optimizer_state_dict(
        session.model,
        optimizer,
        cast("Any", {"state": state, "param_groups": blank["param_groups"]}),
        options=StateDictOptions(full_state_dict=True),
    )


def _random_states(session: Session) -> dict[str, Tensor]:
    """States of the generators that a step may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if session.accelerator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(session.accelerator.device)
    return states
