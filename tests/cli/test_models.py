import json

import saccade
from saccade.cli.main import main
from saccade.zoo.facts import FACTS


def test_list_has_a_row_for_each_model(capsys):
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["model"] for row in rows] == saccade.list_models()
    assert rows[0]["top1_published"] == FACTS[rows[0]["model"]].weights[0].top1


def test_plain_list_is_tab_separated_and_filtered(capsys):
    assert main(["models", "shvit*"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("\t")[0] == "model"
    assert [row.split("\t")[0] for row in rows] == saccade.list_models("shvit*")


def test_timm_names_are_found_under_their_prefix(capsys):
    assert main(["models", "timm/shvit*", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"model": "timm/shvit_s1"} in rows


def test_show_has_facts_and_parts_that_add_up(capsys):
    assert main(["models", "show", "efficientvim_m1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["licence"] == "MIT"
    assert (
        sum(part["params"] for part in shown["parts"]) == shown["params"] == FACTS["efficientvim_m1"].params
    )
    assert main(["models", "show", "efficientvim_m1"]) == 0
    text = capsys.readouterr().out
    assert "efficientvim_m1.e300_in1k\t224\t300\t72.9" in text


def test_show_of_timm(capsys):
    assert main(["models", "show", "timm/resnet18"]) == 0
    text = capsys.readouterr().out
    assert "params: 11689512" in text
    assert "licence: apache-2.0" in text


def test_unknown_names_are_refused_with_the_nearest(capsys):
    assert main(["models", "show", "shvit_s11"]) == 2
    assert "did you mean 'shvit_s1'" in capsys.readouterr().err
    assert main(["models", "shvid*"]) == 2
    assert "no model matches 'shvid*'" in capsys.readouterr().err
