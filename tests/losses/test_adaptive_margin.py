"""Adaptive margins: the formula, and the broadcast that the published code gets wrong."""

import math

import pytest
import torch

from hardneg.engine.losses import AdaptiveMargin

pytestmark = pytest.mark.usefixtures("one_thread")
ERRORS = {"l2": lambda x: x * x, "l1": abs, "soft": lambda x: math.log1p(math.exp(x))}
IDS = torch.arange(2)
OTHERS = ~torch.eye(2, dtype=torch.bool)


def turn(*degrees):
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], 1)


@pytest.mark.parametrize("error", ERRORS)
def test_two_rows_by_hand(error):
    """Unequal diagonals, cos 0 = 1 and cos 60 = 1/2, tell rows from columns.

    Row 0: margin 1 - cos 90 = 1. Row 1: margin 1/2 - cos 150. Target (1 + cos 90) / 2 = 1/2. With
    the diagonal taken by column they would be 1/2 - 0 and 1 - cos 150.
    """
    q, p = turn(0, 150), turn(0, 90)
    got = AdaptiveMargin(error)(q, p, OTHERS, IDS)
    want = [0.5 - 1.0, 0.5 - (0.5 - math.cos(math.radians(150)))]
    assert got.tolist() == pytest.approx([ERRORS[error](x) for x in want])
    wrong = [0.5 - 0.5, 0.5 - (1.0 - math.cos(math.radians(150)))]
    assert got.tolist() != pytest.approx([ERRORS[error](x) for x in wrong])


def test_naive_loop():
    g = torch.Generator().manual_seed(0)
    q, p = torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    valid = (torch.rand(5, 5, generator=g) > 0.3) & ~torch.eye(5, dtype=torch.bool)
    cosine = torch.nn.functional.cosine_similarity
    got = AdaptiveMargin()(q, p, valid, torch.arange(5))
    for m in range(5):
        terms = []
        for n in range(5):
            if valid[m, n]:
                margin = cosine(q[m], p[m], 0) - cosine(q[m], p[n], 0)
                terms.append((margin - (1 + cosine(p[m], p[n], 0)) / 2) ** 2)
        want = sum(terms) / len(terms) if terms else 0.0
        assert got[m].item() == pytest.approx(float(want))


def test_a_repeat_of_the_positive_would_cost_one_and_is_masked():
    q, p = turn(10, 70), turn(40, 40)
    assert AdaptiveMargin()(q, p, OTHERS, IDS).tolist() == pytest.approx([1, 1])  # other ids
    assert AdaptiveMargin()(q, p, OTHERS, torch.zeros(2)).tolist() == [0, 0]


def test_orthogonal_positives_ask_for_half():
    q, p = turn(45, 45), turn(0, 90)  # margins are 0
    assert AdaptiveMargin("l1")(q, p, OTHERS, IDS).tolist() == pytest.approx([0.5, 0.5])


def test_detached_targets_do_not_move_positives_apart():
    q, p = turn(45, 45), turn(0, 80).requires_grad_()
    for detach in (False, True):
        p.grad = None
        AdaptiveMargin("soft", detach)(q, p, OTHERS, IDS).sum().backward()
        inward = (p.grad[0] * turn(90)[0]).sum()  # of moving p_0 towards p_1
        assert inward > 0.1 if not detach else inward < 0.0
