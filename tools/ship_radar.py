"""Put the weights of a run into the package, with a card that says how they were made and what they reach.

Run: python tools/ship_radar.py RUN TEST_PAIRS, after

    saccade radar dataset --samples 2400 --seed 0 --out train/
    saccade radar train train/ --epochs 16 --out RUN
    saccade radar dataset --samples 40 --seed 1 --methods range-compressed,rma --out TEST_PAIRS
"""

import dataclasses
import sys

import torch

from saccade.engine.evaluate.evaluate import evaluate
from saccade.engine.predict.sharpen import shipped_weights
from saccade.tasks.open import load_model
from saccade.zoo.loading import save_weights


def main(run: str, test: str) -> None:
    """Measure, describe, write."""
    torch.set_num_threads(2)
    network, card = load_model(run)
    table = evaluate(run, test).gallery.table()
    rows = {(row["method"], row["scaling"]): row for row in table}
    ours, best = rows[card.model, "none"], rows["empm", "best"]
    numbers = {name: round(ours[name], 4) for name in ("psnr", "ssim", "rmse", "mae")}
    numbers |= {
        "input_psnr": round(best["psnr"], 4),
        "input_ssim": round(best["ssim"], 4),
        "count": ours["pairs"],
    }
    origin = (
        "trained by Saccade on 2400 simulated pairs (saccade radar dataset --samples 2400 --seed 0: freehand scans "
        "of a rigid 2 x 4 radar at 77 GHz over 200 x 25 poses, 0.27 to 0.33 m deep, position error 0 to 0.5 mm, "
        "10 to 40 dB, imaged by EMPM at 1 mm), 16 epochs; numbers on 40 pairs of seed 1; input_psnr is EMPM at its "
        "best scale. Simulation only: no measured image was used or is promised."
    )
    card = dataclasses.replace(card, origin=origin, licence="Apache-2.0", numbers=numbers)
    shipped_weights().parent.mkdir(exist_ok=True)
    save_weights(network, shipped_weights(), card)
    sys.stdout.write(f"{shipped_weights()}: {numbers}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
