"""Fill in what a recipe leaves open, from the number of images and what the run starts from."""

from __future__ import annotations

import dataclasses

import torch

from saccade.engine.train.recipe import Recipe

MIN_STEPS = 8
"""An epoch should have so many steps, if the images suffice for batches of `MIN_BATCH`."""
MIN_BATCH = 16
"""Smallest global batch chosen: better than 4 in a first comparison of two seeds, and twice as fast."""
STEPS = {"scratch": 6000, "trained": 2500}
"""Steps of a whole run that we aim for."""
EPOCHS = {"scratch": (20, 150), "trained": (8, 40)}
"""Bounds of the number of epochs."""
PEAK = {"scratch": 1e-3, "trained": 3e-4}
"""Learning rate for a global batch of 64; it goes with the square root of the batch."""


def adapt(recipe: Recipe, num_images: int, *, trained: bool, num_processes: int = 1) -> list[str]:
    """Write numbers into the settings that are still automatic, in place.

    Args:
        recipe: `data.batch`, `optim.lr`, `schedule.epochs` and `run.threads` are filled in where they are None,
            `schedule.warmup_epochs` and `run.patience` where they are -1.
        num_images: Training images; 0 when unknown (a stream).
        trained: Whether the run starts from trained weights.
        num_processes: Processes that train together.

    Returns:
        Lines that say what was chosen.
    """
    start, chosen = "trained" if trained else "scratch", []
    if recipe.data.batch is None:
        parts = num_processes * recipe.run.accumulate
        wanted = max(num_images // MIN_STEPS, MIN_BATCH) // parts if num_images else 64
        recipe.data.batch = min(64, 1 << max(2, wanted.bit_length() - 1))
        chosen.append(f"batch {recipe.data.batch}")
    global_batch = recipe.data.batch * num_processes * recipe.run.accumulate
    if recipe.schedule.epochs is None:
        low, high = EPOCHS[start]
        recipe.schedule.epochs = (
            min(high, max(low, STEPS[start] * global_batch // num_images)) if num_images else low
        )
        chosen.append(f"{recipe.schedule.epochs} epochs")
    if recipe.schedule.warmup_epochs < 0:
        recipe.schedule.warmup_epochs = min(5.0, 0.05 * recipe.schedule.epochs)
    if recipe.optim.lr is None:
        recipe.optim.lr = float(f"{PEAK[start] * (global_batch / 64) ** 0.5:.3g}")
        recipe.optim.lr_batch = 0
        chosen.append(f"learning rate {recipe.optim.lr:g}")
    if recipe.run.patience < 0:
        recipe.run.patience = max(10, recipe.schedule.epochs // 4)
    if recipe.run.threads is None:
        # Sums depend on how they are split, so a resumed run must use as many.
        recipe.run.threads = torch.get_num_threads()
    if not chosen:
        return []
    images = f"{num_images} training images" if num_images else "a stream of images"
    kind = "trained weights" if trained else "random weights"
    return [f"chosen for {images}, starting from {kind}: {', '.join(chosen)}"]


def without_augmentation(recipe: Recipe) -> None:
    """Switch off every change of the training pictures, for overfitting one batch."""
    off = dataclasses.replace(
        recipe.augment, scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, vflip=0.0, color_jitter=0.0
    )
    recipe.augment = dataclasses.replace(
        off, rand_augment="", three_augment=False, random_erasing=0.0, mixup=0.0, cutmix=0.0
    )
