"""Optimal-transport weights: marginals, both limits, the analytic two by two."""

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.samplers import InBatch, Negatives, Sinkhorn, Tilt, TopK, Uniform
from hardneg.samplers.schedules import Linear

pytestmark = pytest.mark.usefixtures("one_thread")


def scores_of(M, K, seed=0):
    return torch.randn(M, K, generator=torch.Generator().manual_seed(seed))


def coupling(sampler, scores, valid=None, weight=None, ids=None):
    ids = torch.arange(scores.shape[1])[None] if ids is None else ids
    return sampler.log_coupling(Negatives(ids, None, valid, weight), scores).exp()


@pytest.mark.parametrize(("M", "K"), [(5, 8), (8, 5), (1, 4), (4, 1)])
@pytest.mark.parametrize("marginal", ["uniform", "counts"])
def test_marginals(M, K, marginal):
    sampler = Sinkhorn(0.7, 200, marginal, power=0.5)
    counts = torch.arange(K) * 3
    sampler.prepare(Training(counts))
    P = coupling(sampler, scores_of(M, K))
    b = torch.ones(K) if marginal == "uniform" else counts.clamp_min(1).sqrt()
    torch.testing.assert_close(P.sum(1), torch.full((M,), 1 / M), atol=1e-5, rtol=0)
    torch.testing.assert_close(P.sum(0), b / b.sum(), atol=1e-5, rtol=0)


def test_naive_loop_of_scaling():
    """Sinkhorn's own scaling of exp(s / eps), in plain Python."""
    scores, eps, M, K = scores_of(3, 4).double(), 0.8, 3, 4
    kernel = [[(scores[m, k] / eps).exp().item() for k in range(K)] for m in range(M)]
    v = [1 / K] * K
    for _ in range(7):
        u = [1 / M / sum(kernel[m][k] * v[k] for k in range(K)) for m in range(M)]
        v = [1 / K / sum(kernel[m][k] * u[m] for m in range(M)) for k in range(K)]
    u = [1 / M / sum(kernel[m][k] * v[k] for k in range(K)) for m in range(M)]
    want = [[u[m] * kernel[m][k] * v[k] for k in range(K)] for m in range(M)]
    got = coupling(Sinkhorn(eps, 7), scores)
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-5, atol=1e-7)


