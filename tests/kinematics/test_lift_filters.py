"""Every rule rejects what it is for and lets the rest pass; two stacks agree; masks and boxes come from files."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")

from saccade.errors import DataError
from saccade.kinematics import Settings, label_track
from saccade.kinematics.lift.filters import RULES, Evidence, Flows, disagree, refuse, rest_flow
from saccade.kinematics.lift.given import BoxFile, MaskFolder, cut_out, given
from saccade.kinematics.lift.settings import DEFAULT_PSEUDO
from saccade.kinematics.lift.stages import REASONS, MaskTrack, MetricScene, Placed

from .lift_scenes import EYE_M, HEIGHT, LENS, WIDTH, sphere_scene

UP = [0.0, -1.0, 0.0]


class Still(Flows):
    """Flow of a picture in which nothing moves but for a shift that is the same everywhere."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def after(self, frame):
        return np.full((HEIGHT, WIDTH, 2), self.shift)


def evidence(points=None, masks=None, category="car", flows=None):
    """A good object: 30 x 40 pixels, 8 m away, a metre a step, seen to move."""
    if points is None:
        points = np.stack([np.arange(8.0) - 4, np.ones(8), np.full(8, 8.0)], 1)
    points = np.asarray(points, float)
    count = len(points)
    if masks is None:
        masks = [block(20 + 4 * k) for k in range(count)]
    times = 0.5 * np.arange(count)
    scene = MetricScene(
        np.zeros((count, HEIGHT, WIDTH, 3), np.uint8), times, np.full((count, HEIGHT, WIDTH), 8.0, np.float32),
        np.tile(np.eye(4), (count, 1, 1)), LENS, np.array(UP), EYE_M,
    )  # fmt: skip
    label = label_track(times, points, up=UP)
    track = MaskTrack("1", category, masks)
    return Evidence(track, scene, Placed(points, "test"), label, flows or Still(5.0))


def block(left=20, top=30, width=30, height=40):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, max(0, left) : left + width] = True
    return mask


def steps(*lengths, depth=8.0):
    x = np.concatenate([[0.0], np.cumsum(lengths)])
    return np.stack([x - x.mean(), np.ones(len(x)), np.full(len(x), depth)], 1)


def test_a_good_object_passes_every_rule():
    assert refuse(evidence()) is None
    assert set(RULES) < set(REASONS)


BAD = {
    "too_short": evidence(steps(1, 1)),
    "hardly_seen": evidence(masks=[block(height=23)] * 4 + [block()] * 4),
    "at_border": evidence(masks=[block(left=-5)] * 4 + [block()] * 4),
    "mask_slips": evidence(masks=[block()] * 4 + [block(width=90)] * 4),
    "depth_out_of_range": evidence(steps(1, 1, 1, 1, 1, depth=61.0)),
    "too_fast": evidence(steps(*[31.0] * 5)),
    "accelerates": evidence(steps(1, 1, 1, 4.2, 1, 1)),
    "not_seen_moving": evidence(flows=Still(0.0)),
}


@pytest.mark.parametrize("reason", RULES)
def test_a_rule_rejects_what_it_is_for(reason):
    key, text = refuse(BAD[reason])
    assert key == reason
    assert any(letter.isdigit() for letter in text)


@pytest.mark.parametrize(
    "good",
    [
        evidence(steps(1, 1, 1)),  # four points
        evidence(masks=[block(height=23)] * 3 + [block()] * 5),
        evidence(masks=[block(left=-5)] * 3 + [block()] * 5),
        evidence(masks=[block()] * 4 + [block(width=85)] * 4),
        evidence(steps(1, 1, 1, 1, 1, depth=59.0)),
        evidence(steps(*[29.0] * 5)),
        evidence(steps(1, 1, 1, 3.9, 1, 1)),
        evidence(flows=Still(1.2)),  # 1.7 px
        evidence(np.tile([1.0, 1.0, 8.0], (8, 1)), flows=Still(0.0)),  # at rest, and labelled so
    ],
)
def test_what_is_just_inside_a_limit_passes(good):
    assert refuse(good) is None


def test_people_are_slower_than_cars():
    walk = steps(*[7.0] * 5)
    assert refuse(evidence(walk)) is None
    assert refuse(evidence(walk, category="person"))[0] == "too_fast"
    assert refuse(evidence(steps(*[5.9] * 5), category="person")) is None


def test_limits_are_settings():
    strict = dataclasses.replace(DEFAULT_PSEUDO, max_speed_mps=1.5)
    assert refuse(evidence(), strict)[0] == "too_fast"
    assert refuse(evidence(), DEFAULT_PSEUDO, Settings(min_box_height_px=50))[0] == "hardly_seen"


def test_flow_at_rest_is_the_cameras():
    places = np.tile([0.5, EYE_M - 0.6, 7.0], (3, 1))
    eyes = np.array([[0.0, 0, 0], [0.2, 0, 0.3], [0.4, 0, 0.6]])
    track, scene = sphere_scene(places, eyes=eyes)
    pixels = np.argwhere(track.masks[0])[:, ::-1]
    moved = pixels + rest_flow(scene, 0, pixels, places[0])
    rows, columns = np.nonzero(track.masks[1])
    assert moved.mean(0) == pytest.approx([columns.mean(), rows.mean()], abs=0.5)
    # The real flow of what rests: not seen moving; of what moves: seen.
    path = places + np.array([[0, 0, 0], [0.5, 0, 0], [1.0, 0, 0]])
    for where, share in ((places, 0.2), (path, 0.9)):
        track, scene = sphere_scene(where, eyes=eyes)
        flow = Flows(scene.images).after(0)
        rest = rest_flow(scene, 0, pixels, places[0])
        moving = np.linalg.norm(flow[pixels[:, 1], pixels[:, 0]] - rest, axis=1) > DEFAULT_PSEUDO.dynamic_px
        assert (moving.mean() < share) == (share < 0.5)


