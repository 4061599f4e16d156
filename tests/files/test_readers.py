"""Files from anybody, through the public functions that read them: a value or one sentence, in bounds."""

import contextlib
import csv
import io
import json
import pickle
import random
import resource
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import saccade
from saccade.cli.main import main
from saccade.data.coco import read_coco
from saccade.data.config import read_split
from saccade.data.preprocess import Preprocess
from saccade.data.radar_pairs import read_manifest
from saccade.data.shards import read_class_names, resolve_labels
from saccade.data.table import read_table
from saccade.engine.evaluate.page import read_metrics
from saccade.engine.train.convert import load_plan
from saccade.engine.train.log import RunLog
from saccade.engine.train.recipe import Recipe, dump_recipe, load_recipe
from saccade.errors import ConfigError, DataError, SaccadeError, WeightsError
from saccade.files import parse_yaml, read_lines
from saccade.files.arrays import map_array, read_arrays
from saccade.files.pickles import read_pickle
from saccade.files.tensors import read_header, read_tensors
from saccade.kinematics.records import read_questions, read_tracks
from saccade.kinematics.report import read_rejected
from saccade.kinematics.scoring import read_answers
from saccade.kinematics.sources.blobs import read_numbers
from saccade.radar.calibration import read_calibration
from saccade.radar.importing import load_array
from saccade.radar.poses import read_track
from saccade.radar.profile import read_profile
from saccade.tasks.answer.vlm.data import read_conversations
from saccade.tasks.answer.vlm.eyes import load_eyes
from saccade.tasks.open import load_model
from saccade.weights import Card
from saccade.weights.pth import read_pth

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rewound(path):
    log = RunLog(path.parent)
    log.path = path
    log.rewind(10, 10)


def placed(read, name):
    """Read a folder in which one file has a name of its own."""

    def inside(path):
        folder = path.with_suffix(".folder")
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
        return read(folder)

    return inside


def refused(value):
    raise ValueError(value)


READERS = {
    "card": lambda path: Card.from_json(path.read_bytes().decode("utf-8", "replace")),
    "recipe.yaml": load_recipe,
    "plan": placed(load_plan, "sparsify.yaml"),
    "split": placed(read_split, "recipe.yaml"),
    "log.jsonl": rewound,
    "metrics.csv": read_metrics,
    "table.csv": read_table,
    "coco.json": lambda path: read_coco(path, [path.parent]),
    "classes": placed(lambda folder: read_class_names(str(folder / "a.tar")), "classes.json"),
    "pairs": placed(read_manifest, "manifest.json"),
    "a.pth": read_pth,
    "a.safetensors": read_tensors,
    "eyes.safetensors": load_eyes,
    "a.npy": map_array,
    "a.npz": read_arrays,
    "blob": lambda path: read_numbers(path.read_bytes(), "here"),
    "tracks.jsonl": lambda path: list(read_tracks(path)),
    "questions.jsonl": lambda path: list(read_questions(path)),
    "tracks.parquet": lambda path: list(read_tracks(path)),
    "answers.jsonl": read_answers,
    "rejected.jsonl": read_rejected,
    "calibration.json": read_calibration,
    "profile.json": read_profile,
    "poses.csv": read_track,
    "array.json": lambda path: load_array(path, 4e-3),
    "talks.json": read_conversations,
    "talks.jsonl": read_conversations,
}


def one_sentence(name, path):
    """Read a file; True where it was refused, and that by one line."""
    try:
        READERS[name](path)
    except SaccadeError as error:
        sentence = str(error)
    else:
        return False
    assert "\n" not in sentence
    return True


SYNTAX = st.text('[]{}",:0123456789eE.-&*!|> \n\tabnulltrefs', max_size=200).map(str.encode)


@pytest.mark.parametrize("name", READERS)
@QUICK
@given(data=st.binary(max_size=300) | SYNTAX)
def test_any_bytes_give_a_value_or_a_sentence(name, data, tmp_path):
    path = tmp_path / (name if "." in name else f"{name}.bin")
    path.write_bytes(data)
    one_sentence(name, path)


