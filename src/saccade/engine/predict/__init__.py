"""Prediction: weights over inputs, one row each, resumable; or a few inputs at a time, from Python."""

from saccade.engine.predict.predict import Prediction, predict
from saccade.engine.predict.predictor import Predictor, open_predictor

__all__ = ["Prediction", "Predictor", "open_predictor", "predict"]
