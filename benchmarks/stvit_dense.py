"""What does STViT-R cost as a backbone for dense tasks, beside the Swin it replaces?

    python benchmarks/stvit_dense.py [--size 800x1280]

Multiply-accumulates of one picture, counted on tensors without storage: timm's Swin, ours (keys and values projected
once a token), and ours with every neighbourhood projected by itself, which is how the release computes the same.
The third number is counted: the released way repeats the projections of the first, second and last block of each unit
for 4, 9 and 81 overlapping neighbourhoods.
"""

import argparse

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import saccade

PAIRS = {size: f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")}


def macs(model: torch.nn.Module, size: tuple[int, int]) -> float:
    """Count one picture, in 10^9."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() / 2e9


def repeated(config, size: tuple[int, int]) -> float:
    """Extra multiply-accumulates of projecting every neighbourhood by itself, in 10^9."""
    rows, cols = (-(-side // 16) for side in size)
    windows = -(-rows // 7) * -(-cols // 7)
    dim, s, units = 4 * config.dim, config.samples, config.depths[2] // 6
    gathered = windows * (14**2 + 21**2 + (9 * s) ** 2)
    once = 2 * rows * cols + windows * s * s
    return units * (gathered - once) * 2 * dim * dim / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="800x1280", help="height x width in pixels")
    high, wide = (int(side) for side in parser.parse_args().size.split("x"))
    print("model swin ours released (10^9), change of ours, change of the release")
    for name, base in PAIRS.items():
        with torch.device("meta"):
            swin = timm.create_model(base, img_size=(high, wide), num_classes=0)
            ours = saccade.create_model(f"stvit_r_swin_{name}", features_only=True)
        a, b = macs(swin, (high, wide)), macs(ours, (high, wide))
        c = b + repeated(ours.config, (high, wide))
        print(
            f"stvit_r_swin_{name} {a:.1f} {b:.1f} {c:.1f} {100 * (b / a - 1):+.1f} % {100 * (c / a - 1):+.1f} %"
        )


if __name__ == "__main__":
    main()
