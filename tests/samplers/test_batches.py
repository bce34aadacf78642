"""Every example once an epoch; batches of similar length that still mix."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.errors import UsageError
from hardneg.datasets.sequences import Sequences
from hardneg.samplers import LengthBuckets, Shuffle, epoch_batches

pytestmark = pytest.mark.usefixtures("one_thread")


@given(n=st.integers(1, 300), size=st.integers(1, 64), seed=st.integers(0, 99))
def test_every_example_once(n, size, seed):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 50, (n,), generator=g)
    for batches in (Shuffle(size).epoch(n, g), LengthBuckets(size).epoch(lengths, g)):
        batches = list(batches)
        assert sorted(torch.cat(batches).tolist()) == list(range(n))
        assert sum(len(b) != size for b in batches) <= 1


def test_buckets_pad_little_and_stay_random():
    g = torch.Generator().manual_seed(0)
    lengths = (-10 * torch.rand(20_000, generator=g).log()).long().clamp(1, 50)
    epochs = [list(LengthBuckets(128).epoch(lengths, g)) for _ in range(2)]
    cells = sum(len(b) * lengths[b].max().item() for b in epochs[0])
    assert cells < 1.1 * lengths.sum().item()
    shuffled = sum(len(b) * lengths[b].max().item() for b in Shuffle(128).epoch(20_000, g))
    assert shuffled > 3 * lengths.sum().item()
    mates = [{i: b for b in epoch for i in b.tolist()} for epoch in epochs]
    common = [len(set(mates[0][i].tolist()) & set(mates[1][i].tolist())) for i in range(50)]
    assert sum(common) / 50 < 30  # of 128
    first = [lengths[b].float().mean().item() for b in epochs[0][:40]]
    assert first != sorted(first)


def test_the_generator_state_decides_the_epoch():
    g = torch.Generator().manual_seed(3)
    state = g.get_state()
    lengths = torch.arange(100) % 9
    one = [b.tolist() for b in LengthBuckets(8).epoch(lengths, g)]
    two = [b.tolist() for b in LengthBuckets(8).epoch(lengths, g)]
    g.set_state(state)
    assert [b.tolist() for b in LengthBuckets(8).epoch(lengths, g)] == one != two


def test_views_with_lengths_are_bucketed(interactions):
    view = Sequences(interactions, max_length=10)
    g = torch.Generator().manual_seed(0)
    batches = list(epoch_batches(view, 6, g))
    assert [len(view.lengths[b].unique()) for b in batches] == [1, 1]
    plain = torch.cat(list(epoch_batches(interactions, 7, g)))
    assert sorted(plain.tolist()) == list(range(len(interactions)))


def test_batch_size_must_be_positive():
    with pytest.raises(UsageError, match="batch_size=0 must be at least 1"):
        Shuffle(0)
    with pytest.raises(UsageError, match="batch_size=0"):
        LengthBuckets(0)
