"""Turn a vision transformer of timm into one that runs most of its blocks on a few semantic tokens."""

from saccade.zoo.sparse.convert import sparsify

__all__ = ["sparsify"]
