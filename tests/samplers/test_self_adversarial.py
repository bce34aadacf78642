"""Weights by belief: RotatE's equation 5 and its limits."""

import math

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.samplers import Negatives, SelfAdversarial

pytestmark = pytest.mark.usefixtures("one_thread")


def weigh(scores, alpha, valid=None):
    negatives, same = SelfAdversarial(alpha).refine(
        Negatives(torch.zeros(1, scores.shape[1], dtype=torch.int64), valid=valid), scores, None
    )
    assert same is scores
    return negatives.probabilities(scores)


def test_naive_loop():
    scores = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 9.0], [1.0, 2.0, 3.0]])
    valid = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    p = weigh(scores, 0.7, valid)
    for m in range(3):
        each = [math.exp(0.7 * scores[m, j]) * valid[m, j].item() for j in range(3)]
        total = sum(each) or 1.0
        assert p[m].tolist() == pytest.approx([e / total for e in each])


def test_alpha_zero_is_the_uniform_mean_and_large_alpha_the_hardest_alone():
    scores = torch.tensor([[0.1, 0.3, 0.2]])
    assert weigh(scores, 0.0).tolist() == [pytest.approx([1 / 3] * 3)]
    assert weigh(scores, 1e4).tolist() == [[0.0, 1.0, 0.0]]


def test_no_gradient_through_the_weights():
    scores = torch.randn(2, 3, requires_grad=True)
    assert not weigh(scores, 1.0).requires_grad


def test_weights_add_up_in_the_exponent():
    scores = torch.randn(4, 5)
    twice = Negatives(torch.zeros(1, 5, dtype=torch.int64))
    for alpha in (0.25, 0.5):
        twice, _ = SelfAdversarial(alpha).refine(twice, scores, None)
    torch.testing.assert_close(twice.probabilities(scores), weigh(scores, 0.75))


@pytest.mark.parametrize("scale", [1e4, 1e9])
def test_extreme_scores_stay_finite(scale):
    scores = torch.tensor([[scale, -scale, 0.0], [-scale, -scale, -scale]])
    p = weigh(scores, 1.0, torch.tensor([[True, True, True], [True, False, True]]))
    assert p.sum(1).tolist() == [1, 1]
    assert p[1].tolist() == [0.5, 0, 0.5]


def test_negative_alpha_is_refused():
    with pytest.raises(UsageError, match=r"alpha=-1 .* at least 0"):
        SelfAdversarial(-1)
