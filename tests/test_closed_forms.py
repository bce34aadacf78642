"""The index of closed forms: for each method the limits and identities its formula must have.

One row a method, and every one looks at the component a recipe names. What a method does beside
its limits is tested in the file of that component.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import chisquare
from torch.nn import functional as F

from hardneg.datasets.batch import Question, SequenceQuery, TripleQuery, UserQuery
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.datasets.triples import Triples
from hardneg.engine.diagnostics import neural_collapse, rank_me
from hardneg.engine.losses import (
    BCE,
    BPR,
    GBCE,
    MECO,
    CosineContrastive,
    DirectAU,
    FullSoftmax,
    LambdaRank,
    MannWhitney,
    SampledSoftmax,
    ZLoss,
    mv_dhel,
)
from hardneg.engine.losses.geometry import uniformity, unit
from hardneg.engine.losses.smoothing import kernel_matrix, ridge_weights
from hardneg.engine.ranks import rank_counts
from hardneg.engine.terms import SRACL
from hardneg.models.lightgcn import LightGCN
from hardneg.models.rotate import RotatE
from hardneg.models.similarity import ComplexDistance, Dot
from hardneg.samplers import (
    AmbiguousWindow,
    Ask,
    Cache,
    Centroid,
    ClusterBatch,
    ClusterWeight,
    Debias,
    GumbelTopK,
    Hardest,
    Mix,
    Negatives,
    Popularity,
    Propensity,
    SameCluster,
    SelfAdversarial,
    Shuffle,
    Sinkhorn,
    Tilt,
    TopK,
)
from hardneg.samplers.base import Live
from hardneg.samplers.principal import principal, whiten

pytestmark = pytest.mark.usefixtures("one_thread")
M, K, N, D = 4, 6, 20, 3
ROWS = {}
close = torch.testing.assert_close


def row(name):
    """Put a check into the index under the name of its method."""

    def add(check):
        ROWS[name] = check
        return check

    return add


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def asking(seed=0, known=None, score=None):
    """Return M queries, N candidates and inner products between them."""
    q, table = random(M, D, seed=seed).float(), random(N, D, seed=seed + 1).float()

    def dot(ids):
        return (q @ table.T).gather(1, ids.expand(M, -1))

    positive = torch.arange(M)
    live = Live(q, table, lambda vectors: Dot().rowwise(q, vectors), lambda: (table,))
    return Ask(
        positive, torch.arange(M), q, table, score or dot, known,
        torch.Generator().manual_seed(seed), None, dot(positive[:, None]).squeeze(1), live,
    )  # fmt: skip


def scored(seed=0):
    """Return scores of positives (M,) and negatives (M, K), and one shared pool without masks."""
    positive, scores = random(M, seed=seed), random(M, K, seed=seed + 9)
    return positive, scores.requires_grad_(), Negatives(torch.arange(K)[None])


def weights(refiner, scores, negatives, ask=None):
    return refiner.refine(negatives, scores, ask)[0].probabilities(scores)


def follows(ids, q):
    """Say by chi-square whether draws have the probabilities (N,)."""
    count, some = torch.bincount(ids.flatten(), minlength=len(q)), q > 0
    assert not count[~some].any()
    expected = (q[some] / q[some].sum() * count.sum()).numpy()
    return chisquare(count[some].numpy(), expected).pvalue > 1e-4


@row("self-adversarial")
def _():
    _, scores, pool = scored()
    close(weights(SelfAdversarial(0.0), scores, pool), torch.full((M, K), 1 / K).double())
    hardest = F.one_hot(scores.argmax(1), K).double()
    close(weights(SelfAdversarial(1e6), scores, pool), hardest)


@row("gBCE")
def _():
    positive, scores, pool = scored()
    plain = (F.softplus(-positive) + F.softplus(scores).sum(1)) / (K + 1)
    close(GBCE(0.0, num_candidates=99)(positive, scores, pool), plain)
    one = Negatives(torch.zeros(1, 1, dtype=torch.int64))
    few = GBCE(0.0, num_candidates=99)(positive, scores[:, :1], one)
    close(2 * few, BCE()(positive, scores[:, :1], one))
    assert all(GBCE(t, num_candidates=K + 1).beta(K) == 1 for t in (0.0, 0.3, 1.0))


def enumerated(form):
    """Return sampled and full loss and gradient when each of the N - 1 others is drawn once."""
    table = random(M, N).requires_grad_()
    target = torch.arange(M)
    ids = torch.stack([torch.cat([torch.arange(m), torch.arange(m + 1, N)]) for m in range(M)])
    pool = Negatives(ids, torch.full((M, N - 1), -math.log(N - 1)).double())
    positive, scores = table.gather(1, target[:, None])[:, 0], table.gather(1, ids)
    ours, full = (
        SampledSoftmax(True, form)(positive, scores, pool),
        F.cross_entropy(table, target, reduction="none"),
    )
    grads = [torch.autograd.grad(x.sum(), table, retain_graph=True)[0] for x in (ours, full)]
    return ours, full, *grads


@row("sampled softmax")
def _():
    ours, full, mine, theirs = enumerated("infonce")
    close(ours, full)
    close(mine, theirs)


@row("corrected logQ")
def _():
    _, _, mine, theirs = enumerated("corrected")
    close(mine, theirs)


@row("DCL vs InfoNCE")
def _():
    positive, scores, pool = scored()
    dcl = SampledSoftmax(form="dcl")(positive, scores, pool)
    close(SampledSoftmax()(positive, scores, pool), F.softplus(dcl))


@row("HCL")
def _():
    positive, scores, pool = scored()
    ask = SimpleNamespace(positive_score=positive)
    plain = SampledSoftmax()(positive, scores, pool)

    def hcl(beta, tau):
        return SampledSoftmax()(positive, *chain(Tilt(beta), Debias(tau), scores, pool, ask)[::-1])

    close(hcl(0.0, 0.1), SampledSoftmax()(positive, *debiased(0.1, scores, pool, ask)))
    close(hcl(0.0, 0.0), plain)
    hardest = F.softplus(math.log(K) + scores.amax(1) - positive)
    close(hcl(1e6, 0.0), hardest)


def chain(first, second, scores, pool, ask):
    return second.refine(*first.refine(pool, scores, ask), ask)


def debiased(tau, scores, pool, ask):
    return Debias(tau).refine(pool, scores, ask)[::-1]


@row("Debiased")
def _():
    positive = random(M)
    scores = positive[:, None].expand(M, K)
    pool, ask = Negatives(torch.arange(K)[None]), SimpleNamespace(positive_score=positive)
    for tau in (1e-3, 0.1, 0.7):
        _, shifted = Debias(tau, floor=-50.0).refine(pool, scores, ask)
        close(shifted.logsumexp(1), math.log(K) + positive)  # N_g = K e^{s+}


@row("BSL")
def _():
    positive, scores, pool = scored()
    dcl = SampledSoftmax(form="dcl")(positive, scores, pool)
    close(SampledSoftmax(form="dcl", kappa=1.0)(positive, scores, pool), dcl)
    close(dcl, scores.logsumexp(1) - positive)


@row("OT negatives")
def _():
    scores, pool = scored()[1].float(), scored()[2]
    close(weights(Sinkhorn(0.5, 0), scores, pool), weights(Tilt(2.0), scores, pool))
    P = Sinkhorn(1e6, 20).log_coupling(pool, scores).exp()
    close(P, torch.full((M, K), 1 / (M * K), dtype=P.dtype), atol=1e-6, rtol=0)


@row("CCL-K")
def _():
    apart = kernel_matrix(torch.eye(5).double(), "cosine", 1.0)
    close(apart, torch.eye(5).double())
    close(ridge_weights(apart, 1e-9), torch.eye(5).double())


@row("CCL (SimpleX)")
def _():
    positive, scores, pool = scored()
    positive.requires_grad_()
    loss = CosineContrastive(margin=1.0)(positive, scores.tanh(), pool).sum()
    by_positive, by_score = torch.autograd.grad(loss, (positive, scores))
    close(by_positive, torch.full((M,), -1.0).double())
    assert not by_score.any()


@row("MEOW")
def _():
    ask, pool = asking(), Negatives(torch.arange(M, M + K)[None])
    positive, scores = ask.positive_score, ask.score(pool.ids)
    dcl = SampledSoftmax(form="dcl")
    for labels in (torch.arange(N), torch.zeros(N, dtype=torch.int64)):  # singletons; one cluster
        refiner = ClusterWeight((2,))
        refiner.clusterings[0].warned = True
        refiner.clusterings[0]._sort(labels)
        kept, after = refiner.refine(pool, scores, ask)
        close(dcl(positive, after, kept), dcl(positive, scores, pool))


@row("cluster sampler")
def _():
    ask, every = asking(), torch.arange(N).expand(M, N)
    uniform = torch.full((M, N), 1 / N)
    for sampler in (SameCluster(8, clusters=1), SameCluster(8, clusters=4, within=0.0)):
        sampler.clusters.warned = True
        sampler.refresh(ask.table, ask.generator)
        close(sampler.log_prob(ask, every).exp(), uniform)
    sampler = SameCluster(8, clusters=4, within=0.7)
    sampler.refresh(ask.table, ask.generator)
    close(sampler.log_prob(ask, every).exp().sum(1), torch.ones(M))


@row("ClusterNS")
def _():
    ask, sampler = asking(), Centroid(2, nearest=1)
    sampler.refresh(ask.table, ask.generator)
    drawn = sampler.draw(ask)
    own = torch.cdist(ask.table[ask.positive], drawn.vectors).argmin(1)
    assert drawn.valid.tolist() == [[c != own[m] for c in range(2)] for m in range(M)]


@row("DNS")
def _():
    n, draws, trials = 6, 3, 40_000
    g = torch.Generator().manual_seed(0)
    pools = torch.rand(trials, n, generator=g).argsort(1)[:, :draws]  # without replacement
    kept, _ = TopK(1).refine(Negatives(pools), -pools.double(), None)  # id 0 ranks first
    law = [math.comb(n - 1 - r, draws - 1) / math.comb(n, draws) for r in range(n)]
    assert follows(kept.ids, torch.tensor(law, dtype=torch.float64))


@row("SimANS")
def _():
    scores, ask = random(1, K).expand(30_000, K), asking()
    ask = ask._replace(positive_score=torch.zeros(30_000, dtype=torch.float64))
    pool = Negatives(torch.arange(K)[None])
    kept, _ = AmbiguousWindow(0.0, num=1).refine(pool, scores, ask)
    assert follows(kept.ids, torch.full((K,), 1 / K).double())
    kept, _ = AmbiguousWindow(1e9, -0.5, num=1).refine(pool, scores, ask)
    assert (kept.ids == (scores[0] + 0.5).square().argmin()).all()


@row("MixGCF")
def _():
    ask, pool = asking(), Negatives(torch.arange(M, M + K)[None])
    scores = ask.score(pool.ids)
    kept, made = Mix(1, low=1.0).refine(pool, scores, ask)
    close(BPR()(ask.positive_score, made, kept), torch.full((M,), math.log(2)))
    one = Negatives(torch.full((1, 1), 9))
    kept, made = Mix(1, high=0.0).refine(one, ask.score(one.ids), ask)
    want = BPR()(ask.positive_score, ask.score(one.ids), one)
    close(BPR()(ask.positive_score, made, kept), want)


@row("TRON top-k")
def _():
    positive, scores, pool = scored()
    loss = SampledSoftmax(False)
    kept, best = TopK(K).refine(pool, scores, None)
    close(loss(positive, best, kept), loss(positive, scores, pool))
    kept, best = TopK(1).refine(pool, scores, None)
    close(best, scores.amax(1, keepdim=True))


@row("Gumbel top-k")
def _():
    scores, pool, ask = random(1, K).expand(30_000, K), Negatives(torch.arange(K)[None]), asking()
    first = GumbelTopK(3, temperature=0.8).refine(pool, scores, ask)[0].ids[:, 0]
    assert follows(first, (scores[0] / 0.8).softmax(0))
    cold = GumbelTopK(3, temperature=1e-9).refine(pool, scores, ask)[0].ids
    assert torch.equal(cold, TopK(3).refine(pool, scores, ask)[0].ids)


@row("NSCaching")
def _():
    known = Positives(torch.arange(M), torch.arange(M), M, N)
    ask = asking(known=known)
    still, exact = Cache(2, cache=5, candidates=0), Cache(2, cache=5, candidates=N, refresh="top")
    for sampler in (still, exact):
        sampler.prepare(Training(torch.ones(N), known=known))
        before = sampler.member.clone()
        sampler.propose(ask)
        assert torch.equal(sampler.member, before) == (sampler is still)
    scores = ask.score(torch.arange(N)[None]).scatter(1, torch.arange(M)[:, None], -torch.inf)
    for m in range(M):
        assert set(exact.member[m].tolist()) == set(scores[m].topk(5).indices.tolist())


@row("MW")
def _():
    positive, scores, pool = scored()
    close(MannWhitney()(positive[:1], scores[:1], pool), BPR()(positive[:1], scores[:1], pool))


@row("AUC")
def _():
    """Ranks by sorting, ties at one half, against the count over all pairs."""
    scores = torch.randint(5, (M, N), generator=torch.Generator().manual_seed(0)).float()
    target = torch.arange(M)
    asked = Question(UserQuery(target), target, target, target, torch.zeros_like(target))
    higher, same = rank_counts(scores, asked, None)
    assert same.sum() > 0
    for m in range(M):
        others = [scores[m, j].item() for j in range(N) if j != m]
        wins = sum((s < scores[m, m]) + 0.5 * (s == scores[m, m]) for s in others)
        rank = 1 + higher[m] + 0.5 * same[m]  # the mean of the best and the worst
        assert 1 - (rank.item() - 1) / (N - 1) == pytest.approx(wins.item() / (N - 1))


@row("Z-loss")
def _():
    q, table, positive = random(M, D), random(N, D, seed=1), torch.arange(M)
    want = ZLoss()(q, table, positive, Dot())
    close(ZLoss()(7 * q, table, positive, Dot()), want)  # o -> k o
    close(ZLoss()(q, table + random(D, seed=2), positive, Dot()), want)  # o -> o + c


@row("MECO")
def _():
    positive, scores, pool = scored()
    pool = pool._replace(log_q=torch.full((1, K), -math.log(N)).double())
    loss = MECO(1.0)
    loss.prepare(Training(torch.ones(N), known=Positives(torch.arange(M), torch.arange(M), M, N)))
    for _ in range(2):  # what it remembers does not matter
        close(
            loss(positive, scores, pool, torch.arange(M)),
            SampledSoftmax(True)(positive, scores, pool),
        )


@row("MV-DHEL")
def _():
    z, own = unit(random(2, M, D)), torch.eye(M, dtype=torch.bool)
    apart = sum(((x @ x.T) / 0.2).masked_fill(own, -torch.inf).logsumexp(1) for x in z)
    close(mv_dhel(z, ~own, 0.2), apart - (z[0] * z[1]).sum(1) / 0.2)


@row("DirectAU")
def _():
    pairs = {0: [[1.0, 0], [1, 0]], -4: [[1.0, 0], [0, 1]], -8: [[1.0, 0], [-1, 0]]}
    for want, pair in pairs.items():
        x = torch.tensor(pair)
        assert uniformity(x).item() == pytest.approx(want, abs=1e-6)
        loss = DirectAU(1.0)(x, x, ~torch.eye(2, dtype=torch.bool), torch.arange(2))
        close(loss, torch.full((2,), float(want)), atol=1e-6, rtol=0)


@row("TAS-B bins")
def _():
    """One bin is any pair alike; of several each that is not empty comes as often."""
    scores, ask = torch.tensor([[0.0, 0.1, 0.2, 0.9, 3.9, 4.0]]).expand(30_000, K), asking()
    ask = ask._replace(positive_score=torch.zeros(30_000))
    pool = Negatives(torch.arange(K)[None])
    for bins, law in ((1, [1 / 6] * 6), (4, [1 / 8] * 4 + [1 / 4] * 2)):
        kept, _ = AmbiguousWindow(0.0, -2.0, 1, bins).refine(pool, scores, ask)
        assert follows(kept.ids, torch.tensor(law).double())


@row("NGAME")
def _():
    n = 12
    view = Interactions(torch.arange(n), torch.arange(n) % 3, n, 3)
    batches = ClusterBatch(clusters=3, size=1)
    batches.refresh(torch.eye(3), torch.Generator().manual_seed(0))
    assert len(batches.clusters.size) == 3
    met = {"plain": torch.zeros(n, n), "runs": torch.zeros(n, n)}
    for seed in range(3000):
        for name, sampler in (("plain", Shuffle()), ("runs", batches)):
            for index in sampler.epoch(view, 4, torch.Generator().manual_seed(seed)):
                met[name][index[:, None], index] += 1
    expected = 3000 * 3 / 11  # of any two examples
    apart = ~torch.eye(n, dtype=torch.bool)
    for together in met.values():
        assert ((together[apart] - expected).abs() < 5 * expected**0.5).all()


@row("ADORE")
def _():
    positive, scores, pool = scored()
    assert (LambdaRank()(positive + 1e3, scores, pool) == 0).all()
    model = LightGCN(Interactions(torch.arange(4), torch.arange(4), 4, 4), dim=D, layers=1)
    model.freeze_candidates()
    before = model.items.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    q = model.encode(UserQuery(torch.arange(4)), model.nodes())
    ask = asking()._replace(query=q.detach(), table=model.items)
    ask = ask._replace(score=lambda ids: model.score(q.detach(), model.items, ids))
    drawn = Hardest(3).propose(ask)
    own = model.score(q, model.nodes(), ask.positive[:, None])[:, 0]
    LambdaRank()(own, model.score(q, model.nodes(), drawn.ids), drawn).sum().backward()
    optimizer.step()
    assert torch.equal(model.nodes(), before)
    assert model.users.grad.to_dense().abs().sum() > 0


@row("CET weight")
def _():
    scores = random(M, 2).float().requires_grad_()
    ask = asking()._replace(table=torch.zeros(2, D))
    refiner = Propensity(1.0, clip=1e-6)
    refiner.prepare(Training(torch.tensor([1, 10**12])))  # e = 0 but for 1e-12, and e = 1
    w = refiner.refine(Negatives(torch.arange(2)[None]), scores, ask)[0].weight.exp()
    close(w[:, 0], 1 - scores[:, 0].sigmoid())
    close(w[:, 1], torch.ones(M))
    assert not w.requires_grad


@row("RotatE")
def _():
    data = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]), 5, 3)
    model = RotatE(data, dim=D, gamma=5.0).double()

    def turned(*angles):
        with torch.no_grad():
            for r, angle in enumerate(angles):
                model.relations[r] = angle / model.phase
        queries = [TripleQuery(torch.arange(5), torch.full((5,), r), 0) for r in range(3)]
        return [model.encode(query, model.nodes()) for query in queries]

    one, two = random(D), random(D, seed=1)
    zero, half, both = turned(one * 0, torch.tensor([0, math.pi, math.pi]).double(), one + two)
    distance = ComplexDistance(5.0)
    close(distance.full(zero, model.entities), distance.full(model.entities, model.entities))
    scores = distance.full(half, model.entities)
    close(scores, scores.T, atol=1e-6, rtol=0)  # a half turn is as exact as its angle
    turned(one, two, one + two)
    there = model.encode(TripleQuery(torch.arange(5), torch.ones(5).long(), 0), turned(one, two)[0])
    close(there, both)


@row("word2vec noise")
def _():
    counts = torch.tensor([4, 2, 1, 9])
    flat, unigram = Popularity(beta=0.0), Popularity(beta=1.0)
    for sampler, want in ((flat, torch.full((4,), 0.25)), (unigram, counts / 16)):
        sampler.prepare(Training(counts))
        close(sampler.log_share.exp(), want)
        ask = asking()._replace(table=torch.zeros(4, 1))
        sampler.num = 20_000
        assert follows(sampler.draw(ask).ids, want.double())


@row("CBOW")
def _():
    """The one place that averages a context: each of its C items learns with the factor 1 / C."""
    term = SRACL()
    term.features_table = random(N, D).float().requires_grad_()
    items = torch.tensor([[3, 5, 7], [2, 0, 0]])
    query = SequenceQuery(items, torch.tensor([3, 1]), torch.arange(2))
    term._histories(query).sum().backward()
    want = torch.zeros(N, D)
    want[[3, 5, 7]], want[2] = 1 / 3, 1.0
    close(term.features_table.grad, want)


@row("Zipfian whitening")
def _():
    """As SameCluster(by=FILE, whiten=True) does with features before it clusters them."""
    x, p = random(N, D), torch.arange(1, N + 1).double() / (N * (N + 1) / 2)
    found = whiten(x, torch.arange(1, N + 1))
    close(p @ found, torch.zeros(D).double())
    close(found.T @ (p[:, None] * found), torch.eye(D).double())
    plain = whiten(x, torch.ones(N))
    scale = principal(x, D).std(0, correction=0)
    close(plain.abs(), (principal(x, D) / scale).abs())  # equal weights: principal components


@row("RankMe")
def _():
    for r in (1, 3, 5):
        directions = torch.linalg.qr(random(8, 8))[0][:r]
        assert rank_me(directions.repeat(7, 1)).item() == pytest.approx(r)


@row("NC2")
def _():
    C = 5
    simplex = torch.eye(C).double() - 1 / C
    _, norms, angles = neural_collapse(simplex.repeat(3, 1), torch.arange(C).repeat(3))
    assert norms.item() == pytest.approx(0, abs=1e-9)
    assert angles.item() == pytest.approx(0, abs=1e-9)  # cos = -1 / (C - 1)


@row("CE chunking")
def _():
    q, table = random(M, D).requires_grad_(), random(N, D, seed=1).requires_grad_()
    found = []
    for width in (1, 3, 7, N):
        loss = FullSoftmax()
        loss.width = lambda *_, width=width: width
        value = loss(q, table, torch.arange(M), Dot())
        grads = torch.autograd.grad(value.sum(), (q, table))
        found.append((value, *(g.to_dense() for g in grads)))
    for other in found[:-1]:
        for one, two in zip(other, found[-1], strict=True):
            close(one, two, rtol=1e-12, atol=1e-12)


INDEX = """
    self-adversarial | gBCE | sampled softmax | corrected logQ | DCL vs InfoNCE | HCL | Debiased |
    BSL | OT negatives | CCL-K | CCL (SimpleX) | MEOW | cluster sampler | ClusterNS | DNS | SimANS |
    MixGCF | TRON top-k | Gumbel top-k | NSCaching | MW | AUC | Z-loss | MECO | MV-DHEL | DirectAU |
    TAS-B bins | NGAME | ADORE | CET weight | RotatE | word2vec noise | CBOW | Zipfian whitening |
    RankMe | NC2 | CE chunking
"""


@pytest.mark.parametrize("name", [name.strip() for name in INDEX.split("|")])
def test_closed_form(name):
    ROWS[name]()


def test_no_check_is_left_out():
    assert set(ROWS) == {name.strip() for name in INDEX.split("|")}
