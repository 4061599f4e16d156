"""The learning rate against independent formulas, among them timm's own scheduler."""

import math

import pytest
import torch
from timm.scheduler import CosineLRScheduler

from saccade.engine.train.recipe import ScheduleConfig, build_recipe
from saccade.engine.train.schedule import make_schedule, peak_lr
from saccade.errors import ConfigError


def timm_rates(epochs, **options):
    """Learning rates by time from timm's cosine."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options.pop("peak"))
    scheduler = CosineLRScheduler(optimizer, cycle_limit=1, **options)
    return [scheduler._get_lr(t)[0] for t in range(epochs)]


def test_shvit_runs_epochs_0_and_1_at_the_warmup_start():
    recipe, _ = build_recipe("shvit_s1_imagenet")
    peak = peak_lr(recipe.optim.lr, recipe.optim.lr_batch, 2048)
    assert peak == pytest.approx(4e-3)
    schedule = make_schedule(recipe.schedule, peak, steps_per_epoch=7)
    by_time = timm_rates(300, peak=peak, t_initial=300, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    for epoch in range(300):
        rates = {schedule.lr(epoch * 7 + i) for i in range(7)}
        assert len(rates) == 1
        assert rates.pop() == pytest.approx(by_time[max(0, epoch - 1)], rel=1e-12)
    assert schedule.lr(0) == schedule.lr(7) == 1e-6
    assert schedule.num_epochs == 300


def test_efficientvim_runs_by_iteration_with_a_prefix_and_a_cooldown():
    recipe, _ = build_recipe("efficientvim_m1_imagenet_300")
    steps = 5
    schedule = make_schedule(recipe.schedule, 2e-3, steps_per_epoch=steps)
    by_time = timm_rates(
        300 * steps,
        peak=2e-3,
        t_initial=280 * steps,
        lr_min=2e-5,
        warmup_t=20 * steps,
        warmup_lr_init=2e-6,
        warmup_prefix=True,
    )
    assert [schedule.lr(i) for i in range(300 * steps)] == pytest.approx(by_time, rel=1e-12)
    assert schedule.num_epochs == 310
    assert {schedule.lr(i) for i in range(300 * steps, 310 * steps)} == {2e-5}
    assert schedule.lr(20 * steps) == pytest.approx(2e-3)
    assert schedule.progress(75 * steps) == 0.25
    assert schedule.progress(309 * steps) == 1.0


def test_plain_cosine_by_hand():
    config = ScheduleConfig(epochs=10, warmup_epochs=0, min_lr=0.0)
    schedule = make_schedule(config, 1.0, steps_per_epoch=4)
    for step in (0, 13, 20, 39):
        assert schedule.lr(step) == pytest.approx((1 + math.cos(math.pi * step / 40)) / 2)


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="at least 1 epoch"):
        make_schedule(ScheduleConfig(epochs=0), 1.0, 1)
    with pytest.raises(ConfigError, match="between 0 and 3"):
        make_schedule(ScheduleConfig(epochs=3, warmup_epochs=4), 1.0, 1)


def test_steps_fall_after_their_epochs():
    config = ScheduleConfig(epochs=12, warmup_epochs=0.5, warmup_lr=1e-7, shape="step", milestones=(8, 11))
    schedule = make_schedule(config, 1e-4, 100)
    assert schedule.lr(0) == pytest.approx(1e-7)
    assert schedule.lr(25) == pytest.approx(1e-7 + (1e-4 - 1e-7) * 0.5)
    for step, lr in ((50, 1e-4), (799, 1e-4), (800, 1e-5), (1099, 1e-5), (1100, 1e-6), (1199, 1e-6)):
        assert schedule.lr(step) == pytest.approx(lr)


def test_a_power_of_what_is_left_over_a_number_of_steps():
    config = ScheduleConfig(epochs=64, warmup_epochs=0, shape="poly", power=0.9, min_lr=1e-6, steps=40_000)
    schedule = make_schedule(config, 2e-4, 631)
    assert schedule.num_steps == 40_000
    assert schedule.lr(0) == pytest.approx(2e-4)
    assert schedule.lr(20_000) == pytest.approx(1e-6 + (2e-4 - 1e-6) * 0.5**0.9)
    assert schedule.lr(39_999) == pytest.approx(1e-6, abs=1e-7)
    assert schedule.progress(20_000) == 0.5
