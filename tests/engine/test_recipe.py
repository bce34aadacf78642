"""Recipes: TOML there and back, defaults of each task, overrides, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.errors import UsageError
from hardneg.engine import recipe as recipes
from hardneg.engine.recipe import DEFAULTS, Recipe, parse_overrides, read, resolve

MODELS = {"interactions": "LightGCN()", "sequences": "SASRec()", "triples": "RotatE()"}

settings = st.fixed_dictionaries(
    {},
    optional={
        "dataset": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        "columns": st.dictionaries(
            st.text(max_size=4), st.text(max_size=4) | st.integers(0, 9), max_size=3
        ),
        "min_rating": st.floats(allow_nan=False, allow_infinity=False),
        "average": st.floats(0, 0.999),
        "epochs": st.integers(0, 10**6),
        "max_minutes": st.floats(1e-6, 1e6),
        "metrics": st.lists(st.sampled_from(["Recall@5", "MRR", "NDCG@100"]), max_size=3),
        "optimizer": st.floats(1e-9, 1, exclude_min=True).map(lambda lr: f"Adam(lr={lr!r})"),
        "patience": st.integers(0, 50),
        "duplicates": st.sampled_from(["keep-first", "keep-all"]),
    },
)


@given(settings)
def test_a_resolved_recipe_survives_its_file(tmp_path_factory, fields):
    recipe = resolve({"model": "LightGCN", "dataset": "log.csv", **fields})
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    again = resolve(read(path))
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()


@pytest.mark.parametrize("task", MODELS)
def test_the_task_gives_the_defaults_and_what_is_given_wins(task):
    recipe = resolve({"model": MODELS[task], "dataset": "x"})
    for name in ("batch_size", "epochs", "metric"):
        assert getattr(recipe, name) == DEFAULTS[task][name]
    assert recipe.metric in recipe.metrics
    given = resolve({"model": MODELS[task], "dataset": "x", "epochs": 2, "loss": "BPR"})
    assert (given.epochs, given.loss) == (2, "BPR()")
    assert given.negatives == recipe.negatives


def test_every_default_is_in_normal_form():
    for task, model in MODELS.items():
        recipe = resolve({"model": model, "dataset": "x"})
        assert resolve(recipe.model_dump(exclude_none=True)) == recipe, task


def test_the_metric_to_choose_by_is_always_measured():
    recipe = resolve({"model": "LightGCN", "dataset": "x", "metric": "map@7", "metrics": "hr@3"})
    assert recipe.metric == "MAP@7"
    assert recipe.metrics == ["MAP@7", "HitRate@3"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["epochs=3"], {"epochs": 3}),
        (["average=0.5"], {"average": 0.5}),
        (["model.dim=8"], {"model.dim": 8}),
        (["loss=BPR()"], {"loss": "BPR()"}),
        (["dataset=a=b.csv"], {"dataset": "a=b.csv"}),
        (["x=True", "y=None", "z=false"], {"x": True, "y": None, "z": False}),
        (["columns={'user': 'who'}"], {"columns": {"user": "who"}}),
        (["columns={user = 'who'}"], {"columns": {"user": "who"}}),
        (["columns.user=who", "columns.item=0"], {"columns": {"user": "who", "item": 0}}),
        (["metrics=['MRR', 'MR']"], {"metrics": ["MRR", "MR"]}),
        (["loss="], {"loss": ""}),
        (["negatives=(1, 2)"], {"negatives": "(1, 2)"}),
        (["model.start=spectral"], {"model.start": "spectral"}),
    ],
)
def test_words_of_a_command(words, expected):
    assert parse_overrides(words) == expected


@pytest.mark.parametrize("word", ["epochs", "=3", ""])
def test_words_that_are_no_setting(word):
    with pytest.raises(UsageError, match="is not key=value"):
        parse_overrides([word])


def test_overrides_reach_arguments_and_add_columns():
    fields = {"model": "LightGCN(dim=64)", "dataset": "x", "columns": {"user": "who"}}
    found = resolve(
        fields,
        {"model.dim": 8, "negatives.num": 5, "columns": {"item": 1}, "optimizer.lr": 0.1},
    )
    assert found.model == "LightGCN(dim=8)"
    assert found.negatives == "Uniform(num=5)"
    assert found.optimizer == "Adam(lr=0.1)"
    assert found.columns == {"user": "who", "item": 1}
    assert fields["columns"] == {"user": "who"}, "the caller's fields stay as they were"


def test_a_model_override_applies_to_the_model_given_beside_it():
    found = resolve({"model": "LightGCN", "dataset": "x"}, {"model": "SASRec", "model.dim": 8})
    assert found.model == "SASRec(dim=8)"
    assert found.batch_size == DEFAULTS["sequences"]["batch_size"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "x"}, "model is missing"),
        ({"model": "LightGCN"}, "dataset is missing"),
        ({"model": "LightGCN", "dataset": "x", "epoch": 1}, "did you mean 'epochs'"),
        ({"model": "LightGCN", "dataset": "x", "columns": [1]}, "columns = "),
        ({"model": "LightGCN", "dataset": "x", "loss": "BPR(1)"}, "BPR takes 0 arguments, got 1"),
        ({"model": "LightGCN", "dataset": 3}, "dataset = 3"),
    ],
)
def test_what_a_recipe_refuses(fields, message):
    with pytest.raises(UsageError, match=message):
        resolve(fields)


def test_every_field_has_a_checked_default():
    fields = Recipe.model_fields
    for name in recipes.EXPRESSIONS:
        assert name in fields
    Recipe(model="LightGCN", dataset="x")
