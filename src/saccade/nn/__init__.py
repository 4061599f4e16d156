"""Blocks that two or more models share, and the folding of a trained network into its inference form."""
