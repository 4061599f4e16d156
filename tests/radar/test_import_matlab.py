"""MATLAB and HDF5 files: both versions give the same arrays; what is opaque is left out."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.radar import recorded

from saccade.errors import DataError
from saccade.radar.matlab import read_variables

scipy_io = pytest.importorskip("scipy.io")
h5py = pytest.importorskip("h5py")
# The same examples every time: about one damaged file in 20 000 ends the process inside the HDF5 library.
FUZZ = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
PAIR = np.dtype([("real", "<f4"), ("imag", "<f4")])


def matlab73(path, make) -> None:
    """Write HDF5 behind the header that MATLAB puts first."""
    with h5py.File(path, "w", userblock_size=512) as file:
        make(file)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    with path.open("r+b") as file:
        file.write(head)


def add(group, name: str, value: np.ndarray, kind: str = "single") -> None:
    """Write an array as MATLAB does: axes reversed, complex numbers as pairs."""
    stored = value.T
    if np.iscomplexobj(value):
        pairs = np.empty(stored.shape, PAIR)
        pairs["real"], pairs["imag"] = stored.real, stored.imag
        stored = pairs
    group.create_dataset(name, data=stored).attrs["MATLAB_class"] = np.bytes_(kind)


@pytest.fixture
def echoes() -> np.ndarray:
    return recorded.whole(np.random.default_rng(6), 2, 3, 4)


@pytest.mark.parametrize("compressed", [False, True])
def test_version_5(tmp_path, echoes, compressed):
    path = tmp_path / "a.mat"
    wave = {"f0": 77e9, "inner": {"Nk": np.int16(4)}}
    content = {
        "echoes": echoes,
        "wave": wave,
        "name": "text",
        "list": np.array([1, "b"], object),
        "on": np.array([True]),
    }
    scipy_io.savemat(path, content, do_compression=compressed)
    found = read_variables(path)
    assert found["echoes"].dtype == np.complex64
    assert np.array_equal(found["echoes"], echoes)
    assert found["wave.f0"] == 77e9
    assert found["wave.inner.Nk"] == 4
    assert found["on"].dtype == bool
    assert {"name", "list"} <= {*found.skipped}
    with pytest.raises(DataError, match="name is no numeric array; save it from MATLAB"):
        found["name"]
    with pytest.raises(DataError, match="no variable 'echos'; did you mean 'echoes'"):
        found["echos"]


def test_numbers_stored_in_fewer_bytes_in_either_byte_order(tmp_path):
    for order, mark in (("<", b"\x00\x01IM"), (">", b"\x01\x00MI")):

        def element(kind: int, data: bytes, order=order) -> bytes:
            return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)

        flags = element(6, struct.pack(order + "II", 6, 0))  # class double
        sizes = element(5, struct.pack(order + "ii", 2, 2))
        small = (
            struct.pack(order + "I", 4 << 16 | 2) + b"\x01\x02\x03\x04"
        )  # four bytes without sign inside the tag
        content = flags + sizes + element(1, b"x") + small
        (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + mark + element(14, content))
        found = read_variables(tmp_path / "a.mat")["x"]
        assert found.dtype == np.float64
        assert found.tolist() == [[1, 3], [2, 4]]  # column by column


def test_version_7_3_gives_the_same(tmp_path, echoes):
    def make(file) -> None:
        add(file, "echoes", echoes)
        wave = file.create_group("wave")
        wave.attrs["MATLAB_class"] = np.bytes_("struct")
        add(wave, "f0", np.array([[77e9]]), "double")
        add(wave.create_group("inner"), "Nk", np.array([[4.0]]), "double")
        add(file, "name", np.frombuffer("text".encode("utf-16-le"), np.uint16)[None], "char")
        opaque = file.create_dataset("string", data=np.array([[0xDD000000, 2, 1, 1, 1, 1]], np.uint32))
        opaque.attrs["MATLAB_class"], opaque.attrs["MATLAB_object_decode"] = np.bytes_("string"), np.int32(3)
        held = file.create_group("#refs#").create_dataset("a", data=np.zeros(3))
        cells = file.create_dataset("cells", data=np.array([[held.ref]], h5py.ref_dtype))
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
        empty = file.create_dataset("empty", data=np.array([0, 5], np.uint64))
        empty.attrs["MATLAB_class"], empty.attrs["MATLAB_empty"] = np.bytes_("double"), np.uint8(1)

    matlab73(tmp_path / "a.mat", make)
    found = read_variables(tmp_path / "a.mat")
    assert found["echoes"].dtype == np.complex64
    assert np.array_equal(found["echoes"], echoes)  # in the order of MATLAB's axes
    assert found["wave.f0"] == 77e9
    assert found["wave.inner.Nk"] == 4
    assert found["empty"].shape == (0, 5)
    assert sorted(found.skipped) == ["cells", "name", "string"]


def test_plain_hdf5_keeps_its_axes_and_leaves_links_alone(tmp_path, echoes):
    (tmp_path / "secret.bin").write_bytes(bytes(800))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["echoes"], file["raw/tx"] = echoes, np.zeros((2, 3))
        file["outside"] = h5py.ExternalLink("other.h5", "x")
        file["soft"] = h5py.SoftLink("/echoes")
        file.create_dataset("bytes", (100,), "f8", external=[(str(tmp_path / "secret.bin"), 0, 800)])
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3,))
        file.create_virtual_dataset("virtual", layout)
        file["words"] = "text"
        file["loop"] = file["raw"]  # a second name of a group
        file["raw/loop"] = file["raw"]  # and a circle
    found = read_variables(tmp_path / "a.h5")
    assert np.array_equal(found["echoes"], echoes)
    assert found["raw.tx"].shape == (2, 3)
    assert {"outside", "soft", "bytes", "virtual", "words"} <= {*found.skipped}


def test_sizes_are_bounded_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr("saccade.radar.matlab.MAX_BYTES", 1 << 20)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "bomb", (1 << 30,), "f8", chunks=(1 << 16,), compression="gzip"
        )  # 8 GB of nothing
    scipy_io.savemat(tmp_path / "a.mat", {"bomb": np.zeros(1 << 20)}, do_compression=True)
    for name in ("a.h5", "a.mat"):
        assert (tmp_path / name).stat().st_size < 1 << 20
        with pytest.raises(DataError, match=r"1 variables of .* expected at most"):
            read_variables(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", "not a MATLAB 5"), (b"x" * 200, "not a MATLAB 5"), (b"\x89HDF\r\n\x1a\n" + bytes(600), "damaged"),
     (b"MATLAB 5.0".ljust(124) + b"\x00\x01IM\x0e\x00\x00\x00\xff\x00\x00\x00", "claims 255 bytes and 0 are left")],
)  # fmt: skip
def test_other_files(tmp_path, data, error):
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(DataError, match=error):
        read_variables(tmp_path / "a.mat")
    with pytest.raises(DataError, match="no such file"):
        read_variables(tmp_path / "b.mat")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> list[bytes]:
    """Small whole files of three kinds."""
    folder = tmp_path_factory.mktemp("sound")
    content = {"a": np.arange(6.0).reshape(2, 3) * 1j, "s": {"b": np.arange(3), "t": "x"}, "c": np.eye(2)}
    scipy_io.savemat(folder / "5.mat", content)
    scipy_io.savemat(folder / "5c.mat", content, do_compression=True)

    def make(file) -> None:
        add(file, "a", (np.arange(6).reshape(2, 3) * 1j).astype(np.complex64))
        add(file.create_group("s"), "b", np.arange(3.0)[None], "double")

    matlab73(folder / "73.mat", make)
    return [(folder / name).read_bytes() for name in ("5.mat", "5c.mat", "73.mat")]


@FUZZ
@given(which=st.integers(0, 2), at=st.floats(0, 1), new=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_damaged_files_are_read_or_refused(tmp_path, sound, which, at, new, cut):
    data = bytearray(sound[which])
    place = int(at * (len(data) - 1))
    if cut:
        del data[place:]
    else:
        data[place : place + len(new)] = new
    (tmp_path / "a.mat").write_bytes(data)
    with recorded.refused_or_not():
        for value in read_variables(tmp_path / "a.mat").arrays.values():
            assert value.dtype.kind in "biufc"
