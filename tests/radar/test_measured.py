"""Published and measured images (GPL-3.0, not part of this project): set SACCADE_SAR_DATA to their folder.

The files are test102.mat and exp1_cutout2_2.mat of josiahwsmith10/hybrid-freehand-imaging-ViT, folder matlab_data.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from saccade.engine.predict.sharpen import enhance
from saccade.radar import Grid, RadarImage
from saccade.radar.matlab import read_variables
from saccade.radar.quality import compare, rescale

FOLDER = Path(os.environ.get("SACCADE_SAR_DATA", ""))
pytestmark = pytest.mark.skipif(
    not (FOLDER / "test102.mat").is_file(), reason="needs SACCADE_SAR_DATA, a folder of GPL-3.0 data"
)


def plane(side, pixel):
    axis = (np.arange(side) - side // 2) * pixel
    return Grid.plane(axis, axis, 0.3)


def test_a_published_simulation_gains_likeness():
    found = read_variables(FOLDER / "test102.mat").arrays
    low, truth, theirs = (np.asarray(found[name], np.float64) for name in ("lr", "hr", "sr"))
    ours = enhance(RadarImage(low, plane(256, 0.2 / 256), "empm")).values
    metrics = compare(ours, truth)
    assert metrics["ssim"] > 0.95
    assert metrics["psnr"] > compare(0 * truth, truth)["psnr"] + 5
    assert metrics["mae"] < 0.4 * compare(rescale(low, truth, "best"), truth)["mae"]
    assert compare(theirs, truth)["psnr"] == pytest.approx(35.27, abs=0.02)


def test_a_measured_plate_keeps_its_size_and_loses_its_ghosts():
    found = read_variables(FOLDER / "exp1_cutout2_2.mat").arrays
    image = np.abs(found["radarImagesFFH"])
    sharp = enhance(RadarImage(image, plane(200, 1e-3), "empm")).values
    # The plate of 72 x 48 mm stands in the middle; its ghosts lie 78 mm above and below.
    body, ghosts = np.s_[66:136, 82:130], [np.s_[60:140, 165:195], np.s_[60:140, 5:45]]
    before = max(image[g].mean() for g in ghosts) / image[body].mean()
    after = max(sharp[g].mean() for g in ghosts) / sharp[body].mean()
    assert before > 0.1
    assert after < 0.02
    wide = (sharp > 0.3).any(1).sum()
    high = (sharp > 0.3).any(0).sum()
    assert wide == pytest.approx(72, abs=6)
    assert high == pytest.approx(48, abs=6)
