"""Stages for the tests of the engines, in a module that other processes can import."""

import os
import signal
import time
from pathlib import Path

from saccade.errors import ConfigError, DataError
from saccade.kinematics.engine import Job, Product, Stage
from saccade.kinematics.records import Rejected, Track
from saccade.worlds import make_world

TIMES = [0.5 * index for index in range(11)]


def draw(seed):
    """Draw a world; seeds say what goes wrong."""
    if seed == 13:
        raise DataError("clip13.mp4: holds no frames; expected a video that is not empty")
    if seed == 14:
        raise KeyError("nothing foresaw this")
    if seed == 15:
        raise ConfigError("no such option")
    return make_world(seed)


def measure(world):
    """Make the tracks of a world; a resting thing is left out with a reason."""
    import numpy as np

    name = f"w{world.seed}"
    centres, _ = world.tracks(np.array(TIMES))
    tracks, rejected = [], []
    for index, thing in enumerate(world.objects):
        if thing.motion.kind == "rest":
            rejected.append(Rejected(name, str(index), "it rests"))
            continue
        tracks.append(
            Track(
                name, "world", "train", str(index), thing.name, TIMES, centres[:, index].tolist(), "synthetic"
            )
        )
    return Product(tracks, rejected)


def count_start():
    """State of a stage: where it was started."""
    return os.getpid()


def measure_in(state, world):
    """As `measure`, in the process in which the stage was started."""
    assert state == os.getpid()
    return measure(world)


def die(folder_and_seed):
    """Kill the worker over seed 3 always, over seed 5 once."""
    folder, seed = folder_and_seed
    once = Path(folder) / f"died-{seed}"
    if seed == 3 or (seed == 5 and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return make_world(seed)


def slow(seed):
    """Take some time, so that a run can be killed in the middle."""
    time.sleep(0.02)
    return make_world(seed)


def jobs(seeds):
    """Clips by seed."""
    return [Job(f"w{seed}", seed) for seed in seeds]


STAGES = [Stage("draw", draw), Stage("measure", measure)]
STARTED = [Stage("draw", draw), Stage("measure", measure_in, start=count_start)]
SLOW = [Stage("draw", slow), Stage("measure", measure)]
