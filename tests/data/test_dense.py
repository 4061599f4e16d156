"""Dense data sets: layouts, batches, changes of pictures with all that lies on them, unreadable files."""

import json

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as mask_utils
from PIL import Image
from torchvision import tv_tensors

from saccade.data.coco import read_coco
from saccade.data.config import AugmentConfig, DataConfig
from saccade.data.dataset import SampleKey
from saccade.data.dense import MapDataset, ObjectDataset, collate_dense, read_map
from saccade.data.dense_augment import GEOMETRIES, IGNORED, build_dense_augmentation
from saccade.data.layout import find_coco, find_maps
from saccade.data.scenes import scenes_folder
from saccade.data.whole import WholePreprocess
from saccade.errors import ConfigError, DataError
from saccade.tasks.segment.task import Segment, find_levels
from saccade.weights.card import Card
from saccade.worlds import CLASSES, SURFACES

SMALL = WholePreprocess(size=64, max_size=96)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scenes_folder(counts={"train": 6, "val": 4}, home=tmp_path_factory.mktemp("data") / "scenes")


def objects(scenes, **options):
    part = find_coco(str(scenes))["train"]
    return ObjectDataset(read_coco(part.annotations, part.pictures), SMALL, masks=True, **options)


def test_scenes_are_a_folder_like_any_other(scenes):
    parts = find_coco(str(scenes))
    assert set(parts) == {"train", "val"}
    index = read_coco(parts["val"].annotations, parts["val"].pictures)
    assert index.labels == list(CLASSES)
    assert len(index.files) == 4
    maps, names, zero_is_none = find_maps(str(scenes))
    assert (set(maps), names, zero_is_none) == ({"train", "val"}, list(SURFACES), False)
    # Drawn once: a second call changes nothing, and draws nothing.
    before = parts["val"].annotations.stat().st_mtime_ns
    scenes_folder(lambda *_: pytest.fail("drawn again"), home=scenes)
    assert parts["val"].annotations.stat().st_mtime_ns == before


def test_scenes_are_equal_on_every_machine(scenes, tmp_path):
    again = scenes_folder(counts={"train": 2, "val": 1}, home=tmp_path / "again")
    for name in ("images/train/00001.png", "semantic/val/00000.png"):
        assert np.array_equal(np.array(Image.open(again / name)), np.array(Image.open(scenes / name)))


def test_masks_and_boxes_fit_each_other(scenes):
    dataset = objects(scenes)
    for number in range(len(dataset)):
        part = dataset.parts(number, (128, 128))
        for box, mask in zip(part["boxes"], part["masks"], strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [float(edge) for edge in tight]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_everything_stays_in_step(geometry):
    # A bright square on black, its box, its mask and its class map: after any change they still agree.
    image = torch.zeros(3, 80, 100, dtype=torch.uint8)
    image[:, 20:50, 30:70] = 255
    mask = (image[0] > 0).to(torch.uint8)
    config = AugmentConfig(geometry=geometry, hflip=0.5, vflip=0.3)
    change = build_dense_augmentation(config, SMALL)
    seen = 0
    for seed in range(25):
        torch.manual_seed(seed)
        sample = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes([[30, 20, 70, 50]], format="XYXY", canvas_size=(80, 100)),
            "labels": torch.tensor([0]),
            "masks": tv_tensors.Mask(mask[None]),
            "target": tv_tensors.Mask(mask.long()),
        }
        found = change(sample)
        size = found["image"].shape[-2:]
        assert found["masks"].shape[-2:] == size
        assert found["target"].shape == size
        bright = found["image"][0] > 127
        counted = found["target"] != IGNORED
        # Smooth pictures and nearest masks differ by the outline, which is most of a tiny picture.
        if counted.sum() > 600:
            assert ((found["target"][counted] > 0) != bright[counted]).float().mean() < 0.06
        assert torch.equal(found["masks"][0][counted] > 0, found["target"][counted] > 0)
        if bright.sum() < 50:
            continue
        seen += 1
        rows, columns = torch.nonzero(bright, as_tuple=True)
        box = found["boxes"][0].float()
        box[0::2].clamp_(0, size[1])
        box[1::2].clamp_(0, size[0])
        tight = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert (box - tight).abs().max() <= 2
    assert seen > 5
    if geometry in ("crop", "jitter"):
        assert tuple(size) == (64, 64)
    elif geometry == "fixed":
        assert tuple(size) == (64, 80)


