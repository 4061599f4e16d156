"""Weights of files and networks of ours brought together: what fits, what is missing, whose a state dict is."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import WeightsError
from saccade.nn.origin import name_of, origin_of
from saccade.weights import keymap
from saccade.weights.card import Card
from saccade.weights.source import Source
from saccade.weights.store import locate, read_weights, save_state
from saccade.weights.wrapped import shared_prefix, unwrap
from saccade.zoo import registry
from saccade.zoo.folders import as_timm


def load_weights(model: nn.Module, source: Any, *, strict: bool = True) -> nn.Module:
    """Load weights into a network, whatever key layout they are in.

    Args:
        model: A network of `create_model`.
        source: A file, a run folder or one of another library, a hub id (`owner/name`), the text of a `Source` about
            one, or a state dict in the official, timm or our layout.
        strict: Refuse any missing or unexpected tensor. Otherwise tensors that are missing, unexpected or of
            another shape (a head for other classes) are left out and listed in one warning.

    Returns:
        The same network.

    Raises:
        WeightsError: Lists what is missing, unexpected or of another shape.
    """
    name = name_of(model)
    family = layouts_of(model)
    if isinstance(source, Mapping):
        where, state = "the state dict", unwrap(source, "the state dict", family=family)
    else:
        path = locate(source)
        where, (state, card) = str(path), read_weights(path, family=family, raw=Source(source).raw)
        if card is not None and card.model != name and strict:
            raise WeightsError(f"{where}: these weights are for {card.model}, the model is {name}")
    load_state(model, state, family=family, where=where, strict=strict)
    return model


def save_weights(model: nn.Module, path: Path | str, card: Card | None = None) -> None:
    """Write a network's tensors as safetensors, with its card, atomically.

    Args:
        model: Any network; tensors keep their names.
        path: File to write, `.safetensors`.
        card: What the weights are; made from the network's attributes when absent.

    Raises:
        WeightsError: Another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: weights are written as .safetensors; use `saccade weights convert` for other layouts"
        )
    save_state(model.state_dict(), path, card or card_of(model))


def card_of(model: nn.Module) -> Card:
    """Describe a network of `create_model` by its own attributes."""
    origin = origin_of(model)
    if origin is None:
        raise WeightsError("this network has no name; build it with saccade.create_model or pass a card")
    config = getattr(model, "config", None)
    name, options = origin.name, dict(origin.options)
    if not name.startswith(registry.FOREIGN):
        entry = registry._TABLE[name]
        options = {
            option: getattr(config, option)
            for option in entry.options
            if getattr(config, option) != getattr(entry.config, option)
        }
    return Card(
        model=name,
        options=options,
        task=registry.task_of(name),
        num_classes=int(getattr(model, "num_classes", 0)),
        in_chans=int(getattr(config, "in_chans", getattr(model, "in_chans", 3))),
    )


def identify(state: Mapping[str, Tensor], task: str, *, where: str = "the state dict") -> Card | None:
    """Find out which of our models for a task a state dict without a card belongs to; None where none fits.

    Args:
        state: Tensors by name, in any layout of ours.
        task: As of `registry.task_of`.
        where: File name, for the card.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    num_classes, in_chans = outer_sizes(state)
    strange: set[type] = set()
    for name in registry.list_models():
        family, architecture = registry.family_of(name), registry.architecture_of(name)
        if registry.task_of(name) != task or architecture in strange:
            continue
        for options in registry.forms_of(name):
            with torch.device("meta"):
                model = registry.create_model(name, num_classes=num_classes, in_chans=in_chans, **options)
            own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
            known = {
                key: shape for key, shape in shapes.items() if not keymap.ignorable(key, family, "plain")
            }
            _, table = keymap.recognise(known, own, family)
            if not table.keys() & known.keys():
                strange.add(architecture)
            if table.keys() == known.keys() and all(
                keymap.same_values(known[key], own[table[key]]) for key in known
            ):
                return replace(card_of(model), options=options, origin=where)
    return None


def describe(
    name: str, state: Mapping[str, Tensor], options: Mapping[str, Any], *, where: str = "the state dict"
) -> Card:
    """Describe a state dict without a card of a model that is known by name.

    Args:
        name: As of `create_model`.
        state: Its tensors, which say how many outputs and channels there are.
        options: Further arguments of `create_model`.
        where: File name, for the card.

    Raises:
        ConfigError: Unknown name or option.
    """
    num_classes, in_chans = outer_sizes(state)
    if registry.family_of(name) == "timm":
        with torch.device("meta"):
            model = registry.create_model(name, **options)
        published: Any = getattr(model, "pretrained_cfg", None) or {}
        heads, stems = (
            [f"{part}.weight" for part in ((entry,) if isinstance(entry, str) else entry or ())]
            for entry in (published.get("classifier"), published.get("first_conv"))
        )
        own = model.state_dict()
        known = [head for head in heads if head in own]
        if known:
            num_classes = state[known[0]].shape[0] if known[0] in state else 0
        in_chans = next(
            (
                3 * state[stem].shape[1] // own[stem].shape[1]
                for stem in stems
                if stem in state and stem in own
            ),
            3,
        )
    return Card(name, dict(options), num_classes, in_chans, registry.task_of(name), origin=where)


def outer_sizes(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Read the number of classes and of input channels off a state dict of ours in any layout; 1000 and 3 else."""
    heads = (
        "head.l.weight",
        "head.fc.weight",
        "heads.0.weight",
        "head.fcs.0.weight",
        "head.weight",
        "cls_head.fc_cls.weight",
    )
    stems = (
        "patch_embed.0.c.weight", "patch_embed.conv.0.conv.weight", "stem.0.conv.weight",
        "patch_embed.proj.0.c.weight", "stem.convs.0.conv.weight", "patch_embed.proj.weight", "stem.proj.weight",
        "backbone.patch_embed.proj.weight",
    )  # fmt: skip
    num_classes = next((state[name].shape[0] for name in heads if name in state), 1000)
    # Ours of clips store their stem as a matrix, which does not say.
    in_chans = next((state[name].shape[1] for name in stems if name in state and state[name].ndim > 3), 3)
    return num_classes, in_chans


