"""Profiles: the three kinds of file say the same, and contradictions are named."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.radar import recorded

from saccade.errors import DataError
from saccade.radar.profile import read_profile

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def write(tmp_path):
    def function(text, name="profile.cfg"):
        (tmp_path / name).write_text(text if isinstance(text, str) else json.dumps(text))
        return tmp_path / name

    return function


PLAIN = {
    "start_hz": 77.36e9, "slope_hz_per_s": 60e12, "sample_rate_hz": 5e6, "num_samples": 16, "frame_period_s": 0.04,
    "tx_order": [0, 2], "rx": [0, 1, 2, 3], "loops": 3, "frames": 4, "chirp_period_s": 67e-6, "layout": "xwr16",
}  # fmt: skip


def test_commands_say_what_they_say(write):
    found = read_profile(write(recorded.cfg()))
    wave = found.waveform
    assert wave.start_hz == pytest.approx(77e9 + 60e12 * 6e-6)  # the first sample comes 6 us into the ramp
    assert (wave.slope, wave.sample_rate, wave.num_samples, wave.centre_hz) == (60e12, 5e6, 16, 79e9)
    assert (found.tx_order, found.rx, found.loops, found.frames) == ((0, 2), (0, 1, 2, 3), 3, 4)
    assert found.frame_period == pytest.approx(0.04)
    assert found.loop_period == pytest.approx(134e-6)
    np.testing.assert_allclose(found.chirp_starts, (13e-6, 80e-6))
    assert (found.layout, found.real, found.swap, found.bits) == ("xwr16", False, False, 16)


def test_mmwave_studio_says_the_same(write):
    text = read_profile(write(recorded.cfg(order=(2, 0, 1), rx_mask=5, swap=1, separate=0)))
    json_ = read_profile(
        write(recorded.studio(order=(2, 0, 1), rx_mask="0x5", swap=1, separate=0), "p.mmwave.json")
    )
    assert text == json_
    assert (text.layout, text.swap, text.rx, text.transmitters) == ("xwr14", True, (0, 2), (0, 1, 2))


def test_our_own_json_gives_the_same_times(write):
    text, own = read_profile(write(recorded.cfg())), read_profile(write(PLAIN, "own.json"))
    assert (own.waveform, own.tx_order, own.rx, own.loops, own.layout) == (
        text.waveform, text.tx_order, text.rx, 3, "xwr16",
    )  # fmt: skip
    # Ours counts from the first sample, TI's from the start of the frame.
    np.testing.assert_allclose(own.chirp_times(4), text.chirp_times(4) - 13e-6, atol=1e-12)


def test_chirp_times_count_up_in_the_order_of_sending(write):
    found = read_profile(write(recorded.cfg(order=(2, 0))))
    times = found.chirp_times(2)
    assert times.shape == (6, 2)
    middle = 13e-6 + 16 / 5e6 / 2
    assert times[0, 1] == pytest.approx(middle)  # transmitter 2 first
    assert times[0, 0] == pytest.approx(middle + 67e-6)
    assert times[4, 1] == pytest.approx(0.04 + 134e-6 + middle)


def test_a_chirp_may_idle_longer(write):
    usual = read_profile(write(recorded.cfg()))
    found = read_profile(write(recorded.cfg().replace("chirpCfg 0 0 0 0 0 0", "chirpCfg 0 0 0 0 0 5")))
    np.testing.assert_allclose(np.subtract(found.chirp_starts, usual.chirp_starts), [5e-6, 5e-6], atol=1e-12)
    assert found.loop_period - usual.loop_period == pytest.approx(5e-6)


def test_a_turn_repeated_in_a_loop_is_several_loops(write):
    once = read_profile(write(recorded.cfg(order=(0, 2), loops=3)))
    twice = read_profile(write(recorded.cfg(order=(0, 2, 0, 2, 0, 2), loops=1)))
    assert (twice.loops, twice.tx_order) == (once.loops, once.tx_order)
    np.testing.assert_allclose(twice.chirp_times(3), once.chirp_times(3), atol=1e-12)
    text = (
        recorded.cfg(order=(1,), frames=1)
        .replace("chirpCfg 0 0", "chirpCfg 0 511")
        .replace("frameCfg 0 0", "frameCfg 0 511")
    )
    assert read_profile(write(text)).loops == 3 * 512


def test_releases_write_commands_differently(write):
    usual = read_profile(write(recorded.cfg(swap=1)))
    text = recorded.cfg(swap=1).replace("adcbufCfg -1 ", "adcbufCfg ")  # before there were subframes
    text = text.replace("frameCfg 0 1 3 4 40", "frameCfg 0 1 3 4 16 40")  # with the number of samples
    assert read_profile(write(text)) == usual
    real = read_profile(write(recorded.cfg(kind=0)))
    assert real.real
    late = recorded.cfg().replace("profileCfg 0 77", "profileCfg 0 60.5")
    assert read_profile(write(late)).waveform.centre_hz == 62e9


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("profileCfg 0 77 7", "profileCfg 0 77", r"line 9 \(profileCfg\): 13 numbers|numbers"),
        ("profileCfg", "profilCfg", "no profileCfg line"),
        ("frameCfg", "advFrameCfg", "frames of several kinds"),
        ("lvdsStreamCfg -1 0", "lvdsStreamCfg -1 1", "record with lvdsStreamCfg -1 0 1 0"),
        ("lvdsStreamCfg -1 0 1", "lvdsStreamCfg -1 0 4", "chirp parameters"),
        ("frameCfg 0 1", "frameCfg 0 2", "chirp 2, which has no settings"),
        ("frameCfg 0 1", "frameCfg 1 0", "runs over chirps 1 .. 0"),
        ("frameCfg 0 1 3", "frameCfg 0 1 0", "0 loops"),
        ("chirpCfg 1 1 0", "chirpCfg 1 1 3", "profile 3, which is not there"),
        ("chirpCfg 1 1 0 0 0 0 0 4", "chirpCfg 1 1 0 0 0 0 0 5", "transmitter mask 0x5; expected one"),
        ("chirpCfg 1 1 0 0", "chirpCfg 1 1 0 5", "variation of start is 5"),
        ("chirpCfg 1 1 0 0", "chirpCfg 1 900 0 0", "chirps 1 .. 900"),
        ("1 16 5000", "1 400 5000", "end at 86 us and the ramp at 60 us"),
        ("1 16 5000", "1 16 0", "16 samples at 0 ksps"),
        ("1 16 5000", "1 1.5 5000", "1.5 where a whole number belongs"),
        ("77 7 6", "77 x 6", "'x' is no number"),
        ("77 7 6", "nan 7 6", "'nan' is out of range"),
        ("77 7 6", "77 -7 6", "negative time"),
        ("channelCfg 15", "channelCfg 0", "no channelCfg line"),
        ("channelCfg 15", "channelCfg -1", "receiver mask is -0x1"),
        ("adcCfg 2", "adcCfg 7", "converter settings 7"),
        ("3 4 40 1", "3 4 0.3 1", "chirps last 0.402 ms and its period is 0.3"),
    ],
)
def test_commands_that_cannot_be(write, old, new, error):
    text = recorded.cfg()
    assert old in text
    with pytest.raises(DataError, match=error) as caught:
        read_profile(write(text.replace(old, new)))
    assert "profile.cfg" in str(caught.value)


def change(value, path, new):
    """Return a copy with one leaf replaced, or removed when new is None."""
    copy = json.loads(json.dumps(value))
    at = copy
    for key in path[:-1]:
        at = at[key]
    if new is None:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return copy


RF = ("mmWaveDevices", 0, "rfConfig")
PROFILE = (*RF, "rlProfiles", 0, "rlProfileCfg_t")


@pytest.mark.parametrize(
    ("path", "new", "error"),
    [
        (
            (*PROFILE, "startFreqConst_GHz"),
            None,
            r"rlProfiles\[0\].rlProfileCfg_t: no field startFreqConst_GHz",
        ),
        ((*PROFILE, "numAdcSamples"), "many", "numAdcSamples: 'many' is no number"),
        ((*PROFILE, "numAdcSamples"), 1e300, "numAdcSamples: out of range"),
        ((*PROFILE, "digOutSampleRate"), True, "digOutSampleRate: 'True' is no number"),
        ((*RF, "rlChirps"), {}, "rlChirps: expected a list"),
        ((*RF, "rlChirps", 1, "rlChirpCfg_t", "txEnable"), "0x3", "transmitter mask 0x3"),
        ((*RF, "waveformType"), "advancedFrameChirp", "expected legacyFrameChirp"),
        ((*RF, "rlFrameCfg_t", "numLoops"), None, "no field numLoops"),
        (
            ("mmWaveDevices", 0, "rawDataCaptureConfig", "rlDevDataPathCfg_t", "transferFmtPkt0"),
            "0x36",
            "packets of formats 0x36 and 0x0; expected 0x1",
        ),
        (("mmWaveDevices",), [], "0 devices; expected one"),
        (("mmWaveDevices",), [{}, {}], "2 devices; expected one, because cascades"),
    ],
)
def test_studio_files_that_cannot_be(write, path, new, error):
    with pytest.raises(DataError, match=error):
        read_profile(write(change(recorded.studio(), path, new), "p.json"))


@pytest.mark.parametrize(
    ("key", "new", "error"),
    [
        ("start_hz", None, "no field start_hz"),
        ("start_hz", -1.0, "start_hz is -1 but should be above 0"),
        ("num_samples", 1 << 20, "num_samples is 1048576"),
        ("tx_order", [0, 0], r"tx_order is \(0, 0\)"),
        ("rx", [], "rx is"),
        ("loops", 0, "0 loops"),
        ("bits", 8, "bits is 8"),
        ("real", "no", "real is 'no'; expected true or false"),
        ("layout", 3, "layout is '3'; expected a name"),
        ("frame_period_s", -1, "expected 0 or more and less than"),
        ("sample_rate", 1, "not a field of a profile; did you mean 'sample_rate_hz'"),
    ],
)
def test_own_files_that_cannot_be(write, key, new, error):
    with pytest.raises(DataError, match=error):
        read_profile(write(change(PLAIN, (key,), new), "own.json"))


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"\xff\xfe\x00", "not UTF-8 text"), (b"{", "not valid JSON"), (b"[" * 100_000, "nested"),
     (b"[1]", "a list"),
     (b"", "no profileCfg line")],
)  # fmt: skip
def test_other_files(tmp_path, data, error):
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(DataError, match=error):
        read_profile(tmp_path / "p")
    with pytest.raises(DataError, match="no such file"):
        read_profile(tmp_path / "absent.cfg")


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just({}), st.just([])
)
KEYS = sorted(
    {
        (*PROFILE, key)
        for key in recorded.studio()["mmWaveDevices"][0]["rfConfig"]["rlProfiles"][0]["rlProfileCfg_t"]
    }
    | {(*RF, key) for key in recorded.studio()["mmWaveDevices"][0]["rfConfig"]}
    | {
        (*RF, "rlFrameCfg_t", key)
        for key in recorded.studio()["mmWaveDevices"][0]["rfConfig"]["rlFrameCfg_t"]
    },
    key=str,
)


@FUZZ
@given(path=st.sampled_from(KEYS), new=LEAVES)
def test_damaged_studio_files_are_read_or_refused(write, path, new):
    with recorded.refused_or_not():
        found = read_profile(write(change(recorded.studio(), path, new), "p.json"))
        assert np.isfinite(found.chirp_times(2)).all()


@FUZZ
@given(key=st.sampled_from(sorted(PLAIN)), new=LEAVES)
def test_damaged_own_files_are_read_or_refused(write, key, new):
    with recorded.refused_or_not():
        assert np.isfinite(read_profile(write(change(PLAIN, (key,), new), "p.json")).chirp_times(2)).all()


NUMBER = st.one_of(
    st.integers(-5, 600),
    st.floats(),
    st.sampled_from(["0x7", "x", "", "%", "1e400", "0xffffffffffffffffffffff"]),
)


@FUZZ
@given(line=st.integers(4, 12), words=st.lists(NUMBER, max_size=16), data=st.binary(max_size=40))
def test_damaged_commands_are_read_or_refused(tmp_path, line, words, data):
    lines = recorded.cfg().splitlines()
    head = lines[line].split()[0]
    lines[line] = " ".join(map(str, [head, *words]))
    (tmp_path / "p.cfg").write_bytes("\n".join(lines).encode() + b"\n" + data)
    with recorded.refused_or_not():
        assert np.isfinite(read_profile(tmp_path / "p.cfg").chirp_times(2)).all()
