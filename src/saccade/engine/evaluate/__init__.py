"""Evaluation: run a model over a data set, and say how good it is and how sure that is."""
