"""Find the images that a model was not trained on, numbered as its outputs are: by name, never by position."""

import dataclasses
from pathlib import Path

import numpy as np

from saccade.data.config import DataConfig, read_split
from saccade.data.opening import is_divided, kind_of, open_pair, open_source
from saccade.data.shards import ShardStream, need_local
from saccade.data.source import NO_LABEL, Source
from saccade.errors import ConfigError, DataError
from saccade.weights.card import Card


def open_held_out(data: str, weights: Path | str, card: Card) -> tuple[Source, list[str], list[str]]:
    """Open the images to measure weights on.

    Where training itself kept a part of `data` back, that same part is taken, not the images that it learned.

    Args:
        data: Folder of class folders, table, shards or built-in name; where it is divided, its validation side
            counts. Empty: the validation data that the run folder was trained with.
        weights: What is measured; a run folder says what it was trained on.
        card: Of the weights; its labels are the names of the outputs in order.

    Returns:
        (source whose targets are output numbers, one label an output, notes for the user).

    Raises:
        ConfigError: No data was named and the weights do not say.
        DataError: A class that the model does not know (with the nearest that it does), images without a
            class, a stream, or, for weights that carry no names, another number of classes.
    """
    trained = trained_on(weights)
    data = check_place(data, weights)
    if card.labels and len(card.labels) != card.num_classes:
        raise DataError(
            f"{weights}: the card lists {len(card.labels)} class names for {card.num_classes} outputs; "
            "convert or train the weights again"
        )
    labels, notes = card.labels or None, []
    if trained and same_place(data, trained[0].source) and not trained[0].val and not is_divided(data):
        config = dataclasses.replace(trained[0], source=data)
        source = open_pair(config, seed=trained[1], labels=labels).val
        notes.append(
            f"Measured on the {len(source)} images that training kept back, not on those it learned."
        )
    else:
        source = open_source(data, part="val", labels=labels)
    if isinstance(source, ShardStream):
        raise DataError(
            f"{data}: shards at an address are read front to back only; copy them to this machine first"
        )
    missing = int((source.targets == NO_LABEL).sum())
    if missing:
        raise DataError(f"{data}: {missing} of {len(source)} images have no label; give every image one")
    if len(source.labels) != card.num_classes:
        raise DataError(
            f"{data}: {len(source.labels)} classes, but the model has {card.num_classes} outputs and its "
            "weights carry no class names to match by; use data with the same classes"
        )
    notes = [*source.notes, *notes]
    if not card.labels:
        notes.append("The weights carry no class names: classes were matched to outputs in sorted order.")
    present = len(np.unique(source.targets))
    if present < card.num_classes:
        notes.append(f"The data holds {present} of the model's {card.num_classes} classes.")
    return source, list(source.labels), notes


def check_place(data: str, weights: Path | str) -> str:
    """Say which place `open_held_out` would open, without opening weights, which may export them first.

    Raises:
        ConfigError: No data was named and the weights do not say.
        DataError: There is nothing at that place.
    """
    if not data:
        trained = trained_on(weights)
        if trained is None:
            raise ConfigError("no data was given; name labelled images with --data")
        data = trained[0].val or trained[0].source
    need_local(data)
    kind_of(data)
    return data


def trained_on(weights: Path | str) -> tuple[DataConfig, int] | None:
    """Read what a run folder was trained on, and the seed of its split; None when it does not say."""
    found = read_split(weights)
    return found if found and found[0].source else None


def same_place(first: str, second: str) -> bool:
    """Whether two specifications name the same place."""
    return first == second or Path(first).expanduser().resolve() == Path(second).expanduser().resolve()
