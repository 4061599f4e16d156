import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.data import DataConfig, open_pair, open_source
from saccade.data.decode import decode_rgb
from saccade.data.shards import ShardStream, expand_shards
from saccade.data.source import FileSource, PackedStrings, natural_sorted
from saccade.data.split import stratified_split
from saccade.data.table import Row, format_table, parse_table, write_table
from saccade.errors import ConfigError, DataError

from .pictures import encode, photo

JPEG = encode(photo(24, 16))


def fill(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(JPEG)
    return root


# Folders


def test_class_folders_in_natural_order(photos):
    source = open_source(str(photos))
    assert source.labels == ["class2", "class10"]
    assert source.counts() == {"class2": 10, "class10": 6}
    assert source.names[0] == "class2/0.jpg"
    assert source.targets[[0, -1]].tolist() == [0, 1]
    assert source.path(0) == photos / "class2" / "0.jpg"


def test_deeper_folders_belong_to_their_class_and_hidden_files_are_skipped(tmp_path):
    fill(
        tmp_path,
        "cat/a/1.JPG",
        "cat/a/b/2.jpeg",
        "cat/.3.jpg",
        "cat/._4.jpg",
        ".git/5.jpg",
        "dog/6.png",
        "__MACOSX/x/7.jpg",
    )
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    assert list(source.names) == ["cat/a/1.JPG", "cat/a/b/2.jpeg", "dog/6.png"]
    assert source.labels == ["cat", "dog"]


def test_a_folder_around_the_classes_is_not_a_class(tmp_path):
    fill(tmp_path, "archive/images/cat/1.jpg", "archive/images/dog/2.jpg")
    assert open_source(str(tmp_path)).labels == ["cat", "dog"]


def test_links_that_go_round_end(tmp_path):
    fill(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "dog" / "back").symlink_to(tmp_path)
    assert "dog/2.jpg" in list(open_source(str(tmp_path)).names)


def test_train_and_val_folders(tmp_path):
    fill(tmp_path, "Train/cat/1.jpg", "Train/dog/2.jpg", "validation/dog/3.jpg", "test/cat/4.jpg")
    assert list(open_source(str(tmp_path), part="train").names) == ["cat/1.jpg", "dog/2.jpg"]
    pair = open_pair(DataConfig(source=str(tmp_path)))
    assert list(pair.val.names) == ["dog/3.jpg"]
    # The class of validation samples is found by name among the training classes.
    assert pair.val.targets.tolist() == [1]
    assert pair.labels == pair.val.labels == ["cat", "dog"]


def test_a_class_called_train_is_a_class(tmp_path):
    fill(tmp_path, "train/1.jpg", "bus/2.jpg", "test/3.jpg")
    assert open_source(str(tmp_path)).labels == ["bus", "test", "train"]


def test_empty_classes_and_loose_images_are_told(tmp_path):
    fill(tmp_path, "cat/1.jpg", "dog/2.jpg", "stray.jpg")
    (tmp_path / "bird").mkdir()
    source = open_source(str(tmp_path))
    assert source.labels == ["cat", "dog"]
    assert any("'bird' has no images" in note for note in source.notes)
    assert any("beside the class folders" in note and "stray.jpg" in note for note in source.notes)


def test_fixed_labels_keep_their_numbers_and_refuse_strangers(tmp_path):
    fill(tmp_path, "dog/1.jpg")
    source = open_source(str(tmp_path), labels=["ant", "bee", "dog"])
    assert source.targets.tolist() == [2]
    with pytest.raises(DataError, match=r"class 'dog' is not one of the 2 classes .* did you mean 'dogs'"):
        open_source(str(tmp_path), labels=["cats", "dogs"])


def test_pictures_without_classes(tmp_path):
    fill(tmp_path, "10.jpg", "9.jpg", "sub/1.jpg")
    source = open_source(str(tmp_path), classes=False)
    assert list(source.names) == ["9.jpg", "10.jpg", "sub/1.jpg"]
    assert source.targets.tolist() == [-1, -1, -1]
    one = open_source(str(tmp_path / "9.jpg"), classes=False)
    assert list(one.names) == ["9.jpg"]
    assert decode_rgb(one.read(0)).shape == (16, 24, 3)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "the folder is empty"),
        (lambda root: (root / "a.txt").write_text("x"), r"no images among its files \(1 .txt\)"),
        (lambda root: fill(root, "a.jpg"), "1 images but no class folders"),
        (
            lambda root: fill(root, "cat/a.jpg", "cat/b.jpg"),
            r"1 class \('cat'\); a classifier needs two or more",
        ),
        (
            lambda root: fill(root, "cat/a.jpg", "dog/b.jpg"),
            "2 images are too few to keep some for validation",
        ),
    ],
)
def test_folders_that_cannot_be_trained_on(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(DataError, match=message):
        open_pair(DataConfig(source=str(tmp_path)))


def test_nothing_there_names_the_nearest(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="no such file or folder; did you mean 'photos'"):
        open_source(str(tmp_path / "photo" / "train"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="did you mean 'digits'"):
        open_source("digit")
    with pytest.raises(DataError, match="no data was given"):
        open_source("")
    (tmp_path / "a.pdf").touch()
    with pytest.raises(DataError, match="expected a folder, a table"):
        open_source(str(tmp_path / "a.pdf"))


def test_split_is_stratified_and_told(photos):
    pair = open_pair(DataConfig(source=str(photos), val_fraction=0.2), seed=3)
    assert pair.val.counts() == {"class2": 2, "class10": 1}
    assert not set(pair.train.names) & set(pair.val.names)
    assert len(pair.train) + len(pair.val) == 16
    assert any("seed 3" in note for note in pair.notes)
    again = open_pair(DataConfig(source=str(photos), val_fraction=0.2), seed=3)
    assert list(again.val.names) == list(pair.val.names)
    others = [list(open_pair(DataConfig(source=str(photos)), seed=seed).val.names) for seed in range(4)]
    assert any(names != list(pair.val.names) for names in others)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_split_properties(targets, fraction, seed):
    targets = np.array(targets)
    train, val = stratified_split(targets, fraction, seed=seed)
    assert sorted([*train, *val]) == list(range(len(targets)))
    for target in np.unique(targets):
        count, held = (targets == target).sum(), (targets[val] == target).sum()
        assert held == (0 if count == 1 else min(max(1, round(fraction * count)), count - 1))


def test_split_refuses_bad_fractions():
    with pytest.raises(ConfigError, match="val_fraction"):
        stratified_split(np.array([0, 1]), 1.0)


@given(st.lists(st.text(max_size=8), max_size=20))
def test_packed_strings(texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    packed = PackedStrings(texts)
    assert list(packed) == texts
    assert packed[1:3] == texts[1:3]


@given(st.lists(st.text(max_size=6), max_size=8))
def test_natural_order_is_an_order(texts):
    assert natural_sorted(texts) == natural_sorted(reversed(texts))


def test_natural_order():
    assert natural_sorted(["b10", "B2", "a", "b1", "10", "9"]) == ["9", "10", "a", "b1", "B2", "b10"]


# Tables

cells = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8).map(str.strip)
rows = st.builds(Row, cells.filter(bool), cells, cells)


@given(st.lists(rows, min_size=1, max_size=8))
def test_tables_survive_a_round_trip(values):
    assert parse_table(format_table(values)) == values


@given(st.text(max_size=80))
def test_any_text_is_a_table_or_a_clear_error(text):
    try:
        assert all(row.path for row in parse_table(text))
    except DataError as error:
        message = str(error)
    else:
        return
    assert message.startswith("table")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg,cat\nb.jpg,dog\n", [Row("a.jpg", "cat"), Row("b.jpg", "dog")]),
        ("\ufeffLabel;File\r\ncat;a b.jpg\r\n\r\n", [Row("a b.jpg", "cat")]),
        ("filename\twidth\tclass\tsplit\na.jpg\t3\tcat\tval", [Row("a.jpg", "cat", "val")]),
        ('path,label\n"a,b.jpg","the ""cat"""\n', [Row("a,b.jpg", 'the "cat"')]),
        ("a.jpg\nb.jpg\n", [Row("a.jpg"), Row("b.jpg")]),
    ],
)
def test_tables_are_recognised(text, expected):
    assert parse_table(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("path,label\n", "no rows"),
        ("path,label\na.jpg\n", "line 2: 1 columns"),
        ("a.jpg,1,2,3\n", "no header"),
        ("label,split\ncat,val\n", "no column for the path"),
        ("path,file,label\na,b,c\n", "more than one column could be the path"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
        ('path,label\n"a"b,cat\n', "check the quotes"),
    ],
)
def test_bad_tables(text, message):
    with pytest.raises(DataError, match=message):
        parse_table(text)


