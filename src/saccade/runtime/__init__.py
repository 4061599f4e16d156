"""Run any set of weights or bundle through one interface, by the fastest path that was proved equal."""

from saccade.runtime.predictor import Predictor, open_predictor

__all__ = ["Predictor", "open_predictor"]
