"""The queue of past positives: first in first out, stale, masked, resumable."""

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.engine.checkpoint import restore_values, values
from hardneg.engine.losses import BPR
from hardneg.engine.step import score_all
from hardneg.models.base import Model
from hardneg.models.similarity import Dot
from hardneg.samplers import CrossBatch
from hardneg.samplers.schedules import Linear

pytestmark = pytest.mark.usefixtures("one_thread")


def steps(ask, sampler, batches, moving=None):
    """Propose for each batch of positives; the table moves in between."""
    for i, positive in enumerate(batches):
        table = ask.table + i if moving else ask.table
        now = ask._replace(positive=torch.tensor(positive), table=table, known=None)
        yield sampler.propose(now)


def test_queue_is_a_naive_one_and_wraps_at_capacity(make_ask):
    ask = make_ask(M=3, N=20, D=2)
    sampler, naive = CrossBatch(7, warmup_steps=0), [None] * 7
    batches = torch.randint(20, (12, 3), generator=ask.generator).tolist()
    at = 0
    for i, negatives in enumerate(steps(ask, sampler, batches, moving=True)):
        for c, held in enumerate(naive):
            if held is None:
                assert not negatives.valid[:, c].any()
            else:
                item, step = held
                assert negatives.ids[0, c] == item
                assert torch.equal(negatives.vectors[c], ask.table[item] + step)
                want = [item != p for p in batches[i]]
                assert negatives.valid[:, c].tolist() == want
        for item in batches[i]:
            naive[at % 7] = (item, i)
            at += 1
    assert sampler.filled == 7
    assert sampler.next_slot == 36 % 7


def test_a_batch_larger_than_the_queue_leaves_its_last_rows(make_ask):
    ask = make_ask(M=6)
    sampler = CrossBatch(4, warmup_steps=0)
    sampler.propose(ask)
    assert torch.equal(sampler.entry, ask.positive[-4:])


def test_warm_up_fills_but_does_not_read(make_ask):
    ask = make_ask(M=2)
    sampler = CrossBatch(8, warmup_steps=3)
    readable = [
        int(n.valid.any(0).sum()) for n in steps(ask, sampler, [[1, 2], [3, 4], [5, 6], [7, 8]])
    ]
    assert readable == [0, 0, 0, 6]


def test_known_positives_are_masked_by_their_ids(make_ask):
    known = Positives(torch.tensor([1]), torch.tensor([3]), 2, 20)
    ask = make_ask(M=2)._replace(known=known, positive=torch.tensor([3, 4]))
    sampler = CrossBatch(2, warmup_steps=0)
    sampler.propose(ask)
    negatives = sampler.propose(ask._replace(positive=torch.tensor([9, 9])))
    assert negatives.valid.tolist() == [[True, True], [False, True]]


def test_vectors_are_stale_and_carry_no_gradient(make_ask):
    class Plain(Model):
        similarity = Dot()

    ask = make_ask(M=3)
    table = ask.table.clone().requires_grad_()
    q = ask.query.clone().requires_grad_()
    sampler = CrossBatch(6, warmup_steps=0)
    ask = ask._replace(known=None, positive=torch.tensor([1, 2, 3]))
    sampler.propose(ask)
    negatives = sampler.propose(ask._replace(positive=torch.tensor([4, 5, 6])))
    _, scores = score_all(Plain(), q, table, torch.zeros(len(q), dtype=torch.int64), negatives)
    torch.testing.assert_close(scores[:, :3], ask.query @ ask.table[1:4].T)
    BPR()(torch.zeros(3), scores, negatives).sum().backward()
    assert table.grad is None
    assert q.grad.abs().sum() > 0


def test_keep_is_the_most_similar_share(make_ask):
    ask = make_ask(M=3, N=20)
    sampler = CrossBatch(8, warmup_steps=0, keep=0.5)
    assert sampler.num == 4
    sampler.prepare(Training(torch.ones(20)))
    list(steps(ask, sampler, [[1, 2, 3], [4, 5, 6]]))  # 6 of 8 are filled
    negatives = sampler.propose(ask._replace(positive=torch.tensor([1, 1, 1]), known=None))
    assert negatives.log_q is None
    scores = torch.tensor([[99.0, 1, 5, 2, 4, 3, 50, 60]]).expand(3, -1)  # entry 0 is masked
    kept, best = sampler.refine(negatives, scores, ask)
    assert kept.ids.tolist() == [[3, 5, 6, 4]]
    assert best.tolist() == [[5.0, 4, 3, 2]] * 3
    assert torch.equal(kept.vectors, negatives.vectors[[2, 4, 5, 3]])
    assert kept.valid.all()


def test_keep_all_is_the_plain_queue(make_ask):
    ask = make_ask(M=3)
    sampler = CrossBatch(8, warmup_steps=0, keep=1.0)
    sampler.prepare(Training(torch.arange(20)))
    negatives = sampler.propose(ask)
    scores = torch.randn(3, 8)
    after, same = sampler.refine(negatives, scores, ask)
    assert after is negatives
    assert same is scores
    assert torch.equal(negatives.log_q, sampler.log_frequency[negatives.ids])


def test_keep_can_be_scheduled(make_ask):
    ask = make_ask(M=3)
    sampler = CrossBatch(8, 0, keep=Linear(1.0, 0.25, 2))
    assert sampler.num == 2
    for epoch, width in ((0, 8), (1, 5), (2, 2)):
        sampler.advance(epoch)
        negatives = sampler.propose(ask)
        assert sampler.refine(negatives, torch.randn(3, 8), ask)[1].shape == (3, width)


def test_queue_survives_a_resume(make_ask):
    ask = make_ask(M=3)
    whole, first = CrossBatch(7, warmup_steps=2), CrossBatch(7, warmup_steps=2)
    batches = torch.randint(20, (9, 3), generator=ask.generator).tolist()
    straight = list(steps(ask, whole, batches))
    list(steps(ask, first, batches[:4]))
    second = CrossBatch(7, warmup_steps=2)
    restore_values(second, {k: v.clone() for k, v in values(first).items()})
    resumed = list(steps(ask, second, batches[4:]))
    for a, b in zip(straight[4:], resumed, strict=True):
        for name in ("ids", "valid", "vectors"):
            assert torch.equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"capacity": 0}, r"capacity=0 in CrossBatch .* above 0"),
        ({"capacity": 2.5}, r"capacity=2.5"),
        ({"warmup_steps": -1}, r"warmup_steps=-1 .* at least 0"),
        ({"keep": 0.0}, r"keep=0 in CrossBatch leaves no negatives"),
        ({"keep": 1.5}, r"keep=1.5 in CrossBatch must be in \[0, 1\]"),
    ],
)
def test_bad_values_are_refused(given, match):
    with pytest.raises(UsageError, match=match):
        CrossBatch(**given)
