"""Spectral starts against exact decompositions."""

import pytest
import torch

from hardneg.models.propagation import inverse_root
from hardneg.models.spectral import (
    FILL,
    item_spectrum,
    spectral_embeddings,
    spectral_entities,
    spectral_items,
)

U, N, n = 60, 40, 500


def log(seed=0, users=U, items=N, size=n):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(users, (size,), generator=g), torch.randint(items, (size,), generator=g)


def dense(user, item, users=U, items=N):
    R = torch.zeros(users, items, dtype=torch.float64)
    R[user, item] = 1
    return R


def normalised(R):
    return inverse_root(R.sum(1))[:, None] * R * inverse_root(R.sum(0))


def same_ray(got, want, atol=1e-4):
    """Equal up to one positive number."""
    got, want = got.double(), want.double()
    torch.testing.assert_close(got / got.norm(), want / want.norm(), atol=atol, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_spectrum_is_the_exact_svd(seed):
    user, item = log(seed)
    sigma, V = item_spectrum(user, item, U, N, 8, iterations=30)
    exact = torch.linalg.svd(normalised(dense(user, item)))
    torch.testing.assert_close(sigma.double(), exact.S[:8], atol=1e-5, rtol=1e-5)
    W = exact.Vh[:8].T
    torch.testing.assert_close((V @ V.T).double(), W @ W.T, atol=1e-3, rtol=0)
    torch.testing.assert_close(V.T @ V, torch.eye(8), atol=1e-5, rtol=0)


def test_scores_are_the_low_pass_filter():
    user, item = log()
    users, items = spectral_embeddings(user, item, U, N, 8, iterations=30)
    R = dense(user, item)
    W = torch.linalg.svd(normalised(R)).Vh[:8].T
    d = R.sum(0)
    want = R @ (inverse_root(d)[:, None] * (W @ W.T) * d.sqrt())
    same_ray(users @ items.T, want)


def test_all_columns_give_the_log_back():
    user, item = log()
    users, items = spectral_embeddings(user, item, U, N, N)
    same_ray(users @ items.T, dense(user, item))


def test_both_tables_have_the_spread_asked_for():
    users, items = spectral_embeddings(*log(), U, N, 8, spread=0.3)
    for table in (users, items):
        assert table.dtype == torch.float32
        torch.testing.assert_close(table.square().mean().sqrt(), torch.tensor(0.3))


def test_unless_told_the_scale_is_the_likeliest():
    user, item = log(size=250)
    users, items = spectral_embeddings(user, item, U, N, 8)
    torch.testing.assert_close(users.square().mean(), items.square().mean())

    def cost(scale):
        scores = scale * users @ items.T
        return float((scores.logsumexp(1)[user] - scores[user, item]).mean())

    assert cost(1.0) < cost(0.5)
    assert cost(1.0) < cost(2.0)


def test_repeats_count_once_and_seeds_repeat():
    user, item = log()
    once = spectral_embeddings(user, item, U, N, 8, seed=3)
    twice = spectral_embeddings(user.repeat(2).int(), item.repeat(2).int(), U, N, 8, seed=3)
    for a, b in zip(once, twice, strict=True):
        assert torch.equal(a, b)


def test_a_node_without_pairs_is_zero():
    users, items = spectral_embeddings(*log(), U + 1, N + 1, 8)
    assert not users[U].any()
    assert not items[N].any()


def test_columns_beyond_the_rank_are_small_and_random():
    user, item = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 3])  # two blocks: rank 2
    users, items = spectral_embeddings(user, item, 2, 4, 64)
    assert users.shape == (2, 64)
    assert items.shape == (4, 64)
    assert users[0, :2] @ items[0, :2] > users[0, :2] @ items[2, :2] + 1e-3
    found = items[:, :2].square().mean().sqrt()
    assert items[:, 2:].std() == pytest.approx(FILL * float(found), rel=0.2)
    assert torch.isfinite(users).all()


def test_no_pairs_at_all_still_starts():
    none = torch.zeros(0, dtype=torch.int64)
    users, items = spectral_embeddings(none, none, 3, 4, 8)
    assert torch.isfinite(users).all()
    assert items.shape == (4, 8)


def test_entities_in_the_same_place_are_alike():
    # Countries 0-3 border each other and speak a language 4-5; languages never border.
    facts = [(0, 0, 1), (1, 0, 0), (2, 0, 3), (3, 0, 2)]
    facts += [(0, 1, 4), (1, 1, 4), (2, 1, 5), (3, 1, 5)]
    table = spectral_entities(*torch.tensor(facts).T, num_entities=6, dim=5)
    table = torch.nn.functional.normalize(table)
    close = table @ table.T
    assert close[0, 1] > close[0, 2] > close[0, 4]
    assert close[4, 5] > close[4, 0]


def test_entities_match_the_exact_eigenvectors():
    g = torch.Generator().manual_seed(0)
    E, R = 30, 3
    head, tail = torch.randint(E, (2, 200), generator=g)
    relation = torch.randint(R, (200,), generator=g)
    X = torch.zeros(E, 2 * R + 2 * R * E, dtype=torch.float64)
    for h, r, t in zip(head, relation, tail, strict=True):
        for entity, role, other in ((h, 2 * r, t), (t, 2 * r + 1, h)):
            X[entity, role] = 1
            X[entity, 2 * R + role * E + other] = 1
    Xn = normalised(X)
    values, W = torch.linalg.eigh(Xn @ Xn.T)
    want = W[:, -5:] * values[-5:].sqrt()
    got = spectral_entities(head, relation, tail, E, 5, iterations=40)
    same_ray(got @ got.T, want @ want.T, atol=1e-3)


def test_items_next_to_each_other_are_alike():
    items = torch.tensor([0, 1, 0, 1, 2, 3, 2, 3])
    table = spectral_items(items, torch.tensor([0, 4, 8]), 4, 2, window=2)
    table = torch.nn.functional.normalize(table)
    close = table @ table.T
    assert close[0, 1] > 0.9
    assert close[0, 2].abs() < 0.1