def test_two_by_two_is_analytic():
    """P11 = x / 2 with x / (1 - x) = exp((s11 + s22 - s12 - s21) / 2 eps)."""
    scores, eps = torch.tensor([[1.0, -0.3], [0.4, 0.2]]), 0.5
    x = torch.sigmoid((scores[0, 0] + scores[1, 1] - scores[0, 1] - scores[1, 0]) / (2 * eps))
    want = torch.stack([torch.stack([x, 1 - x]), torch.stack([1 - x, x])]) / 2
    torch.testing.assert_close(coupling(Sinkhorn(eps, 300), scores), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("valid", [None, torch.rand(4, 6) > 0.3])
def test_the_rows_alone_are_a_tilt(valid):
    scores = scores_of(4, 6)
    given = Negatives(torch.arange(6)[None], None, valid)
    one, same = Sinkhorn(0.4, 0).refine(given, scores, None)
    two, _ = Tilt(1 / 0.4).refine(given, scores, None)
    assert same is scores
    torch.testing.assert_close(one.probabilities(scores), two.probabilities(scores))


def test_a_large_epsilon_is_the_product_of_the_marginals():
    sampler = Sinkhorn(1e7, 20, "counts")
    sampler.prepare(Training(torch.tensor([1, 2, 3, 4])))
    ids = torch.tensor([[3, 1, 1, 0, 2]])
    b = torch.tensor([4.0, 2, 2, 1, 3]) / 12
    P = coupling(sampler, scores_of(3, 5), ids=ids)
    torch.testing.assert_close(P, b.expand(3, 5) / 3, atol=1e-6, rtol=0)


def test_a_small_epsilon_assigns():
    order = torch.tensor([2, 0, 3, 1])
    scores = torch.zeros(4, 4).scatter(1, order[:, None], 1.0)
    P = coupling(Sinkhorn(0.02, 50), scores)
    torch.testing.assert_close(P, scores / 4, atol=1e-5, rtol=0)


def test_a_hub_is_shared_out():
    """Everybody's hardest candidate gets no more than its share of the whole batch."""
    scores = scores_of(6, 8) + torch.tensor([5.0] + [0.0] * 7)
    free, capped = (coupling(Sinkhorn(1.0, n), scores) for n in (0, 100))
    assert free[:, 0].sum() > 0.7
    assert capped[:, 0].sum().item() == pytest.approx(1 / 8, abs=1e-4)


def test_pairs_not_valid_have_no_mass():
    valid = torch.tensor([[True, False, True, False], [False] * 4, [True, True, True, False]])
    scores = scores_of(3, 4)
    P = coupling(Sinkhorn(1.0, 300), scores, valid)
    assert not P[~valid].any()
    torch.testing.assert_close(P.sum(1), torch.tensor([0.5, 0, 0.5]), atol=1e-5, rtol=0)
    torch.testing.assert_close(P.sum(0), torch.tensor([1, 1, 1, 0]) / 3, atol=1e-4, rtol=0)
    negatives, _ = Sinkhorn(1.0).refine(Negatives(torch.arange(4)[None], None, valid), scores, None)
    assert negatives.probabilities(scores).sum(1).tolist() == pytest.approx([1, 0, 1])


def test_what_no_coupling_can_hold_stays_finite():
    valid = torch.tensor([[True, False], [True, False], [True, True]])
    P = coupling(Sinkhorn(0.1, 50), torch.tensor([[1e4, 0], [-1e4, 3], [5, -1e4]]), valid)
    assert torch.isfinite(P).all()  # numbers of 1e5 in the exponent leave two digits
    torch.testing.assert_close(P.sum(1), torch.full((3,), 1 / 3), atol=1e-2, rtol=0)


def test_weights_given_before_are_the_reference_and_nothing_has_gradient():
    scores = scores_of(4, 6).requires_grad_()
    given = Negatives(torch.arange(6)[None], None, None, scores_of(4, 6, seed=1))
    negatives, _ = Sinkhorn(0.5, 30).refine(given, scores, None)
    assert not negatives.weight.requires_grad
    torch.testing.assert_close(
        negatives.weight.exp(), coupling(Sinkhorn(1.0, 30), scores.detach() * 2 + given.weight)
    )


def test_a_schedule_moves_epsilon(make_ask):
    pipeline = Uniform(6) | Sinkhorn(Linear(2.0, 0.5, epochs=2), 0)
    pipeline.advance(1.0)
    ask, scores = make_ask(M=3), scores_of(3, 6)
    given = Negatives(torch.arange(6)[None])
    moved, _ = pipeline.refine(given, scores, ask)
    fixed, _ = Sinkhorn(1.25, 0).refine(given, scores, ask)
    assert torch.equal(moved.weight, fixed.weight)


@pytest.mark.parametrize(
    "make", [lambda: Uniform(8, pools="own"), lambda: Uniform(8, pools=2), lambda: InBatch()]
)
def test_only_a_pool_of_the_whole_batch(make, make_ask):
    pipeline, ask = make() | Sinkhorn() | TopK(2), make_ask(M=4)
    negatives = pipeline.propose(ask)
    scores = ask.score(negatives.ids)
    if len(negatives.ids) == 1:
        assert pipeline.refine(negatives, scores, ask)[0].ids.shape == (4, 2)
    else:
        with pytest.raises(UsageError, match=r"one pool .* gets \d; use pools=1"):
            pipeline.refine(negatives, scores, ask)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Sinkhorn(0.0), r"epsilon=0 in Sinkhorn must be at least 1e-06"),
        (lambda: Sinkhorn(iterations=-1), r"iterations=-1 in Sinkhorn must be at least 0"),
        (lambda: Sinkhorn(marginal="degree"), r"marginal='degree' .* 'counts'"),
        (lambda: coupling(Sinkhorn(marginal="counts"), scores_of(2, 3)), r"prepare it"),
    ],
)
def test_bad_values_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()
