"""Motions: exact integrals, the grammar, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.errors import ConfigError
from saccade.worlds import KINDS, make_motion, make_world


def drawn(kind: str, seed: int, seconds: float = 4.0, speed: float = 2.0):
    rng = np.random.default_rng(seed)
    return make_motion(kind, (1.0, -2.0), rng.uniform(0, 6.28), speed, seconds, rng)


@given(st.sampled_from(KINDS), st.integers(0, 10_000))
def test_path_agrees_with_small_steps(kind, seed):
    motion = drawn(kind, seed)
    place, heading = motion.at(np.linspace(0, 4, 4001))
    steps = np.linalg.norm(np.diff(place, axis=0), axis=1).sum()
    assert steps == pytest.approx(motion.travelled_m(0, 4), abs=2e-3)
    assert place[0].tolist() == [1.0, -2.0]
    # The nose points along the motion (or against it, going backwards).
    moving = np.linalg.norm(np.diff(place, axis=0), axis=1) > 1e-6
    along = np.diff(place, axis=0)[moving]
    nose = np.stack([np.cos(heading[:-1]), np.sin(heading[:-1])], 1)[moving]
    cosine = np.abs((along * nose).sum(1)) / np.linalg.norm(along, axis=1)
    assert (cosine > 1 - 1e-5).all()


@given(st.sampled_from(KINDS), st.integers(0, 10_000))
def test_pieces_fill_the_clip(kind, seed):
    motion = drawn(kind, seed)
    assert motion.pieces[:, 0].sum() == pytest.approx(4.0)
    assert (motion.pieces[:, 0] > 0).all()


def test_each_kind_does_what_its_name_says():
    for seed in range(20):
        straight, arc, stop, turn, back, rest = (drawn(kind, seed) for kind in KINDS)
        ends = [motion.at(np.array([0.0, 4.0])) for motion in (straight, arc, stop, turn, back, rest)]
        length = [float(np.linalg.norm(place[1] - place[0])) for place, _ in ends]
        turned = [abs(math.degrees(heading[1] - heading[0])) for _, heading in ends]
        assert length[0] == pytest.approx(8.0)
        assert turned[0] == 0
        assert 60 <= turned[1] <= 150
        assert arc.travelled_m(0, 4) == pytest.approx(8.0)
        assert stop.travelled_m(0, 4) < 8.0
        assert length[2] == pytest.approx(stop.travelled_m(0, 4))
        assert turned[3] == pytest.approx(180)
        assert back.travelled_m(0, 4) == pytest.approx(0.9 * 8.0)
        assert length[4] < back.travelled_m(0, 4)
        assert length[5] == rest.travelled_m(0, 4) == 0


def test_rests_before_and_after():
    motion = drawn("straight", 3)
    place, _ = motion.at(np.array([-1.0, 0.0, 4.0, 9.0]))
    assert place[0].tolist() == place[1].tolist()
    assert place[2].tolist() == place[3].tolist()


@pytest.mark.parametrize(("kind", "seconds", "speed"), [("strait", 4, 1), ("arc", 0, 1), ("arc", 4, -1)])
def test_refuses(kind, seconds, speed):
    with pytest.raises(ConfigError):
        make_motion(kind, (0, 0), 0.0, speed, seconds, np.random.default_rng(0))


def test_a_world_of_one_moment():
    assert make_world(3, seconds=0.0).objects
    with pytest.raises(ConfigError, match="seconds should be 0 or more"):
        make_world(3, seconds=-1e-9)
