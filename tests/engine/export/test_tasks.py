"""Every task leaves by the same door: what `run` makes of a file is what it makes of the network."""

import pytest
import torch

import saccade
from saccade.cli.main import main
from saccade.engine.export import open_file, read_bundle
from saccade.engine.run import run_batches
from saccade.errors import ConfigError
from saccade.tasks import get_task
from saccade.tasks.base import unnamed
from saccade.weights import Card
from saccade.zoo.loading import save_weights

VIDEO = {"size": 32, "frames": 3}


def video_network(head="transformer"):
    torch.manual_seed(0)
    card = Card("timm/test_convnext", num_classes=3, task="video", labels=list("abc"), head=head)
    card.preprocess, card.head_options = (
        dict(VIDEO),
        {"width": 32, "depth": 1} if head == "transformer" else {},
    )
    return get_task("video").build(card).eval(), card


def run(task, net, batch):
    return next(iter(run_batches(task, [{"net": net}], [lambda: batch])))[1]["net"]


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_a_video_network_of_a_fixed_number_of_frames(tmp_path, to):
    net, card = video_network()
    made = saccade.export((net, card), to, out=tmp_path)
    assert made.manifest.inputs[0]["shape"] == ["batch", 3, 3, 32, 32]
    assert made.manifest.checks["max_difference"] <= made.manifest.tolerance <= 1e-4
    task, file = get_task("video"), open_file(read_bundle(made.path), threads=1)
    batch = {
        "image": torch.randn(6, 3, 3, 32, 32),
        **unnamed(2),
    }  # three views a clip, whose answers are joined
    got, want = run(task, task.exported(file, card), batch), run(task, net, batch)
    assert want.shape == (2, 3)
    assert torch.allclose(got, want, atol=1e-5)
    file.close()
    save_weights(net, tmp_path / "net.safetensors", card)
    states = {check.what: check.state for check in saccade.verify(made.path, tmp_path / "net.safetensors")}
    assert states["answers to noise"] == states["network"] == "ok"


def test_free_sizes_of_clips_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="leave out --dynamic"):
        saccade.export(video_network("mean"), "onnx", dynamic=True, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["export", "bench", "explain"])
def test_a_task_that_cannot_is_refused_before_its_weights_are_read(tmp_path, capsys, verb):
    card = Card("no/such/base", task="answer")
    path = tmp_path / "weights.safetensors"
    save_weights(torch.nn.Linear(1, 1), path, card)
    (tmp_path / "photo.jpg").touch()
    commands = {
        "export": ["export", "--weights", str(path)],
        "bench": ["bench", "--models", str(path)],
        "explain": ["explain", str(tmp_path / "photo.jpg"), "--weights", str(path), "--out", "x.png"],
    }
    assert main(commands[verb]) == 2
    assert f"which cannot {verb}; use `saccade vlm ask`" in capsys.readouterr().err


def test_bench_times_any_task():
    net, card = video_network("mean")
    rows = saccade.bench([(net, card)], ["eager", "torch"], batch=1, seconds=0.05)
    assert [row.backend for row in rows] == ["eager", "torch"]
    assert all(row.size == 32 and row.macs_g > 0 for row in rows)
