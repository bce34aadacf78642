"""Second stages: candidates that stay bit for bit, and weights of an earlier run as the start."""

import pytest
import torch

from hardneg.datasets.batch import UserQuery
from hardneg.datasets.errors import DataError, UsageError
from hardneg.engine import api, checkpoint
from hardneg.engine.job import Job

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

LOG = {"split": "LeaveOneOut()", "patience": 0, "quiet": True, "batch_size": 64}
ADORE = {"negatives": "Hardest(20)", "loss": "LambdaRank(cut=20)", "optimizer": "Adam(lr=0.003)"}
MODELS = {
    "LightGCN": "LightGCN(dim=8, layers=2)",
    "factors": "LightGCN(dim=8, layers=0, start='spectral')",
    "SASRec": "SASRec(dim=8, max_length=6)",
    "untied": "SASRec(dim=8, max_length=6, tied=False)",
    "RotatE": "RotatE(dim=8)",
    "DistMult": "DistMult(dim=8, regulariser=0.01)",
}


@pytest.fixture(scope="module")
def first(small, tmp_path_factory, private_cache):
    """Return a trained first stage of each model."""
    done = {}

    def run(name):
        if name not in done:
            out = tmp_path_factory.mktemp("first") / name
            done[name] = api.train(MODELS[name], data(small, name), out=out, **settings(name))
        return done[name]

    return run


def is_log(name):
    return name not in ("RotatE", "DistMult")


def data(small, name):
    return small / ("log.csv" if is_log(name) else "kg")


def settings(name, **more):
    kept = LOG if is_log(name) else {k: v for k, v in LOG.items() if k != "split"}
    return {**kept, "epochs": 3, "negatives": "Uniform(16)", **more}


def second(small, name, folder, out, **more):
    freeze = "items" if is_log(name) else "entities"
    loss = ADORE if is_log(name) else {"negatives": "Hardest(8)", "loss": "LambdaRank(cut=8)"}
    own = {**settings(name), **loss, "freeze": freeze, "start_from": str(folder), **more}
    return api.train(MODELS[name], data(small, name), out=out, **own)


@pytest.mark.parametrize("name", MODELS)
def test_frozen_candidates_stay_bit_for_bit_and_queries_move(name, small, first, tmp_path):
    before = first(name)
    after = second(small, name, before.folder, tmp_path / "run")
    N = after.model.num_candidates
    assert torch.equal(after.nodes[:N], before.nodes[:N])
    last = checkpoint.load(after.folder / "state" / "state.safetensors")["model"]
    start = Job(after.recipe, after.dataset).model.state_dict()
    assert any(not torch.equal(value, last[key]) for key, value in start.items())
    table = {"LightGCN": "items", "factors": "items", "SASRec": "items", "untied": "items"}
    name_of_table = table.get(name, "entities")
    assert torch.equal(last[name_of_table], before.nodes[:N])


@pytest.mark.parametrize("name", MODELS)
def test_the_second_stage_starts_where_the_first_ended(name, small, first, tmp_path):
    before = first(name)
    after = second(small, name, before.folder, tmp_path / "run", epochs=0)
    metrics = {k: v for k, v in before.evaluate("valid").items() if isinstance(v, float)}
    assert after.evaluate("valid") == pytest.approx(metrics)


def test_the_loss_falls_over_the_second_stage(small, first, tmp_path):
    before = first("factors")
    after = second(small, "factors", before.folder, tmp_path / "run", epochs=12)
    losses = [line["loss"] for line in after.history if "loss" in line]
    assert losses[-1] < losses[0]


def test_a_frozen_run_answers_and_starts_another(small, first, tmp_path):
    before = first("LightGCN")
    run = second(small, "LightGCN", before.folder, tmp_path / "a")
    user = run.dataset.vocabularies["user"].tokens[0]
    assert len(run.recommend(user, k=5)) == 5
    assert len(run.recommend(history=["i1", "i2"], k=5)) == 5
    assert run.embeddings("user").height == len(run.dataset.vocabularies["user"])
    again = second(small, "LightGCN", run.folder, tmp_path / "b")
    N = run.model.num_candidates
    assert torch.equal(again.nodes[:N], before.nodes[:N])
    with pytest.raises(DataError, match=r"trained with freeze = 'items'.*set the same freeze"):
        second(small, "LightGCN", run.folder, tmp_path / "c", freeze="")


def test_a_second_stage_resumes_without_the_first(small, first, tmp_path, monkeypatch):
    before = first("SASRec")
    moved = tmp_path / "first"
    before.dataset.save(moved)
    for name in ("recipe.toml", "weights.safetensors"):
        (moved / name).write_bytes((before.folder / name).read_bytes())
    whole = second(small, "SASRec", moved, tmp_path / "whole", epochs=3)
    second(small, "SASRec", moved, tmp_path / "part", epochs=2)
    (moved / "recipe.toml").unlink()
    again = api.resume(tmp_path / "part", quiet=True, epochs=3)
    states = [checkpoint.load(r.folder / "state" / "state.safetensors") for r in (whole, again)]
    assert states[0]["step"] == states[1]["step"]
    assert torch.equal(states[0]["model"]["items"], states[1]["model"]["items"])


def test_freezing_keeps_the_ranking_and_materialises_the_layers(interactions):
    from hardneg.models.lightgcn import LightGCN

    torch.manual_seed(0)
    model = LightGCN(interactions, dim=8, layers=2)
    history = torch.tensor([1, 4])
    nodes = model.frozen_nodes()
    folded = model.fold_in(history, nodes)
    model.freeze_candidates()
    assert torch.equal(model.nodes(), nodes[:15])
    assert model.nodes() is model.items  # a step copies nothing
    every = UserQuery(torch.arange(12))
    assert torch.equal(model.encode(every, model.nodes()), nodes[15:])
    assert torch.equal(model.fold_in(history, model.nodes()), folded)
    assert len(model.hops()) == 1
    assert [name for name, _ in model.named_parameters()] == ["users"]
    model.freeze_candidates()
    assert torch.equal(model.frozen_nodes(), nodes[:15])


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"freeze": "entities"}, UsageError, "freeze = 'entities': candidates here are items"),
        ({"start_from": "gone"}, DataError, "gone: no such run folder"),
        ({"split": "Ratio(seed=3)"}, DataError, "another split .*use the same split"),
        ({"min_user": 6}, DataError, r"knows 40 user ids, this run \d+, or they stand in another"),
        ({"model": "SASRec(dim=8)"}, DataError, "holds a LightGCN, but this run trains SASRec"),
        (
            {"model": "LightGCN(dim=4)"},
            DataError,
            r"weight 'ego' is \(70, 8\) in the file, \(70, 4",
        ),
        ({"model": "EASE"}, UsageError, "EASE.* is solved and not trained; leave out freeze"),
    ],
)
def test_what_does_not_fit_is_refused(more, error, message, small, first, tmp_path):
    own = {**settings("LightGCN"), "start_from": str(first("LightGCN").folder), **more}
    model = own.pop("model", MODELS["LightGCN"])
    if "EASE" in model:
        own["freeze"] = "items"
    with pytest.raises(error, match=message):
        api.train(model, small / "log.csv", out=tmp_path / "run", **own)
    assert not (tmp_path / "run").exists()
