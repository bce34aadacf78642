"""Baselines against dense oracles."""

import numpy as np
import pytest
import torch

from hardneg.datasets.batch import Question, SequenceQuery, UserQuery
from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.datasets.interactions import Interactions
from hardneg.models.baselines.base import Baseline
from hardneg.models.baselines.ease import EASE
from hardneg.models.baselines.frequency import Degree, RelationFrequency
from hardneg.models.baselines.gf_cf import GFCF
from hardneg.models.baselines.item_knn import ItemKNN
from hardneg.models.baselines.popularity import Popularity

FITS = [Popularity, ItemKNN, EASE, GFCF]


def ask(users):
    none = torch.zeros(0, dtype=torch.int64)
    return Question(UserQuery(users), users, none, none, torch.zeros_like(users))


def ask_triples(data, side):
    held_out = data.take(torch.arange(10))
    return list(data.questions(held_out, 10))[side]


def matrix(data):
    X = np.zeros((data.num_users, data.num_items), np.float64)
    X[data.user, data.item] = 1
    return X


@pytest.fixture
def log(interactions):
    """The shared small log, some of its pairs repeated, plus a user and an item without any."""
    some = interactions.take(torch.arange(0, 30, 3)).concat(interactions)
    return Interactions(some.user, some.item, some.num_users + 1, some.num_items + 1)


@pytest.mark.parametrize("fit", FITS, ids=lambda f: f.__name__)
def test_surface(fit, log):
    model = fit(log)
    assert isinstance(model, Baseline)
    assert model.task == "interactions"
    assert model.num_candidates == log.num_items
    assert model.view(log) is log
    users = torch.tensor([3, 0, 12])
    block = model.scores(ask(users))
    assert block.shape == (3, log.num_items)
    assert block.dtype == torch.float32
    assert torch.isfinite(block).all()
    prefix = SequenceQuery(torch.zeros(3, 1).long(), torch.ones(3).long(), torch.arange(3))
    torch.testing.assert_close(model.scores(ask(users)._replace(query=prefix)), block)


@pytest.mark.parametrize("fit", FITS, ids=lambda f: f.__name__)
def test_a_history_ranks_like_its_user(fit, log):
    model = fit(log)
    history = log.item[log.user == 3]
    want = model.scores(ask(torch.tensor([3])))
    torch.testing.assert_close(model.scores_of(history.flip(0)), want)
    with pytest.raises(UsageError, match="history is empty"):
        model.scores_of(history[:0])


def test_popularity_is_the_order_of_counts(log):
    block = Popularity(log).scores(ask(torch.tensor([0, 5])))
    assert torch.equal(block[0], log.counts().float())
    assert torch.equal(block[0], block[1])


@pytest.mark.parametrize("neighbours", [1, 3, 100])
def test_item_knn_is_the_dense_formula(log, neighbours):
    X = matrix(log)
    N = log.num_items
    d = X.sum(0)
    S = (X.T @ X) / (np.sqrt(np.outer(d, d)) + 2.0)
    np.fill_diagonal(S, -1)
    want = np.zeros((log.num_users, N))
    for j in range(N):
        near = sorted(range(N), key=lambda i: (-S[i, j], i))[:neighbours]
        for i in near:
            want[:, j] += X[:, i] * max(S[i, j], 0)
    model = ItemKNN(log, neighbours=neighbours, shrink=2.0)
    got = model.scores(ask(torch.arange(log.num_users)))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_item_knn_in_chunks_is_the_same(log, monkeypatch):
    users = torch.arange(log.num_users)
    whole = ItemKNN(log, neighbours=3).scores(ask(users))
    monkeypatch.setattr("hardneg.models.baselines.item_knn.CHUNK", 4)
    assert torch.equal(ItemKNN(log, neighbours=3).scores(ask(users)), whole)


def test_ease_is_its_closed_form(log):
    X = matrix(log)
    P = np.linalg.inv(X.T @ X + 5.0 * np.eye(log.num_items))
    B = -P / np.diag(P)
    np.fill_diagonal(B, 0)
    got = EASE(log, l2=5.0).scores(ask(torch.arange(log.num_users)))
    np.testing.assert_allclose(got, X @ B, atol=1e-4)


def test_ease_columns_are_ridge_regressions(log):
    """Column j of B minimises |X_j - X b|^2 + l2 |b|^2 with b_j = 0."""
    X, j, l2 = matrix(log), 4, 5.0
    rest = np.delete(X, j, 1)
    b = np.linalg.solve(rest.T @ rest + l2 * np.eye(rest.shape[1]), rest.T @ X[:, j])
    np.testing.assert_allclose(np.delete(EASE(log, l2=l2).weights[:, j], j), b, atol=1e-4)


def test_ease_states_the_memory_it_needs():
    none = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ResourceError, match=r"50000 items need 27\.9 GiB and memory=4 GiB"):
        EASE(Interactions(none, none, 1, 50_000))


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_gf_cf_is_the_dense_filter(log, alpha):
    X = matrix(log)
    du, di = X.sum(1), X.sum(0)
    root = np.where(di > 0, 1 / np.sqrt(np.maximum(di, 1)), 0)
    R = np.where(du > 0, 1 / np.sqrt(np.maximum(du, 1)), 0)[:, None] * X * root
    V = np.linalg.svd(R)[2][:4].T
    want = X @ R.T @ R + alpha * (X * root) @ V @ V.T * np.sqrt(di)
    got = GFCF(log, dim=4, alpha=alpha).scores(ask(torch.arange(log.num_users)))
    np.testing.assert_allclose(got, want, atol=2e-2 if alpha else 1e-5)


def test_degree(triples):
    block = Degree(triples).scores(ask_triples(triples, 0))
    assert torch.equal(block[0], triples.counts().double())


@pytest.mark.parametrize("side", [0, 1])
def test_relation_frequency_counts_answers_then_degree(triples, side):
    model = RelationFrequency(triples)
    assert model.task == "triples"
    question = ask_triples(triples, side)
    block = model.scores(question)
    assert block.shape == (10, triples.num_entities)
    answer = triples.head if side else triples.tail
    degree = triples.counts().tolist()
    for row, relation in zip(block, question.query.relation, strict=True):
        count = torch.bincount(answer[triples.relation == relation], minlength=14).tolist()
        key = list(zip(count, degree, strict=True))
        for a in range(14):
            for b in range(14):
                assert (row[a] > row[b]) == (key[a] > key[b])


@pytest.mark.parametrize(
    ("fit", "options", "match"),
    [
        (ItemKNN, {"neighbours": 0}, "neighbours=0"),
        (ItemKNN, {"shrink": -1.0}, r"shrink=-1\.0"),
        (EASE, {"l2": 0.0}, "l2=0"),
        (GFCF, {"dim": 0}, "dim=0"),
        (GFCF, {"alpha": float("nan")}, "alpha=nan"),
    ],
)
def test_options_are_checked(fit, options, match, log):
    with pytest.raises(UsageError, match=match):
        fit(log, **options)
