"""The spaces in recipes/spaces: each fits its encoder, and no corner of it is a combination that
makes no sense."""

from random import Random

import pytest
from optuna.distributions import CategoricalDistribution

from hardneg.datasets.errors import UsageError
from hardneg.datasets.load import load_dataset
from hardneg.datasets.split import LeaveOneOut
from hardneg.engine import components
from hardneg.engine.job import Job
from hardneg.engine.recipe import resolve
from hardneg.tuning.families import is_uniform
from hardneg.tuning.options import Options, prepare
from hardneg.tuning.ready import available, open_space
from hardneg.tuning.trial import trial_recipe

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
SMALL = {
    "lightgcn": "LightGCN(dim=4, similarity=Cosine())",
    "sasrec": "SASRec(dim=16, max_length=5)",
    "rotate": "RotatE(dim=4)",
    "transe": "TransE(dim=4)",
    "distmult": "DistMult(dim=4)",
    "complex": "ComplEx(dim=4)",
}


def fields_of(name, small):
    graph = (
        components.find(components.parse(SMALL[name], "model")[0], "model", "model").task
        == "triples"
    )
    data = small / ("kg" if graph else "log.csv")
    return {"model": SMALL[name], "dataset": str(data), "batch_size": 8}


def ends(space):
    if isinstance(space, CategoricalDistribution):
        return space.choices[0], space.choices[-1]
    return space.low, space.high


def between(space, random):
    if isinstance(space, CategoricalDistribution):
        return random.choice(space.choices)
    value = random.uniform(space.low, space.high)
    return int(value) if isinstance(space.low, int) else value


def test_every_encoder_has_a_space():
    assert set(available()) == set(SMALL)
    models = components.catalogue("model")
    baselines = {n for n, c in models.items() if "baselines" in c.__module__}
    assert {open_space(name).model for name in SMALL} == {
        n for n in set(models) - baselines if not n.startswith("Concatenated")
    }


@pytest.mark.parametrize("name", SMALL)
def test_bounds_and_draws_of_a_ready_space_train(name, small):
    fields, random = fields_of(name, small), Random(0)
    plan = prepare(fields, Options(space=name))
    split = None if "kg" in fields["dataset"] else LeaveOneOut()
    dataset = load_dataset(fields["dataset"], **({"split": split} if split else {}))
    assert any(is_uniform(f.recipe) for f in plan.families), "a tuned baseline is among them"
    for number, family in enumerate(plan.families):
        assert "optimizer.Adam.lr" in family.ranges
        assert any(path.startswith("negatives.") for path in family.ranges)
        assert family.ranges.keys() == family.defaults().keys()
        points = [{k: ends(v)[side] for k, v in family.ranges.items()} for side in (0, 1)]
        points += [{k: between(v, random) for k, v in family.ranges.items()} for _ in range(3)]
        points += [{k: ends(v)[random.randrange(2)] for k, v in family.ranges.items()}]
        for params in points:  # a job rehearses its loss: what does not fit together is refused
            Job(trial_recipe(0, number, family, params), dataset)


def test_the_recipes_own_negatives_come_first_and_replace_their_like():
    fields = {"model": "LightGCN", "dataset": "ml-100k", "negatives": "Uniform(64) | TopK(16)"}
    plan = prepare(fields, Options(space="lightgcn"))
    names = [family.name for family in plan.families]
    assert names[0] == "Uniform(num=64) | TopK(num=16)"
    assert sum("TopK" in name for name in names) == 1
    assert plan.families[0].defaults()["negatives.TopK.share"] == 0.25
    assert "writes out no model.LightGCN.similarity.temperature" in plan.notes[0]


def test_the_recipe_and_the_command_line_go_before_the_space():
    fields = {"model": "LightGCN", "dataset": "ml-100k"}
    fields |= {"space": {"optimizer.lr": "0.1..0.2", "families": ["Uniform(8)"]}}
    plan = prepare(fields, Options(space="lightgcn", search=["negatives.Uniform.num=8..16"]))
    [family] = plan.families
    assert family.ranges["optimizer.Adam.lr"].low == 0.1
    assert family.ranges["negatives.Uniform.num"].high == 16


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "LightGCN"\n[space]\n"optimizer.lr" = "0.1..0.2"\n')
    plan = prepare({"model": "LightGCN", "dataset": "ml-100k"}, Options(space=str(path)))
    assert set(plan.families[0].ranges) == {"optimizer.Adam.lr"}
    path.write_text('modle = "LightGCN"\n')
    with pytest.raises(UsageError, match=r"mine\.toml: model: field required"):
        open_space(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lightgnc", r"no space 'lightgnc'; did you mean 'lightgcn'"),
        ("sasrec", r"space 'sasrec' is for SASRec, but the recipe trains LightGCN; take --space "),
        ("none.toml", r"none\.toml: no such recipe"),
    ],
)
def test_a_space_that_does_not_fit(name, message):
    with pytest.raises(UsageError, match=message):
        prepare({"model": "LightGCN", "dataset": "ml-100k"}, Options(space=name))


def test_a_share_begins_where_the_recipes_number_is():
    fields = {"model": "LightGCN", "dataset": "ml-100k", "negatives": "Uniform(64) | TopK(16)"}
    plan = prepare(resolve(fields).model_dump(exclude_none=True), Options(
        search=["negatives.TopK.share=0.01..0.5:log"]))  # fmt: skip
    assert plan.families[0].defaults() == {"negatives.TopK.share": 0.25}
