"""Multi-similarity: mining and limits (its loop is in test_losses.py)."""

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import MultiSimilarity
from hardneg.models.similarity import Cosine, Dot
from hardneg.samplers import Negatives

pytestmark = pytest.mark.usefixtures("one_thread")


def test_no_mined_pair_costs_nothing_and_still_has_a_gradient():
    positive = torch.tensor([0.9, 0.2], requires_grad=True)
    scores = torch.tensor([[0.1, 0.7], [0.3, 0.9]], requires_grad=True)
    valid = torch.tensor([[True, True], [False, False]])
    row = MultiSimilarity()(positive, scores, Negatives(torch.arange(2)[None], None, valid))
    row.sum().backward()
    assert row.tolist() == positive.grad.tolist() == [0, 0]
    assert (scores.grad == 0).all()


def test_the_margin_decides_what_is_mined():
    positive = torch.tensor([0.5])
    scores = torch.tensor([[0.45, 0.35, 0.9]], requires_grad=True)
    MultiSimilarity(margin=0.1)(positive, scores, Negatives(torch.arange(3)[None])).backward()
    assert (scores.grad[0] > 0).tolist() == [True, False, True]


def test_a_sharp_push_is_that_of_the_hardest():
    positive = torch.tensor([0.1], dtype=torch.float64)
    scores = torch.tensor([[0.3, 0.8, -0.2]], dtype=torch.float64)
    got = MultiSimilarity(2.0, 1e5, 0.5)(positive, scores, Negatives(torch.arange(3)[None]))
    want = F.softplus(2 * (0.5 - positive)) / 2 + (0.8 - 0.5)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_only_cosines_are_taken():
    MultiSimilarity().check(Cosine(temperature=1))
    for similarity in (Dot(), Cosine(0.1)):
        with pytest.raises(UsageError, match=r"compares cosines.*Cosine\(temperature=1\)"):
            MultiSimilarity().check(similarity)
