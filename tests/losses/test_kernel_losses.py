"""Losses that compare features or queries by a kernel: weights, limits, files."""

import math

import numpy as np
import pytest
import torch

from hardneg.datasets.errors import DataError
from hardneg.datasets.training import Training
from hardneg.engine.losses import DecoupledUniformity, KernelConditional
from hardneg.engine.losses.geometry import unit
from hardneg.engine.losses.smoothing import kernel_matrix, ridge_weights

pytestmark = pytest.mark.usefixtures("one_thread")
M = 6


def vectors(seed=0):
    g = torch.Generator().manual_seed(seed)
    q, p = torch.randn(2, M, 4, generator=g, dtype=torch.float64)
    valid = (torch.rand(M, M, generator=g) > 0.3) & ~torch.eye(M, dtype=torch.bool)
    return q, p, valid


OTHERS = ~torch.eye(M, dtype=torch.bool)
IDS = torch.arange(M)


def test_weights_of_an_identity_and_of_one_condition():
    eye = torch.eye(M, dtype=torch.float64)
    torch.testing.assert_close(ridge_weights(eye, 1e-9), eye)
    torch.testing.assert_close(ridge_weights(eye, 0.25), eye / 1.25)
    same = torch.ones(M, M, dtype=torch.float64)
    torch.testing.assert_close(ridge_weights(same, 0.1), same / (M + 0.1))


@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "cosine"])
def test_weights_are_the_inverse_times_the_kernel(kernel):
    x = vectors()[0]
    K = kernel_matrix(x, kernel, 0.5)
    torch.testing.assert_close(K.diagonal(), torch.ones(M, dtype=K.dtype), rtol=0, atol=1e-6)
    want = torch.linalg.inv(K + 0.1 * torch.eye(M)) @ K
    torch.testing.assert_close(ridge_weights(K, 0.1), want)
    torch.testing.assert_close(ridge_weights(K, 0.1), want.T)
    distance = (unit(x)[0] - unit(x)[1]).norm().item()
    cosine = (unit(x)[0] @ unit(x)[1]).item()
    value = {"rbf": math.exp(-(distance**2) / 0.5), "laplacian": math.exp(-distance / 0.5)}
    assert K[0, 1].item() == pytest.approx(value.get(kernel, cosine))


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 0.1])
def test_repeated_rows_in_single_precision_are_finite(ridge):
    x = torch.ones(200, 4)
    weights = ridge_weights(kernel_matrix(x, "rbf", 0.3), ridge)
    torch.testing.assert_close(weights.sum(1), torch.ones(200), rtol=2e-3, atol=0)


def infonce(q, p, valid, tau):
    scores = unit(q) @ unit(p).T / tau
    own = torch.eye(M, dtype=torch.bool)
    return scores.masked_fill(~(valid | own), -torch.inf).logsumexp(1) - scores.diagonal()


def test_one_condition_for_all_is_the_plain_softmax():
    q, p, valid = vectors()
    loss = KernelConditional("rbf", bandwidth=1e6, temperature=0.4)
    torch.testing.assert_close(loss(q, p, valid, IDS), infonce(q, p, valid, 0.4))


def test_naive_loop():
    q, p, valid = vectors()
    loss = KernelConditional("cosine", 0.2, temperature=0.5)
    K = unit(q) @ unit(q).T
    W = (torch.linalg.inv(K + 0.2 * torch.eye(M)) @ K).clamp_min(1e-6)
    assert (W == 1e-6).any(), "some weights are negative before they are clipped"
    assert (loss.weights(q) > 0).all()
    scores = unit(q) @ unit(p).T / 0.5
    got = loss(q, p, valid, IDS)
    for m in range(M):
        who = [n for n in range(M) if valid[m, n]]
        total = sum(W[m, n] for n in who)
        mean = sum(W[m, n] / total * math.exp(scores[m, n]) for n in who)
        s = math.exp(scores[m, m])
        assert got[m].item() == pytest.approx(-math.log(s / (s + len(who) * mean)))


