import random

import numpy as np
import pytest
import torch

from saccade.data import (
    AugmentConfig,
    EpochSampler,
    ImageDataset,
    OrderedSampler,
    Preprocess,
    build_augmentation,
    build_loader,
    collate,
    make_dataset,
    open_source,
    sample_seed,
)
from saccade.data.dataset import SampleKey, seeded
from saccade.data.loader import count_workers
from saccade.errors import ConfigError, DataError

from .pictures import encode, photo
from .test_sources import samples, write_tar

SMALL = Preprocess(24)
STRONG = AugmentConfig(
    scale=(0.2, 1.0),
    interpolation="random",
    rand_augment="rand-m9-mstd0.5-inc1",
    random_erasing=0.5,
    vflip=0.3,
)


def training(source, config=STRONG):
    return ImageDataset(source, SMALL, augment=build_augmentation(config, SMALL))


def digest(batches):
    return [
        (batch["name"], batch["label"].tolist(), batch["image"].double().sum().item()) for batch in batches
    ]


def test_samples_and_batches(photos):
    dataset = ImageDataset(open_source(str(photos)), SMALL)
    sample = dataset[12]
    assert sample["image"].shape == (3, 24, 24)
    assert (sample["label"], sample["index"], sample["name"], sample["skipped"]) == (
        1,
        12,
        "class10/2.jpg",
        [],
    )
    assert torch.equal(sample["image"], SMALL.fast(photos / "class10" / "2.jpg"))
    assert dataset[-1]["index"] == 15
    with pytest.raises(IndexError):
        dataset[16]
    batch = collate([dataset[0], dataset[12]])
    assert batch["image"].shape == (2, 3, 24, 24)
    assert batch["label"].tolist() == [0, 1]
    assert batch["label"].dtype == batch["index"].dtype == torch.int64
    assert batch["skipped"] == []