def test_geometry_is_checked():
    with pytest.raises(ConfigError, match="multi_scale"):
        build_dense_augmentation(AugmentConfig(geometry="multiscale"), SMALL)


def test_a_sample_depends_on_its_key_alone(scenes):
    dataset = objects(scenes, augment=build_dense_augmentation(AugmentConfig(geometry="jitter"), SMALL))
    first, again, other = (dataset[SampleKey(2, seed)] for seed in (5, 5, 6))
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["target"]["boxes"], again["target"]["boxes"])
    assert first["image"].shape != other["image"].shape or not torch.equal(first["image"], other["image"])


def test_batches_are_padded(scenes):
    dataset = objects(scenes, augment=build_dense_augmentation(AugmentConfig(geometry="multi_scale"), SMALL))
    batch = collate_dense([dataset[SampleKey(i, i)] for i in range(4)], SMALL)
    assert batch["image"].shape[2] % 32 == 0
    for image, size, target in zip(batch["image"], batch["size"], batch["targets"], strict=True):
        height, width = size.tolist()
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()
        assert target["masks"].shape[1:] == image.shape[1:]
        assert (target["boxes"][:, 2] <= width).all()


def test_broken_pictures(scenes, tmp_path):
    dataset = objects(scenes)
    dataset.content.files[1] = tmp_path / "damaged.png"
    (tmp_path / "damaged.png").write_bytes(dataset.content.files[0].read_bytes()[:300])
    sample = dataset[1]
    assert sample["image"].ndim == 1
    assert "damaged" in sample["skipped"][0][1]
    batch = collate_dense([dataset[0], sample, dataset[2]], SMALL)
    assert len(batch["image"]) == len(batch["truth"]) == 2
    dataset.augment = build_dense_augmentation(AugmentConfig(), SMALL)
    assert dataset[SampleKey(1, 0)]["index"] == 2
    assert len(collate_dense([sample], SMALL)["image"]) == 0


def test_annotations_of_another_picture_are_refused(scenes, tmp_path):
    dataset = objects(scenes)
    Image.new("RGB", (64, 128)).save(tmp_path / "turned.png")
    dataset.content.files[0] = tmp_path / "turned.png"
    assert "64 x 128" in dataset[0]["skipped"][0][1]


def maps_folder(home, names=None, zero=0):
    for side in ("train", "val"):
        (home / "images" / side).mkdir(parents=True)
        (home / "masks" / side).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (48, 32), (number * 50, 80, 80)).save(home / "images" / side / f"{number}.jpg")
            values = np.full((32, 48), zero, np.uint8)
            values[:16] = 2
            values[0, 0] = 255
            Image.fromarray(values).save(home / "masks" / side / f"{number}.png")
    if names is not None:
        (home / "classes.txt").write_text("\n".join(names))


def test_class_maps(tmp_path):
    maps_folder(tmp_path, ["sky", "road", "car"])
    parts, names, none = find_maps(str(tmp_path))
    pictures = sorted(parts["train"].pictures[0].iterdir())
    maps = sorted(parts["train"].annotations.iterdir())
    assert not none
    dataset = MapDataset(pictures, maps, names, SMALL, where="x")
    truth = dataset[0]["truth"]
    assert truth.unique().tolist() == [0, 2, IGNORED]
    dataset.augment = build_dense_augmentation(AugmentConfig(geometry="crop"), SMALL)
    batch = collate_dense([dataset[SampleKey(i, i)] for i in range(3)], SMALL)
    assert batch["targets"].shape == (3, 64, 64)
    assert set(batch["targets"].unique().tolist()) <= {0, 2, IGNORED}


