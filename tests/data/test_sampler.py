import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.sampler import EpochSampler, OrderedSampler, sample_seed
from saccade.errors import ConfigError

worlds = st.integers(1, 4)
counts = st.integers(1, 300)


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(1, 40), worlds, st.booleans(), st.integers(0, 3), st.integers(1, 3))
def test_every_process_has_as_many_steps_and_samples_are_shared(
    count, batch, world, drop_last, epoch, repeats
):
    ranks = [
        list(
            EpochSampler(
                count,
                seed=7,
                epoch=epoch,
                batch=batch,
                rank=rank,
                world=world,
                drop_last=drop_last,
                repeats=repeats,
            )
        )
        for rank in range(world)
    ]
    sampler = EpochSampler(count, batch=batch, world=world, drop_last=drop_last, repeats=repeats)
    assert {len(steps) for steps in ranks} == {sampler.steps}
    assert sampler.steps >= 1
    for step in range(sampler.steps):
        sizes = {len(steps[step]) for steps in ranks}
        assert len(sizes) == 1
        assert sizes == {batch} or (step == sampler.steps - 1 and (not drop_last or sampler.steps == 1))
    keys = [key for steps in ranks for keys in steps for key in keys]
    assert all(0 <= key.index < count for key in keys)
    # No two of them are augmented alike.
    assert len({key.seed for key in keys}) == len(keys)
    indices = [key.index for key in keys]
    if repeats == 1 and not drop_last:
        assert set(indices) == set(range(count))
        assert len(indices) - count < world
    if repeats == 1 and drop_last and count >= world * batch:
        assert len(set(indices)) == len(indices) > count - world * batch


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(1, 20), worlds, st.integers(1, 3), st.data())
def test_resuming_gives_the_rest(count, batch, world, repeats, data):
    options = {"seed": 3, "epoch": 2, "batch": batch, "world": world, "repeats": repeats, "rank": world - 1}
    whole = list(EpochSampler(count, **options))
    start = data.draw(st.integers(0, len(whole)))
    rest = EpochSampler(count, **options, start_step=start)
    assert list(rest) == whole[start:]
    assert len(rest) == len(whole) - start
    moved = EpochSampler(count, **options | {"epoch": 0})
    moved.set_epoch(2, start)
    assert list(moved) == whole[start:]


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 200), st.integers(1, 8), st.integers(2, 4), st.integers(1, 3))
def test_many_processes_see_what_one_sees(count, batch, world, repeats):
    one = list(EpochSampler(count, seed=1, batch=batch * world, repeats=repeats))
    many = [
        list(EpochSampler(count, seed=1, batch=batch, rank=rank, world=world, repeats=repeats))
        for rank in range(world)
    ]
    for step in range(min(len(one), len(many[0]))):
        if len(one[step]) == batch * world and len(many[0][step]) == batch:
            assert sorted(one[step]) == sorted(key for steps in many for key in steps[step])


def test_epochs_and_seeds_differ():
    def order(**options):
        return [key.index for keys in EpochSampler(50, batch=50, **options) for key in keys]

    assert order() == order()
    assert order() != order(epoch=1)
    assert order() != order(seed=1)
    assert sorted(order()) == list(range(50))
    assert order(shuffle=False) == list(range(50))
    assert order()[:5] == [18, 45, 32, 48, 10]  # the same on every machine and in every version


def test_repeated_augmentation_has_the_length_and_spread_of_deit():
    ranks = [
        [
            key
            for keys in EpochSampler(1000, batch=64, rank=rank, world=4, repeats=3, drop_last=False)
            for key in keys
        ]
        for rank in range(4)
    ]
    assert {len(keys) for keys in ranks} == {1000 // 256 * 256 // 4}
    first = [ranks[place % 4][place // 4].index for place in range(12)]
    assert first == [index for index in EpochSampler(1000).order()[:4].tolist() for _ in range(3)]
    distinct = {key.index for keys in ranks for key in keys}
    assert len(distinct) == 256


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100), st.integers(1, 20), worlds)
def test_ordered_gives_each_once(count, batch, world):
    batches = [list(OrderedSampler(count, batch=batch, rank=rank, world=world)) for rank in range(world)]
    assert sorted(index for some in batches for keys in some for index in keys) == list(range(count))
    for rank, some in enumerate(batches):
        assert len(OrderedSampler(count, batch=batch, rank=rank, world=world)) == len(some)
        assert list(OrderedSampler(count, batch=batch, rank=rank, world=world, start_batch=1)) == some[1:]


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 0},
        {"world": 0},
        {"rank": 1},
        {"repeats": 0},
        {"epoch": -1},
        {"start_step": -1},
        {"start_step": 99},
    ],
)
def test_bad_numbers(options):
    with pytest.raises(ConfigError):
        EpochSampler(10, **options)
    with pytest.raises(ConfigError):
        EpochSampler(0)
    with pytest.raises(ConfigError):
        OrderedSampler(10, batch=0)
    with pytest.raises(ConfigError):
        EpochSampler(10).set_epoch(0, 50)


def test_steps_are_of_one_group_as_far_as_possible():
    groups = np.array([0, 1, 1, 0, 1] * 20)
    sampler = EpochSampler(100, seed=3, batch=4, groups=groups)
    batches = [[key.index for key in keys] for keys in sampler]
    assert sorted(index for batch in batches for index in batch) == list(range(100))
    mixed = [len({int(groups[index]) for index in batch}) > 1 for batch in batches]
    assert sum(mixed) <= 1
    assert not all(groups[batch[0]] == 0 for batch in batches[:10])
    again = EpochSampler(100, seed=3, batch=4, groups=groups, start_step=7)
    assert [[key.index for key in keys] for keys in again] == batches[7:]
    other = EpochSampler(100, seed=3, epoch=1, batch=4, groups=groups)
    assert [[key.index for key in keys] for keys in other] != batches


def test_groups_over_processes():
    groups = np.array([0, 1] * 30)
    whole = [[key.index for key in keys] for keys in EpochSampler(60, batch=6, groups=groups)]
    parts = []
    for rank in (0, 1):
        sampler = EpochSampler(60, batch=3, rank=rank, world=2, groups=groups)
        parts.append([[key.index for key in keys] for keys in sampler])
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_the_order_is_the_same_on_every_machine_and_seed_is_not_epoch():
    orders = {
        (seed, epoch): EpochSampler(6, seed=seed, epoch=epoch).order().tolist()
        for seed, epoch in ((1, 0), (0, 1))
    }
    draws = {
        (seed, epoch): np.random.PCG64(sample_seed(seed, epoch, -1)).random_raw(6) for seed, epoch in orders
    }
    for which, order in orders.items():
        assert order == np.argsort(draws[which], kind="stable").tolist()
