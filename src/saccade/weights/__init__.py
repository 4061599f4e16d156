"""Weights: cards, key layouts, safe reading and atomic writing."""

from saccade.weights.card import Card
from saccade.weights.store import (
    card_of,
    identify,
    load_model,
    load_weights,
    locate,
    read_weights,
    save_state,
    save_weights,
)

__all__ = [
    "Card",
    "card_of",
    "identify",
    "load_model",
    "load_weights",
    "locate",
    "read_weights",
    "save_state",
    "save_weights",
]
