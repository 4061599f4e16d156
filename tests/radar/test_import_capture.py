"""Captures: layouts, sign, frames, packets."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.radar import recorded

from saccade.errors import ConfigError, DataError
from saccade.radar.capture import Format, analytic, count_frames, decode, deinterleave, read_frames
from saccade.radar.packets import FORMATS, open_stream

LAYOUTS = ("xwr14", "xwr16", "iqiq", "iqiq-interleaved")
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("receivers", [(0, 1, 2, 3), (0, 2), (1,)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_back_exactly(layout, receivers, swap):
    form = Format(layout, 6, receivers, 4, swap=swap)
    chirps = recorded.whole(np.random.default_rng(1), 8, len(receivers), 6)
    data = recorded.words(chirps, layout, receivers=receivers, swap=swap)
    assert len(data) == 2 * form.frame_bytes
    found = decode(as_bytes(data), form)
    assert found.dtype == np.complex64
    assert np.array_equal(found, chirps)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_real_samples_are_read_back_exactly(layout):
    form = Format(layout, 5, (0, 3), 2, real=True)
    chirps = recorded.whole(np.random.default_rng(2), 4, 2, 5)
    found = decode(as_bytes(recorded.words(chirps, layout, receivers=(0, 3), real=True)), form)
    assert found.dtype == np.float32
    assert np.array_equal(found, chirps.real)


def test_the_words_of_texas_instruments_tables():
    # SWRA581: lanes I0 I1 I2 I3 Q0 Q1 Q2 Q3 on four lanes; I I Q Q on two.
    eight = as_bytes(struct.pack("<8h", *range(1, 9)))
    four = decode(eight, Format("xwr14", 1, (0, 1, 2, 3), 1))
    assert four[0, :, 0].tolist() == [1 + 5j, 2 + 6j, 3 + 7j, 4 + 8j]
    two = decode(eight, Format("xwr18", 2, (0, 1), 1))
    assert two[0].tolist() == [[1 + 3j, 2 + 4j], [5 + 7j, 6 + 8j]]


def test_pairs_run_on_where_a_chirp_is_odd():
    chirps = recorded.whole(np.random.default_rng(3), 2, 2, 3)
    assert np.array_equal(
        decode(as_bytes(recorded.words(chirps, "xwr16")), Format("xwr16", 3, (0, 1), 2)), chirps
    )
    with pytest.raises(ConfigError, match="in pairs and a frame has 3; expected an even"):
        Format("xwr16", 3, (0,), 1)


@pytest.mark.parametrize("bits", [12, 14])
def test_the_sign_of_narrow_converters_is_carried_up(bits):
    low = -(1 << (bits - 1))
    values = [0, 1, -1, low, -low - 1]
    cut = [value & ((1 << bits) - 1) for value in values]  # as a converter without sign extension writes them
    form = Format("iqiq", 5, (0,), 1, real=True, bits=bits)
    assert decode(as_bytes(struct.pack("<5h", *cut)), form)[0, 0].tolist() == values


def test_transmitters_are_sorted():
    chirps = np.arange(12).reshape(6, 1, 2)  # three loops of transmitters 2, 0
    assert deinterleave(chirps, (2, 0)).tolist() == [
        [[[2, 3]], [[0, 1]]], [[[6, 7]], [[4, 5]]], [[[10, 11]], [[8, 9]]],
    ]  # fmt: skip
    assert deinterleave(np.arange(3).reshape(3, 1, 1), (1, 2, 0)).reshape(-1).tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="6 chirps; expected whole loops of 4"):
        deinterleave(chirps, (0, 1, 2, 3))


def test_real_tones_become_complex_ones():
    n = np.arange(16)
    tone = np.exp(2j * np.pi * 3 * n / 16 + 0.7j)
    np.testing.assert_allclose(analytic(tone.real), tone, atol=1e-6)
    np.testing.assert_allclose(
        analytic(tone.real[:15]).real, tone.real[:15], atol=1e-6
    )  # odd, and the real part stays


def test_frames_are_counted_and_contradictions_named(tmp_path):
    form = Format("xwr16", 8, (0, 1), 3)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(5 * form.frame_bytes))
    stream = open_stream(path, "none")
    assert count_frames(stream, form) == 5 == count_frames(stream, form, declared=5)
    assert count_frames(stream, form, declared=9, wanted=2) == 2
    with pytest.raises(
        DataError, match=r"a.bin: holds 5 frames of 192 bytes .*profile asks for 7.*--frames 5"
    ):
        count_frames(stream, form, declared=7)
    with pytest.raises(DataError, match=r"5 whole frames of 192 bytes; expected at least the 6"):
        count_frames(stream, form, wanted=6)
    path.write_bytes(bytes(5 * form.frame_bytes - 4))
    with pytest.raises(DataError, match=r"4 frames of 192 .* and 188 bytes over.*cut short.*--frames 4"):
        count_frames(open_stream(path), form)
    path.write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"check the profile and --layout$"):
        count_frames(open_stream(path), form)


def test_large_captures_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("saccade.radar.capture.PIECE", 1000)
    form = Format("iqiq", 8, (0, 1), 2)
    chirps = recorded.whole(np.random.default_rng(4), 30, 2, 8)
    data = recorded.words(chirps, "iqiq")
    parts = [tmp_path / "a_0.bin", tmp_path / "a_1.bin"]
    parts[0].write_bytes(data[:777])  # recorders split anywhere
    parts[1].write_bytes(data[777:])
    pieces = list(read_frames(open_stream(parts), form, 15))
    assert len(pieces) == 3
    assert np.array_equal(np.concatenate(pieces), chirps)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"layout": "xwr15"}, "no capture layout 'xwr15'; did you mean"),
        ({"bits": 10}, "bits is 10"),
        ({"samples": 0}, "at least one of each"),
        ({"receivers": (0, 0)}, "different numbers"),
        ({"layout": "xwr14", "receivers": (4,)}, "no receiver 4"),
    ],
)
def test_formats_that_cannot_be(options, error):
    with pytest.raises(ConfigError, match=error):
        Format(**{"layout": "iqiq", "samples": 4, "receivers": (0,), "chirps": 1, **options})


# --- packets ---


@pytest.fixture
def payload() -> bytes:
    return np.random.default_rng(5).integers(0, 256, 10_000, dtype=np.uint8).tobytes()


def write(path, packets: list[bytes], form: str):
    data = recorded.pcap(packets) if form == "pcap" else b"".join(packets)
    path.write_bytes(b"".join(map(recorded.with_length, packets)) if form == "udp-length" else data)
    return path


@pytest.mark.parametrize("form", FORMATS[2:])
def test_packets_are_recognised_and_unwrapped(tmp_path, payload, form):
    stream = open_stream(write(tmp_path / "a.bin", recorded.datagrams(payload), form))
    assert (stream.packets, stream.size, stream.lost) == (7, 10_000, 0)
    assert stream.read(0, 10_000).tobytes() == payload
    assert stream.read(1400, 1500).tobytes() == payload[1400:1500]


@pytest.mark.parametrize("form", FORMATS[2:])
def test_lost_packets_are_zeros_and_reported(tmp_path, payload, form):
    packets = recorded.datagrams(payload)
    del packets[3:5]
    packets[1], packets[2] = packets[2], packets[1]  # one overtook another
    packets.insert(2, packets[0])  # and one came twice
    stream = open_stream(write(tmp_path / "a.bin", packets, form), form)
    assert stream.gaps() == [(3 * 1456, 5 * 1456)]
    assert stream.lost == 2 * 1456
    expected = payload[: 3 * 1456] + bytes(2 * 1456) + payload[5 * 1456 :]
    assert stream.read(0, stream.size).tobytes() == expected


def test_a_lost_first_packet_keeps_the_frames_in_place(tmp_path, payload):
    stream = open_stream(write(tmp_path / "a.bin", recorded.datagrams(payload)[1:], "udp"))
    assert stream.read(0, 10_000).tobytes() == bytes(1456) + payload[1456:]


def test_packets_in_two_files(tmp_path, payload):
    packets = recorded.datagrams(payload)
    parts = [
        write(tmp_path / "0.bin", packets[:4], "udp"),
        write(tmp_path / "1.bin", packets[4:], "udp"),
    ]
    assert open_stream(parts).read(0, 10_000).tobytes() == payload


def test_other_traffic_and_byte_order_of_a_network_recording(tmp_path, payload):
    payload = payload[: 6 * 1456 + 4]  # the last frame is so short that Ethernet pads it
    mixed = recorded.pcap(recorded.datagrams(payload), order=">")
    mixed += recorded.pcap([b"else" * 40], port=53, order=">")[24:]
    (tmp_path / "a.pcap").write_bytes(mixed)
    stream = open_stream(tmp_path / "a.pcap")
    assert stream.read(0, stream.size).tobytes() == payload


@pytest.mark.parametrize(
    ("data", "packets", "error"),
    [
        (b"", "auto", "the file is empty"),
        (recorded.datagrams(bytes(3000))[0] + b"12345", "udp", "cut after 5 bytes"),
        (b"".join(recorded.datagrams(bytes(9000))[i] for i in (0, 6)), "udp", "7280 of 9000 bytes never arrived"),
        (b"".join([recorded.datagrams(bytes(3000))[0]] * 1) + struct.pack("<IHI", 2, 9, 0) + b"12", "udp",
         "number 2 says that 9 bytes came before it"),
        (bytes(40), "udp-length", "says it holds 0 bytes"),
        (bytes(40), "pcap", "not a pcap file"),
        (b"\x0a\x0d\x0d\x0a" + bytes(40), "auto", "editcap"),
        (recorded.pcap([bytes(30)], port=53), "pcap", "no UDP packet to port 4098"),
        (recorded.pcap(recorded.datagrams(bytes(3000)))[:-9], "pcap", "without a snapshot length"),
        (recorded.pcap([])[:20] + struct.pack("<I", 105), "pcap", "link type 105"),
    ],
)  # fmt: skip
def test_captures_that_cannot_be_read(tmp_path, data, packets, error):
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(DataError, match=error):
        open_stream(tmp_path / "a.bin", packets)


def test_names_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match=r"nothing.bin: no such file"):
        open_stream(tmp_path / "nothing.bin")
    with pytest.raises(ConfigError, match="no packet format 'upd'; did you mean 'udp'"):
        open_stream(tmp_path / "a.bin", "upd")


@FUZZ
@given(
    head=st.sampled_from([b"", recorded.pcap([]), *recorded.datagrams(bytes(20))]),
    data=st.binary(max_size=3100),
    packets=st.sampled_from(FORMATS),
    layout=st.sampled_from(LAYOUTS),
)
def test_random_bytes_are_read_or_refused(tmp_path, head, data, packets, layout):
    (tmp_path / "a.bin").write_bytes(head + data)
    form = Format(layout, 4, (0, 1), 2)
    with recorded.refused_or_not():
        stream = open_stream(tmp_path / "a.bin", packets)
        frames = count_frames(stream, form)
        found = np.concatenate(list(read_frames(stream, form, frames)))
        assert found.shape == (frames * 2, 2, 4)
        assert np.isfinite(found).all()
