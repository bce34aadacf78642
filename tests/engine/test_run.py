"""A run folder: opened without the data's source, speaks the user's ids, answers by its ranking."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch

from hardneg.datasets.errors import DataError, UsageError
from hardneg.engine import api
from hardneg.engine.run import Run

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

LOG_MODELS = {
    "LightGCN": "LightGCN(dim=8, layers=2)",
    "factors": "LightGCN(dim=8, layers=0, start='spectral', similarity=Cosine(0.2))",
    "SASRec": "SASRec(dim=8, max_length=6)",
    "Popularity": "Popularity()",
    "ItemKNN": "ItemKNN()",
    "EASE": "EASE()",
    "GFCF": "GFCF()",
}
KG_MODELS = {
    "RotatE": "RotatE(dim=8)",
    "TransE": "TransE(dim=8)",
    "DistMult": "DistMult(dim=8)",
    "ComplEx": "ComplEx(dim=8)",
    "Degree": "Degree()",
    "RelationFrequency": "RelationFrequency()",
}
LEARNED = ("LightGCN", "factors", "SASRec", "RotatE", "TransE", "DistMult", "ComplEx")


@pytest.fixture(scope="module")
def runs(small, tmp_path_factory, private_cache):
    """Train each model where the source is then deleted; return the moved run folders."""
    place = tmp_path_factory.mktemp("source")
    shutil.copy(small / "log.csv", place / "log.csv")
    shutil.copytree(small / "kg", place / "kg")
    moved = tmp_path_factory.mktemp("moved")
    for models, data in ((LOG_MODELS, "log.csv"), (KG_MODELS, "kg")):
        for name, model in models.items():
            split = {"split": "LeaveOneOut()"} if data == "log.csv" else {}
            out = place / "runs" / name
            api.train(model, place / data, out=out, quiet=True, epochs=2, **split)
            shutil.copytree(out, moved / name)
    shutil.rmtree(place)
    return {name: Run(moved / name) for name in (*LOG_MODELS, *KG_MODELS)}


@pytest.fixture(scope="module")
def histories(log_rows):
    """Return each user's items, oldest first."""
    found = {}
    for user, item, _ in sorted(log_rows, key=lambda row: row[2]):
        found.setdefault(user, []).append(item)
    return found


@pytest.mark.parametrize("name", [*LOG_MODELS, *KG_MODELS])
def test_stored_weights_rank_as_they_did_in_training(name, runs):
    run = runs[name]
    for metric, value in run.evaluate("test").items():
        assert value == pytest.approx(run.metrics[metric], abs=1e-9), metric
    best = run.evaluate("valid", [run.recipe.metric])
    assert best[run.recipe.metric] == pytest.approx(run.best[run.recipe.metric], abs=1e-9)


@pytest.mark.parametrize("name", LOG_MODELS)
def test_recommend_leaves_out_what_was_seen_in_any_part(name, runs, histories):
    for user in ("u0", "u7"):
        hits = runs[name].recommend(user, k=100)
        ids = [hit.id for hit in hits]
        assert set(ids) == {f"i{n}" for n in range(30)} - set(histories[user])
        assert len(ids) == len(set(ids))
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert runs[name].recommend(user, k=3) == hits[:3]
        every = runs[name].recommend(user, k=100, exclude_seen=False)
        assert {hit.id for hit in every} == {f"i{n}" for n in range(30)}
        assert [hit.id for hit in every if hit.id not in histories[user]] == ids
        less = runs[name].recommend(user, k=100, exclude=ids[:2])
        assert [hit.id for hit in less] == ids[2:]


@pytest.mark.parametrize("name", LOG_MODELS)
def test_a_history_never_seen_is_answered(name, runs):
    history = ["i3", "i1", "i4"]
    hits = runs[name].recommend(history=history, k=100)
    assert {hit.id for hit in hits} == {f"i{n}" for n in range(30)} - set(history)
    assert all(np.isfinite(hit.score) for hit in hits)
    assert runs[name].recommend(history=[" i3 ", "i1", "i4"], k=100) == hits
    assert len(runs[name].recommend(history=["i5"], k=4)) == 4


@pytest.mark.parametrize("name", ["SASRec", "ItemKNN", "EASE", "GFCF", "Popularity"])
def test_a_users_own_history_is_answered_like_the_user(name, runs, histories):
    run = runs[name]
    if name == "SASRec":  # reads everything known; the others were fitted on training rows
        history = histories["u3"]
    else:
        mine = run.dataset.train.user == run.dataset.vocabularies["user"].find("u3")
        items = run.dataset.train.item[mine].tolist()
        history = run.dataset.vocabularies["item"].decode(items)
    left = run.recommend("u3", k=100, exclude_seen=False)
    right = run.recommend(history=history, k=100, exclude_seen=False)
    for mine, theirs in zip(left, right, strict=True):
        assert mine.score == pytest.approx(theirs.score, rel=1e-4, abs=1e-5)