def test_table_source(tmp_path):
    fill(tmp_path, "x/1.jpg", "x/2.jpg", "x/3.jpg")
    write_table(
        tmp_path / "t.csv",
        [
            Row("x/1.jpg", "dog", "train"),
            Row("x/2.jpg", "cat", "train"),
            Row(str(tmp_path / "x/3.jpg"), "cat", "valid"),
        ],
    )
    pair = open_pair(DataConfig(source=str(tmp_path / "t.csv")))
    assert list(pair.train.names) == ["x/1.jpg", "x/2.jpg"]
    assert pair.train.targets.tolist() == [1, 0]
    assert pair.val.path(0) == tmp_path / "x/3.jpg"
    write_table(tmp_path / "u.csv", [Row("x/1.jpg", "dog", "train")])
    with pytest.raises(DataError, match="no rows for 'val'"):
        open_source(str(tmp_path / "u.csv"), part="val")
    write_table(tmp_path / "v.csv", [Row("x/1.jpg")])
    with pytest.raises(DataError, match=r"row 1 \(x/1.jpg\) has no label"):
        open_source(str(tmp_path / "v.csv"))
    write_table(tmp_path / "w.csv", [Row("x/1.jpg", "dog", "tain"), Row("x/2.jpg", "cat", "val")])
    with pytest.raises(DataError, match=r"x/1.jpg has the split 'tain'; expected one of train"):
        open_pair(DataConfig(source=str(tmp_path / "w.csv")))
    assert len(open_source(str(tmp_path / "v.csv"), classes=False)) == 1
    (tmp_path / "w.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        open_source(str(tmp_path / "w.csv"))


# Shards


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def samples(start, count, kind="cls"):
    for number in range(start, start + count):
        yield f"{number:05d}.jpg", encode(photo(24, 16, seed=number))
        if kind == "cls":
            yield f"{number:05d}.cls", str(number % 3).encode()
        elif kind == "json":
            yield f"{number:05d}.json", json.dumps({"label": "xyz"[number % 3], "caption": "a"}).encode()


def test_local_shards_are_read_by_number(tmp_path):
    write_tar(tmp_path / "s-000.tar", samples(0, 4))
    write_tar(tmp_path / "s-001.tar", samples(4, 3))
    source = open_source(str(tmp_path / "s-{000..001}.tar"))
    assert len(source) == 7
    assert source.labels == ["0", "1", "2"]
    assert source.targets.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert source.read(5) == encode(photo(24, 16, seed=5))
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert open_source(str(tmp_path)).labels == ["ant", "bee", "cat"]
    assert open_source(str(tmp_path), labels=["cat", "bee", "ant"]).targets.tolist()[:3] == [2, 1, 0]
    pair = open_pair(DataConfig(source=str(tmp_path), val_fraction=0.3))
    assert len(pair.val) == 3
    assert pair.val.read(0)[:2] == b"\xff\xd8"


def test_shards_with_names_parts_and_equal_keys(tmp_path):
    write_tar(tmp_path / "a-train-0.tar", samples(0, 4, "json"))
    write_tar(tmp_path / "a-train-1.tar", samples(0, 4, "json"))
    write_tar(tmp_path / "a-val-0.tar", samples(0, 2, "json"))
    pair = open_pair(DataConfig(source=str(tmp_path)))
    assert (len(pair.train), len(pair.val)) == (8, 2)
    assert pair.labels == ["x", "y", "z"]
    assert len(set(pair.train.names)) == 8


def test_bad_shards(tmp_path):
    write_tar(tmp_path / "n.tar", samples(0, 2, "none"))
    with pytest.raises(DataError, match=r"sample 00000 has no label; expected 00000\.cls"):
        open_source(str(tmp_path / "n.tar"))
    assert len(open_source(str(tmp_path / "n.tar"), classes=False)) == 2
    write_tar(tmp_path / "e.tar", [("a.txt", b"x")])
    with pytest.raises(DataError, match="no images in 1 shards"):
        open_source(str(tmp_path / "e.tar"))
    whole = (tmp_path / "n.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(whole[: whole.index(JPEG[-20:-4]) if JPEG[-20:-4] in whole else 3000])
    with pytest.raises(DataError, match="the shard is damaged"):
        open_source(str(tmp_path / "t.tar"), classes=False)
    (tmp_path / "x.tar").write_bytes(b"hello" * 200)
    with pytest.raises(DataError, match="the shard is damaged"):
        open_source(str(tmp_path / "x.tar"))
    with pytest.raises(DataError, match="cannot be read"):
        open_source(str(tmp_path / "gone-{0..1}.tar"))
    write_tar(tmp_path / "l" / "l.tar", samples(0, 3))
    (tmp_path / "l" / "classes.json").write_text('["a"]')
    with pytest.raises(DataError, match="label 2 is beyond the 1 class names"):
        open_source(str(tmp_path / "l"))
    (tmp_path / "l" / "classes.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        open_source(str(tmp_path / "l"))


def test_other_shards_become_a_stream(tmp_path):
    write_tar(tmp_path / "s-0.tar.gz", samples(0, 4))
    stream = open_source(str(tmp_path / "s-0.tar.gz"))
    assert isinstance(stream, ShardStream)
    assert len(stream) == 4
    assert stream.labels == ["0", "1", "2"]
    assert any("read once" in note for note in stream.notes)
    with pytest.raises(DataError, match="streamed shards cannot be split"):
        open_pair(DataConfig(source=str(tmp_path / "s-0.tar.gz")))
    (tmp_path / "dataset.json").write_text(
        json.dumps({"classes": ["a", "b", "c"], "shards": {"s-0.tar.gz": 4}})
    )
    assert open_source(str(tmp_path / "s-0.tar.gz")).notes == []
    piped = open_source(f"pipe:cat {tmp_path}/s-0.tar.gz | gunzip", allow_pipe=True)
    assert isinstance(piped, ShardStream)
    assert len(piped) == 4


def test_shard_names_are_expanded():
    assert expand_shards("a-{08..11}.tar::b.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar", "b.tar"]
    with pytest.raises(DataError, match="check the braces"):
        expand_shards("a-{0..99999999999}.tar")


# Built in


def test_digits():
    train, val = open_source("digits", part="train"), open_source("builtin:digits", part="val")
    assert (len(train), len(val), len(open_source("digits"))) == (1438, 359, 1797)
    assert not set(train.names) & set(val.names)
    assert min(val.counts().values()) >= 34
    assert train.read(0).size == (64, 64)
    assert decode_rgb(train.read(0)).shape == (64, 64, 3)
    pair = open_pair(DataConfig(source="digits"), seed=9)
    assert list(pair.val.names) == list(val.names)
    assert open_source("digits", labels=[str(9 - digit) for digit in range(10)]).targets[0] == 9


def test_subsets_look_like_sources(photos):
    source = open_source(str(photos)).subset([15, 0])
    assert isinstance(source.subset([1]).path(0), type(photos))
    assert list(source.names) == ["class10/5.jpg", "class2/0.jpg"]
    assert source.names[0:1] == ["class10/5.jpg"]
    assert isinstance(open_source(str(photos)), FileSource)
