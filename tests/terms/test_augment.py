"""Changed copies keep what they promise: lengths, order, multisets, shares."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.engine.terms import augment
from hardneg.samplers.neighbours import ranked

pytestmark = pytest.mark.usefixtures("one_thread")


def sequences(sizes, L):
    """Return items 100 b + t, so that each item tells where it was."""
    lengths = torch.tensor(sizes)
    column = torch.arange(L)
    items = 100 * torch.arange(len(sizes))[:, None] + column
    return torch.where(column < lengths[:, None], items, 0), lengths


shapes = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(sizes=shapes, share=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_every_change_keeps_its_promise(sizes, share, seed):
    items, lengths = sequences(sizes, 9)
    g = torch.Generator().manual_seed(seed)
    cropped, size = augment.crop(items, lengths, share, g)
    hidden = augment.chosen(items, lengths, share, g)
    mixed = augment.reorder(items, lengths, share, g)
    for b, n in enumerate(sizes):
        whole = items[b, :n].tolist()
        want = max(1, int(torch.tensor(share) * n))
        assert size[b] == want
        run = cropped[b, :want].tolist()
        first = whole.index(run[0])
        assert run == whole[first : first + want]
        assert not cropped[b, want:].any()
        assert hidden[b].sum() == int(torch.tensor(share) * n)
        assert not hidden[b, n:].any()
        assert sorted(mixed[b, :n].tolist()) == whole
        assert mixed[b, n:].tolist() == items[b, n:].tolist()
        moved = [t for t in range(n) if mixed[b, t] != whole[t]]
        assert not moved or moved[-1] - moved[0] < int(torch.tensor(share) * n)


def test_share_zero_changes_nothing_and_crop_keeps_one():
    items, lengths = sequences([5, 1, 3], 6)
    assert not augment.chosen(items, lengths, 0.0, None).any()
    assert torch.equal(augment.reorder(items, lengths, 0.0, None), items)
    assert augment.crop(items, lengths, 0.0, None)[1].tolist() == [1, 1, 1]


def test_runs_start_everywhere_alike():
    items, lengths = sequences([5] * 6000, 5)
    g = torch.Generator().manual_seed(0)
    first = augment.crop(items, lengths, 0.6, g)[0][:, 0] % 100  # runs of 3 fit at 0, 1, 2
    share = torch.bincount(first, minlength=3) / 6000
    assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.03)


def test_substitutes_are_neighbours_never_padding():
    features = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    near = ranked(features, torch.arange(7), 0, 2, by_direction=True).long()
    items = torch.tensor([[1, 2, 3, 0], [6, 5, 4, 3]])
    lengths = torch.tensor([3, 4])
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        new = augment.substitute(items, lengths, 0.5, near, g)
        assert new[0, 3] == 0
        changed = (new != items).nonzero().tolist()
        assert [sum(b == row for b, _ in changed) for row in (0, 1)] == [1, 2]
        assert all(new[b, t] in near[items[b, t]] for b, t in changed)


def test_the_nearest_item_is_the_nearest_by_cosine():
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    unit = features / features.norm(dim=1, keepdim=True)
    alike = unit @ unit.T - 9 * torch.eye(30)
    near = ranked(features, torch.arange(30), 0, 1, by_direction=True)
    assert torch.equal(near[:, 0].long(), alike.argmax(1))
