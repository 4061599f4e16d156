"""Show where a model looked: class-activation maps for any network, attention maps where a network has them."""

from saccade.engine.explain.attention import AttentionMap, attention_maps
from saccade.engine.explain.cam import ClassMap, class_map
from saccade.engine.explain.draw import draw_explanation

__all__ = ["AttentionMap", "ClassMap", "attention_maps", "class_map", "draw_explanation"]
