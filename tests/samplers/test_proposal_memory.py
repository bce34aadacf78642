"""What a proposal may hold: every tensor a draw makes is counted, none is as large as (M, K, D).

Losses are counted too. M rows, K columns, D width, N candidates; the bound of each is what its
docstring states.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hardneg import samplers
from hardneg.datasets.batch import TripleQuery, ungroup
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.datasets.triples import Triples
from hardneg.engine.losses import (
    BCE,
    BPR,
    GBCE,
    MECO,
    WARP,
    BPRMax,
    CosineContrastive,
    LambdaRank,
    Logistic,
    MannWhitney,
    Margin,
    MultiSimilarity,
    SampledSoftmax,
)
from hardneg.samplers import (
    Ask,
    Cache,
    Centroid,
    CrossBatch,
    Generator,
    Given,
    Hardest,
    HighVariance,
    InBatch,
    Mixture,
    NearbyTime,
    NearCluster,
    Negatives,
    NeighbourBand,
    ObservedType,
    Popularity,
    Proposal,
    SameCluster,
    Uniform,
)

pytestmark = pytest.mark.usefixtures("one_thread")
M, K, D, N = 64, 48, 32, 96
MK, MKD, ROWS = M * K, M * K * D, 3 * M
n1, n2, E, C, d = 8, 16, 3, 6, 4
POOLS = (1, 5, "own")
LARGEST = [
    *((Uniform(K, pools=p), MK) for p in POOLS),
    *((Popularity(K, pools=p), MK) for p in POOLS),
    (InBatch(), M * M),
    *((SameCluster(K, clusters=C, within=0.5, pools=p), MK) for p in POOLS),
    *((NearCluster(K, clusters=C, within=0.5, pools=p), MK) for p in POOLS),
    (Centroid(C, nearest="all"), max(M * D, N * D)),  # the positives' rows; clusters are state
    *((NeighbourBand(K, low=2, high=9, pools=p), max(MK, 7 * N)) for p in POOLS),  # the bands
    (Hardest(K), M * (N + K)),
    (Cache(K, cache=n1, candidates=n2), max(MK, M * (n1 + n2))),
    (HighVariance(4, cache=n1, candidates=n2, epochs=E), E * (N + M + 1) * D),  # copies of a past
    (Generator(K, candidates=N, dim=d), max(M * N, N * D)),
    (Mixture(Uniform(K // 2), SameCluster(K // 2, clusters=C)), MK),
    (CrossBatch(K, 0), max(MK, N * D)),
    *((NearbyTime(K, 9, pools=p), max(MK, ROWS)) for p in POOLS),
    *((ObservedType(K, 0.5, p), max(MK, 2 * ROWS)) for p in POOLS),
    (Given("listed", K), MK),
]
LOSSES = [
    *(BPR(), BCE(), GBCE(), Logistic(), Margin(), CosineContrastive(), BPRMax(), LambdaRank()),
    *(SampledSoftmax(), SampledSoftmax(True, "corrected"), MultiSimilarity(), MECO(), WARP()),
    MannWhitney(12 * MK / 2**20),
]


class Largest(TorchDispatchMode):
    """Remembers the most elements that any tensor made inside has storage for."""

    def __init__(self):
        super().__init__()
        self.elements, self.by = 0, None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and not leaf.is_sparse:
                held = leaf.untyped_storage().nbytes() // leaf.element_size()
                if held > self.elements:
                    self.elements, self.by = held, func
        return out


def question(facts):
    g = torch.Generator().manual_seed(0)
    q, table = torch.randn(M, D, generator=g), torch.randn(N, D, generator=g)
    positive = torch.randint(N, (M,), generator=g)
    row, liked = torch.arange(M).repeat_interleave(3), torch.randint(N, (ROWS,), generator=g)

    full = q @ table.T  # here, because what scores ids is not what is counted

    def score(ids, table=None, query=None):
        among = full if table is None else query @ table.T
        return among.gather(1, ungroup(ids, M))

    about = TripleQuery(torch.arange(M), torch.zeros(M).long(), 0) if facts else None
    known = Positives(row, liked, M, N)
    log = Interactions(row, liked, M, N, timestamp=torch.arange(ROWS))
    data = Triples(row, row % 2, liked, N, 2) if facts else log
    ask = Ask(positive, torch.arange(M), q, table, score, known, g, about)
    return ask, Training(torch.arange(N), data, known, width=D)


@pytest.mark.parametrize(
    ("proposal", "bound"), LARGEST, ids=lambda x: f"{type(x).__name__} {getattr(x, 'pools', '')}"
)
def test_no_tensor_of_a_draw_is_larger_than_stated(proposal, bound):
    assert bound < MKD / 4
    ask, training = question(isinstance(proposal, ObservedType))
    if isinstance(proposal, Given):
        proposal.keys = torch.arange(0, M * N, 7)
    else:
        proposal.prepare(training)
    for _ in range(2):
        if proposal.due(0):
            proposal.refresh(ask.table, ask.generator)
        proposal.advance(1.0)
        with Largest() as largest:
            negatives = proposal.propose(ask)
        assert largest.elements <= bound, largest.by
    assert negatives.valid.numel() <= max(MK, M * M)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_no_tensor_of_a_loss_is_larger_than_its_scores(loss):
    _, training = question(False)
    loss.prepare(training)
    positive, scores = torch.randn(M, requires_grad=True), torch.randn(M, K, requires_grad=True)
    pool = Negatives(
        torch.randint(N, (M, K)), torch.full((M, K), -4.0), torch.rand(M, K) > 0.1, torch.rand(M, K)
    )
    with Largest() as largest:
        loss(positive, scores, pool, torch.arange(M)).sum().backward()
    assert largest.elements <= MK, largest.by


def test_every_proposal_is_counted():
    ours = {
        item
        for item in vars(samplers).values()
        if isinstance(item, type) and issubclass(item, Proposal) and item is not Proposal
    }
    missing = {kind.__name__ for kind in ours - {type(proposal) for proposal, _ in LARGEST}}
    assert not missing, f"add {', '.join(sorted(missing))} to LARGEST of this file"
    for kind in ours:
        assert "Cost:" in kind.__doc__, kind
