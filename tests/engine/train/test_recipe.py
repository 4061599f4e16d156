"""Recipes: precedence, types, ranges, unknown names, resuming."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from saccade.engine.train.adapt import adapt
from saccade.engine.train.recipe import (
    AUTOMATIC,
    Recipe,
    build_recipe,
    check_recipe,
    check_unchanged,
    dump_recipe,
    list_recipes,
    load_recipe,
    read_recipe,
    unset_old_zeros,
)
from saccade.errors import ConfigError
from saccade.settings import assign, coerce, leaves
from saccade.trust import Stored


def test_precedence_is_defaults_then_recipe_then_file_then_flag(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {weight_decay: 0.2, lr: 5e-4}\nschedule: {epochs: 7}\n")
    recipe, chosen = build_recipe("shvit_s2_imagenet", file, {"optim.lr": "1e-2"})
    assert recipe.optim.lr == 0.01  # flag over file
    assert recipe.optim.weight_decay == 0.2  # file over shipped recipe
    assert recipe.optim.clip == "agc"  # shipped recipe over defaults
    assert recipe.optim.eps == Recipe().optim.eps  # default
    assert recipe.schedule.epochs == 7
    assert "optim.lr" in chosen
    assert "optim.eps" not in chosen


def test_dump_and_load_are_inverse(tmp_path):
    recipe, _ = build_recipe("efficientvim_m1_imagenet_300", "", {"optim.freeze": "stem,stages.0"})
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe
    assert yaml.safe_load(dump_recipe(recipe))["model"]["pretrained"] == "no"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("optim: {lrr: 1}", r"unknown setting optim\.lrr; did you mean .*'lr'"),
        ("optimizer: {lr: 1}", r"unknown setting optimizer; did you mean .*'optim'"),
        ("optim: 3", "optim should be a mapping"),
        ("optim: {lr: fast}", "optim.lr should be a number, not 'fast'"),
        ("optim: {lr: .nan}", "optim.lr is nan but should be between 1e-12 and 100"),
        ("schedule: {epochs: 1.5}", "schedule.epochs should be a whole number"),
        ("augment: {scale: [0.1]}", "augment.scale should have 2 entries"),
        ("augment: {scale: [0.5, 1.5]}", "augment.scale is a share"),
        ("run: {precision: bf17}", r"run\.precision is 'bf17'; did you mean 'bf16'"),
        ("loss: {distill: hard}", "without a teacher"),
        ("loss: {mesa: 1}\nema: {decay: 0}", "loss.mesa needs"),
        ("schedule: {epochs: 3, warmup_epochs: 5}", "longer than the whole run"),
        ("- 1", "a recipe is a mapping"),
        ("a: [", "not valid YAML at line"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_recipe_files_are_refused_with_a_sentence(tmp_path, content, message):
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        build_recipe("", file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", AUTOMATIC)
def test_a_typed_zero_is_not_automatic(name, tmp_path):
    group, field = name.split(".")
    file = tmp_path / "mine.yaml"
    file.write_text(f"{group}: {{{field}: 0}}\n")
    for source in ({"flags": {name: "0"}}, {"file": file}):
        with pytest.raises(ConfigError, match=f"{name} is 0 but should be .*leave it out to have it chosen"):
            build_recipe(**source)


@pytest.mark.parametrize("name", AUTOMATIC)
@pytest.mark.parametrize("text", ["null", "auto"])
def test_an_automatic_setting_can_be_put_back(name, text):
    group, field = name.split(".")
    recipe, _ = build_recipe("kinetics400_stvit_video_swin_tiny", flags={name: text})
    assert getattr(getattr(recipe, group), field) is None


def test_a_whole_recipe_from_before_keeps_its_zeros_automatic(tmp_path):
    """Saccade used to write 0 for what nobody had set; the recipes of finished runs still say so."""
    old = yaml.safe_load(dump_recipe(build_recipe("", "", {"optim.lr": 0.1, "schedule.epochs": 3})[0]))
    for name in AUTOMATIC:
        group, field = name.split(".")
        old[group][field] = old[group][field] or 0
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(old))
    recipe = load_recipe(path)
    assert (recipe.optim.lr, recipe.schedule.epochs, recipe.data.size, recipe.run.threads) == (
        0.1,
        3,
        None,
        None,
    )
    del old["data"]["frames"], old["data"]["step_s"]  # older still
    assert unset_old_zeros(old)["data"]["batch"] is None
    old["data"]["max_size"] = None  # written by this Saccade, and a 0 by hand
    path.write_text(yaml.safe_dump(old))
    with pytest.raises(ConfigError, match=r"data\.batch is 0 but should be"):
        load_recipe(path)


def test_places_of_a_file_are_marked_and_those_of_shipped_recipes_are_our_own_word(tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {source: 'pipe:cat x'}\nloss: {teacher: someone/else}\n")
    mine, _ = build_recipe("digits", tmp_path / "mine.yaml")
    assert isinstance(mine.data.source, Stored)
    assert isinstance(mine.loss.teacher, Stored)
    assert mine.data.source.where == str(tmp_path / "mine.yaml")
    typed, _ = build_recipe("", tmp_path / "mine.yaml", {"data.source": "pipe:cat y"})
    assert not isinstance(typed.data.source, Stored)
    for name in list_recipes():
        shipped, _ = build_recipe(name)
        assert not any(isinstance(value, Stored) for _, value in leaves(shipped)), name


def test_unknown_recipe_and_missing_file():
    with pytest.raises(ConfigError, match="did you mean 'shvit_s1_imagenet'"):
        read_recipe("shvit_s1_imagnet")
    with pytest.raises(ConfigError, match="no such recipe file"):
        read_recipe("nowhere/mine.yaml")


def test_unknown_flag_offers_the_nearest():
    with pytest.raises(
        ConfigError, match=r"unknown setting optim\.weigth_decay; did you mean 'optim\.weight_decay'"
    ):
        build_recipe("", "", {"optim.weigth_decay": "0.1"})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("optim.lr", "1e-3", 1e-3),
        ("data.batch", "32", 32),
        ("augment.scale", "0.2,0.9", (0.2, 0.9)),
        ("augment.scale", "[0.2, 0.9]", (0.2, 0.9)),
        ("optim.freeze", "stem, stages.0", ("stem", "stages.0")),
        ("run.channels_last", "false", False),
        ("data.source", "123", "123"),
        ("model.options", "{distilled: true}", {"distilled": True}),
        ("model.pretrained", "no", "no"),
    ],
)
def test_flag_text_becomes_the_declared_type(name, text, value):
    recipe = Recipe()
    assign(recipe, name, text)
    assert dict(leaves(recipe))[name] == value
    assert type(dict(leaves(recipe))[name]) is type(value)


def test_every_number_has_a_range_and_the_defaults_are_in_it():
    check_recipe(Recipe())
    for name, value in leaves(Recipe()):
        if (isinstance(value, int | float) and not isinstance(value, bool)) or name in AUTOMATIC:
            with pytest.raises(ConfigError, match=rf"{name} is -1(e\+15|0{{15}}) but should be"):
                assign(Recipe(), name, -(10**15))


def test_every_documented_choice_is_the_only_one():
    for name, value in leaves(Recipe()):
        if name in ("model.pretrained", "augment.geometry", "optim.clip", "schedule.per", "run.device"):
            with pytest.raises(ConfigError, match=f"{name} is 'xyzzy'; choose from .*{value}"):
                assign(Recipe(), name, "xyzzy")


def test_resume_takes_harmless_changes_and_refuses_others():
    stored, _ = build_recipe("", "", {"optim.lr": 0.1})
    assert check_unchanged(stored, {"run.save_steps": "5", "optim.lr": "0.1"}, "runs/x").run.save_steps == 5
    with pytest.raises(
        ConfigError, match=r"runs/x was begun with optim\.lr 0\.1 and cannot be resumed with 0\.2"
    ):
        check_unchanged(stored, {"optim.lr": "0.2"}, "runs/x")


@given(
    st.one_of(
        st.text(max_size=20), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())
    )
)
def test_any_value_is_read_as_the_type_or_refused(value):
    for kind in (int, float, bool, str, tuple[float, float], tuple[str, ...], dict):
        with contextlib.suppress(ConfigError):  # any other error fails
            assert isinstance(coerce(value, kind, "here"), getattr(kind, "__origin__", kind))


@pytest.mark.parametrize("betas", [(0.9, 1.0), (1.0, 0.99), (-0.1, 0.99), (0.9, -0.1), (0.9, float("nan"))])
def test_both_betas_must_be_in_range(betas):
    with pytest.raises(ConfigError, match=r"optim\.betas"):
        build_recipe(flags={"optim.betas": betas})


@pytest.mark.parametrize("name", ["augment.scale", "augment.ratio"])
@pytest.mark.parametrize("values", [(0.0, 0.5), (0.6, 0.5), (-1.0, 0.5), (0.5, float("nan"))])
def test_ranges_grow_from_above_zero(name, values):
    with pytest.raises(ConfigError, match=name):
        build_recipe(flags={name: values})
    build_recipe(flags={name: (0.5, 0.5)})


@pytest.mark.parametrize(
    ("images", "processes", "batch"),
    [(60, 1, 16), (60, 2, 8), (60, 8, 4), (300, 1, 32), (3000, 1, 64), (0, 1, 64)],
)
def test_few_images_still_give_batch_norm_sixteen(images, processes, batch):
    recipe = Recipe()
    adapt(recipe, images, trained=False, num_processes=processes)
    assert recipe.data.batch == batch