def test_augmentation_depends_on_the_key_alone(photos):
    dataset = training(open_source(str(photos)))
    keys = [SampleKey(index, sample_seed(5, 1, index, copy)) for index in (3, 9) for copy in (0, 1)]
    first = [dataset[key]["image"] for key in keys]
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    again = [dataset[key]["image"] for key in reversed(keys)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(dataset[4]["image"], dataset[4]["image"])


def test_global_generators_are_put_back():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    inside = draw_and_fail()
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    with seeded(7):
        assert (random.random(), np.random.rand(), torch.rand(1)) == inside


def draw_and_fail():
    """Draw inside a block that ends badly."""
    try:
        with seeded(7):
            drawn = random.random(), np.random.rand(), torch.rand(1)
            raise RuntimeError
    except RuntimeError:
        return drawn


def test_sample_seeds_differ_in_every_part():
    seeds = {
        sample_seed(*parts)
        for parts in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    }
    assert len(seeds) == 5
    assert sample_seed(0, 0, 0) == 5809880761037817570  # the same on every machine and in every version


@pytest.fixture
def damaged(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.jpg").write_bytes(encode(photo(30, 30, number)))
    (tmp_path / "a" / "1.jpg").write_bytes(encode(photo(30, 30, 1))[:300])
    (tmp_path / "a" / "2.jpg").write_text("not an image")
    return tmp_path


def test_broken_images_in_training_are_replaced(damaged):
    dataset = training(open_source(str(damaged)))
    sample = dataset[SampleKey(1, 11)]
    assert (sample["index"], sample["name"], sample["label"]) == (3, "a/3.jpg", 0)
    assert [name for name, _ in sample["skipped"]] == ["a/1.jpg", "a/2.jpg"]
    assert "truncated" in sample["skipped"][0][1]
    assert torch.equal(sample["image"], dataset[SampleKey(3, 11)]["image"])
    for path in damaged.rglob("*.jpg"):
        path.write_bytes(b"gone")
    with pytest.raises(DataError, match=r"8 samples in a row cannot be read.*saccade data check"):
        dataset[0]


def test_broken_images_in_evaluation_are_left_out(damaged):
    dataset = ImageDataset(open_source(str(damaged)), SMALL)
    batches = list(build_loader(dataset, OrderedSampler(8, batch=3), workers=0))
    assert [batch["index"].tolist() for batch in batches] == [[0], [3, 4, 5], [6, 7]]
    assert [name for name, _ in batches[0]["skipped"]] == ["a/1.jpg", "a/2.jpg"]
    nothing = collate([dataset[1], dataset[2]])
    assert nothing["image"].shape == (0, 3, 24, 24)
    assert nothing["label"].shape == (0,)


def test_large_images_count_as_broken(photos):
    dataset = ImageDataset(open_source(str(photos)), SMALL, max_pixels=100)
    assert "more than the 100 allowed" in dataset[0]["skipped"][0][1]


def test_workers_order_and_resume_do_not_matter(photos):
    dataset = training(open_source(str(photos)))

    def run(workers, **options):
        sampler = EpochSampler(16, seed=4, batch=4, **options)
        return digest(build_loader(dataset, sampler, workers=workers))

    whole = run(0, epoch=1)
    assert run(2, epoch=1) == whole
    assert run(1, epoch=1, start_step=2) == whole[2:]
    assert run(0, epoch=2) != whole


def test_workers_stay_for_the_next_epoch_and_global_state_does_not_move(photos):
    dataset = training(open_source(str(photos)))
    sampler = EpochSampler(16, batch=4)
    loader = build_loader(dataset, sampler, workers=1)
    state = torch.get_rng_state()
    assert len(loader) == 4
    first = digest(loader)
    pids = [worker.pid for worker in loader._iterator._workers]
    sampler.set_epoch(1, 1)
    second = digest(loader)
    assert [worker.pid for worker in loader._iterator._workers] == pids
    assert second == digest(
        build_loader(dataset, EpochSampler(16, batch=4, epoch=1, start_step=1), workers=0)
    )
    assert first != second
    assert torch.equal(state, torch.get_rng_state())


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert count_workers(-1) == 7
    assert count_workers(-1, batches=2) == 2
    assert count_workers(3) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert count_workers(-1) == 1
    with pytest.raises(ConfigError, match="workers"):
        count_workers(-2)


# Streams


@pytest.fixture
def stream(tmp_path):
    for shard in range(4):
        write_tar(tmp_path / f"s-{shard}.tar.gz", samples(shard * 5, 5))
    (tmp_path / "dataset.json").write_text(
        '{"classes": ["x", "y", "z"], "shards": {' + ", ".join(f'"s-{k}.tar.gz": 5' for k in range(4)) + "}}"
    )
    return open_source(str(tmp_path / "s-{0..3}.tar.gz"))


@pytest.mark.parametrize("workers", [0, 1])
def test_streams_train_and_resume(stream, workers):
    dataset = make_dataset(stream, SMALL, augment=build_augmentation(STRONG, SMALL))

    def run(**options):
        sampler = EpochSampler(len(dataset), seed=4, batch=4, **options)
        return digest(build_loader(dataset, sampler, workers=workers))

    whole = run(epoch=1)
    assert len(whole) == 5
    assert sorted(name for names, _, _ in whole for name in names) == [f"{n:05d}" for n in range(20)]
    assert run(epoch=1) == whole
    assert run(epoch=1, start_step=3) == whole[3:]
    assert run(epoch=2) != whole
    shares = [run(epoch=0, rank=rank, world=2) for rank in range(2)]
    assert [len(share) for share in shares] == [2, 2]
    names = [{name for names, _, _ in share for name in names} for share in shares]
    assert not names[0] & names[1]


@pytest.mark.parametrize("world", [1, 3, 5])
def test_streams_evaluate_each_once(stream, world):
    dataset = make_dataset(stream, SMALL)
    found = []
    for rank in range(world):
        for batch in build_loader(dataset, OrderedSampler(20, batch=3, rank=rank, world=world), workers=0):
            found += zip(batch["name"], batch["label"].tolist(), strict=True)
    assert sorted(found) == [(f"{n:05d}", n % 3) for n in range(20)]


def test_streams_survive_damage(tmp_path):
    write_tar(tmp_path / "a.tar.gz", [("0.jpg", b"bad"), ("0.cls", b"0"), *samples(1, 4)])
    (tmp_path / "b.tar.gz").write_bytes(b"no tar at all")
    (tmp_path / "dataset.json").write_text(
        '{"classes": ["x", "y", "z"], "shards": {"a.tar.gz": 5, "b.tar.gz": 5}}'
    )
    stream = open_source(str(tmp_path / "{a,b}.tar.gz"))
    batches = list(build_loader(make_dataset(stream, SMALL), OrderedSampler(10, batch=10), workers=0))
    assert len(batches[0]["name"]) == 4
    assert {name.rpartition("/")[2] for name, _ in batches[0]["skipped"]} == {"0", "b.tar.gz"}
    dataset = make_dataset(stream, SMALL, augment=build_augmentation(STRONG, SMALL))
    batches = list(build_loader(dataset, EpochSampler(10, batch=5), workers=0))
    assert [len(batch["name"]) for batch in batches] == [5, 5]
    assert any(name == "0" for batch in batches for name, _ in batch["skipped"])
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="no readable shard"):
        list(build_loader(dataset, EpochSampler(10, batch=5), workers=0))


def test_streams_are_refused_as_numbered_data(stream):
    with pytest.raises(ConfigError, match="make_dataset"):
        ImageDataset(stream, SMALL)
