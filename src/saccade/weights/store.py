"""Load and save weights: safetensors out; safetensors or `.pth` in, in any known key layout."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from saccade.errors import ConfigError, SaccadeError, WeightsError
from saccade.files import replacing
from saccade.files.tensors import read_tensors
from saccade.trust import Stored, check_place, may_fetch
from saccade.weights import keymap
from saccade.weights.card import Card
from saccade.weights.pth import read_pth, tensors_of
from saccade.zoo import registry

CARD_KEY = "saccade"
NAMED = ("classify", "detect", "segment", "restore", "video")
"""Tasks whose cards name a network of `zoo`; any other task builds its own."""
# Of a training checkpoint: the key whose weights the published numbers belong to comes first.
_PREFERRED = {
    "efficientvim": ("model_ema", "model", "state_dict"),
    "shvit": ("model", "state_dict", "model_ema"),
}
_NOT_OF_A_CARD = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
"""Options of timm that make it read or fetch another file."""
_PREFERRED_ELSE = ("model", "state_dict", "model_state_dict", "model_ema")


def read_weights(path: Path | str, *, family: str = "") -> tuple[dict[str, Tensor], Card | None]:
    """Read the tensors of a file, and its card when it has one.

    Args:
        path: `.safetensors`, or `.pth`/`.pt`/`.bin`/`.tar` written by `torch.save`.
        family: Model family, which decides between raw and averaged weights in training checkpoints
            (EfficientViM's published accuracy is the average's, SHViT's the raw weights').

    Raises:
        WeightsError: Missing, damaged or unsafe file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        return tensors_of(read_pth(path), str(path), prefer=_PREFERRED.get(family, _PREFERRED_ELSE)), None
    tensors, about = read_tensors(path)
    card = about.get(CARD_KEY)
    return tensors, Card.from_json(card, str(path)) if card else None


def load_weights(model: nn.Module, source: Any, *, strict: bool = True) -> nn.Module:
    """Load weights into a network, whatever key layout they are in.

    Args:
        model: A network of `create_model`.
        source: A file, a run folder, a hub id (`owner/name`), or a state dict in the official, timm or our layout.
        strict: Refuse any missing or unexpected tensor. Otherwise tensors that are missing, unexpected or of
            another shape (a head for other classes) are left out and listed in one warning.

    Returns:
        The same network.

    Raises:
        WeightsError: Lists what is missing, unexpected or of another shape.
    """
    name = getattr(model, "saccade_name", type(model).__name__)
    family = _family(model)
    if isinstance(source, Mapping):
        where, content = "the state dict", dict(source)
        if not any(isinstance(value, Tensor) for value in content.values()):
            content = tensors_of(content, where, prefer=_PREFERRED.get(family, _PREFERRED_ELSE))
        state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    else:
        path = locate(source)
        where, (state, card) = str(path), read_weights(path, family=family)
        if card is not None and card.model != name and strict:
            raise WeightsError(f"{where}: these weights are for {card.model}, the model is {name}")
    _load_state(model, state, family=family, where=where, strict=strict)
    return model


def locate(source: Path | str) -> Path:
    """Find the weights file that a user means: a file, a run folder (its best weights) or a hub id.

    Raises:
        WeightsError: Nothing there.
    """
    path = Path(source)
    if path.is_dir():
        for name in ("best.safetensors", "last.safetensors"):
            if (path / name).is_file():
                return path / name
        raise WeightsError(
            f"{path}: no best.safetensors or last.safetensors in this folder; expected a run of `saccade train`"
        )
    if path.is_file():
        return path
    text = str(source)
    if text.startswith("hf-hub:") or (text.count("/") == 1 and not path.suffix and not path.parent.exists()):
        from saccade.weights.published import fetch

        return fetch(text.removeprefix("hf-hub:"), cached=not may_fetch(source))
    raise WeightsError(f"{path}: no such weights file or run folder")


def load_model(source: Path | str) -> tuple[nn.Module, Card]:
    """Build the network that a run folder, a weights file with a card, or a model name describes.

    Args:
        source: As said; a bare model name gives fresh weights, always the same, which suits speed measurements only.

    Returns:
        The network in evaluation mode, and its card.

    Raises:
        WeightsError: No card in the file, tensors that do not fit it, or values that are not finite.
        ConfigError: Neither a path nor a model name.
    """
    text = str(source)
    if not Path(source).exists():
        try:
            registry.family_of(text)
        except ConfigError as error:
            if "/" in text or Path(source).suffix:
                locate(source)  # says that there is no such file, or fetches a hub id
            raise ConfigError(f"no file or folder {text!r}, and no model of that name: {error}") from None
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = registry.create_model(text).eval()
        if registry.task_of(text) == "classify":
            return model, Card(model=text, origin="fresh weights")
        return model, dataclasses.replace(card_of(model), origin="fresh weights")
    from saccade.tasks import get_task

    path = locate(source)
    state, card = read_weights(path)
    if card is None:
        card = identify(state, where=str(path))
        if path.suffix != ".safetensors":
            state, _ = read_weights(path, family=registry.family_of(card.model))
    if card.task not in NAMED and get_task(card.task).on_a_base:  # another folder, or the hub's
        card.model = Stored(card.model, path, "the model of the card", "--base")
        check_place(card.model)
    model = build_model(card)
    _load_state(model, state, family=_family(model), where=str(path), strict=True)
    _check_finite(model, str(path))
    card.origin = card.origin or str(path)
    return model.eval(), card


def _check_finite(model: nn.Module, where: str) -> None:
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


