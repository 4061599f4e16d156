"""Run any set of weights or bundle through one interface, by the fastest path that was proved equal."""

from saccade.engine.sessions.predictor import Predictor, open_predictor

__all__ = ["Predictor", "open_predictor"]