def label_of(points):
    return label_track(0.5 * np.arange(len(points)), points, up=UP)


def test_two_stacks_have_to_agree():
    one = label_of(steps(*[1.0] * 8))
    assert disagree(one, label_of(steps(*[1.19] * 8))) is None
    assert disagree(one, label_of(steps(*[1.25] * 8)))[0] == "distance_disagrees"
    assert disagree(one, label_of(np.tile([0.0, 1, 8], (9, 1))))[0] == "status_disagrees"
    still = label_of(np.tile([0.0, 1, 8], (9, 1)))
    assert disagree(still, still) is None

    def bent(degrees):
        turn = np.radians(degrees)
        points = steps(*[1.0] * 8)
        points[-1] = points[-2] + [np.cos(turn), 0, np.sin(turn)]
        return label_of(points)

    assert {bent(angle).end_clock for angle in (40, 70, 100)} == {11, 10, 9}
    assert disagree(bent(40), bent(70)) is None
    assert disagree(bent(40), bent(100))[0] == "hour_disagrees"
    assert disagree(bent(-20), bent(20)) is not None  # 1 and 11 are two hours apart
    assert disagree(bent(0), bent(20)) is None  # 12 and 11 are one


def write_masks(folder, frames=3):
    folder.mkdir()
    for k in range(frames):
        numbers = np.zeros((20, 30), np.uint8)
        numbers[4:9, 3 + k : 12] = 2
        if k:
            numbers[12:15, 4:9] = 7
        Image.fromarray(numbers).save(folder / f"{k:03d}.png")
    return folder


def test_masks_from_a_folder(tmp_path):
    folder = write_masks(tmp_path / "masks")
    (folder / "categories.json").write_text('{"2": "car"}')
    images = np.zeros((3, 20, 30, 3), np.uint8)
    tracks = given(folder)(images, ())
    assert [(t.track_id, t.category) for t in tracks] == [("2", "car"), ("7", "object")]
    assert tracks[0].masks[1].sum() == 5 * 8
    assert tracks[1].masks[0] is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "001.png").unlink(), "2 PNG files for 3 frames"),
        (lambda folder: (folder / "001.png").write_bytes(b"no"), "001.png: not an image"),
        (lambda folder: Image.new("L", (8, 8)).save(folder / "001.png"), "8 x 8 pixels; expected 30 x 20"),
        (lambda folder: Image.new("RGB", (30, 20)).save(folder / "001.png"), "one channel"),
        (lambda folder: (folder / "categories.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "categories.json").write_text('{"1": 3}'), "names by instance number"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, spoil, words):
    folder = write_masks(tmp_path / "masks")
    spoil(folder)
    with pytest.raises(DataError, match=words):
        MaskFolder(folder)(np.zeros((3, 20, 30, 3), np.uint8), ())


def test_objects_are_cut_out_of_their_boxes(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(60, 90, (60, 80, 3)).astype(np.uint8)
    y, x = np.mgrid[:60, :80]
    disc = (x - 40) ** 2 + (y - 30) ** 2 < 14**2
    image[disc] = rng.integers(170, 220, (int(disc.sum()), 3))
    file = tmp_path / "boxes.jsonl"
    row = {"track_id": 7, "category": "ball", "boxes": [[26, 16, 55, 45], None]}
    file.write_text(json.dumps(row) + "\n\n")
    (track,) = given(file)(np.stack([image, image]), ("car",))
    assert (track.track_id, track.category, track.masks[1]) == ("7", "ball", None)
    both = (track.masks[0] & disc).sum() / (track.masks[0] | disc).sum()
    assert both > 0.9
    assert not cut_out(image, (26, 16, 55, 45))[:16].any()
    assert cut_out(image, (10, 10, 12, 30)) is None
    assert cut_out(image, (0, 0, 80, 60)).all()  # no background to learn from


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "record 1: not valid JSON"),
        ("[]", "track_id and boxes"),
        ('{"track_id": "1", "boxes": [null]}', "1 entries for 2 frames"),
        ('{"track_id": "1"}', "NoneType entries for 2 frames"),
        ('{"track_id": "1", "boxes": [null, [3, 3, 2, 9]]}', r"boxes\[1\] is \[3, 3, 2, 9\]"),
        ('{"track_id": "1", "boxes": [null, [3, 3, NaN, 9]]}', r"boxes\[1\]"),
        ('{"track_id": "1", "boxes": [null, null]}\n{"track_id": "1", "boxes": [null, null]}', "comes twice"),
    ],
)
def test_boxes_that_are_none(tmp_path, line, words):
    file = tmp_path / "boxes.jsonl"
    file.write_text(line)
    with pytest.raises(DataError, match=words):
        BoxFile(file)(np.zeros((2, 20, 30, 3), np.uint8), ())


def test_neither_folder_nor_file(tmp_path):
    (tmp_path / "boxes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        given(tmp_path / "boxes.jsonl")(np.zeros((1, 20, 30, 3), np.uint8), ())
    with pytest.raises(DataError, match="expected a folder of PNG masks"):
        given(tmp_path / "masks.zip")