def build_model(card: Card) -> nn.Module:
    """Make the network that a card describes, with fresh weights.

    Raises:
        ConfigError: A name or option that does not exist here.
        WeightsError: Options that make no network, or that would read or fetch another file.
    """
    if foreign := [name for name in (*card.options, *card.head_options) if name in _NOT_OF_A_CARD]:
        raise WeightsError(
            f"the card of {card.model} has the option {foreign[0]}, which ours never have; refused"
        )
    try:
        return _build(card)
    except SaccadeError:
        raise
    except Exception as error:  # options reach code of many places, which fails in as many ways
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightsError(f"the card of {card.model} has options that make no network ({reason})") from error


def _build(card: Card) -> nn.Module:
    if card.task not in NAMED:
        from saccade.tasks import get_task

        return get_task(card.task).build(card)
    if card.task == "video":
        return registry.create_video_model(
            card.model,
            card.head,
            num_classes=card.num_classes,
            in_chans=card.in_chans,
            options=card.options,
            **card.head_options,
        )
    if card.head:
        from saccade.tasks.dense.nets import build_dense

        return build_dense(
            card.model,
            card.head,
            card.num_classes,
            in_chans=card.in_chans,
            options=card.options,
            **card.head_options,
        )
    return registry.create_model(
        card.model, num_classes=card.num_classes, in_chans=card.in_chans, **card.options
    )


def _family(model: nn.Module) -> str:
    """Return the family whose key layouts a network's weights may be in; "timm" for layouts that are its own."""
    if hasattr(model, "neck") or not hasattr(model, "saccade_name"):
        return "timm"
    return registry.family_of(model.saccade_name)  # pyright: ignore[reportArgumentType]


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


def save_state(state: Mapping[str, Tensor], path: Path, card: Card | None) -> None:
    """Write named tensors as safetensors, with a card when given, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={CARD_KEY: card.to_json()} if card else {"format": "pt"})


def card_of(model: nn.Module) -> Card:
    """Describe a network of `create_model` by its own attributes."""
    name = getattr(model, "saccade_name", "")
    if not name:
        raise WeightsError("this network has no name; build it with saccade.create_model or pass a card")
    config = getattr(model, "config", None)
    options: dict[str, Any] = dict(getattr(model, "saccade_options", {}))
    if not name.startswith(("timm/", "stvit/")):
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


def identify(state: Mapping[str, Tensor], *, where: str = "the state dict") -> Card:
    """Find out which of our models a state dict without a card belongs to.

    Raises:
        WeightsError: None fits.
    """
    from saccade.tasks.dense.nets.keymap import identify_mmdet, is_mmdet

    if is_mmdet(state):
        return identify_mmdet(state, where)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    num_classes, in_chans = outer_sizes(state)
    for name in registry.list_models():
        family = registry.family_of(name)
        for options in [{}, {"distilled": True}] if family == "shvit" else [{}]:
            with torch.device("meta"):
                model = registry.create_model(name, num_classes=num_classes, in_chans=in_chans, **options)
            own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
            known = {
                key: shape for key, shape in shapes.items() if not keymap.ignorable(key, family, "plain")
            }
            _, table = keymap.recognise(known, own, family)
            if table.keys() == known.keys() and all(
                [n for n in known[key] if n != 1] == [n for n in own[table[key]] if n != 1] for key in known
            ):
                task = registry.task_of(name)
                if task == "restore":
                    num_classes, in_chans = 0, 1
                return Card(name, options, num_classes, in_chans, task, origin=where)
    raise WeightsError(
        f"{where}: these tensors belong to none of our models ({len(shapes)} tensors, the first is "
        f"{next(iter(shapes))!r}); a file for a timm model loads with load_weights into create_model('timm/...')"
    )


def outer_sizes(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Read the number of classes and of input channels off a state dict of ours in any layout; 1000 and 3 else."""
    heads = ("head.l.weight", "head.fc.weight", "heads.0.weight", "head.fcs.0.weight", "head.weight")
    stems = (
        "patch_embed.0.c.weight", "patch_embed.conv.0.conv.weight", "stem.0.conv.weight",
        "patch_embed.proj.0.c.weight", "stem.convs.0.conv.weight", "patch_embed.proj.weight", "stem.proj.weight",
    )  # fmt: skip
    num_classes = next((state[name].shape[0] for name in heads if name in state), 1000)
    # Networks of clips store their stem as a matrix, which does not say.
    in_chans = next((state[name].shape[1] for name in stems if name in state and state[name].ndim == 4), 3)
    return num_classes, in_chans


def _load_state(
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


def match_state(model: nn.Module, state: Mapping[str, Tensor], *, family: str) -> Fit:
    """Map the names and shapes of a state dict in any layout to a network's, and find what does not fit."""
    if hasattr(model, "neck"):
        from saccade.tasks.dense.nets.keymap import from_mmdet, is_mmdet

        if is_mmdet(state):
            found = from_mmdet(state, model)  # pyright: ignore[reportArgumentType]
            return Fit("mmdet", found.tensors, found.missing, found.unexpected, found.mismatched)
    own = model.state_dict()
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


def _same_kind(tensor: Tensor, own: Tensor) -> bool:
    """Whether values can be taken over without losing what they are: complex, real, or whole numbers."""
    if tensor.is_complex() != own.is_complex():
        return False
    return tensor.is_floating_point() or not own.is_floating_point()


def _widest_names(model: nn.Module) -> list[str]:
    """Return the model's tensor names with every head it could have, so that dropped heads are recognised."""
    name = getattr(model, "saccade_name", "")
    names = list(model.state_dict())
    if name in registry.list_models():
        names = list(dict.fromkeys([*names, *registry.widest_names(name)]))
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
