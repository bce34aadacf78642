"""What holds for every sampled loss: its formula, masks, extremes, symmetry and direction."""

import math

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.engine.losses import (
    BCE,
    BPR,
    GBCE,
    BPRMax,
    CosineContrastive,
    LambdaRank,
    Logistic,
    Margin,
    MultiSimilarity,
    SampledSoftmax,
)
from hardneg.samplers import Negatives

pytestmark = pytest.mark.usefixtures("one_thread")


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def naive_softmax(s, n, p):
    total = math.exp(s) + len(n) * sum(w * math.exp(x) for w, x in zip(p, n, strict=True))
    return -math.log(math.exp(s) / total)


def naive_sum(n, p):
    return math.log(len(n) * sum(w * math.exp(x) for w, x in zip(p, n, strict=True)))


def naive_bpr_max(s, n, p):
    share = [w * math.exp(x) for w, x in zip(p, n, strict=True)]
    share = [x / sum(share) for x in share]
    beaten = mean(share, [1 / (1 + math.exp(x - s)) for x in n])
    return -math.log(beaten) + 0.7 * mean(share, [x * x for x in n])


def naive_lambda_rank(s, n, p):
    ranked = sorted([(-x, 0) for x in n] + [(-s, 1)])  # a tie goes to the negative
    gain = {key: (1 / rank if rank <= 3 else 0) for rank, key in enumerate(ranked, 1)}
    change = [abs(gain[-s, 1] - gain[-x, 0]) for x in n]
    return len(n) * mean(p, [c * softplus(x - s) for c, x in zip(change, n, strict=True)])


def naive_multi_similarity(s, n, p):
    hard = [(w, x) for w, x in zip(p, n, strict=True) if x > s - 0.3]
    if not hard:
        return 0
    push = sum(len(n) * w * math.exp(9 * (x - 0.4)) for w, x in hard)
    return math.log(1 + math.exp(-2 * (s - 0.4))) / 2 + math.log(1 + push) / 9


def mean(p, terms):
    return sum(w * t for w, t in zip(p, terms, strict=True))


# The formula of the source for one row: positive score, valid negatives, their weights (sum 1).
LOSSES = {
    BPR: (BPR(), lambda s, n, p: mean(p, [softplus(x - s) for x in n])),
    BCE: (BCE(), lambda s, n, p: softplus(-s) + mean(p, [softplus(x) for x in n])),
    Logistic: (
        Logistic(),
        lambda s, n, p: 0.5 * (softplus(-s) + mean(p, [softplus(x) for x in n])),
    ),
    GBCE: (
        GBCE(0.75, num_candidates=21),  # K = 4 of 20 others: alpha = 0.2, beta = 0.4
        lambda s, n, p: (0.4 * softplus(-s) + 4 * mean(p, [softplus(x) for x in n])) / 5,
    ),
    SampledSoftmax: (SampledSoftmax(), naive_softmax),
    CosineContrastive: (
        CosineContrastive(0.2, 30.0),
        lambda s, n, p: 1 - s + 30 * mean(p, [max(0, x - 0.2) for x in n]),
    ),
    Margin: (Margin(2.0), lambda s, n, p: mean(p, [max(0, 2 - s + x) for x in n])),
    "DCL": (SampledSoftmax(form="dcl"), lambda s, n, p: naive_sum(n, p) - s),
    "BSL": (SampledSoftmax(form="dcl", kappa=1.2), lambda s, n, p: 1.2 * naive_sum(n, p) - s),
    BPRMax: (BPRMax(0.7), naive_bpr_max),
    LambdaRank: (LambdaRank(3), naive_lambda_rank),
    MultiSimilarity: (MultiSimilarity(2.0, 9.0, 0.4, 0.3), naive_multi_similarity),
}
every_loss = pytest.mark.parametrize("kind", LOSSES)


