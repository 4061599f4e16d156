"""The report page: whole, self-contained, escaped, readable by a parser."""

import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from saccade.engine.evaluate.page import read_speeds, write_report, write_summary
from saccade.errors import DataError
from saccade.page import charts
from saccade.tasks.classify.report import confused_pairs
from saccade.tasks.classify.task import Classify
from saccade.tasks.evaluation import Evaluation
from saccade.weights import Card

VOID = {"meta", "img", "br", "line", "rect", "circle", "path"}


class Checker(HTMLParser):
    """Notes what a page points to, and that every element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def evaluated(logits, truth, labels, resamples=20):
    """Gather answers to pictures of two sizes as an evaluation does."""
    task, card = (
        Classify(),
        Card("shvit_s1", num_classes=len(labels), labels=labels, preprocess={"size": 100}),
    )
    metrics, gallery = task.metrics(card), task.gallery(card, 2)
    batch = {
        "label": truth,
        "index": torch.arange(len(truth)),
        "name": [f"a/{i}.jpg" for i in range(len(truth))],
    }
    batch["image"] = torch.zeros(len(truth), 3, 100, 100)
    metrics.update(logits, batch)
    gallery.look(batch, logits)
    values = metrics.summary()
    count = int(values.pop("count"))
    found = Evaluation(
        "classify", "shvit_s1", "", "runs/x", "photos/val", labels, values, metrics.intervals(resamples=resamples),
        metrics.per_class(), count, metrics, gallery, [("bad <file>.jpg", "truncated")], ["a note"],
        {"backend": "torch", "images_per_s": 1234.5},
    )  # fmt: skip
    found.sections = task.report(found)
    return found


def make_evaluation(classes=4, count=120, labels=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), truth] += 1.5
    return evaluated(logits, truth, labels or [f"kind {i}" for i in range(classes)])


def parse(path):
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return checker


def test_page_holds_every_section_and_nothing_outside_itself(tmp_path):
    curves = tmp_path / "metrics.csv"
    curves.write_text("epoch,train_loss,loss,top1\n1,2.0,2.1,0.3\n2,1.0,,0.5\n3,0.5,1.2,0.6\n")
    speeds = [
        {"model": "shvit_s1", "backend": "onnx", "images_per_s": "200", "metric": "0.7"},
        {"model": "shvit_s2", "backend": "onnx", "images_per_s": "100", "metric": "0.75"},
        {"model": "no accuracy", "backend": "torch", "images_per_s": "50"},
    ]
    page = tmp_path / "deep" / "report.html"
    write_report(
        page, make_evaluation(), curves=curves, speeds=speeds, environment={"cpu": "x"}, command="again"
    )
    checker = parse(page)
    assert all(link.startswith("data:image/") for link in checker.links)
    assert "script" not in checker.tags
    assert checker.tags.count("img") == 2
    assert checker.tags.count("svg") == 5
    assert {"training", "held out", "top-1"} <= set(checker.text)
    text = " ".join(checker.text)
    for words in (
        "Training",
        "confused",
        "confidence",
        "Class by class",
        "Worst mistakes",
        "Speed and accuracy",
    ):
        assert words in text
    for words in ("Left out", "How it was measured", "1,234", "no accuracy", "bad <file>.jpg", "again"):
        assert words in text
    style = page.read_text()
    assert "prefers-color-scheme:dark" in style
    assert not re.search(r"url\(|@import|https?://", style)


def test_names_cannot_break_the_page(tmp_path):
    evil = '<script>alert(1)</script>"&'
    page = tmp_path / "report.html"
    write_report(page, make_evaluation(labels=[evil, "b", "c", "d"]))
    checker = parse(page)
    assert "script" not in checker.tags
    assert evil in " ".join(checker.text)


def test_many_classes_get_a_list_instead_of_a_matrix(tmp_path):
    page = tmp_path / "report.html"
    write_report(page, make_evaluation(classes=90, count=900))
    checker = parse(page)
    assert "taken for" in checker.text
    assert "details" in checker.tags
    assert checker.tags.count("svg") == 1


def test_a_perfect_score_has_a_page_too(tmp_path):
    found = evaluated(20.0 * torch.eye(2), torch.tensor([0, 1]), ["a", "b"], resamples=5)
    write_report(tmp_path / "r.html", found)
    assert "No mistakes." in " ".join(parse(tmp_path / "r.html").text)


def test_summary_says_the_marks(tmp_path):
    found = make_evaluation()
    write_summary(tmp_path / "report.md", found, command="saccade eval")
    text = (tmp_path / "report.md").read_text()
    assert f"| Top-1 accuracy | {100 * found.metrics['top1']:.2f} % |" in text
    assert "Most confused: kind" in text
    assert "1 could not be read" in text


def test_confused_pairs_are_ordered_by_count():
    matrix = np.array([[5, 1, 0], [3, 5, 0], [0, 1, 9]])
    assert confused_pairs(matrix, ["a", "b", "c"]) == [("b", "a", 3), ("a", "b", 1), ("c", "b", 1)]


def test_read_speeds(tmp_path):
    table = tmp_path / "bench.csv"
    with pytest.raises(DataError, match="no such file"):
        read_speeds(table)
    table.write_text("model,latency\n")
    with pytest.raises(DataError, match="no column images_per_s"):
        read_speeds(table)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["model", "images_per_s"], ["a", 3]])
    assert read_speeds(table) == [{"model": "a", "images_per_s": "3"}]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0.981, 0.9834), (1e-9, 2e-9), (5, 900)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = charts.nice_ticks(low, high)
    assert 3 <= len(ticks) <= 11
    assert all(low <= t <= high for t in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


def test_ticks_of_a_point():
    assert charts.nice_ticks(2, 2) == [2]


def test_lines_break_where_numbers_are_missing():
    drawing = charts.line_chart([charts.Series("a", [1, 2, 3, 4], [1, float("nan"), 2, 3])], "x", "y")
    path = re.search(r'class="line"[^>]*d="([^"]*)"', drawing)
    assert path is not None
    assert path[1].count("M") == 2
    assert "nan" not in drawing


def test_scatter_labels_do_not_lie_on_each_other():
    crowd = charts.Series("g", [100, 101, 102], [0.7, 0.7, 0.7], ["first", "second", "third"])
    drawing = charts.scatter_chart([crowd], "x", "y")
    places = re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">(?:first|second|third)', drawing
    )
    assert len(set(places)) == 3
