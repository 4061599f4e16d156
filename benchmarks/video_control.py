"""Does a network of clips use motion, or would one frame do?

    python benchmarks/video_control.py RUN [--data clips]

RUN is a folder of `saccade train --task video`. Its held-out clips are shown to it as they are, with their frames in
random order, and with the middle frame alone, repeated; prints top-1 of each beside the share of the largest class.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from saccade.data.config import AugmentConfig, DataConfig
from saccade.tasks import get_task
from saccade.tasks.open import load_model

BATCH = 25


def shuffled(clip: Tensor) -> Tensor:
    """Put the frames of (V, T, C, S, S) into random order."""
    return clip[:, torch.randperm(clip.shape[1])]


def still(clip: Tensor) -> Tensor:
    """Repeat the middle frame."""
    return clip[:, clip.shape[1] // 2].unsqueeze(1).expand_as(clip)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda clip: clip,
    "frames shuffled": shuffled,
    "one frame": still,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--data", default="clips")
    options = parser.parse_args()
    torch.manual_seed(0)
    model, card = load_model(options.run)
    task = get_task("video")
    data = task.open(DataConfig(source=options.data), AugmentConfig(), card, seed=0, train=False)
    samples = [data.val[i] for i in range(len(data.val))]
    samples = [sample for sample in samples if sample["image"].ndim == 5]
    labels = torch.tensor([sample["label"] for sample in samples])
    print(f"{len(samples)} clips; the largest class is {100 * labels.bincount().max() / len(labels):.1f} %")
    for name, change in VIEWS.items():
        right = 0
        for start in range(0, len(samples), BATCH):
            part = [{**sample, "image": change(sample["image"])} for sample in samples[start : start + BATCH]]
            batch = task.collate(part)
            with torch.no_grad():
                answers = task.outputs(model.eval(), batch, "cpu").argmax(1)
            right += int((answers == batch["label"]).sum())
        print(f"{name}: top-1 {100 * right / len(samples):.1f} %")


if __name__ == "__main__":
    main()
