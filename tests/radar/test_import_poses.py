"""Tracks: spellings, order, interpolation, coverage."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.radar import recorded

from saccade.errors import DataError
from saccade.radar.poses import Track, read_track, slerp
from saccade.radar.scan import euler
from saccade.rotations import rotation

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def write(tmp_path):
    def function(*lines, name="track.csv"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    return function


def turn(axis: int, angle: float) -> np.ndarray:
    """Quaternion about x, y or z."""
    found = np.zeros(4)
    found[0], found[1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    return found


EXPECTED = ([0.5, 0.75], [[1, 2, 3], [4, 5, 6]], [[1, 0, 0, 0], [0.6, 0, 0.8, 0]])


@pytest.mark.parametrize(
    "lines",
    [
        ("timestamp,x,y,z,qw,qx,qy,qz", "0.5,1,2,3,1,0,0,0", "0.75,4,5,6,.6,0,.8,0"),
        ("qx;qy;qz;qw;pos_x;pos_y;pos_z;time", "0;0;0;1;1;2;3;.5", "0;0.8;0;0.6;4;5;6;.75"),
        ("\ufeffTime (s)\tPosition.X\tPosition.Y\tPosition.Z\tRotation.W\tRotation.X\tRotation.Y\tRotation.Z",
         "0.5\t1\t2\t3\t1\t0\t0\t0", "0.75\t4\t5\t6\t0.6\t0\t0.8\t0"),
        ("t_ms,x_mm,y_mm,z_mm,q_w,q_x,q_y,q_z,speed", "500,1000,2000,3000,1,0,0,0,9",
         "750,4000,5000,6000,.6,0,.8,0,9"),
        ("#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []",
         "500000000,1,2,3,1,0,0,0", "750000000,4,5,6,.6,0,.8,0"),
        ("# ground truth", "# timestamp tx ty tz qx qy qz qw", "0.5 1 2 3 0 0 0 1", "# gap", "",
         "0.75 4 5 6 0 0.8 0 0.6"),
        ("0.5 1 2 3 0 0 0 1", "0.75 4 5 6 0 0.8 0 0.6"),
        ('"stamp","pose.position.x","pose.position.y","pose.position.z","pose.orientation.x","pose.orientation.y",'
         '"pose.orientation.z","pose.orientation.w"', "0.5,1,2,3,0,0,0,1", '"0.75","4",5,6,0,.8,0,.6'),
    ],
    ids=["plain", "any order", "motion capture", "units", "euroc", "tum", "no names", "ros"],
)  # fmt: skip
def test_spellings(write, lines):
    track = read_track(write(*lines))
    for value, expected in zip((track.times, track.positions, track.rotations), EXPECTED, strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-12)


def test_a_track_without_rotations_and_a_clock_offset(write):
    track = read_track(write("time,x,y,z", "10,0,0,0", "11,1,0,2"), clock_offset=-10)
    places, turns = track.at(np.array([[0.25, 1.0]]), lever_arm=(0, 0.1, 0))
    np.testing.assert_allclose(places, [[[0.25, 0.1, 0.5], [1, 0.1, 2]]])
    assert turns is None
    _, turns = track.at(np.array([0.5]), mount=turn(0, np.pi))
    np.testing.assert_allclose(turns, [np.diag([1, -1, -1])], atol=1e-12)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (("t,x,y,z", "0,0,0,0", "2,0,0,0", "1,0,0,0"), "line 4: timestamp 1 does not come after 2"),
        (("t,x,y,z", "0,0,0,0", "0,0,0,0"), "line 3: timestamp 0 does not come after 0.*repeated"),
        (("t,x,y,z", "0,0,0,0", ",0,0,0"), "line 3: timestamp is 'missing'"),
        (("t,x,y,z", "0,0,0,0", "1,0"), "line 3: y is 'missing'"),
        (("t,x,y,z", "0,0,nan,0", "1,0,0,0"), "line 2: y is 'nan'; expected a finite"),
        (("t,x,y,z", "0,0,lost,0", "1,0,0,0"), "line 2: y is 'lost'"),
        (("x,y,z", "0,0,0", "1,0,0"), "no column timestamp; .* and found x, y, z"),
        (("t,x,z", "0,0,0"), "no column y"),
        (("t,x,y,z,qx,qy,qz", "0,0,0,0,0,0,0"), "no column qw"),
        (
            ("t,x,y,z,qw,qx,qy,qz", "0,0,0,0,1,0,0,0", "1,0,0,0,1,1,0,0"),
            "line 3: the quaternion has length 1.414",
        ),
        (("0 1 2", "1 1 2"), "3 columns without names"),
        (("t,x,y,z", "0,0,0,0"), "1 poses; expected at least two"),
        (("",), "no rows"),
    ],
)
def test_tables_that_cannot_be(write, lines, error):
    with pytest.raises(DataError, match=error) as caught:
        read_track(write(*lines))
    assert "track.csv" in str(caught.value)


def test_other_files(tmp_path):
    with pytest.raises(DataError, match=r"absent.csv: no such file"):
        read_track(tmp_path / "absent.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\x00")
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_track(tmp_path / "b.csv")


def test_a_scan_that_is_not_covered():
    track = Track(np.arange(5.0), np.zeros((5, 3)), None, "track.csv")
    expected = "track.csv: poses run from 0.000000 to 4.000000 s and the scan from 3.000000 to 4.100000 s; .*--clock-"
    with pytest.raises(DataError, match=expected):
        track.at(np.array([3.0, 4.1]))
    with pytest.raises(DataError, match=r"from -0\.500000"):
        track.at(np.array([-0.5]))


def test_a_gap_in_the_track_matters_only_where_the_scan_is():
    times = np.array([0, 1, 2, 3, 30, 31.0])
    track = Track(times, np.stack([times, times, times], 1), None, "track.csv")
    assert track.at(np.array([0.5, 30.5]))[0].shape == (2, 3)
    with pytest.raises(
        DataError, match=r"no pose between 3.000000 and 30.000000 s, during the scan; .*--max-gap"
    ):
        track.at(np.array([0.5, 12.0]))
    assert track.at(np.array([12.0]), max_gap=30)[0][0, 0] == 12


@given(
    one=st.tuples(*[st.floats(-1, 1)] * 4), two=st.tuples(*[st.floats(-1, 1)] * 4), part=st.floats(0, 1),
    sign=st.sampled_from([-1.0, 1.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_interpolation_turns_evenly_along_the_shortest_arc(one, two, part, sign):
    one, two = np.array(one), np.array(two)
    if min(np.linalg.norm(one), np.linalg.norm(two)) < 0.1:
        return
    one, two = one / np.linalg.norm(one), two / np.linalg.norm(two)
    mixed = slerp(one, sign * two, np.array(part))
    assert np.linalg.norm(mixed) == pytest.approx(1)

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        return 2 * np.arccos(min(1.0, abs(float(a @ b))))

    assert angle(one, mixed) == pytest.approx(part * angle(one, two), abs=1e-6)
    assert angle(mixed, two) == pytest.approx((1 - part) * angle(one, two), abs=1e-6)


def test_matrices_follow_the_convention_of_scans():
    angles = np.array([0.3, -0.5, 1.1])
    product = np.eye(3)
    for axis in (2, 1, 0):
        product = product @ rotation(turn(axis, angles[axis]))
    np.testing.assert_allclose(product, euler(angles)[0], atol=1e-12)


def test_the_lever_arm_turns_with_the_body():
    track = Track(
        np.array([0.0, 1.0]), np.zeros((2, 3)), np.stack([turn(2, 0), turn(2, np.pi / 2)]), "track.csv"
    )
    places, turns = track.at(np.array([0.0, 0.5, 1.0]), lever_arm=(1, 0, 0), mount=turn(0, np.pi / 2))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(places, [[1, 0, 0], [half, half, 0], [0, 1, 0]], atol=1e-12)
    # The radar looks along its z, which the mount turns to the body's -y.
    np.testing.assert_allclose(turns[:, :, 2], [[0, -1, 0], [half, -half, 0], [1, 0, 0]], atol=1e-12)
    with pytest.raises(DataError, match=r"mount: the quaternion .* has length 2"):
        track.at(np.array([0.5]), mount=(2, 0, 0, 0))
    with pytest.raises(DataError, match=r"lever arm: .* expected 3 finite"):
        track.at(np.array([0.5]), lever_arm=(1, np.nan, 0))


@FUZZ
@given(
    data=st.binary(max_size=120)
    | st.text(alphabet="0123456789.,;-+einfat\n xyzq#\"'[]", max_size=160).map(str.encode),
    head=st.sampled_from([b"", b"t,x,y,z\n0,0,0,0\n", b"timestamp,x,y,z,qw,qx,qy,qz\n", b"# t x y z\n"]),
)
def test_random_tables_are_read_or_refused(tmp_path, head, data):
    (tmp_path / "track.csv").write_bytes(head + data)
    with recorded.refused_or_not():
        track = read_track(tmp_path / "track.csv")
        assert np.isfinite(track.positions).all()
        assert (np.diff(track.times) > 0).all()
