"""Semantic tokens as pictures: assignment and numbers against cases worked out by hand, drawings against pixels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saccade.cli.main import main
from saccade.engine.explain.tokens import (
    assign,
    draw_token_picture,
    draw_tokens,
    palette,
    token_maps,
    token_rows,
)
from saccade.errors import ConfigError, DataError, ShapeError
from saccade.weights import Card
from saccade.zoo.loading import save_weights
from saccade.zoo.registry import create_model


class Quarters(nn.Module):
    """Four tokens that each take in one quarter of a 4 x 4 map, evenly."""

    def token_maps(self, x):
        maps = torch.zeros(len(x), 4, 4, 4)
        for i in range(4):
            y, x0 = 2 * (i // 2), 2 * (i % 2)
            maps[:, i, y : y + 2, x0 : x0 + 2] = 0.25
        return maps


@pytest.fixture(scope="module")
def quarters():
    return token_maps(Quarters(), torch.zeros(1, 3, 8, 8)).numpy()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small STViT-DeiT with random weights, on disk."""
    torch.manual_seed(0)
    model = create_model("stvit_deit_tiny", num_classes=3, img_size=64, tokens=4)
    path = tmp_path_factory.mktemp("stvit") / "w.safetensors"
    options = {"img_size": 64, "tokens": 4}
    save_weights(model, path, Card("stvit_deit_tiny", options, 3, preprocess={"size": 64, "crop_pct": 1.0}))
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "p.png"
    Image.effect_noise((120, 80), 70).convert("RGB").save(path)
    return path


def test_assignment_and_numbers_of_quarters(quarters):
    winner, clear = assign(quarters)
    assert winner.tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2
    assert (clear == 1).all()
    rows = token_rows(quarters, (10, 20, 90, 100))
    assert [row["token"] for row in rows] == [1, 2, 3, 4]
    assert [(row["x"], row["y"]) for row in rows] == [(30, 40), (70, 40), (30, 80), (70, 80)]
    # Two patches of 20 pixels: each centre is 10 pixels from the middle, so two standard deviations are 20.
    assert {(row["share"], row["width"], row["peak"]) for row in rows} == {(0.25, 20, 4)}


def test_equal_maps_are_not_clear():
    winner, clear = assign(np.ones((5, 3, 3)))
    assert not winner.any()
    assert not clear.any()
    assert assign(np.ones((1, 2, 2)))[1].tolist() == [[1, 1], [1, 1]]


def test_colours_are_far_apart():
    for count in (4, 16, 36, 64):
        colours = palette(count)
        assert ((colours >= 0) & (colours <= 255)).all()
        nearest = [np.abs(colours - c).sum(1)[np.arange(count) != i].min() for i, c in enumerate(colours)]
        assert min(nearest) > {4: 120, 16: 40, 36: 40, 64: 40}[count]


@pytest.mark.parametrize(("size", "tokens"), [((300, 200), 4), ((90, 400), 9), ((64, 64), 64), ((50, 50), 1)])
def test_drawing_fits_any_picture_and_colours_the_right_place(size, tokens):
    maps = np.random.default_rng(0).random((tokens, 6, 6)) * 1e-3
    maps[0] += np.outer(np.ones(6), np.arange(6) < 3)
    drawing = draw_token_picture(Image.new("L", size, 90), maps, box=(0, 0, *size), title="t")
    assert drawing.mode == "RGB"
    assert drawing.height > 560
    if tokens == 4:
        # Left half of the middle panel: the first token's colour, here the only saturated red-brown.
        red, _, blue = drawing.getpixel((24 + 520 + 24 + 60, 58 + 300))
        assert red > blue + 40


def test_real_maps_sum_to_one_and_a_file_is_written(weights, photo, tmp_path):
    found = draw_tokens(photo, weights, tmp_path / "t.png")
    assert found.grid == (4, 4)
    assert len(found.rows) == 4
    assert sum(row["share"] for row in found.rows) == pytest.approx(1)
    assert all(20 <= row["x"] <= 100 and 0 <= row["y"] <= 80 for row in found.rows)  # inside the centre crop
    with Image.open(tmp_path / "t.png") as drawing:
        assert drawing.width > 1000
    assert not found.notes


def test_an_even_map_stays_faint():
    """Drawn warm where a token looked and cool where it looked nowhere in particular."""
    photo = Image.new("RGB", (64, 64), (90, 90, 90))
    even, sharp = np.full((4, 4), 1 / 16), np.zeros((4, 4))
    sharp[:2, :2] = 0.25
    drawing = draw_token_picture(photo, np.stack([even, sharp]), box=(0, 0, 64, 64))
    cell, left, top = (520 - 6) // 2, 3 * 24 + 2 * 520, 24
    light = [sum(drawing.getpixel((left + i * (cell + 6) + 60, top + 60))) for i in range(2)]
    assert light[1] > light[0] + 150


def test_fresh_weights_are_said_to_be_fresh(photo, tmp_path):
    assert "not trained" in draw_tokens(photo, "stvit_deit_tiny", tmp_path / "t.png").notes[0]


def test_refusals(weights, photo, tmp_path):
    with pytest.raises(ShapeError, match="one picture"):
        token_maps(Quarters(), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ConfigError, match=r"shvit_s1 has no semantic tokens.*saccade sparsify"):
        draw_tokens(photo, "shvit_s1", tmp_path / "t.png")
    with pytest.raises(ConfigError, match=r"written as \.png"):
        draw_tokens(photo, weights, tmp_path / "t.jpg")
    (tmp_path / "no.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"no\.jpg: .*not an image"):
        draw_tokens(tmp_path / "no.jpg", weights, tmp_path / "t.png")


def test_the_command(weights, photo, tmp_path, capsys):
    assert (
        main(["tokens", str(photo), "--model", str(weights), "--plot", str(tmp_path / "t.png"), "--json"])
        == 0
    )
    values = json.loads(capsys.readouterr().out)
    assert values["grid"] == [4, 4]
    assert [row["token"] for row in values["tokens"]] == [1, 2, 3, 4]
    assert main(["tokens", str(photo), "--model", str(weights), "--plot", str(tmp_path / "u.png")]) == 0
    assert capsys.readouterr().out.splitlines()[0].split("\t") == [
        "token",
        "share",
        "x",
        "y",
        "width",
        "peak",
    ]
    assert (tmp_path / "u.png").read_bytes() == (tmp_path / "t.png").read_bytes()
    assert main(["tokens", str(photo), "--model", "shvit_s1"]) == 2
    assert "has no semantic tokens" in capsys.readouterr().err
