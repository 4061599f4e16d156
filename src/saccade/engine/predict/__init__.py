"""Prediction over a folder at full speed: decoding and model overlapped over the cores, resumable output."""
