"""No step waits for the device: everything runs on tensors that have shapes but no values.

On such tensors an `.item()`, a boolean index or a branch on a value is an error, and so is a
tensor made on the wrong device; no GPU is needed to see it.
"""

from dataclasses import replace

import pytest
import torch

from hardneg.datasets.batch import TripleQuery, ungroup
from hardneg.datasets.positives import Positives
from hardneg.datasets.sequences import Sequences
from hardneg.datasets.training import Training
from hardneg.engine.losses import (
    BCE,
    BPR,
    GBCE,
    MECO,
    BPRMax,
    CosineContrastive,
    FullSoftmax,
    KvsAll,
    LambdaRank,
    Logistic,
    MannWhitney,
    Margin,
    MultiSimilarity,
    SampledSoftmax,
    ScalableCE,
    ZLoss,
)
from hardneg.models.similarity import Dot
from hardneg.samplers import (
    Adaptive,
    AmbiguousWindow,
    Ask,
    Cache,
    Centroid,
    ClusterWeight,
    CrossBatch,
    Debias,
    FalseNegatives,
    Generator,
    Given,
    GumbelTopK,
    Hardest,
    HighVariance,
    InBatch,
    MarginGuard,
    Mix,
    Mixture,
    NearbyTime,
    NearCluster,
    NeighbourBand,
    ObservedType,
    OwnerSimilarity,
    Popularity,
    Propensity,
    SameCluster,
    SelfAdversarial,
    Sinkhorn,
    SkipTop,
    Tilt,
    TopK,
    TwoCondition,
    Uniform,
)
from hardneg.samplers.base import Live

pytestmark = pytest.mark.usefixtures("one_thread")
M, N, D = 12, 40, 4
PROPOSALS = [
    *(Uniform(8, pools=p) for p in (1, 5, "own")),
    Popularity(8),
    InBatch(),
    *(SameCluster(8, clusters=3, within=0.5, pools=p) for p in (1, 5, "own")),
    NearCluster(8, clusters=3, within=0.5),
    NearCluster(8, clusters=3, within=0.5, pools=5),
    Centroid(10, nearest=2),
    Centroid(10, nearest="all"),
    *(NeighbourBand(8, low=2, high=9, pools=p) for p in (1, 5, "own")),
    Hardest(8),
    Hardest(8, refresh_every=3, skip=2),
    Cache(8, cache=6, candidates=4),
    Cache(8, cache=6, candidates=N, refresh="top"),
    HighVariance(8, cache=8, candidates=4),
    Generator(8, candidates=10, dim=3),
    Mixture(InBatch(), Uniform(8), CrossBatch(6, 0)),
    Mixture(SameCluster(8, clusters=3, pools=1), Uniform(8, pools=5), Popularity(4, pools="own")),
    CrossBatch(20, 0, keep=0.5),
]
LOSSES = [
    *(BPR(), BCE(), GBCE(), Logistic(), Margin(), CosineContrastive(), SampledSoftmax()),
    *(SampledSoftmax(form="dcl", sigma=1.0), BPRMax(), LambdaRank(), MultiSimilarity()),
    MannWhitney(1e-3),
]
TABLE_LOSSES = [
    *(FullSoftmax(0.1, 1e-3), FullSoftmax(0.1, 1e-3, mask_known=True), KvsAll("bce"), KvsAll("kl")),
    *(ZLoss(), ScalableCE(9), ScalableCE(9, mask_known=True)),
]


def valueless_ask():
    def make(shape, dtype=torch.int64):
        return torch.empty(shape, dtype=dtype, device="meta")

    q = make((M, D), torch.float32).requires_grad_()
    table = make((N, D), torch.float32).requires_grad_()
    known = Positives.of_keys(make(60), M, N)

    def score(ids, table=table, query=q):
        return (query @ table.T).gather(1, ungroup(ids, M))

    return Ask(make(M), make(M), q, table, score, known, None)


def on_device(sampler):
    known = Positives(torch.arange(M), torch.arange(M), M, N)
    sampler.prepare(Training(torch.arange(N), known=known, width=D))
    sampler.refresh(torch.randn(N, D), torch.Generator().manual_seed(0))
    sampler.advance(2.0)  # past the epochs in which some have not yet begun
    return sampler.to("meta")


