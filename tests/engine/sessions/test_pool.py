"""Samples through several equal networks: order, batches, unreadable pictures, threads, the fastest batch."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.data.dataset import ImageDataset
from saccade.data.preprocess import Preprocess
from saccade.data.source import FileSource
from saccade.engine.sessions.finite import REASON, FiniteOutputs
from saccade.engine.sessions.pool import Pool, best_batch
from saccade.engine.sessions.runner import Runner
from saccade.errors import ConfigError, ShapeError, WeightsError
from saccade.tasks import get_task
from saccade.weights import Card

PREPROCESS = Preprocess(size=16, crop_pct=1.0)
EXAMPLE = (torch.zeros(1, 3, 16, 24),)


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


def stream(source, networks, *, batch, workers=None, start=0):
    """Run functions as networks over a source."""
    card = Card("shvit_s1", num_classes=1, preprocess=PREPROCESS.to_dict())
    task = get_task("classify")

    def runner(net):
        return Runner(task, card, net, "torch", "float32", lambda: runner(net))

    number = len(networks) if workers is None else workers
    pool = Pool(task, [runner(net) for net in networks], number, "net.safetensors")
    return pool.run(ImageDataset(source, PREPROCESS), batch=batch, start=start)


@pytest.mark.parametrize(
    ("batch", "networks", "workers"), [(1, 3, None), (4, 1, 3), (3, 2, 2), (50, 2, None), (4, 1, 0)]
)
def test_every_picture_once_and_in_order(source, batch, networks, workers):
    seen, places, skipped = [], [], []
    for one, outputs in stream(source, [grey] * networks, batch=batch, workers=workers):
        assert one["first"] == len(places)
        places += range(one["first"], one["first"] + one["count"])
        if outputs is not None:
            seen += outputs[:, 0].int().tolist()
            assert one["label"].tolist() == one["index"].tolist()
        skipped += one["skipped"]
    assert seen == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [name for name, _ in skipped] == ["3.png", "10.png"]
    assert all("damaged" in reason or "header" in reason for _, reason in skipped)


def test_start_in_the_middle(source):
    first = [one["first"] for one, _ in stream(source, [grey], batch=4, start=5)]
    assert first == [5, 9]


def test_one_network_is_never_run_twice_at_once(source):
    busy = threading.Lock()

    def network(images):
        assert busy.acquire(blocking=False)
        try:
            return grey(images)
        finally:
            busy.release()

    assert len(list(stream(source, [network], batch=1, workers=4))) == 11


def test_threads_are_put_back_even_when_stopped(source):
    before = torch.get_num_threads()
    inside = []

    def network(images):
        inside.append(torch.get_num_threads())
        return grey(images)

    batches = stream(source, [network], batch=1)
    next(batches)
    batches.close()
    assert torch.get_num_threads() == before
    assert set(inside) == {1}
    assert not [t for t in threading.enumerate() if t.name.startswith("saccade_")]


def test_an_error_of_the_network_comes_out(source):
    def network(images):
        raise ShapeError("no")

    with pytest.raises(ShapeError, match="no"):
        list(stream(source, [network], batch=4))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 1, "workers": -1}])
def test_refuses(source, wrong):
    with pytest.raises(ConfigError, match="at least"):
        next(stream(source, [grey], **wrong))


@pytest.mark.parametrize("batch", [1, 4, 50])
def test_a_few_pictures_are_left_out_by_name_and_in_order(source, batch):
    def grey(images):
        level = (PREPROCESS.denormalise(images).float().mean((1, 2, 3)) / 20).round()[:, None]
        return torch.where((level == 2) | (level == 5), torch.nan, level)

    seen, skipped, places = [], [], []
    for one, outputs in stream(source, [grey], batch=batch):
        assert one["index"].tolist() == ([] if outputs is None else outputs.flatten().tolist())
        seen += one["index"].tolist()
        covered = range(one["first"], one["first"] + one["count"])
        places += sorted(set(covered) - set(one["index"].tolist()))
        skipped += one["skipped"]
    assert seen == [0, 1, 4, 6, 7, 8, 9]
    assert (
        [name for name, _ in skipped]
        == [f"{place}.png" for place in places]
        == ["2.png", "3.png", "5.png", "10.png"]
    )
    assert [reason == REASON for _, reason in skipped] == [True, False, True, False]


def test_nothing_but_such_outputs_is_an_error_though_noise_passes(source):
    def picky(images):
        return (
            images.mean((1, 2, 3))[:, None]
            + torch.where(images.std((1, 2, 3)) < 0.5, torch.inf, 0.0)[:, None]
        )

    with pytest.raises(WeightsError, match=r"net\.safetensors: the network's outputs are not finite"):
        list(stream(source, [picky], batch=4))


def test_outputs_of_a_task_without_an_example():
    """Nothing to try the network on: samples are left out until there is nothing else."""
    outputs = [{"losses": torch.tensor([0.5, value])} for value in (1.0, torch.nan, 2.0)]
    batch = {"index": torch.arange(3), "name": list("abc"), "skipped": []}
    kept, found = FiniteOutputs("net", list).keep(batch, outputs, 0)
    assert (kept["name"], kept["skipped"], len(found)) == (["a", "c"], [("b", REASON)], 2)
    with pytest.raises(WeightsError, match="not finite"):
        FiniteOutputs("net", list).keep(batch, [outputs[1]] * 3, 0)


def test_the_fastest_batch_of_several_inputs_where_the_network_is():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.seen = set()

        def forward(self, image, mark):
            self.seen.add((image.shape, mark.shape, mark.device))
            return {"out": image.mean() * self.scale}

    net = Two()
    assert best_batch(net, (torch.zeros(1, 3, 4, 8), torch.zeros(1, 5)), limit=1, patience_s=0.01) == 1
    assert net.seen == {((1, 3, 4, 8), (1, 5), torch.device("cpu"))}


def test_best_batch_finds_what_is_fast():
    def network(images):
        # A fixed price for each call and a higher one for each picture beyond eight.
        size = 6000 + 2000 * max(0, len(images) - 8) ** 2
        return torch.from_numpy(np.sort(np.arange(size * 20)[::-1])[:1])

    assert best_batch(network, EXAMPLE, patience_s=0.03) in (4, 8)
    assert best_batch(network, EXAMPLE, limit=1, patience_s=0.01) == 1


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

    assert best_batch(network, EXAMPLE, patience_s=0.06) == 4
    assert set(calls) == {1, 4, 8}
    # The least of several calls, of each size.
    assert min(calls.count(size) for size in (1, 4)) >= 3
