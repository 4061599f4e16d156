"""A geometry tool beside a demonstration from nothing: what the pixel pipeline measures of the clips reported on.

    python -m motion_demo.tool FOLDER [--workers 2]
    python -m motion_demo --out FOLDER ... --also tool=FOLDER/tool.jsonl

FOLDER is that of `python -m motion_demo`. Takes about a second of processor time a clip.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np


def measure(plan, number: int) -> list:
    """Return the tracks of one clip."""
    from motion_demo.pixels import tool_tracks
    from motion_demo.sets import clip_name, draw_world

    return tool_tracks(
        draw_world(plan, number), 0.5 * np.arange(plan.frames), clip_name(plan, number),
        width=plan.size, split="val", settings=plan.settings,
    )  # fmt: skip


def main() -> None:
    """Measure all clips."""
    from motion_demo.sets import MotionSet
    from saccade.kinematics.records import write_records

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    plan = MotionSet(options.folder / "report").plan
    tracks = []
    with ProcessPoolExecutor(options.workers) as pool:
        for number, found in enumerate(pool.map(partial(measure, plan), range(plan.clips), chunksize=4), 1):
            tracks += found
            if number % 50 == 0 or number == plan.clips:
                print(f"{number} of {plan.clips} clips, {len(tracks)} tracks", flush=True)
    write_records(tracks, options.folder / "tool.jsonl")


if __name__ == "__main__":
    main()
