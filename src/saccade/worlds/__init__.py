"""A small synthetic world with exact truth: shapes that move on a textured ground, seen by a moving camera.

world = make_world(seed=7)
clip = render(world, [0.0, 0.5, 1.0], size=(128, 128))
clip.images, clip.instances, clip.classes, clip.depth, clip.boxes(), clip.centres
"""

from saccade.worlds.clip import Clip, boxes_of, render
from saccade.worlds.motion import KINDS, Motion, make_motion
from saccade.worlds.world import CAMERAS, CLASSES, SURFACES, Camera, Thing, World, make_world

__all__ = [
    "CAMERAS",
    "CLASSES",
    "KINDS",
    "SURFACES",
    "Camera",
    "Clip",
    "Motion",
    "Thing",
    "World",
    "boxes_of",
    "make_motion",
    "make_world",
    "render",
]
