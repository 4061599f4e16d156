"""Data of several tasks looked over before training."""

import json

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import main
from saccade.data.scenes import scenes_folder
from saccade.engine.evaluate.check_samples import check_samples
from saccade.errors import ConfigError


@pytest.fixture
def scenes(tmp_path):
    return scenes_folder(counts={"train": 4, "val": 2}, home=tmp_path / "scenes")


def test_finds_what_training_would_leave_out(scenes):
    assert check_samples("detect", str(scenes)).skipped == []
    (scenes / "images" / "train" / "00001.png").write_bytes(b"no picture")
    (scenes / "images" / "val" / "00000.png").unlink()
    found = check_samples("detect", str(scenes))
    assert found.samples == {"train": 4, "val": 1}
    assert [(part, name) for part, name, _ in found.skipped] == [("train", "00001.png")]
    assert any("1 pictures are left out" in note for note in found.notes)
    maps = check_samples("segment", str(scenes))
    assert [(part, name) for part, name, _ in maps.skipped] == [("train", "00001.png")]
    with pytest.raises(ConfigError, match="did you mean 'detect'"):
        check_samples("detekt", str(scenes))
    with pytest.raises(
        ConfigError, match="for the task restore, which cannot check; use `saccade radar eval`"
    ):
        check_samples("restore", str(scenes))


def test_command(scenes, capsys):
    assert main(["data", "check", str(scenes), "--task", "segment", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pictures"], found["classes"], found["errors"]) == (6, 8, 0)
    (scenes / "semantic" / "train" / "00002.png").write_bytes(b"")
    assert main(["data", "check", str(scenes), "--task", "segment"]) == 1
    assert "00002.png" in capsys.readouterr().out


def test_clips_are_read_as_such(tmp_path, capsys):
    pictures = [Image.fromarray(np.full((24, 32, 3), 15 * number, np.uint8)) for number in range(16)]
    for place in ("train/a/one", "train/b/two", "val/a/three", "val/b/four"):
        path = tmp_path / f"{place}.gif"
        path.parent.mkdir(parents=True)
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    assert main(["data", "check", str(tmp_path), "--task", "video", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pictures"], found["labels"], found["errors"]) == (4, ["a", "b"], 0)
    (tmp_path / "val/b/four.gif").write_bytes(b"no picture")
    assert main(["data", "check", str(tmp_path), "--task", "video"]) == 1
    assert "four.gif" in capsys.readouterr().out
