"""Worlds as plain videos, with the masks and depths that a user might have, for the tests of pseudo-labels."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from saccade.worlds import make_world, render

SIZE = (144, 192)


def write_frames(path: Path, images: np.ndarray, times_s: np.ndarray) -> Path:
    """Write frames (T, H, W, 3) that are shown at given seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.qmin = stream.codec_context.qmax = 1
        for image, time in zip(images, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_world(folder: Path, seed: int, times_s: np.ndarray, *, name: str | None = None, size=SIZE):
    """Write videos/NAME.mp4, masks/NAME.npz and depths/NAME.npz of a world; returns what was rendered."""
    clip = render(make_world(seed, seconds=float(times_s[-1])), times_s, size)
    name = name or f"world-{seed}"
    write_frames(folder / "videos" / f"{name}.mp4", clip.images, times_s)
    for part in ("masks", "depths"):
        (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
    names = np.array([thing.name for thing in clip.world.objects])
    np.savez(folder / "masks" / f"{name}.npz", times_s=times_s, masks=clip.instances, names=names)
    depth = np.where(np.isfinite(clip.depth), clip.depth, 0).astype(np.float32)
    np.savez(
        folder / "depths" / f"{name}.npz",
        times_s=times_s, depth=depth, focal_px=np.float64(clip.intrinsics[0, 0]),
    )  # fmt: skip
    return clip
