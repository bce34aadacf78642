"""Positives and negatives in one call where pools are own: the numbers of two calls."""

import pytest
import torch

from hardneg.datasets.triples import Triples
from hardneg.engine.step import score_all
from hardneg.models.distmult import DistMult
from hardneg.models.rotate import RotatE
from hardneg.models.similarity import Cosine
from hardneg.samplers import Negatives

COLUMNS = [torch.arange(6), torch.arange(6) % 2, torch.arange(6).flip(0)]


@pytest.mark.parametrize("model", ["rotate", "distmult", "cosine"])
@pytest.mark.parametrize("layout", [(1, 5), (2, 5), (4, 5), (4, 1)])
@pytest.mark.parametrize("extra", [False, True])
def test_scores_and_gradients_are_those_of_two_calls(model, layout, extra):
    torch.manual_seed(0)
    data = Triples(*COLUMNS, num_entities=6, num_relations=2)
    model = RotatE(data, dim=8) if model == "rotate" else DistMult(data, dim=16)
    if model == "cosine":
        model.similarity = Cosine(0.2)
    table = model.nodes()
    q = torch.randn(4, 16, requires_grad=True)
    positive, ids = torch.tensor([0, 3, 3, 5]), torch.randint(6, layout)
    vectors = torch.randn(2, 16) if extra else None
    copied = ids if not extra else torch.cat([ids, ids[:, :1].expand(-1, 2)], 1)
    found = score_all(model, q, table, positive, Negatives(copied, vectors=vectors))
    want = [model.score(q, table, positive[:, None])[:, 0], model.score(q, table, ids)]
    if vectors is not None:
        own = model.score(q, vectors, torch.arange(2)[None])
        want[1] = torch.cat([want[1], own], 1)
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other)
    pull = torch.randn(want[1].shape[1])
    grads = [
        torch.autograd.grad((p + s @ pull).sum(), (q, table), retain_graph=True)
        for p, s in (found, want)
    ]
    torch.testing.assert_close(grads[0][0], grads[1][0])
    torch.testing.assert_close(grads[0][1].to_dense(), grads[1][1].to_dense())
