"""Labels from plain video: masks, depth and the camera's path in, tracks in metres out.

The stages and what passes between them are in `stages.py`; `pipeline.pseudo_label` runs them on one clip.
"""
