"""Detection, instance and semantic segmentation: one pyramid and every head, on any backbone, as pure modules.

A network of this room maps pictures of any size to losses (training) or to detections and logits (evaluation); it
neither resizes nor normalises. `build_dense` makes one by name, `HEADS` lists the heads; `load_weights` also
reads the weights that the authors of the backbones published.
"""

from saccade.tasks.dense.nets.build import HEADS, Head, build_dense
from saccade.tasks.dense.nets.detector import Detector
from saccade.tasks.dense.nets.network import DenseNet
from saccade.tasks.dense.nets.segmenter import IGNORED, Segmenter

__all__ = ["HEADS", "IGNORED", "DenseNet", "Detector", "Head", "Segmenter", "build_dense"]
