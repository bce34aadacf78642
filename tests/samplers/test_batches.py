"""Every example once an epoch; batches of similar length that still mix."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.errors import UsageError
from hardneg.datasets.sequences import Sequences
from hardneg.samplers import LengthBuckets, Shuffle, default_batches

pytestmark = pytest.mark.usefixtures("one_thread")


class View(SimpleNamespace):
    def __len__(self):
        return len(self.lengths)


@given(n=st.integers(1, 300), size=st.integers(1, 64), seed=st.integers(0, 99))
def test_every_example_once(n, size, seed):
    g = torch.Generator().manual_seed(seed)
    view = View(lengths=torch.randint(1, 50, (n,), generator=g))
    for sampler in (Shuffle(), LengthBuckets()):
        batches = list(sampler.epoch(view, size, g))
        assert sorted(torch.cat(batches).tolist()) == list(range(n))
        assert sum(len(b) != size for b in batches) <= 1


def test_buckets_pad_little_and_stay_random():
    g = torch.Generator().manual_seed(0)
    lengths = (-10 * torch.rand(20_000, generator=g).log()).long().clamp(1, 50)
    view = View(lengths=lengths)
    epochs = [list(LengthBuckets().epoch(view, 128, g)) for _ in range(2)]
    cells = sum(len(b) * lengths[b].max().item() for b in epochs[0])
    assert cells < 1.1 * lengths.sum().item()
    shuffled = sum(len(b) * lengths[b].max().item() for b in Shuffle().epoch(view, 128, g))
    assert shuffled > 3 * lengths.sum().item()
    mates = [{i: b for b in epoch for i in b.tolist()} for epoch in epochs]
    common = [len(set(mates[0][i].tolist()) & set(mates[1][i].tolist())) for i in range(50)]
    assert sum(common) / 50 < 30  # of 128
    first = [lengths[b].float().mean().item() for b in epochs[0][:40]]
    assert first != sorted(first)


def test_the_generator_state_decides_the_epoch():
    g = torch.Generator().manual_seed(3)
    state = g.get_state()
    view = View(lengths=torch.arange(100) % 9)
    one = [b.tolist() for b in LengthBuckets().epoch(view, 8, g)]
    two = [b.tolist() for b in LengthBuckets().epoch(view, 8, g)]
    g.set_state(state)
    assert [b.tolist() for b in LengthBuckets().epoch(view, 8, g)] == one != two


def test_views_with_lengths_are_bucketed(interactions):
    view = Sequences(interactions, max_length=10)
    g = torch.Generator().manual_seed(0)
    batches = list(default_batches(view).epoch(view, 6, g))
    assert [len(view.lengths[b].unique()) for b in batches] == [1, 1]
    plain = torch.cat(list(default_batches(interactions).epoch(interactions, 7, g)))
    assert sorted(plain.tolist()) == list(range(len(interactions)))


def test_batch_size_must_be_positive(interactions):
    for sampler in (Shuffle(), LengthBuckets()):
        with pytest.raises(UsageError, match="batch_size=0 must be at least 1"):
            list(sampler.epoch(View(lengths=torch.ones(3)), 0, None))


def test_buckets_need_lengths(interactions):
    with pytest.raises(UsageError, match=r"needs examples with lengths.*use Shuffle\(\)"):
        LengthBuckets().prepare(None, interactions, 4)
