"""No step waits for the device: everything runs on tensors that have shapes but no values.

On such tensors an `.item()`, a boolean index or a branch on a value is an error, and so is a
tensor made on the wrong device; no GPU is needed to see it.
"""

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.engine.losses import (
    BCE,
    BPR,
    GBCE,
    CosineContrastive,
    FullSoftmax,
    Logistic,
    Margin,
    SampledSoftmax,
)
from hardneg.models.similarity import Dot
from hardneg.samplers import (
    Ask,
    Hardest,
    InBatch,
    Popularity,
    SameCluster,
    SelfAdversarial,
    TopK,
    Uniform,
)

pytestmark = pytest.mark.usefixtures("one_thread")
M, N, D = 12, 40, 4
PROPOSALS = [
    *(Uniform(8, pools=p) for p in (1, 5, "own")),
    Popularity(8),
    InBatch(),
    *(SameCluster(8, clusters=3, within=0.5, pools=p) for p in (1, 5, "own")),
    Hardest(8),
]
LOSSES = [BPR(), BCE(), GBCE(), Logistic(), Margin(), CosineContrastive(), SampledSoftmax()]


def valueless_ask():
    def make(shape, dtype=torch.int64):
        return torch.empty(shape, dtype=dtype, device="meta")

    q = make((M, D), torch.float32).requires_grad_()
    table = make((N, D), torch.float32).requires_grad_()
    known = Positives._of_keys(make(60), M, N)

    def score(ids):
        return (q @ table.T).gather(1, ungroup(ids, M))

    return Ask(make(M), make(M), q, table, score, known, None)


def on_device(sampler):
    sampler.prepare(Training(torch.arange(N)))
    sampler.refresh(torch.randn(N, D), torch.Generator().manual_seed(0))
    return sampler.to("meta")


@pytest.mark.parametrize(
    "proposal", PROPOSALS, ids=lambda p: f"{type(p).__name__} {getattr(p, 'pools', '')}"
)
def test_a_step_never_looks_at_a_value(proposal):
    ask = valueless_ask()
    on_device(proposal)
    for sampler in (proposal, proposal | SelfAdversarial(0.5) | TopK(4)):
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


def test_neither_does_the_table_loss():
    ask = valueless_ask()
    loss = FullSoftmax(0.1, budget_mb=1e-3)(ask.query, ask.table, ask.positive, Dot())
    loss.sum().backward()
    assert loss.device.type == ask.table.grad.device.type == "meta"


def test_the_check_would_notice():
    ask = valueless_ask()
    with pytest.raises(RuntimeError, match="meta"):
        ask.positive.sum().item()
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        ask.table[ask.table > 0]
