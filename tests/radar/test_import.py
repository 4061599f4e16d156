"""Recorded data becomes a scan: capture, profile, track, array and calibration together, and the command."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.radar import recorded

from saccade.cli.main import main
from saccade.errors import ConfigError, DataError
from saccade.radar import Array, Grid, reconstruct, simulate
from saccade.radar.calibration import read_calibration
from saccade.radar.importing import import_scan, load_array, pick_antennas
from saccade.radar.profile import read_profile
from saccade.radar.scan import place
from saccade.rotations import rotation

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FRAMES, LOOPS, SAMPLES = 6, 2, 16
TARGET = np.array([[0.01, -0.005, 0.3]])


class Recording:
    """A radar that moved along x and turned a little, past one point; written as the capture card would."""

    def __init__(self, folder, *, layout="xwr16", order=(2, 0), rx_mask=15, swap=0, target=TARGET) -> None:
        self.folder = folder
        self.receivers = [bit for bit in range(4) if rx_mask >> bit & 1]
        separate = int(layout != "xwr14")
        (folder / "profile.cfg").write_text(
            recorded.cfg(
                samples=SAMPLES,
                order=order,
                rx_mask=rx_mask,
                loops=LOOPS,
                frames=FRAMES,
                swap=swap,
                separate=separate,
            )
        )
        self.profile = read_profile(folder / "profile.cfg")
        wave = self.profile.waveform
        array = Array.named("awr1x42", wave.wavelength)
        self.array = Array(array.tx, array.rx[self.receivers])
        self.times = self.profile.chirp_times(FRAMES)
        # Poses at exactly the times of the chirps: the track is the truth, whatever lies between.
        moments = np.unique(np.concatenate([self.times.reshape(-1), [0.0, FRAMES * 0.04]]))
        positions = np.stack([0.2 * moments - 0.02, 0 * moments, 0.003 * np.sin(20 * moments)], 1)
        angles = 0.05 * np.sin(9 * moments)
        quats = np.stack(
            [np.cos(angles / 2), np.sin(angles / 2) * 0.8, 0 * angles, np.sin(angles / 2) * 0.6], 1
        )
        rows = np.column_stack([moments + 100, positions, quats])
        self.track = folder / "track.csv"
        self.track.write_text(
            "time,x,y,z,qw,qx,qy,qz\n" + "\n".join(",".join(map(repr, row)) for row in rows.tolist())
        )
        samples, tx, rx = [], [], []
        for column, antenna in enumerate(self.array.tx):  # each transmitter from where the radar then was
            at = np.searchsorted(moments, self.times[:, column])
            one = Array(antenna[None], self.array.rx)
            scan = simulate(target, np.ones(1), wave, one, positions[at], rotation(quats[at]))
            samples.append(scan.samples)
            sides = place(one, positions[at], rotation(quats[at]))
            tx.append(sides[0])
            rx.append(sides[1])
        self.tx, self.rx = np.concatenate(tx, 1), np.concatenate(rx, 1)
        self.samples = np.round(3000 * np.concatenate(samples, 1)).astype(np.complex64)
        sent = self.samples.reshape(-1, 2, len(self.receivers), SAMPLES)[:, np.argsort(np.argsort(order))]
        self.chirps = sent.reshape(-1, len(self.receivers), SAMPLES)
        self.data = recorded.words(self.chirps, layout, receivers=self.receivers, swap=bool(swap))
        self.capture = folder / "capture.bin"
        self.capture.write_bytes(self.data)

    def load(self, source=None, poses=None, **options):
        options = {"array": self.array, "clock_offset": -100, "max_gap": 1, **options}
        return import_scan(
            source or self.capture, self.folder / "profile.cfg", poses or self.track, **options
        )


@pytest.fixture
def recording(tmp_path) -> Recording:
    return Recording(tmp_path)


@pytest.mark.parametrize(
    "how",
    [{"layout": "xwr14"}, {"layout": "xwr14", "rx_mask": 0b1010}, {"layout": "xwr16"},
     {"layout": "xwr16", "rx_mask": 0b0110}, {"layout": "xwr16", "order": (0, 2), "swap": 1}],
    ids=["four lanes", "two of four lanes", "two lanes", "two receivers", "Q first"],
)  # fmt: skip
def test_a_scan_comes_back_exactly(tmp_path, how):
    recording = Recording(tmp_path, **how)
    scan = recording.load()
    assert np.array_equal(scan.samples, recording.samples)
    np.testing.assert_allclose(scan.tx, recording.tx, atol=1e-9)
    np.testing.assert_allclose(scan.rx, recording.rx, atol=1e-9)
    assert scan.waveform == recording.profile.waveform
    assert scan.meta["notes"] == []
    assert (scan.path_loss, scan.meta["frames"], scan.meta["layout"]) == (True, FRAMES, how["layout"])


def test_other_layouts_are_asked_for(recording):
    for layout in ("iqiq", "iqiq-interleaved"):
        recording.capture.write_bytes(recorded.words(recording.chirps, layout))
        assert np.array_equal(recording.load(layout=layout).samples, recording.samples)


def test_real_samples_become_complex(tmp_path):
    recording = Recording(tmp_path, target=10 * TARGET)
    text = (
        (tmp_path / "profile.cfg")
        .read_text()
        .replace("adcCfg 2 1", "adcCfg 2 0")
        .replace("adcbufCfg -1 0", "adcbufCfg -1 1")
    )
    (tmp_path / "profile.cfg").write_text(text)
    recording.capture.write_bytes(recorded.words(recording.chirps, "xwr16", real=True))
    found = recording.load().samples
    np.testing.assert_allclose(found.real, recording.samples.real, atol=1e-2)
    inside = slice(4, 12)  # the ends of a chirp differ, as its beat has no whole turns
    np.testing.assert_allclose(found[..., inside], recording.samples[..., inside], atol=0.35 * 3000)
    correlation = np.vdot(found, recording.samples).real / np.vdot(recording.samples, recording.samples).real
    assert correlation > 0.9


def test_the_point_is_where_it_was(recording):
    axis = np.linspace(-0.02, 0.03, 51)
    image = np.abs(reconstruct(recording.load(), Grid.plane(axis, np.array([-0.005]), 0.3)).values)[:, 0]
    assert abs(axis[image.argmax()] - 0.01) < 1.5e-3
    assert (
        image.max() > 0.99 * 3000 * recording.samples.size * 0.3**2 * 0.98
    )  # all channels in step; weighed by R R


def test_the_lever_arm_moves_the_antennas(recording):
    moved = recording.load(lever_arm=(0.0, 0.0, 0.05))
    away = np.linalg.norm(moved.virtual - recording.load().virtual, axis=-1)
    np.testing.assert_allclose(away, 0.05, atol=1e-9)


@pytest.mark.parametrize("wrap", [recorded.with_length, bytes], ids=["with length", "udp"])
def test_lost_packets_are_zeros_and_said(recording, wrap):
    packets = recorded.datagrams(recording.data)
    lost = packets.pop(1)
    recording.capture.write_bytes(b"".join(map(wrap, packets)))
    scan = recording.load()
    start = int.from_bytes(lost[4:10], "little")
    data = bytearray(recording.data)
    data[start : start + 1456] = bytes(1456)
    recording.capture.write_bytes(data)
    assert np.array_equal(scan.samples, recording.load(packets="none").samples)
    loop = len(recording.data) // (FRAMES * LOOPS)
    hit = (start + 1455) // loop - start // loop + 1
    assert scan.meta["lost_bytes"] == 1456
    assert (
        scan.meta["notes"][0]
        == f"1456 bytes never arrived and are zeros, in {hit} of {FRAMES * LOOPS} loops of chirps"
    )


def test_part_of_a_capture(recording):
    recording.capture.write_bytes(recording.data[:-100])
    with pytest.raises(
        DataError, match=r"capture.bin: holds .*5 frames of 1024 bytes .*cut short .*--frames 5"
    ):
        recording.load()
    assert np.array_equal(recording.load(frames=5).samples, recording.samples[: 5 * LOOPS])


def test_swapped_parts_are_noticed(tmp_path):
    recording = Recording(tmp_path, target=10 * TARGET)  # 3 m away: almost four of the 16 range bins
    assert recording.load().meta["notes"] == []
    assert np.array_equal(recording.load(swap=True).samples, 1j * recording.samples.conj())
    assert "I and Q are swapped (--swap or --no-swap)" in recording.load(swap=True).meta["notes"][0]


def test_what_contradicts_is_refused(recording, tmp_path):
    with pytest.raises(
        DataError, match=r"track.csv: poses run from 100.0.* and the scan from 0.0.*--clock-offset"
    ):
        recording.load(clock_offset=0)
    with pytest.raises(DataError, match=r"holds no positions of the radar; .*--poses FILE"):
        import_scan(recording.capture, tmp_path / "profile.cfg", array=recording.array)
    with pytest.raises(DataError, match=r"array: 1 transmitters and the profile uses \[1, 3\] \(from 1\)"):
        recording.load(array="monostatic")
    with pytest.raises(ConfigError, match="a capture has no variables"):
        recording.load(variable="x")


# --- arrays and calibration ---


def test_arrays_from_files(tmp_path):
    path = tmp_path / "array.json"
    path.write_text('{"tx": [[0, 1, 0], [0, 2, 0], [0, 3, 0]], "rx": [[1, 0, 0]], "unit": "mm"}')
    array = load_array(path, 4e-3)
    np.testing.assert_allclose(array.tx[:, 1], [1e-3, 2e-3, 3e-3])
    (tmp_path / "profile.cfg").write_text(recorded.cfg(order=(2, 0), rx_mask=1))
    used = pick_antennas(array, read_profile(tmp_path / "profile.cfg"))
    np.testing.assert_allclose(used.tx[:, 1], [1e-3, 3e-3])  # transmitters 0 and 2 of three
    path.write_text('{"tx": [[0, 0.25, 0]], "rx": [[0, 0, 0]], "unit": "wavelength"}')
    assert load_array(path, 4e-3).tx[0, 1] == pytest.approx(1e-3)
    with pytest.raises(ConfigError, match="no array 'awr'"):
        load_array("awr", 4e-3)


@pytest.mark.parametrize(
    ("text", "error"),
    [("{", "not an array"), ("[]", "not an array"), ('{"tx": []}', "not an array"),
     ('{"tx": [[0,0]], "rx": [[0,0]]}', "not an array"),
     ('{"tx": [[0,0,0]], "rx": [[0,0,0]], "unit": "inch"}', "unit is 'inch'")],
)  # fmt: skip
def test_arrays_that_cannot_be(tmp_path, text, error):
    (tmp_path / "array.json").write_text(text)
    with pytest.raises(DataError, match=error):
        load_array(tmp_path / "array.json", 4e-3)


def test_calibration_takes_off_what_was_added(recording, tmp_path):
    random = np.random.default_rng(8)
    gains = random.uniform(0.5, 2, 8) * np.exp(1j * random.uniform(-3, 3, 8))
    offsets = random.uniform(0, 0.1, 8)
    k = recording.profile.waveform.wavenumbers
    chirps = recording.samples * gains[:, None] * np.exp(2j * (offsets[:, None] + 0.02) * k)
    channels = [(tx, rx) for tx in (0, 2) for rx in range(4)]
    rows = [
        {"tx": tx, "rx": rx, "real": gain.real, "imag": gain.imag, "range_offset_m": offset}
        for (tx, rx), gain, offset in zip(channels, gains, offsets, strict=True)
    ]
    (tmp_path / "c.json").write_text(json.dumps({"channels": rows, "range_offset_m": 0.02}))
    lines = ["# range_offset_m = 0.02", "rx,tx,magnitude,phase_deg,range_offset_m"]
    lines += [
        f"{rx},{tx},{abs(gain)},{np.rad2deg(np.angle(gain))},{offset}"
        for (tx, rx), gain, offset in zip(channels, gains, offsets, strict=True)
    ]
    (tmp_path / "c.csv").write_text("\n".join(lines))
    for name in ("c.json", "c.csv"):
        found = read_calibration(tmp_path / name).apply(chirps, channels, recording.profile.waveform)
        np.testing.assert_allclose(found, recording.samples, atol=1e-8 * 3000)
    scan = recording.load(calibration=tmp_path / "c.json")
    assert scan.samples.dtype == np.complex64
    assert scan.meta["calibration"] == "c.json"
    undone = scan.samples * gains[:, None] * np.exp(2j * (offsets[:, None] + 0.02) * k)
    np.testing.assert_allclose(undone, recording.samples, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("c.csv", "tx,rx,real,imag\n0,0,1,0\n", r"no entry for transmitter 0 and receiver 1"),
        ("c.csv", "tx,rx,real,imag\n0,0,0,0\n", r"line 2: the gain is 0"),
        ("c.csv", "tx,rx,real,imag\n0,0,1\n", r"line 2: 3 values for 4 columns"),
        ("c.csv", "tx,rx,real\n0,0,1\n", r"line 2: no field imag"),
        ("c.csv", "tx,rx,real,imag\n0,0,1,0\n0,0,1,0\n", r"line 3: transmitter 0 and receiver 0 a second time"),
        ("c.csv", "tx,rx,real,imag\n0,-1,1,0\n", r"line 2: rx is -1"),
        ("c.csv", "tx,rx,real,imaginary\n0,0,1,0\n", r"imaginary: not a field"),
        ("c.csv", "", r"no rows"),
        ("c.csv", "tx,rx,real,imag\n", r"no channels"),
        ("c.json", "{", r"not valid JSON"),
        ("c.json", "{}", r"no list `channels`"),
        ("c.json", '{"channels": [1]}', r"channels\[0\]: expected an object"),
        ("c.json", '{"channels": [{"tx": 0, "rx": 0, "real": "x", "imag": 0}]}', r"channels\[0\]: real is 'x'"),
        ("c.json", '{"channels": [], "offset": 1}', r"offset: not a field"),
        ("c.json", '{"channels": [{"tx": 0, "rx": 0, "real": 1, "imag": 0, "range_offset_m": 1e9}]}',
         r"offset of 1e\+09"),
    ],
)  # fmt: skip
def test_calibrations_that_cannot_be(recording, tmp_path, name, text, error):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=error):
        recording.load(calibration=tmp_path / name)


@FUZZ
@given(
    data=st.binary(max_size=80) | st.text(alphabet='txr,realimg0123-.#{}[]":\n', max_size=120).map(str.encode)
)
def test_random_calibrations_are_read_or_refused(tmp_path, data):
    for head in (b"", b"tx,rx,real,imag\n"):
        (tmp_path / "c").write_bytes(head + data)
        with recorded.refused_or_not():
            read_calibration(tmp_path / "c")


# --- MATLAB and HDF5 ---


def test_arrays_of_samples(recording, tmp_path):
    scipy_io, h5py = pytest.importorskip("scipy.io"), pytest.importorskip("h5py")
    cube = recording.samples.reshape(FRAMES, LOOPS, 2, 4, SAMPLES)
    content = {"echoes": cube.transpose(3, 2, 0, 1, 4), "n": 3.0}
    scipy_io.savemat(tmp_path / "a.mat", content)
    scan = recording.load(tmp_path / "a.mat", axes="rx,tx,frame,loop,sample")
    assert np.array_equal(scan.samples, recording.samples)
    np.testing.assert_allclose(scan.tx, recording.tx, atol=1e-9)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/echoes"], file["run/other"] = recording.samples, recording.samples
        file["tx"], file["rx"] = recording.tx, recording.rx.reshape(-1, 3)
    scan = import_scan(
        tmp_path / "a.h5", tmp_path / "profile.cfg", array=recording.array, variable="run.echoes"
    )
    assert np.array_equal(scan.samples, recording.samples)
    assert np.array_equal(scan.rx, recording.rx)
    assert np.array_equal(
        recording.load(tmp_path / "a.h5", variable="run.echoes", frames=2, poses=recording.track).samples,
        recording.samples[:4],
    )
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["echoes"], file["positions"] = recording.samples.real, np.arange(36.0).reshape(12, 3)
    scan = import_scan(tmp_path / "b.h5", tmp_path / "profile.cfg", array=recording.array, variable="echoes")
    np.testing.assert_allclose(scan.samples.real, recording.samples.real, atol=1e-2)
    tx, rx = place(recording.array, np.arange(36.0).reshape(12, 3))
    assert np.array_equal(scan.tx, tx)
    assert np.array_equal(scan.rx, rx)


def test_arrays_that_contradict(recording, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"], file["flat"] = recording.samples, recording.samples, recording.samples[:, :, 0]
        file["nan"] = recording.samples * np.nan
        file["tx"], file["rx"] = recording.tx[1:], recording.rx
    with pytest.raises(
        DataError, match=r"3 complex arrays have an axis of 16 samples: a, b, nan; .*--variable"
    ):
        recording.load(path)
    with pytest.raises(DataError, match=r"flat: axis sample has 8 entries .* and the profile says 16"):
        recording.load(path, variable="flat")
    with pytest.raises(
        DataError, match=r"flat: shape \(12, 8\) and axes pose,channel; expected a name for each axis"
    ):
        recording.load(path, variable="flat", axes="pose,channel")
    with pytest.raises(DataError, match="have no channels and the profile has 8"):
        recording.load(path, variable="a", axes="pose,x,sample")
    with pytest.raises(ConfigError, match="no axis 'poses'; did you mean 'pose'"):
        recording.load(path, variable="a", axes="poses,channel,sample")
    with pytest.raises(DataError, match=r"tx has shape \(11, 8, 3\); expected \(12, 8, 3\)"):
        import_scan(path, tmp_path / "profile.cfg", array=recording.array, variable="a")
    with pytest.raises(DataError, match="holds 12 poses; expected at least the 14"):
        recording.load(path, variable="a", frames=7)
    with h5py.File(path, "a") as file:
        del file["tx"]
    with pytest.raises(DataError, match=r"a.h5: samples hold NaN or infinite values, first at pose 0"):
        recording.load(path, variable="nan")


# --- the command ---


def test_the_command(recording, tmp_path, capsys):
    pytest.importorskip("h5py")
    from saccade.radar.files import read_scan

    out = tmp_path / "scan.h5"
    words = ["radar", "import", str(recording.capture), "--config", str(tmp_path / "profile.cfg"), "--poses",
             str(recording.track), "--clock-offset=-100", "--max-gap", "1", "--out", str(out)]  # fmt: skip
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    about = json.loads(said.out)
    assert (about["poses"], about["channels"], about["layout"]) == (12, 8, "xwr16")
    assert f"wrote {out}: 12 poses over" in said.err
    scan = read_scan(out)
    assert np.array_equal(scan.samples, recording.samples)
    assert scan.meta["source"] == ["capture.bin"]
    out.unlink()
    recording.capture.write_bytes(recording.data[:-2])
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"saccade: {recording.capture}: holds")
    assert said.err.count("\n") == 1
    assert not out.exists()
    assert main(["radar", "import", "--config", "p", "--out", "o"]) == 2
