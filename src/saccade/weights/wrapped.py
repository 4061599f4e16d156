"""Take a state dict out of what training scripts wrap it in: checkpoints, averages, prefixes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from saccade.errors import WeightsError
from saccade.trust import say_once

_AVERAGED = (
    "state_dict_ema", "model_ema", "model_ema_state_dict", "ema_state_dict", "ema_model", "ema", "net_ema",
    "params_ema", "averaged_model", "swa_model", "model_averaged",
)  # fmt: skip
_RAW = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "params",
    "weights",
    "module",
)
_NO_WEIGHTS = re.compile(
    r"(optim|sched|scaler|callbacks|loops|lr_|criterion|loss|hyper_parameters|amp|config|args|rng)",
    re.IGNORECASE,
)
"""Entries of a checkpoint that may hold tensors and are no network."""
_MAX_DEPTH = 8


def unwrap(
    content: Mapping[str, Any], where: str, *, family: str = "", raw: bool = False
) -> dict[str, Tensor]:
    """Return the tensors of a network, without what is around them and before their names.

    Of raw and averaged weights the averaged ones are taken, which is said on stderr. Of `model` and `model_ema` in
    one checkpoint of SHViT the published accuracy is the raw weights', so these are taken.

    Args:
        content: What was stored: a state dict, or a training checkpoint with one or several at any depth.
        where: File name for messages.
        family: Model family, empty: unknown.
        raw: Take the raw weights where there are averaged ones too.

    Raises:
        WeightsError: No tensors in it, several networks, or names that become the same.
    """
    published = family == "shvit" and {"model", "model_ema"} <= content.keys()
    state, taken, left = _find(_nested(content), raw or published, where, _MAX_DEPTH)
    if not state:
        raise WeightsError(
            f"{where}: no tensors found; expected a state dict, or one under {', '.join(_RAW[:3] + _AVERAGED[:2])}"
        )
    if left:
        averaged = taken in _AVERAGED
        way = "--raw-weights takes the others" if averaged else f"the averaged ones are under {left}"
        say_once(f"{where}: took the {'averaged' if averaged else 'raw'} weights, under {taken}; {way}")
    return strip_prefixes(state, where)


def strip_prefixes(state: Mapping[str, Tensor], where: str = "the state dict") -> dict[str, Tensor]:
    """Drop what all names begin with (module., model., ...), what torch.compile adds anywhere, and SWA's counter."""
    bare = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    if len(bare) != len(state):
        raise WeightsError(
            f"{where}: two tensors have the same name without _orig_mod.; expected one of each"
        )
    while (prefix := shared_prefix(names := [n for n in bare if not _counts(n, bare)])) is not None:
        bare = {name.removeprefix(prefix): bare[name] for name in names}
    return bare


def shared_prefix(names: list[str]) -> str | None:
    """Return the first part, with its dot, that all names have in common; None where they have none."""
    first = names[0].partition(".")[0] + "." if names else ""
    return first if names and all(name.startswith(first) for name in names) else None


def _counts(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a tensor is the number of models that `torch.optim.swa_utils.AveragedModel` has averaged."""
    home, _, last = name.rpartition(".")
    beside = f"{home}.module." if home else "module."
    return last == "n_averaged" and all(n == name or n.startswith(beside) for n in state)


def _nested(content: Mapping[str, Any]) -> dict[str, Any]:
    """Make two networks of one state dict, `net.` and `ema_model.` of a Lightning module, two entries."""
    firsts = {str(name).partition(".")[0] for name, value in content.items() if isinstance(value, Tensor)}
    if len(firsts & {*_AVERAGED, *_RAW}) < 2 or not firsts & {*_AVERAGED}:
        return dict(content)
    made: dict[str, Any] = {}
    for name, value in content.items():
        first, _, rest = str(name).partition(".")
        if rest and first in (*_AVERAGED, *_RAW) and isinstance(value, Tensor):
            made.setdefault(first, {})[rest] = value
        else:
            made[str(name)] = value
    return made


def _find(
    content: Mapping[str, Any], raw: bool, where: str, depth: int
) -> tuple[dict[str, Tensor], str, str]:
    """Find a network's tensors; with the key they were under, and the key of those left, if there was a choice."""
    own = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    inner = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, Mapping) and not _NO_WEIGHTS.match(str(name)) and _has_tensors(value, depth)
    }
    averaged, plain = ([key for key in keys if key in inner] for keys in (_AVERAGED, _RAW))
    first, second = (plain, averaged) if raw else (averaged, plain)
    if not (chosen := next(iter(first or second), "")) and not own:
        if len(inner) > 1:
            raise WeightsError(
                f"{where}: several networks, under {', '.join(sorted(inner)[:8])}; save the one you mean alone"
            )
        chosen = next(iter(inner), "")
    if not chosen or (len(own) > 1 and not averaged):
        return own, "", ""
    state, taken, left = _find(_nested(inner[chosen]), raw, where, depth - 1)
    return (state, chosen, second[0]) if first and second else (state, taken or chosen, left)


def _has_tensors(content: Mapping[str, Any], depth: int) -> bool:
    """Whether there is a tensor in a dictionary, or in those in it."""
    return depth > 0 and any(
        isinstance(value, Tensor) or (isinstance(value, Mapping) and _has_tensors(value, depth - 1))
        for value in content.values()
    )
