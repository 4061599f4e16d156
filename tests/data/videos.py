"""Small videos for tests."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")


def write_video(path, times_s, size=(48, 32), level=lambda k: 12 * k):
    """Write a video whose frames are shown at given seconds; frame k has the grey value `level(k)`.

    Its left third is brighter by 40, so that crops can be told apart.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for k, time in enumerate(times_s):
            grey = np.full((size[1], size[0], 3), level(k), np.uint8)
            grey[:, : size[0] // 3] += 40
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
