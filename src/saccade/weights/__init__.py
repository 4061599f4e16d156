"""Weights: tensors and cards in files, key layouts, safe reading and atomic writing. Builds no network."""

from saccade.weights.card import Card
from saccade.weights.source import Source
from saccade.weights.store import locate, read_card, read_weights, save_state

__all__ = ["Card", "Source", "locate", "read_card", "read_weights", "save_state"]
