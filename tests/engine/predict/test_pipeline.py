"""The pipeline: order, batches, unreadable pictures, threads."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.data.preprocess import Preprocess
from saccade.data.source import FileSource
from saccade.engine.predict.pipeline import best_batch, read_batch, run_pipeline
from saccade.errors import ConfigError, ShapeError

PREPROCESS = Preprocess(size=16, crop_pct=1.0)


@pytest.fixture
def source(tmp_path: Path):
    """Eleven pictures of rising grey; numbers 3 and 10 are damaged."""
    files = []
    for i in range(11):
        files.append(f"{i}.png")
        Image.new("RGB", (20, 24), (20 * i,) * 3).save(tmp_path / files[-1])
    for i in (3, 10):
        (tmp_path / files[i]).write_bytes(b"\x89PNG unreadable")
    return FileSource(tmp_path, files, list(range(11)), [])


def grey(images: torch.Tensor) -> torch.Tensor:
    """A network: the grey level of the picture."""
    return (PREPROCESS.denormalise(images).float().mean((1, 2, 3)) / 20).round()[:, None]


@pytest.mark.parametrize(
    ("batch", "networks", "workers"), [(1, 3, None), (4, 1, 3), (3, 2, 2), (50, 2, None)]
)
def test_every_picture_once_and_in_order(source, batch, networks, workers):
    seen, places, skipped = [], [], []
    for one, outputs in run_pipeline(source, PREPROCESS, [grey] * networks, batch=batch, workers=workers):
        assert one["first"] == len(places)
        places += range(one["first"], one["first"] + one["count"])
        seen += outputs[:, 0].int().tolist() if one["name"] else []
        assert one["label"].tolist() == one["index"].tolist()
        skipped += one["skipped"]
    assert seen == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [name for name, _ in skipped] == ["3.png", "10.png"]
    assert all("damaged" in reason or "header" in reason for _, reason in skipped)


def test_start_in_the_middle(source):
    first = [one["first"] for one, _ in run_pipeline(source, PREPROCESS, [grey], batch=4, start=5)]
    assert first == [5, 9]


def test_one_network_is_never_run_twice_at_once(source):
    busy = threading.Lock()

    def network(images):
        assert busy.acquire(blocking=False)
        try:
            return grey(images)
        finally:
            busy.release()

    assert len(list(run_pipeline(source, PREPROCESS, [network], batch=1, workers=4))) == 11


def test_threads_are_put_back_even_when_stopped(source):
    before = torch.get_num_threads()
    inside = []

    def network(images):
        inside.append(torch.get_num_threads())
        return grey(images)

    stream = run_pipeline(source, PREPROCESS, [network], batch=1)
    next(stream)
    stream.close()
    assert torch.get_num_threads() == before
    assert set(inside) == {1}
    assert not [t for t in threading.enumerate() if t.name.startswith("saccade-predict")]


def test_an_error_of_the_network_comes_out(source):
    def network(images):
        raise ShapeError("no")

    with pytest.raises(ShapeError, match="no"):
        list(run_pipeline(source, PREPROCESS, [network], batch=4))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 1, "workers": 0}, {"batch": 1, "networks": []}])
def test_refuses(source, wrong):
    networks = wrong.pop("networks", [grey])
    with pytest.raises(ConfigError, match="at least 1"):
        next(run_pipeline(source, PREPROCESS, networks, **wrong))


def test_read_batch_equals_the_transform_one_by_one(source):
    batch = read_batch(source, PREPROCESS, range(0, 3))
    want = torch.stack([PREPROCESS.fast(source.read(i)) for i in range(3)])
    assert torch.equal(batch["image"], want)
    assert batch["index"].dtype == torch.int64


def test_best_batch_finds_what_is_fast():
    def network(images):
        # A fixed price for each call and a higher one for each picture beyond eight.
        size = 6000 + 2000 * max(0, len(images) - 8) ** 2
        return torch.from_numpy(np.sort(np.arange(size * 20)[::-1])[:1])

    assert best_batch(network, PREPROCESS, patience_s=0.03) in (4, 8)
    assert best_batch(network, PREPROCESS, limit=1, patience_s=0.01) == 1


def test_work_done_elsewhere_is_timed_by_the_wall():
    """A network that waits (for an accelerator, another process) costs this process nothing, and yet takes time."""
    calls = []

    def network(images):
        count = len(images)
        first = count not in calls
        calls.append(count)
        # Four at a time are best. The first call of a size is slow and must not count.
        time.sleep((4 + count if count <= 4 else 5 * count) / 500 + 0.05 * first)
        return images[:, 0, 0, :1]

    assert best_batch(network, PREPROCESS, patience_s=0.06) == 4
    assert set(calls) == {1, 4, 8}
    # The least of several calls, of each size.
    assert min(calls.count(size) for size in (1, 4)) >= 3