def test_ade_counts_from_one(tmp_path):
    maps_folder(tmp_path)
    path = tmp_path / "masks" / "train" / "0.png"
    assert np.unique(read_map(path, (32, 48), range(1, 151), (0,))).tolist() == [1, IGNORED]
    assert np.unique(read_map(path, (32, 48), range(3))).tolist() == [0, 2, IGNORED]
    for size, classes in (((32, 47), 3), ((32, 48), 2)):
        with pytest.raises(DataError):
            read_map(path, size, range(classes))
    with pytest.raises(DataError, match="mode RGB"):
        read_map(tmp_path / "images" / "train" / "0.jpg", (32, 48), range(3))


def test_ade20k_layout(tmp_path):
    home = tmp_path / "ADEChallengeData2016"
    for side in ("training", "validation"):
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            (home / kind / side).mkdir(parents=True)
            Image.new("L", (8, 8)).save(home / kind / side / f"ADE_1.{suffix}")
    (home / "objectInfo150.txt").write_text("Idx\tRatio\tName\n1\t0.1\twall\n2\t0.1\tbuilding, edifice\n")
    parts, names, none = find_maps(str(tmp_path))
    assert (set(parts), names, none) == ({"train", "val"}, ["wall", "building"], True)


@pytest.mark.parametrize(
    ("files", "sides"),
    [
        (["annotations/instances_train2017.json", "annotations/instances_val2017.json"], {"train", "val"}),
        (["annotations/instances_train2017.json", "annotations/captions_train2017.json"], {"train"}),
        (
            ["train/_annotations.coco.json", "valid/_annotations.coco.json", "test/_annotations.coco.json"],
            {"train", "val"},
        ),
        (["train.json", "val.json"], {"train", "val"}),
        (["things.json"], {"all"}),
        (["annotations/instances_val2017.json"], {"val"}),
    ],
)
def test_layouts_of_coco(tmp_path, files, sides):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({}))
    assert set(find_coco(str(tmp_path))) == sides


def test_layouts_that_are_none(tmp_path):
    for call in (find_coco, find_maps):
        with pytest.raises(DataError, match="expected"):
            call(str(tmp_path))
        with pytest.raises(DataError):
            call(str(tmp_path / "gone"))
    for name in ("a_train.json", "b_train.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match="several files"):
        find_coco(str(tmp_path))


@pytest.mark.parametrize("mode", ["L", "CMYK", "I;16", "P", "RGBA", "1"])
def test_every_kind_of_picture_becomes_three_channels(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new(mode, (50, 40)).save(path)
    image, size = SMALL.fast(path)
    assert image.shape == (3, 64, 80)
    assert size == (40, 50)


def test_sizes():
    assert WholePreprocess().resized(480, 640) == (800, 1067)
    assert WholePreprocess().resized(400, 1200) == (444, 1333)
    picture = np.random.default_rng(0).integers(0, 255, (64, 90, 3), dtype=np.uint8)
    same = SMALL.normalise(SMALL.resize(picture))
    assert np.array_equal(SMALL.denormalise(same).permute(1, 2, 0).numpy(), picture)
    for values in ({"size": 8}, {"size": 100, "max_size": 50}, {"std": (0, 1, 1)}, {"divisor": 0}):
        with pytest.raises(ConfigError):
            WholePreprocess.from_dict(values)


@pytest.mark.parametrize(
    ("layout", "end"),
    [
        (("images/{}", "masks/{}"), "_mask"),
        (("img_dir/{}", "ann_dir/{}"), ""),
        (("{}", "{}annot"), ""),
        (("leftImg8bit/{}/bonn", "gtFine/{}/bonn"), "_gtFine_labelTrainIds"),
    ],
)
@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0, 255], [0, 1]),
        ([0, 128, 255], [0, 1, 2]),
        ([0, 64, 128], [0, 1, 2]),
        ([0, 2, 255], [0, 2, IGNORED]),
    ],
)
def test_layouts_and_levels_of_class_maps(tmp_path, layout, end, values, classes):
    for side in ("train", "val"):
        pictures, maps = (tmp_path / place.format(side) for place in layout)
        pictures.mkdir(parents=True)
        maps.mkdir(parents=True)
        Image.new("RGB", (48, 32)).save(pictures / f"a{'_leftImg8bit' if 'gtFine' in end else ''}.png")
        rows = np.repeat(np.resize(np.array(values, np.uint8), 32)[:, None], 48, 1)
        Image.fromarray(rows).save(maps / f"a{end}.png")
    card = Card("shvit_s1", task="segment")
    opened = Segment().open(DataConfig(source=str(tmp_path)), AugmentConfig(), card, seed=0)
    assert len(opened.labels) == max(number for number in classes if number != IGNORED) + 1
    assert np.unique(opened.val[0]["truth"]).tolist() == classes
    said = [note for note in opened.notes if "levels of grey" in note]
    assert len(said) == (IGNORED not in classes)