def test_similar_queries_give_the_negatives():
    """Rows 0 and 1 ask nearly the same, so row 1's positive is row 0's hardest negative."""
    q = torch.eye(M)
    q[1] = q[0] + 0.05 * q[1]
    p = torch.randn(M, M, generator=torch.Generator().manual_seed(0)).requires_grad_()
    KernelConditional(bandwidth=0.2, temperature=1.0)(q, p, OTHERS, IDS)[0].backward()
    push = p.grad.norm(dim=1)
    assert push[1] > 100 * push[2:].max()


@pytest.fixture
def features(tmp_path):
    """Six items; 0 and 1 have equal features, all else is orthogonal."""
    table = np.eye(M, dtype=np.float32)
    table[1] = table[0]
    np.save(tmp_path / "features.npy", table)
    return str(tmp_path / "features.npy")


@pytest.mark.parametrize("kind", [KernelConditional, DecoupledUniformity])
def test_features_come_from_a_file(kind, features, tmp_path):
    q, p, valid = vectors()
    loss = kind(kernel="cosine", ridge=0.5, features=features)
    loss.prepare(Training(torch.ones(M)))
    assert loss.features.shape == (M, M)
    assert not torch.allclose(loss(q, p, valid, IDS), kind(kernel="cosine")(q, p, valid, IDS))
    with pytest.raises(DataError, match=r"has 6 rows .* 7"):
        loss.prepare(Training(torch.ones(7)))
    with pytest.raises(DataError, match=rf"gone.npy.*{kind.__name__}"):
        kind(features=str(tmp_path / "gone.npy")).prepare(Training(torch.ones(M)))


def test_features_condition_on_the_positive(features):
    q, p, _ = vectors()
    p.requires_grad_()
    loss = KernelConditional("cosine", features=features, temperature=1.0)
    loss.prepare(Training(torch.ones(M)))
    loss(q, p, OTHERS, IDS)[0].backward()
    push = p.grad.norm(dim=1)
    assert push[1] > 100 * push[2:].max()


def published(centre):
    distance = torch.cdist(centre, centre) ** 2
    return (-distance).exp()[OTHERS].mean().log()


def test_decoupled_uniformity_is_the_mean_over_centres():
    q, p, _ = vectors()
    centre = (unit(q) + unit(p)) / 2
    want = published(centre)
    got = DecoupledUniformity()(q, p, OTHERS, IDS, IDS)
    assert got.shape == (M,)
    torch.testing.assert_close(got, want.expand(M))
    same = torch.ones(M, 4, dtype=torch.float64)
    assert DecoupledUniformity()(same, same, OTHERS, IDS)[0].item() == pytest.approx(0, abs=1e-9)


def test_an_identity_kernel_smooths_nothing(tmp_path):
    q, p, _ = vectors()
    np.save(tmp_path / "eye.npy", np.eye(M, dtype=np.float32))
    loss = DecoupledUniformity(str(tmp_path / "eye.npy"), "cosine", ridge=1e-9)
    loss.prepare(Training(torch.ones(M)))
    torch.testing.assert_close(loss(q, p, OTHERS, IDS), DecoupledUniformity()(q, p, OTHERS, IDS))


def test_similar_items_share_their_centre(features):
    q, p, _ = vectors()
    loss = DecoupledUniformity(features, "cosine", ridge=1e-3)
    loss.prepare(Training(torch.ones(M)))
    centre = (unit(q) + unit(p)) / 2
    centre[:2] = centre[:2].mean(0)
    torch.testing.assert_close(loss(q, p, OTHERS, IDS)[0], published(centre), rtol=5e-3, atol=0)


def test_pairs_of_which_one_knows_the_other_do_not_repel():
    q, p, _ = vectors()
    valid = OTHERS.clone()
    valid[0, 1] = False  # row 0 knows row 1's positive
    centre = (unit(q) + unit(p)) / 2
    keep = valid & valid.T
    want = (-(torch.cdist(centre, centre) ** 2)).exp()[keep].mean().log()
    torch.testing.assert_close(DecoupledUniformity()(q, p, valid, IDS)[0], want)