def torch_file(**options):
    content = {
        "model": {"a": torch.randn(3, 2), "b": torch.ones(2).bool(), "c": torch.randn(4)[::2]},
        "step": 3,
        "lr": 0.1,
    }
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def numpy_file(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


RECORDS = {
    "card": {"model": "shvit_s1", "num_classes": 2, "labels": ["a", "b"], "options": {"distilled": True}},
    "classes": {"classes": ["a", "b"], "shards": {"a.tar": 3}},
    "pairs": {"format": 1, "seed": 0, "shard_size": 4, "count": 4, "config": {}, "shards": {"a.safetensors": "0"}},
    "coco.json": {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0,
             "segmentation": [[1, 2, 11, 2, 11, 14]]},
        ],
        "categories": [{"id": 7, "name": "cat"}],
    },
    "calibration.json": {"channels": [{"tx": 1, "rx": 1, "real": 1.0, "imag": 0.5}], "range_offset_m": 0.1},
    "array.json": {"tx": [[0, 0, 0]], "rx": [[0, 0, 0.1]], "unit": "m"},
    "profile.json": {
        "start_hz": 77e9, "slope_hz_per_s": 7e13, "sample_rate_hz": 5e6, "num_samples": 256, "frame_period_s": 0.1,
        "tx_order": [0], "rx": [0, 1], "loops": 1, "frames": 10,
    },
    "talks.json": [
        {"id": "x", "image": "a.jpg", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}  # noqa: E501
    ],
    "log.jsonl": {"kind": "epoch", "step": 3, "epoch": 1, "loss": 0.5},
    "answers.jsonl": {"id": "q1", "answer": "3 m"},
    "rejected.jsonl": {"clip_id": "a", "record": "1", "reason": "none"},
    "tracks.jsonl": {
        "format": "saccade-track/1", "clip_id": "a", "source": "s", "split": "val", "track_id": "t", "category": "car",  # noqa: E501
        "timestamps_s": [0.0, 0.5], "xyz_world": [[0, 0, 0], [1, 0, 0]], "label_origin": "gt",
    },
}  # fmt: skip
ODD = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    "",
    "\0",
    "\ud800",
    "x" * 10_000,
    [],
    {},
    [[[]]],
]