@pytest.mark.parametrize(
    "proposal", PROPOSALS, ids=lambda p: f"{type(p).__name__} {getattr(p, 'pools', '')}"
)
def test_a_step_never_looks_at_a_value(proposal):
    ask = valueless_ask()
    on_device(proposal)
    guarded = FalseNegatives() | MarginGuard(0.1) | SkipTop(2) | OwnerSimilarity() | TwoCondition()
    weighed = ClusterWeight((3, 5)) | Propensity() | Adaptive(4)
    weighed.prepare(Training(torch.arange(N)))
    weighed.refresh(torch.randn(N, D), torch.Generator().manual_seed(0))
    guarded = guarded | weighed.to("meta")
    contrast = Tilt() | Debias(0.1) | AmbiguousWindow(num=6, bins=3) | GumbelTopK(4)
    for sampler in (
        proposal,
        proposal | SelfAdversarial(0.5) | TopK(4),
        proposal | contrast,
        proposal | guarded,
    ):
        negatives = sampler.propose(ask)
        for loss in LOSSES:
            loss.prepare(Training(torch.ones(N)))
            positive = ask.score(ask.positive[:, None]).squeeze(1)
            seen = ask._replace(positive_score=positive)
            kept, scores = sampler.refine(negatives, ask.score(negatives.ids), seen)
            row = loss(positive, scores, kept)
            assert row.shape == (M,)
            assert row.device.type == "meta"
            row.sum().backward()


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize(
    "mix",
    [Mix(2), Mix(2, keep=True), Mix(2, "pairs"), Mix(2, "pairs", keep=True), Mix() | TopK(1)],
    ids=repr,
)
def test_neither_does_what_makes_vectors(mix, hops):
    ask, similarity = valueless_ask(), Dot().to("meta")
    tables = (ask.table,) if hops == 1 else tuple(ask.table * 1 for _ in range(hops))
    live = Live(ask.query, ask.table, lambda v: similarity.rowwise(ask.query, v), lambda: tables)
    seen = ask._replace(positive_score=ask.score(ask.positive[:, None])[:, 0], live=live)
    pools = [Uniform(8), Uniform(8, pools=5), Uniform(8, pools="own")]
    if isinstance(mix, Mix) and mix.of == "pairs":
        pools.append(Mixture(Uniform(8), CrossBatch(6, 0)))
    for pool in pools:
        sampler = on_device(pool) | mix
        negatives = sampler.propose(ask)
        kept, scores = sampler.refine(negatives, ask.score(negatives.ids), seen)
        assert scores.shape == kept.ids.shape
        assert scores.device.type == kept.ids.device.type == "meta"
        BPR()(seen.positive_score, scores, kept).sum().backward(retain_graph=True)


def test_neither_does_what_a_sampler_learns_nor_a_coupling():
    ask = valueless_ask()
    for sampler in (Generator(8, candidates=10, dim=3), Uniform(8) | Sinkhorn(marginal="counts")):
        negatives = on_device(sampler).propose(ask)
        scores = ask.score(negatives.ids)
        kept, _ = sampler.refine(negatives, scores, ask._replace(positive_score=scores[:, 0]))
        assert kept.ids.device.type == "meta"
        penalty = sampler.penalty()
        if isinstance(penalty, torch.Tensor):
            penalty.backward()


@pytest.mark.parametrize("loss", TABLE_LOSSES, ids=lambda loss: type(loss).__name__)
def test_neither_does_a_table_loss(loss):
    ask = valueless_ask()
    loss.prepare(Training(torch.ones(N), known=ask.known))
    row = loss(ask.query, ask.table, ask.positive, Dot(), ask.row)
    row.sum().backward()
    assert row.device.type == ask.table.grad.device.type == "meta"


def test_neither_does_a_loss_with_a_memory():
    ask, loss = valueless_ask(), MECO(0.5)
    loss.prepare(Training(torch.ones(N), known=Positives(torch.arange(M), torch.arange(M), M, N)))
    loss.to("meta")
    negatives = Uniform(8).propose(ask)
    row = loss(ask.score(ask.positive[:, None])[:, 0], ask.score(negatives.ids), negatives, ask.row)
    row.sum().backward()
    assert row.device.type == loss.log_z.device.type == "meta"


def test_the_check_would_notice():
    ask = valueless_ask()
    with pytest.raises(RuntimeError, match="meta"):
        ask.positive.sum().item()
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        ask.table[ask.table > 0]


@pytest.mark.parametrize("pools", [1, 5, "own"])
def test_neither_do_proposals_that_look_data_up(pools, interactions, triples, tmp_path):
    near, typed = NearbyTime(8, 3, pools=pools), ObservedType(8, 0.5, pools)
    near.prepare(Training(interactions.counts(), interactions))
    typed.prepare(Training(triples.counts(), triples))
    listed = Given("listed", 8)
    listed.keys = torch.arange(5)
    ask = valueless_ask()
    about = TripleQuery(ask.row, ask.row, 1)
    for sampler in (near, typed, listed):
        negatives = sampler.to("meta").propose(ask._replace(about=about))
        assert negatives.ids.shape[1] == 8
        assert negatives.ids.device.type == negatives.valid.device.type == "meta"


def test_neither_does_a_batch_whose_numbers_come_from_the_host(interactions, triples):
    """Sizes of sequences differ from batch to batch; they are known without the device."""
    index, sequences = torch.arange(4), Sequences(interactions, 3)
    facts = [triples, replace(triples, sides="bernoulli")]
    views = [interactions, sequences, *facts]
    want = [view.batch(index) for view in views]
    for name in ("users", "items", "offsets", "lengths"):
        setattr(sequences, name, getattr(sequences, name).to("meta"))
    far = [view.to("meta") for view in facts]
    for view in far:  # what is found once
        view.__dict__["_weight"] = torch.empty(len(triples), device="meta")
        view.__dict__["_bernoulli"] = 0.5, torch.empty(2, 3, device="meta")
    for view, known in zip([interactions.to("meta"), sequences, *far], want, strict=True):
        batch = view.batch(index)
        for part, value in zip([*batch[1:], *batch.query], [*known[1:], *known.query], strict=True):
            if isinstance(part, torch.Tensor):
                assert part.device.type == "meta"
                assert part.shape == value.shape