def negatives(K, valid=None, weight=None):
    return Negatives(torch.arange(K)[None], None, valid, weight)


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_naive_loop(kind, weighted):
    loss, naive = LOSSES[kind]
    g = torch.Generator().manual_seed(0)
    positive = torch.randn(6, generator=g, dtype=torch.float64)
    scores = torch.randn(6, 4, generator=g, dtype=torch.float64)
    valid = torch.rand(6, 4, generator=g) > 0.4
    valid[0] = True
    weight = torch.randn(6, 4, generator=g, dtype=torch.float64) if weighted else None
    got = loss(positive, scores, negatives(4, valid, weight))
    assert got.shape == (6,)
    for m in range(6):
        real = [j for j in range(4) if valid[m, j]]
        n = [scores[m, j].item() for j in real]
        w = [math.exp(weight[m, j]) if weighted else 1.0 for j in real]
        p = [x / sum(w) for x in w]
        assert got[m].item() == pytest.approx(naive(positive[m].item(), n, p), rel=1e-8)


@every_loss
def test_invalid_negatives_have_no_value_and_no_gradient(kind):
    loss, _ = LOSSES[kind]
    valid = torch.tensor([[True, False, True, True], [False] * 4])
    values = []
    for junk in (0.0, 1e9, -1e9):
        scores = torch.tensor([[0.3, junk, 0.9, 0.5]] * 2, requires_grad=True)
        positive = torch.tensor([0.1, 0.2], requires_grad=True)
        row = loss(positive, scores, negatives(4, valid))
        row.sum().backward()
        assert (scores.grad[~valid] == 0).all()
        assert (scores.grad[0, [0, 2, 3]] > 0).all()
        assert torch.isfinite(positive.grad).all()
        values.append(row.tolist())
    assert values[0] == values[1] == values[2]
    assert all(math.isfinite(x) for x in values[0])


@every_loss
@pytest.mark.parametrize("scale", [1e4, 1e9])
def test_extreme_scores_are_finite(kind, scale):
    loss, _ = LOSSES[kind]
    positive = torch.tensor([scale, -scale, scale, -scale], requires_grad=True)
    scores = torch.tensor([[scale], [scale], [-scale], [-scale]]).repeat(1, 3).requires_grad_()
    valid = torch.tensor([[True, True, False]] * 4)
    row = loss(positive, scores, negatives(3, valid, torch.randn(4, 3)))
    row.sum().backward()
    for tensor in (row, positive.grad, scores.grad):
        assert torch.isfinite(tensor).all()


@every_loss
def test_order_of_negatives_does_not_matter(kind):
    loss, _ = LOSSES[kind]
    g = torch.Generator().manual_seed(1)
    positive, scores, weight = (
        torch.randn(s, generator=g).double() for s in [(3,), (3, 4), (3, 4)]
    )
    valid = torch.rand(3, 4, generator=g) > 0.3
    order = torch.randperm(4, generator=g)
    one = loss(positive, scores, negatives(4, valid, weight))
    two = loss(positive, scores[:, order], negatives(4, valid[:, order], weight[:, order]))
    torch.testing.assert_close(one, two)


# d loss / d positive and d loss / d negative for one hopeless pair, 30 apart.
SLOPES = {
    BPR: (-1, 1),
    BCE: (-1, 1),
    Logistic: (-0.5, 0.5),
    GBCE: (-0.5 * (1 - 0.75 * (1 - 1 / 20)), 0.5),
    SampledSoftmax: (-1, 1),
    CosineContrastive: (-1, 30),
    Margin: (-1, 1),
    "DCL": (-1, 1),
    "BSL": (-1, 1.2),
    BPRMax: (-1, 1 + 2 * 0.7 * 15),
    LambdaRank: (-0.5, 0.5),
    MultiSimilarity: (-1, 1),
}


