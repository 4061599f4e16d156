"""Weights: tensors and cards in files, key layouts, safe reading and atomic writing. Builds no network."""

from saccade.weights.card import Card
from saccade.weights.store import locate, read_card, read_weights, save_state

__all__ = ["Card", "locate", "read_card", "read_weights", "save_state"]