def places(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(value, path, new, remove):
    """Copy with one thing exchanged or removed."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and remove:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new, remove)
    return copy


@pytest.mark.parametrize("name", RECORDS)
def test_records_with_one_thing_exchanged(name, tmp_path):
    """Types flipped, fields removed, nested, huge: every place of a real record, every odd value."""
    (tmp_path / "a.jpg").write_bytes(b"")
    path = tmp_path / (name if "." in name else f"{name}.bin")
    record = RECORDS[name]
    path.write_text(json.dumps(record))
    outcomes = {one_sentence(name, path)} if name != "pairs" else {False}
    assert outcomes == {False}, "the record as it is should be fine"
    cases = [(place, new, False) for place in places(record) for new in ODD]
    cases += [(place, None, True) for place in places(record) if place]
    for place, new, remove in cases:
        path.write_text(json.dumps(changed(record, place, new, remove)))
        outcomes.add(one_sentence(name, path))
    path.write_text("[" * 500 + json.dumps(record) + "]" * 500)
    assert one_sentence(name, path) or name == "log.jsonl"  # a log leaves the line out


def test_recipes_with_one_thing_exchanged(tmp_path):
    record = yaml.safe_load(dump_recipe(Recipe()))
    path = tmp_path / "recipe.yaml"
    cases = [(place, new) for place in places(record) for new in ODD if new != "\ud800"]
    for place, new in random.Random(0).sample(cases, 150):
        path.write_text(yaml.safe_dump(changed(record, place, new, False), sort_keys=False))
        one_sentence("recipe.yaml", path)


@pytest.mark.parametrize(
    "name", ["a.pth", "older.pth", "a.safetensors", "a.npy", "a.npz", "tracks.parquet", "blob"]
)
def test_real_files_with_bytes_exchanged(name, tmp_path):
    made = {
        "a.pth": torch_file,
        "older.pth": lambda: torch_file(_use_new_zipfile_serialization=False),
        "a.safetensors": lambda: safetensors.torch.save(
            {"a": torch.randn(3), "b": torch.zeros(2, 2)}, {"x": "y"}
        ),
        "a.npy": lambda: numpy_file(np.save, np.arange(6.0).reshape(2, 3)),
        "a.npz": lambda: numpy_file(np.savez_compressed, a=np.arange(9), b=np.zeros((2, 2))),
        "tracks.parquet": lambda: parquet_file(tmp_path),
        "blob": lambda: pickle.dumps([[1.0, 2.0], [3.0, 4.0]]),
    }
    whole, generator = made[name](), random.Random(0)
    path = tmp_path / name
    reader = "a.pth" if name == "older.pth" else name
    path.write_bytes(whole)
    assert not one_sentence(reader, path)
    damaged = 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 1, 4))):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(data[: generator.randrange(len(data))] if generator.random() < 0.2 else data)
        damaged += one_sentence(reader, path)
    assert damaged


def parquet_file(folder):
    pytest.importorskip("pyarrow")
    from saccade.kinematics.records import Track, write_records

    track = Track("a", "s", "val", "t", "car", [0.0, 0.5], [[0, 0, 0], [1, 0, 0]], "gt")
    write_records([track], folder / "made.parquet")
    return (folder / "made.parquet").read_bytes()


# --- bombs ---------------------------------------------------------------------------------------------------------


def archive(program, storages=None, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        made.writestr("a/data.pkl", program)
        for name, data in (storages or {}).items():
            made.writestr(f"a/data/{name}", data)
    return file.getvalue()


def expanded():
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3).expand(10**9, 3)}, file)
    return file.getvalue()


def larger_storage():
    """The storage's size in the pickle beyond the file's."""
    program = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"  # noqa: E501
    program += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7ftQK\x00K\x01\x85K\x01\x85\x89NtRs."
    return archive(program, {"0": bytes(8)})


BOMBS = {
    "compressed": (lambda: archive(b"\x80\x02}.", {"0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED), "compressed"),
    "stack": (lambda: archive(b"\x80\x02" + b"N" * 4_000_000 + b"."), "steps"),
    "length": (lambda: archive(b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"a."), "remain"),
    "digits": (lambda: archive(b"I" + b"9" * 10_000 + b"\n."), "digits"),
    "hash": (lambda: archive(b"\x80\x02}N\x85" + b"2\x86" * 60 + b"Ns."), "key of type tuple"),
    "ordered": (
        lambda: archive(b"\x80\x02ccollections\nOrderedDict\n]N\x85" + b"2\x86" * 60 + b"N\x86a\x85R."),
        "key of type tuple",
    ),
    "expanded": (expanded, "many times larger"),
    "storage": (larger_storage, "hold more than the file"),
    "one byte": (lambda: b"\x80", "readable"),
    "empty": (lambda: b"", "readable"),
    "code": (lambda: archive(b"cos\nsystem\n(S'touch harm'\ntR."), "foreign object of type os.system"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_would_take_all_memory_or_time(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, words = BOMBS[name]
    (tmp_path / "a.pth").write_bytes(make())
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=words) as caught:
        load_model(tmp_path / "a.pth")
    assert "a.pth" in str(caught.value)
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10
    assert not (tmp_path / "harm").exists()


def test_a_huge_place_in_the_memo_takes_no_memory():
    assert (
        read_pickle(b"\x80\x02}r\xff\xff\xff\x7f.", where="x", find=lambda module, name: refused(name)) == {}
    )


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_what_torch_saves_comes_back(options, tmp_path):
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)  # fmt: skip  # noqa: E501
    shared = torch.randn(10)
    state = {str(kind): torch.randn(3, 4).to(kind) for kind in kinds}
    state |= {
        "part": shared[2:7],
        "every third": shared[::3],
        "turned": torch.randn(2, 3).t(),
        "none": torch.zeros(0, 4),
    }
    state |= {"one": torch.tensor(3.0), "learned": torch.nn.Parameter(torch.ones(2))}
    torch.save({"model": state, "epoch": 3}, tmp_path / "a.pth", **options)
    found = read_pth(tmp_path / "a.pth")
    assert found["epoch"] == 3
    for name, tensor in state.items():
        assert torch.equal(found["model"][name], tensor), name
        assert (found["model"][name].dtype, found["model"][name].stride()) == (tensor.dtype, tensor.stride())


def header(text, data=b""):
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "twice"),  # noqa: E501
        (header(b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}', b"1"), "'F4'; expected one of"),
        (header(b'{"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'), "field"),
        (header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', bytes(4)), "damaged"),
        (header(b'{"a":{"dtype":"F32","shape":[' + b"1," * 20 + b'1],"data_offsets":[0,4]}}', bytes(4)), "field"),
        (header(b'{"__metadata__":{"saccade":3}}'), "expected str"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "header of"),
        (b"", "header"),
    ],
)  # fmt: skip
def test_safetensors_headers_that_cannot_be(tmp_path, data, words):
    (tmp_path / "a.safetensors").write_bytes(data)
    for read in (read_header, load_model):
        with pytest.raises(WeightsError, match=words):
            read(tmp_path / "a.safetensors")


def test_a_header_that_its_file_could_hold_and_memory_should_not(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:  # a hole of 80 MiB takes no room on the disk
        file.write((70 << 20).to_bytes(8, "little"))
        file.truncate(80 << 20)
    with pytest.raises(WeightsError, match="a header of 73400320 bytes"):
        read_header(path)


def test_weights_of_another_kind_of_number_are_refused():
    model = saccade.create_model("shvit_s1")
    state = model.state_dict()
    state["head.fc.bias"] = state["head.fc.bias"].to(torch.complex64)
    with pytest.raises(WeightsError, match=r"head.fc.bias holds complex64, expected float32"):
        saccade.load_weights(model, state)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"checkpoint_path": "x.pth"}, "checkpoint_path"), ({"depths": "many"}, "no network|depths"), ({"no_such": 1}, "no_such")],  # noqa: E501
)  # fmt: skip
def test_a_card_cannot_name_other_files_or_break_the_build(tmp_path, options, words):
    card = Card("timm/resnet10t", options=options)
    safetensors.torch.save_file(
        {"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"saccade": card.to_json()}
    )
    with pytest.raises((WeightsError, ConfigError), match=words):
        load_model(tmp_path / "a.safetensors")


def test_yaml_numbers_in_base_sixty_do_not_take_hours():
    began = time.monotonic()
    with pytest.raises(ConfigError, match="digits"):
        parse_yaml("a: 1" + ":1" * 200_000, where="x", error=ConfigError)
    assert time.monotonic() - began < 5


def test_lines_are_read_one_by_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n3\n')
    assert [number for number, _ in read_lines(path, keep_broken=True)] == [1, 3, 4]
    with pytest.raises(DataError, match=r"a.jsonl: line 3: not valid JSON"):
        list(read_lines(path))
    with pytest.raises(DataError, match=r"line 1: field .*expected str"):
        list(read_lines(path, dict[str, str]))


def test_labels_that_are_huge_numbers_make_no_list():
    with pytest.raises(DataError, match="at most"):
        resolve_labels([10**12], None, None, "shard")


def test_a_damaged_recipe_is_said_and_not_passed_over(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: 3")
    with pytest.raises(DataError, match=r"recipe.yaml: field data"):
        read_split(tmp_path)


def test_an_outline_far_outside_is_not_walked():
    from saccade.data.outlines import run_lengths

    pytest.importorskip("faster_coco_eval")
    began = time.monotonic()
    assert run_lengths([[0, 0, 1e9, 1e9, 0, 1e9]], (20, 30)) is None
    assert run_lengths([[0, 0, 10, 0, 10, 10]], (20, 30)) is not None
    assert time.monotonic() - began < 2


def test_a_damaged_log_loses_only_its_damaged_lines(tmp_path):
    rows = [
        '{"kind": "epoch", "epoch": 0, "step": 2, "loss": 0.5}',
        '{"kind": "epoch", "epoch": "x"}',
        "[" * 2000,
        '{"st',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(rows))
    RunLog(tmp_path).rewind(5, 5)
    assert (tmp_path / "log.jsonl").read_text() == rows[0] + "\n"
    assert list(csv.DictReader(io.StringIO((tmp_path / "metrics.csv").read_text()))) == [
        {"epoch": "0", "step": "2", "loss": "0.5"}
    ]


# --- the last net --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x\ny"), RecursionError("deep"), MemoryError(), KeyError("k")]
)
def test_a_fault_of_our_own_is_one_sentence_and_a_report(error, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path))
    monkeypatch.delenv("SACCADE_DEBUG", raising=False)
    monkeypatch.setattr("saccade.engine.doctor.examine", fail)
    for old in range(30):
        (tmp_path / "faults").mkdir(exist_ok=True)
        (tmp_path / "faults" / f"20000101-{old:06d}.txt").write_text("old")
    code = main(["doctor"])
    printed = capsys.readouterr().err
    assert code == 3
    assert printed.count("\n") == 1
    assert "Traceback" not in printed
    text = Path(printed.split("the report is in ")[1].split(";")[0]).read_text()
    assert type(error).__name__ in text
    assert "saccade doctor" in text
    assert len(list((tmp_path / "faults").glob("*.txt"))) <= 20
    assert main(["doctor", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_cards_and_preprocessing_of_any_values():
    for value in ODD:
        for name in ("size", "crop_pct", "mean", "std", "interpolation", "mode"):
            with contextlib.suppress(ConfigError):
                Preprocess.from_dict({name: value})
