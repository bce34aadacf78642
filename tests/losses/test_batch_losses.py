"""What holds for every loss within a batch: masks, edges, symmetry, direction, refusals."""

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import (
    CACR,
    MVDHEL,
    AdaptiveMargin,
    BlockContrast,
    Clip,
    DecoupledUniformity,
    DirectAU,
    KernelConditional,
)
from hardneg.models.similarity import ComplexDistance, Cosine, Distance, Dot

pytestmark = pytest.mark.usefixtures("one_thread")
LOSSES = [
    Clip(0.2),
    Clip(0.2, learn=False),
    AdaptiveMargin(),
    AdaptiveMargin("l1"),
    AdaptiveMargin("soft", detach=True),
    DirectAU(),
    DecoupledUniformity(),
    MVDHEL(),
    CACR(),
    KernelConditional(),
    KernelConditional("laplacian"),
    KernelConditional("cosine"),
    BlockContrast(3),
    BlockContrast(100),
]
every_loss = pytest.mark.parametrize(
    "loss", LOSSES, ids=[f"{type(loss).__name__}-{n}" for n, loss in enumerate(LOSSES)]
)


def batch(M=8, D=4, seed=0):
    """Return queries, positives, valid, ids and rows: two rows share a query, two an item."""
    g = torch.Generator().manual_seed(seed)
    positive = torch.arange(M)
    row = torch.arange(M)
    if M > 3:
        positive[3], row[2] = positive[1], row[0]
    q, p = (torch.randn(M, D, generator=g, dtype=torch.float64)[ids] for ids in (row, positive))
    valid = (positive[:, None] != positive) & (row[:, None] != row)
    if M > 5:
        valid[5, 0] = False
    return q, p, valid, positive, row


@every_loss
def test_one_number_a_row_and_a_gradient(loss):
    q, p, *rest = batch()
    q.requires_grad_(), p.requires_grad_()
    row = loss(q, p, *rest)
    row.mean().backward()
    assert row.shape == (8,)
    for grad in (q.grad, p.grad):
        assert torch.isfinite(grad).all()
        assert (grad.abs().sum(1) > 0).sum() >= 7


@every_loss
@pytest.mark.parametrize("case", ["one row", "all repeats", "all known", "zeros", "huge", "equal"])
def test_edges_are_finite(loss, case):
    q, p, valid, positive, row = batch(1 if case == "one row" else 8)
    q, p = q.float(), p.float()
    if case == "all repeats":
        positive, row = torch.zeros_like(positive), torch.zeros_like(row)
        valid = torch.zeros_like(valid)
        q, p = q[:1].repeat(8, 1), p[:1].repeat(8, 1)
    elif case == "all known":
        valid = torch.zeros_like(valid)
    elif case == "zeros":
        q, p = torch.zeros_like(q), torch.zeros_like(p)
    elif case == "huge":
        q, p = 1e9 * q, 1e9 * p
    elif case == "equal":
        q = p = torch.ones_like(q)
    for rows in (row, None):
        a, b = q.clone().requires_grad_(), p.clone().requires_grad_()
        value = loss(a, b, valid, positive, rows)
        value.sum().backward()
        assert value.shape == (len(q),)
        for tensor in (value, a.grad, b.grad):
            assert torch.isfinite(tensor).all()


@every_loss
def test_order_of_rows_does_not_matter(loss):
    if isinstance(loss, BlockContrast) and loss.clusters < 8:
        pytest.skip("k-means starts from rows by their place")
    q, p, valid, positive, row = batch()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    moved = valid[order][:, order]
    one = loss(q, p, valid, positive, row)
    two = loss(q[order], p[order], moved, positive[order], row[order])
    torch.testing.assert_close(one[order], two)


@every_loss
def test_lengths_do_not_count(loss):
    q, p, *rest = batch()
    torch.testing.assert_close(loss(q, p, *rest), loss(3 * q, 0.1 * p, *rest))


@every_loss
def test_ten_steps_raise_positives_over_negatives(loss):
    q, p, valid, positive, row = batch(12, 6)
    q, table = q.float()[row].requires_grad_(), p.float().requires_grad_()
    optimizer = torch.optim.Adam([q, table], lr=0.05)

    def gap():
        cosine = torch.nn.functional.cosine_similarity(q[:, None], table[positive][None], dim=2)
        return (cosine.diagonal().mean() - cosine[valid].mean()).item()

    before = gap()
    for _ in range(10):
        optimizer.zero_grad()
        loss(q, table[positive], valid, positive, row).mean().backward()
        optimizer.step()
    assert gap() > before + 0.1


CONTRASTS = [Clip, AdaptiveMargin, CACR, KernelConditional, BlockContrast]


@pytest.mark.parametrize("kind", CONTRASTS)
def test_a_known_positive_is_no_negative(kind):
    """Row 0 knows every positive but its own and that of row 4, so others' scores do not matter."""
    q, p, valid, positive, _ = batch()
    valid[0] = torch.arange(8) == 4
    loss = kind(clusters=100) if kind is BlockContrast else kind()
    p.requires_grad_()
    value = loss(q, p, valid, positive, None)[0]
    value.backward()
    others = [n for n in range(8) if n not in (0, 4)]
    assert (p.grad[others] == 0).all()
    assert (p.grad[[0, 4]].abs().sum(1) > 0).all()


@every_loss
def test_nothing_waits_for_the_device(loss):
    def make(shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device="meta")

    q, p = make((8, 4)).requires_grad_(), make((8, 4)).requires_grad_()
    ids = make(8, torch.int64)
    learnt = loss.state_dict()
    far = type(loss)().to("meta") if not learnt else Clip().to("meta")
    row = far(q, p, make((8, 8), torch.bool), ids, ids)
    row.sum().backward()
    assert row.device.type == q.grad.device.type == "meta"


@every_loss
def test_what_is_ranked_by_must_be_directions(loss):
    loss.check(Dot())
    loss.check(Cosine(0.2))
    for similarity in (Distance(), ComplexDistance()):
        with pytest.raises(UsageError, match=rf"{type(loss).__name__} compares directions.*Cosine"):
            loss.check(similarity)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Clip(0), "temperature=0 in Clip must be a number above 0"),
        (lambda: Clip(0.001), r"temperature=0.001 in Clip starts above limit=100.0; .* 0.01"),
        (lambda: Clip(limit=-1), "limit=-1 in Clip"),
        (lambda: AdaptiveMargin("l3"), "error='l3' in AdaptiveMargin; use l2, l1, soft"),
        (lambda: DirectAU(-1), "gamma=-1 in DirectAU must be a number of 0 or more"),
        (lambda: DirectAU(float("nan")), "gamma=nan"),
        (lambda: DecoupledUniformity(ridge=0), "ridge=0 in DecoupledUniformity"),
        (lambda: DecoupledUniformity(kernel="poly"), "kernel='poly' .* rbf, laplacian, cosine"),
        (lambda: MVDHEL(-0.1), "temperature=-0.1 in MVDHEL"),
        (lambda: CACR(t_repel=-1), "t_repel=-1 in CACR"),
        (lambda: KernelConditional(bandwidth=0), "bandwidth=0 in KernelConditional"),
        (lambda: KernelConditional(temperature=0), "temperature=0 in KernelConditional"),
        (lambda: BlockContrast(0), "clusters=0 in BlockContrast must be at least 1"),
        (lambda: BlockContrast(steps=0), "steps=0"),
    ],
)
def test_bad_values_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()
