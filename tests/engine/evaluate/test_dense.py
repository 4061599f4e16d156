"""Metrics of dense weights on data, with the page by class."""

import pytest

from saccade.data.scenes import scenes_folder
from saccade.engine.evaluate.evaluate import evaluate
from saccade.engine.evaluate.page import write_report, write_summary
from saccade.engine.train.loop import train
from saccade.engine.train.recipe import build_recipe
from saccade.errors import ConfigError
from saccade.tasks import get_task

SMALL = {"width": 8, "fc_width": 8, "mask_width": 8, "mask_convs": 1, "samples": 8, "proposals": 10}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return str(scenes_folder(counts={"train": 4, "val": 3}, home=tmp_path_factory.mktemp("data") / "scenes"))


@pytest.mark.parametrize(("task", "mark"), [("detect", "ap"), ("segment", "miou")])
def test_a_run_is_marked_as_training_marked_it(scenes, tmp_path, task, mark):
    flags = {"data.source": scenes, "data.batch": 2, "data.workers": 0, "data.size": 64, "run.max_steps": 2}
    flags |= {
        "model.head_options": SMALL if task == "detect" else {"width": 8},
        "ema.decay": 0,
        "run.threads": 1,
    }
    recipe, _ = build_recipe(f"scenes_{task}", "", flags)
    result = train(recipe, tmp_path / "run", log=lambda line: None)
    found = evaluate(tmp_path / "run", threads=1)
    assert found.metrics[mark] == pytest.approx(result.metrics[mark], abs=1e-6)
    assert found.count == 3
    assert len(found.per_class) == (4 if task == "detect" else 8)
    write_summary(tmp_path / "page.md", found, command="saccade eval")
    write_report(tmp_path / "page.html", found)
    assert "<td>cone</td>" in (tmp_path / "page.html").read_text()
    text = (tmp_path / "page.md").read_text()
    assert "| cone |" in text
    assert get_task(task).metric_names[mark].removesuffix(" %") in text
    again = evaluate(tmp_path / "run", f"{scenes}", batch=1, threads=1)
    assert again.count == 3


def test_data_has_to_be_named(tmp_path):
    with pytest.raises(ConfigError, match="--data"):
        evaluate(tmp_path / "gone.safetensors")
