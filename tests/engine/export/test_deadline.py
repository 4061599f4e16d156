"""Files of strangers that never come to an end are ended, with a sentence."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from saccade.cli.main import main
from saccade.engine.export.bundle import Manifest, write_manifest
from saccade.engine.export.contract import contract, write_contract
from saccade.engine.export.deadline import call_limit
from saccade.engine.export.onnx import OnnxSession
from saccade.errors import ConfigError, WeightsError
from saccade.weights import Card


def endless(path):
    """Write a file whose loop runs 2 to the 62 times."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still_on"]),
            helper.make_node("Sin", ["x"], ["y"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("on", TensorProto.BOOL, []),
            value("x", TensorProto.FLOAT, None),
        ],
        [value("still_on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Loop", ["times", "on", "mean"], ["output"], body=body),
    ]
    constants = [
        helper.make_tensor("times", TensorProto.INT64, [], np.array([1 << 62])),
        helper.make_tensor("on", TensorProto.BOOL, [], np.array([True])),
    ]
    shape = ["batch", 3, 32, 32]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", TensorProto.FLOAT, shape)],
        [value("output", TensorProto.FLOAT, ["batch", 3])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_an_endless_loop_is_ended_by_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SACCADE_CALL_SECONDS", "1")
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "bundle"
    folder.mkdir()
    endless(folder / "model.onnx")
    card = Card("shvit_s1", num_classes=3, labels=["a", "b", "c"], preprocess={"size": 32})
    ports = [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 32, 32]}]
    manifest = Manifest(card, "onnx", "float32", ports, [{"name": "output", "shape": ["batch", 3]}])
    write_contract(folder / "model.onnx", "onnx", contract(card, "onnx", "float32"))
    write_manifest(folder, manifest)
    torch.manual_seed(0)
    from PIL import Image

    Image.new("RGB", (40, 40)).save(tmp_path / "p.png")
    words = ["predict", str(tmp_path / "p.png"), "--weights", str(folder), "--out", str(tmp_path / "o.csv")]
    assert main([*words, "--backend", "onnx"]) == 2
    assert "took more than 1 s and was ended" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def test_a_file_without_our_input_is_one_sentence(tmp_path):
    graph = helper.make_graph([], "g", [], [])
    onnx.save(helper.make_model(graph, ir_version=9), tmp_path / "model.onnx")
    with pytest.raises(WeightsError, match=r"one float32 input|cannot open"):
        OnnxSession(tmp_path / "model.onnx")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon"])
def test_odd_limits_are_refused(monkeypatch, text):
    monkeypatch.setenv("SACCADE_CALL_SECONDS", text)
    with pytest.raises(ConfigError, match="SACCADE_CALL_SECONDS"):
        call_limit()