@every_loss
def test_a_hopeless_pair_still_teaches(kind):
    positive = torch.tensor([-15.0], requires_grad=True)
    scores = torch.tensor([[15.0]], requires_grad=True)
    LOSSES[kind][0](positive, scores, negatives(1)).backward()
    assert positive.grad.item() == pytest.approx(SLOPES[kind][0], rel=1e-5)
    assert scores.grad.item() == pytest.approx(SLOPES[kind][1], rel=1e-5)


@every_loss
@pytest.mark.parametrize("K", [1, 5])
def test_ten_steps_raise_positive_over_negative(kind, K):
    g = torch.Generator().manual_seed(0)
    q = torch.randn(8, 4, generator=g)
    table = torch.randn(20, 4, generator=g)
    table.requires_grad_()
    target, ids = torch.arange(8), torch.randint(8, 20, (8, K), generator=g)
    loss, optimizer = LOSSES[kind][0], torch.optim.Adam([table], lr=0.05)

    def gap():
        unit = torch.nn.functional.normalize(table, dim=1)
        scores = torch.nn.functional.normalize(q, dim=1) @ unit.T
        positive = scores.gather(1, target[:, None]).squeeze(1)
        return positive, scores.gather(1, ids)

    before = gap()
    for _ in range(10):
        optimizer.zero_grad()
        loss(*gap(), negatives(K)).sum().backward()
        optimizer.step()
    after = gap()
    assert (after[0].mean() - after[1].mean()) > (before[0].mean() - before[1].mean()) + 0.2


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: GBCE(t=1.5), r"t=1.5 in GBCE"),
        (lambda: GBCE(num_candidates=1), "num_candidates=1"),
        (lambda: Margin(-1), "margin=-1"),
        (lambda: CosineContrastive(weight=-2), "weight=-2"),
        (lambda: SampledSoftmax("yes"), "correct='yes'"),
        (lambda: BPRMax(-1), "penalty=-1"),
        (lambda: LambdaRank(0), "cut=0"),
        (lambda: MultiSimilarity(beta=0), "beta=0"),
        (lambda: MultiSimilarity(margin=-1), "margin=-1"),
    ],
)
def test_bad_values_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_gbce_limits():
    positive, scores = torch.randn(3).double(), torch.randn(3, 4).double()
    sum_bce = lambda: (  # noqa: E731
        torch.nn.functional.softplus(-positive) + torch.nn.functional.softplus(scores).sum(1)
    )
    plain = GBCE(0.0, num_candidates=100)(positive, scores, negatives(4))
    torch.testing.assert_close(plain, sum_bce() / 5)  # t = 0
    for t in (0.3, 1.0):
        every = GBCE(t, num_candidates=5)(positive, scores, negatives(4))  # K = N - 1
        torch.testing.assert_close(every, sum_bce() / 5)


def test_gbce_is_the_published_power_of_the_positive():
    """-log sigma(s)^beta, with beta of the paper's equation for t, alpha = K / (N - 1)."""
    t, K, N = 0.6, 4, 41
    alpha = K / (N - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    positive, scores = torch.randn(3).double(), torch.randn(3, K).double()
    want = -(positive.sigmoid() ** beta).log() - (1 - scores.sigmoid()).log().sum(1)
    loss = GBCE(t)
    loss.prepare(Training(torch.ones(N)))
    torch.testing.assert_close(loss(positive, scores, negatives(K)), want / (K + 1))


def test_gbce_needs_to_know_how_many_candidates_there_are():
    with pytest.raises(UsageError, match=r"pass num_candidates=N or prepare"):
        GBCE()(torch.zeros(1), torch.zeros(1, 2), negatives(2))


def test_cosine_contrastive_beyond_margin_one_only_aligns():
    scores = torch.rand(3, 4, requires_grad=True)
    loss = CosineContrastive(margin=1.0)(torch.tensor([0.5, 0.0, -1.0]), scores, negatives(4))
    assert loss.tolist() == [0.5, 1.0, 2.0]
    loss.sum().backward()
    assert (scores.grad == 0).all()