def check_finite(model: nn.Module, where: str) -> None:
    """Refuse weights that are no numbers; buffers may be infinite, as masks of attention are.

    Raises:
        WeightsError: Names the first tensor that is not finite.
    """
    own = dict(model.named_parameters())
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or tensor.is_meta:
            continue
        bad = int((~torch.isfinite(tensor) if name in own else tensor.isnan()).sum())
        if bad:
            raise WeightsError(
                f"{where}: {bad} of {tensor.numel()} values of {name} are not finite (NaN or infinite); the weights "
                "are damaged, use an earlier checkpoint or copy the file again"
            )


@dataclass
class Fit:
    """How a state dict fits a network. Foreign tensors go by the names in the file."""

    layout: str
    """Key layout of the state dict: saccade, official, timm, or of a detector mmdet."""
    mapped: dict[str, Tensor]
    """What fits, under our names and in our shapes."""
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    """One sentence each: the tensor, its shape, the shape expected."""


class ForeignKeys(abc.ABC):
    """A network that knows by itself how another library names its tensors."""

    @abc.abstractmethod
    def translate(self, state: Mapping[str, Tensor]) -> Fit | None:
        """Map a state dict of that library; None where it is not one."""


def match_state(model: nn.Module, state: Mapping[str, Tensor], *, family: str) -> Fit:
    """Map the names and shapes of a state dict in any layout to a network's, and find what does not fit."""
    if isinstance(model, ForeignKeys) and (found := model.translate(state)) is not None:
        return found
    if family == "timm":
        state = as_timm(state)
    own = model.state_dict()
    inner = shared_prefix(list(own))
    if inner is not None and not any(key.startswith(inner) for key in state):
        state = {inner + key: tensor for key, tensor in state.items()}  # it was taken for a wrapper's
    layout, table = keymap.recognise(state, _widest_names(model), family)
    mapped, mismatched, refused, unexpected = {}, [], set(), []
    form = "features" if getattr(model, "out_indices", None) is not None else "plain"
    for key, tensor in state.items():
        name = table.get(key)
        if name is None or name not in own:
            known = name is not None and keymap.droppable(name, family, form)
            if not known and not keymap.ignorable(key, family, form):
                unexpected.append(key)
            continue
        if not _same_kind(tensor, own[name]):
            mismatched.append(f"{key} holds {tensor.dtype}, expected {own[name].dtype}".replace("torch.", ""))
            refused.add(name)
            continue
        try:
            mapped[name] = keymap.arrange(tensor, tuple(own[name].shape), key)
        except WeightsError as error:
            mismatched.append(str(error))
            refused.add(name)
    back = {name: key for key, name in table.items()}
    # Norms that only a detector has: all of them or none, so that a damaged file is still found out.
    fresh = [name for name in own if keymap.may_be_fresh(name, family, form)]
    excused = set(fresh) if not any(name in mapped for name in fresh) else set()
    missing = [
        back.get(name, name)
        for name in own
        if name not in mapped and name not in refused and name not in excused
    ]
    return Fit(layout, mapped, missing, unexpected, mismatched)


def load_state(
    model: nn.Module, state: Mapping[str, Tensor], *, family: str, where: str, strict: bool
) -> None:
    """Map names and shapes, check them, and copy."""
    fit = match_state(model, state, family=family)
    mapped, missing, unexpected, problems = fit.mapped, fit.missing, fit.unexpected, fit.mismatched
    if missing or unexpected or problems:
        text = "; ".join(
            part
            for part in (
                _listing("missing", missing),
                _listing("unexpected", unexpected),
                _listing("of another shape", problems),
            )
            if part
        )
        if strict:
            raise WeightsError(f"{where}: does not fit this model: {text}{_hint(problems)}")
        warnings.warn(f"{where}: loaded in part: {text}", stacklevel=3)
    if not mapped:
        raise WeightsError(f"{where}: not one tensor fits this model")
    model.load_state_dict({**model.state_dict(), **mapped})


def layouts_of(model: nn.Module) -> str:
    """Return the family whose key layouts a network's weights may be in; "timm" for layouts that are its own."""
    origin = None if isinstance(model, ForeignKeys) else origin_of(model)
    return registry.family_of(origin.name) if origin else "timm"


def _same_kind(tensor: Tensor, own: Tensor) -> bool:
    """Whether values can be taken over without losing what they are: complex, real, or whole numbers."""
    if tensor.is_complex() != own.is_complex():
        return False
    return tensor.is_floating_point() or not own.is_floating_point()


def _widest_names(model: nn.Module) -> list[str]:
    """Return the model's tensor names with every head it could have, so that dropped heads are recognised."""
    origin, names = origin_of(model), list(model.state_dict())
    if origin is not None and origin.name in registry.list_models():
        names = list(dict.fromkeys([*names, *registry.widest_names(origin.name)]))
    return names


def _listing(title: str, names: list[str]) -> str:
    """Write "3 missing (a, b, c)", all of them up to 20."""
    if not names:
        return ""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"{len(names)} {title} ({shown})"


def _hint(problems: list[str]) -> str:
    """Say what a head of another size means."""
    if problems and all("head" in problem for problem in problems):
        return "; the number of classes differs: pass num_classes to match, or strict=False to start a fresh head"
    return ""