def test_the_order_of_a_history_matters_to_sequences_alone(runs):
    def scores(name, history):
        hits = runs[name].recommend(history=history, k=100)
        return {hit.id: pytest.approx(hit.score, abs=1e-5) for hit in hits}

    there, back = ["i1", "i2", "i3"], ["i3", "i2", "i1"]
    assert scores("LightGCN", there) == scores("LightGCN", back)
    assert scores("SASRec", there) != scores("SASRec", back)


@pytest.mark.parametrize("name", KG_MODELS)
def test_predict_leaves_out_facts_of_every_part(name, runs, facts):
    known = {fact for part in facts.values() for fact in part}
    head, relation, tail = facts["test"][0]
    tails = {t for h, r, t in known if (h, r) == (head, relation)}
    heads = {h for h, r, t in known if (r, t) == (relation, tail)}
    entities = {f"e{n}" for n in range(30)}
    for asked, left_out in (({"head": head}, tails), ({"tail": tail}, heads)):
        hits = runs[name].predict(**asked, relation=relation, k=100)
        assert {hit.id for hit in hits} == entities - left_out
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        every = runs[name].predict(**asked, relation=relation, k=100, exclude_known=False)
        assert {hit.id for hit in every} == entities


@pytest.mark.parametrize("name", LEARNED)
def test_embeddings_are_the_vectors_that_score(name, runs):
    run = runs[name]
    fields = ("item", "user") if name in LOG_MODELS else ("entity", "relation")
    for field in fields:
        frame = run.embeddings(field)
        assert frame.columns == ["id", "label", "vector"]
        assert frame["id"].to_list() == list(run.dataset.vocabularies[field].tokens)
        vectors = frame["vector"].to_numpy()
        assert vectors.shape[0] == len(run.dataset.vocabularies[field])
        assert np.isfinite(vectors).all()
    assert run.embeddings().equals(run.embeddings(fields[0]))
    table = torch.from_numpy(run.embeddings(fields[0])["vector"].to_numpy().copy())
    assert torch.equal(table, run.model.table(run.nodes))
    if name in LOG_MODELS:
        users = torch.from_numpy(run.embeddings("user")["vector"].to_numpy().copy())
        row = run.dataset.vocabularies["user"].find("u5")
        hits = run.recommend("u5", k=1, exclude_seen=False)
        best = run.model.similarity.full(users[row : row + 1], table)[0]
        assert run.dataset.vocabularies["item"].decode([int(best.argmax())]) == [hits[0].id]


def test_what_has_no_embeddings_says_so(runs):
    with pytest.raises(UsageError, match="no embeddings of 'relation'; choose from user, item"):
        runs["LightGCN"].embeddings("relation")
    with pytest.raises(UsageError, match="Popularity"):
        runs["Popularity"].embeddings()
    with pytest.raises(UsageError, match="Degree"):
        runs["Degree"].embeddings()


def test_ids_go_in_and_out_as_they_are(tmp_path):
    users = ["007", "7", "ü ñ", "a/b", "None"]
    items = ["x,y", "1.0", "01", "1", "'q'", "tab\tbed"]
    rows = [(u, i, 10 * n + m) for n, u in enumerate(users) for m, i in enumerate(items[n % 2 :])]
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    run = api.train(
        "LightGCN(dim=4, layers=1)", frame, out=tmp_path / "run", quiet=True, epochs=1,
        split="LeaveOneOut()",
    )  # fmt: skip
    assert set(run.embeddings("user")["id"]) == set(users)
    assert set(run.embeddings("item")["id"]) == set(items)
    assert run.recommend("ü ñ", k=9) == []
    assert {hit.id for hit in run.recommend("7", k=9)} == {"x,y"}
    hits = run.recommend(history=["01"], k=9, exclude=["1.0"])
    assert {hit.id for hit in hits} == {"x,y", "1", "'q'", "tab\tbed"}
    with pytest.raises(DataError, match="unknown item '4711'"):
        run.recommend(history=["4711"])


def test_integer_ids_may_be_asked_as_integers(tmp_path):
    rows = [(u, 100 + (u + k) % 7, u + 10 * k) for u in range(6) for k in range(5)]
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row").to_pandas()
    run = api.train(
        "LightGCN(dim=4, layers=1)", frame, out=tmp_path / "run", quiet=True, epochs=1,
        split="LeaveOneOut()",
    )  # fmt: skip
    assert run.recommend(3, k=9) == run.recommend("3", k=9)
    assert {hit.id for hit in run.recommend(history=[100, 101], k=9)} == {
        str(n) for n in range(102, 107)
    }


def test_the_folder_holds_what_it_says_and_nothing_else(runs):
    assert {p.name for p in runs["LightGCN"].folder.iterdir()} == {
        "recipe.toml", "weights.safetensors", "data.safetensors", "vocab.parquet",
        "protocol.json", "metrics.jsonl", "state", "report.html",
        "queries.safetensors", "events.out.tfevents.0.hardneg", "environment.json",
    }  # fmt: skip
    assert "<script" not in (runs["LightGCN"].folder / "report.html").read_text()