def test_levels_that_do_not_fit_the_names_are_refused(tmp_path):
    paths = []
    for name, values in (("a", [0, 100, 200]), ("b", [0, 255])):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(np.resize(np.array(values, np.uint8), (4, 6))).save(paths[-1])
    with pytest.raises(DataError, match=r"3 values 0, 100, 200, which are no numbers of the 2 classes"):
        find_levels(paths[:1], (), 2)
    assert find_levels(paths[1:], (), 3) == ((0, 1, 2), [])  # 255 counts for nothing beside three names
    with pytest.raises(DataError, match="value 200 is no class; expected 0, 255, and 255"):
        read_map(paths[0], (4, 6), (0, 255))


@pytest.mark.parametrize(
    ("ignored", "names", "classes", "labels"),
    [
        ((3,), None, [0, 1, 2, IGNORED], ["class 0", "class 1", "class 2"]),
        ((1,), None, [0, 1, 2, IGNORED], ["class 0", "class 2", "class 3"]),
        ((3,), ["sky", "road", "car", "none"], [0, 1, 2, IGNORED], ["sky", "road", "car"]),
        ((0, 2), ["none", "sky", "void", "car"], [0, 1, IGNORED], ["sky", "car"]),
    ],
)
def test_values_that_count_for_nothing(tmp_path, ignored, names, classes, labels):
    for side in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / side).mkdir(parents=True)
        Image.new("RGB", (48, 32)).save(tmp_path / "images" / side / "a.png")
        rows = np.repeat(np.resize(np.arange(4, dtype=np.uint8), 32)[:, None], 48, 1)
        Image.fromarray(rows).save(tmp_path / "masks" / side / "a.png")
    if names:
        (tmp_path / "classes.txt").write_text("\n".join(names))
    data = DataConfig(source=str(tmp_path), ignored=ignored)
    opened = Segment().open(data, AugmentConfig(), Card("shvit_s1", task="segment"), seed=0)
    assert opened.labels == labels
    assert np.unique(opened.val[0]["truth"]).tolist() == classes
    again = Card("shvit_s1", task="segment", num_classes=len(labels), labels=labels)
    assert Segment().open(data, AugmentConfig(), again, seed=0).val[0]["truth"].equal(opened.val[0]["truth"])


def test_the_truth_has_outlines_in_the_files_pixels(scenes):
    truth = objects(scenes).truth(0, (128, 128))
    assert len(truth["runs"]) == len(truth["boxes"]) > 0
    for runs, (left, top, right, bottom) in zip(truth["runs"], truth["boxes"].tolist(), strict=True):
        assert runs["size"] == [128, 128]
        high, wide = np.nonzero(mask_utils.decode(runs))
        assert left - 1 <= wide.min() <= left + 1
        assert right - 1 <= wide.max() + 1 <= right + 1
        assert top - 1 <= high.min() <= top + 1
        assert bottom - 1 <= high.max() + 1 <= bottom + 1
