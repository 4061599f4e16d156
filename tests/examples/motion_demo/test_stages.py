"""The demonstration from nothing: refuses another plan, and at its smallest goes from worlds to a table."""

import json
from typing import Any

import pytest

from motion_demo.stages import DemoPlan, run_demo
from saccade.errors import ConfigError

SMALLEST = DemoPlan(
    clips=40, held=24, size=32, eyes_steps=2, text_steps=2, eyes="motion_tiny", width=32, layers=1, per_task=4,
    device="cpu", threads=1,
)  # fmt: skip


def test_another_plan_is_refused(tmp_path):
    (tmp_path / "demo.json").write_text(json.dumps({"clips": 7}), encoding="utf-8")
    with pytest.raises(ConfigError, match="with clips 7, not 40; choose another --out"):
        run_demo(tmp_path, SMALLEST)
    with pytest.raises(ConfigError, match="eyes_steps is 0 but should be at least 1"):
        DemoPlan(eyes_steps=0)
    wrong: dict[str, tuple[Any, str]] = {
        "labels": ("pixel", "did you mean 'pixels'"),
        "size": (33, "a multiple of 4"),
        "seed": (-1, "should be between 0 and 299999"),
    }
    for name, (value, said) in wrong.items():
        with pytest.raises(ConfigError, match=said):
            DemoPlan(**{name: value})


@pytest.mark.slow
def test_from_nothing_to_a_table_and_again(tmp_path):
    said: list[str] = []
    found = run_demo(tmp_path, SMALLEST, log=said.append)
    assert list(found.rows) == [
        "model", "question only", "boxes only", "pixels only", "constant", "untuned",
    ]  # fmt: skip
    assert "mean of seven" in found.rows["model"]
    assert (tmp_path / "score" / "score.json").is_file()
    drawn = (tmp_path / "train" / "images-00000.npy").stat().st_mtime_ns
    again = run_demo(
        tmp_path, SMALLEST, log=said.append, others={"exact": tmp_path / "bench" / "tracks.jsonl"}
    )
    assert (tmp_path / "train" / "images-00000.npy").stat().st_mtime_ns == drawn  # nothing is done twice
    assert again.rows["model"] == found.rows["model"]
    assert again.rows["exact"]["mean of seven"].value == 1
