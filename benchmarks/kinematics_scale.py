"""How many clips a second does the labelling engine take, and is anything lost when it is killed?

Clips of the synthetic world: worlds are drawn, rendered, measured, and their frames written with boxes drawn in. The
run is killed by SIGKILL once, a third of the way, and started again; its files are then compared with those of a run
that nobody killed. One clip in a hundred is unreadable on purpose.

    python benchmarks/kinematics_scale.py --clips 2000 --kill
    python benchmarks/kinematics_scale.py --clips 2000 --engine ray
"""

import argparse
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saccade.errors import DataError
from saccade.files import replacing
from saccade.kinematics.engine import Job, Stage, hash_of, run_clips
from saccade.kinematics.records import Track, read_tracks
from saccade.kinematics.scene import open_scene, paint
from saccade.kinematics.settings import DEFAULT
from saccade.kinematics.sources.world import tracks_of
from saccade.worlds import Clip, make_world, render

SECONDS, SIZE = 5.0, (96, 128)
TIMES = np.arange(0, SECONDS + 1e-6, DEFAULT.dt)


def compile_kernel() -> None:
    """Compile the renderer once in each worker."""
    render(make_world(0, seconds=SECONDS), TIMES[:1], SIZE)


def draw(_state: None, seed: int) -> Clip:
    """Render a clip."""
    if seed % 100 == 99:
        raise DataError(f"clip {seed}: unreadable on purpose, for the dead-letter table")
    return render(make_world(seed, seconds=SECONDS), TIMES, SIZE)


def measure(folder: str, clip: Clip) -> list[Track]:
    """Write the truth down and the frames with it."""
    name = f"world-{clip.world.seed:06d}"
    target = Path(folder) / name
    paths = [f"frames/{name}/{index:03d}.jpg" for index in range(len(TIMES))]
    tracks = tracks_of(clip, name, "train", paths)
    scene = open_scene(tracks)
    with replacing(target) as temporary:
        temporary.mkdir()
        for index, image in enumerate(clip.images):
            shown = paint(Image.fromarray(image), scene, float(TIMES[index]))
            shown.save(temporary / f"{index:03d}.jpg", quality=90, subsampling=0)
    return tracks


def run(clips: int, out: Path, engine: str, workers: int | None) -> dict[str, Any]:
    """Run the pipeline; prints how far it is every two seconds."""
    said = [time.monotonic(), 0]

    def progress(done: int, total: int) -> None:
        now = time.monotonic()
        if now - said[0] > 2 or done == total:
            print(f"{done} of {total}", file=sys.stderr, flush=True)
            said[0] = now

    stages = [
        Stage("draw", draw, start=compile_kernel),
        Stage("measure", functools.partial(measure, str(out / "frames"))),
    ]
    jobs = [Job(f"world-{seed:06d}", seed) for seed in range(clips)]
    key = hash_of({"settings": DEFAULT, "seconds": SECONDS, "size": SIZE})
    before, begun = os.times(), time.perf_counter()
    found = run_clips(jobs, stages, out, config_hash=key, engine=engine, workers=workers, progress=progress)
    wall, after = time.perf_counter() - begun, os.times()
    # Children count once they have ended, and Ray's are not waited for.
    cpu = after.user - before.user + after.system - before.system
    cpu += after.children_user - before.children_user + after.children_system - before.children_system
    return {
        "engine": engine, "clips": found.clips, "found": found.found, "tracks": found.tracks, "empty": found.empty,
        "rejected": found.rejected, "failed": found.failed, "seconds": round(wall, 1),
        "clips_per_s": round((found.clips - found.found) / wall, 1),
        **({"cores_busy": round(cpu / wall, 2), "cpu_seconds": round(cpu, 1)} if engine == "local" else {}),
    }  # fmt: skip


def digests(out: Path) -> dict[str, str]:
    """Fingerprints of the result, frames included."""
    frames = hashlib.sha256()
    for path in sorted((out / "frames").glob("*/*.jpg")):
        frames.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
    names = ("tracks.parquet", "rejected.jsonl")
    return {"frames": frames.hexdigest()[:16]} | {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest()[:16] for name in names
    }


def kill_once(options: argparse.Namespace, out: Path) -> int:
    """Start a run of its own and kill it a third of the way; returns the parts it left."""
    command = [sys.executable, __file__, "--clips", str(options.clips), "--out", str(out), "--child"]
    command += [] if options.workers is None else ["--workers", str(options.workers)]
    child = subprocess.Popen(command, start_new_session=True)
    while child.poll() is None and len(list(out.glob("parts/*/*/*.parquet"))) < options.clips // 3:
        time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(1)  # its workers end with the clip they are at
    return len(list(out.glob("parts/*/*/*.parquet")))


def main() -> None:
    """Run, kill, resume, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, default=Path("kinematics-scale"))
    parser.add_argument(
        "--kill", action="store_true", help="kill a run, resume it, compare with one left alone"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    whole = options.out / options.engine if not options.child else options.out
    killed = options.out / "killed"
    if options.kill:
        shutil.rmtree(killed, ignore_errors=True)
        parts = kill_once(options, killed)
        rest = run(options.clips, killed, "local", options.workers)
        print(json.dumps({"killed with": parts, **rest}), flush=True)
    print(json.dumps(run(options.clips, whole, options.engine, options.workers)), flush=True)
    if options.kill:
        names = [f"{track.clip_id}/{track.track_id}" for track in read_tracks(killed / "tracks.parquet")]
        assert len(names) == len(set(names)), "a track is there twice"
        assert digests(killed) == digests(whole), "the killed run's files differ"
        print(json.dumps({"identical": digests(whole), "tracks": len(names)}), flush=True)


if __name__ == "__main__":
    main()
