"""Hardness that falls as the positive rises."""

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.samplers import Adaptive, Negatives, Uniform

pytestmark = pytest.mark.usefixtures("one_thread")


def choose(sampler, scores, positive, make_ask, valid=None):
    ask = make_ask(M=len(scores))._replace(positive_score=positive)
    ids = torch.arange(scores.shape[1])[None]
    return sampler.refine(Negatives(ids, None, valid), scores, ask)


@pytest.mark.parametrize("p", [-1.0, -2.0, -3.5])
def test_naive_loop(p, make_ask):
    scores, positive = torch.randn(6, 9), torch.rand(6) * 4 - 0.5
    valid = torch.rand(6, 9) > 0.3
    kept, best = choose(Adaptive(2, 0.6, 1.5, p), scores, positive, make_ask, valid)
    for m in range(6):
        target = 1.5 * (positive[m].item() + 0.6) ** (p + 1)
        order = sorted(
            (j for j in range(9) if valid[m, j]), key=lambda j: abs(scores[m, j].item() - target)
        )
        assert kept.ids[m].tolist() == order[:2]
        assert best[m].tolist() == scores[m, order[:2]].tolist()
        assert kept.valid[m].all()


def test_an_easy_positive_gets_easy_negatives_and_p_is_the_slope(make_ask):
    scores = torch.linspace(0, 10, 1001).expand(3, 1001)
    positive = torch.tensor([0.0, 1.0, 3.0])
    best = {p: choose(Adaptive(1, 1.0, 1.0, p), scores, positive, make_ask)[1][:, 0].tolist()
            for p in (-1.0, -2.0, -3.0)}  # fmt: skip
    assert best[-1.0] == pytest.approx([1, 1, 1])
    assert best[-2.0] == pytest.approx([1, 1 / 2, 1 / 4], abs=0.006)
    assert best[-3.0] == pytest.approx([1, 1 / 4, 1 / 16], abs=0.006)


def test_a_positive_below_minus_alpha_gets_the_hardest(make_ask):
    scores = torch.tensor([[0.0, 5.0, 50.0]]).expand(2, 3)
    kept, best = choose(Adaptive(1), scores, torch.tensor([-9.0, -torch.inf]), make_ask)
    assert kept.ids.tolist() == [[2], [2]]
    assert torch.isfinite(best).all()


def test_bad_numbers_are_refused():
    with pytest.raises(UsageError, match=r"p=0 in Adaptive must be in \[-10, -1\]"):
        Adaptive(p=0)
    with pytest.raises(UsageError, match="beta=-1 in Adaptive must be at least 0"):
        Adaptive(beta=-1)
    with pytest.raises(UsageError, match="k=32 exceeds the pool of 16; raise num in Uniform"):
        Uniform(16) | Adaptive(32)
