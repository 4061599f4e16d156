"""Pictures for docs/kinematics.md: a labelled clip of the synthetic world, and the same clip from above.

    python benchmarks/kinematics_pictures.py [--out docs/images]

Writes kinematics_clip.jpg (two moments with boxes, paths, metres, km/h and hours) and kinematics_birdseye.svg. The
clip is one of those of `saccade kinematics label world --seed 7`: a camera that drives, two things that turn left
until they come back, one that stops on its way, and one that stands still.
"""

import argparse
import re
import tempfile
from pathlib import Path

from PIL import Image

from saccade.files import replacing, write_text
from saccade.kinematics.birdseye import birdseye_svg
from saccade.kinematics.overlay import frames_of
from saccade.kinematics.scene import open_scene, paint
from saccade.kinematics.sources import read_source

SEED, CLIP = 7, 5
MOMENTS_S = (5.0, 8.0)
SIDE = 560


def main() -> None:
    """Render the clip, label it, draw it."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, default=Path("docs/images"))
    out = options.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        tracks = list(read_source("world", folder, clips=CLIP + 1, seed=SEED, size=640))
        scene = open_scene([track for track in tracks if track.clip_id == tracks[-1].clip_id])
        shown = [
            paint(image, scene, time, size=SIDE, inset=True)
            for time, image in frames_of(scene.tracks, times_s=MOMENTS_S)[1]
        ]
    gap = 8
    sheet = Image.new("RGB", (len(shown) * (SIDE + gap) - gap, shown[0].height), "white")
    for index, image in enumerate(shown):
        sheet.paste(image, (index * (SIDE + gap), 0))
    with replacing(out / "kinematics_clip.jpg") as temporary:
        sheet.save(temporary, quality=88, subsampling=0)
    drawing = birdseye_svg(scene.tracks, scene.labels, scene.colours)
    # On its own it needs paper under it.
    drawing = re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="white"/>', drawing, count=1)
    write_text(out / "kinematics_birdseye.svg", drawing + "\n")
    for track in scene.tracks:
        label = scene.labels[track.track_id]
        print(track.category, track.track_id, scene.verdicts[track.track_id], label.to_dict())


if __name__ == "__main__":
    main()
