"""Prediction: weights over inputs, one row each, resumable."""

from saccade.engine.predict.predict import Prediction, predict

__all__ = ["Prediction", "predict"]
