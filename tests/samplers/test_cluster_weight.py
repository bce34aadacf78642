"""Weights by shared clusters: MEOW's integers, and what one cluster or singletons make of them."""

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import DataWarning, UsageError
from hardneg.samplers import ClusterWeight, Negatives

pytestmark = pytest.mark.usefixtures("one_thread")


def with_labels(weight, *labels):
    for clusters, label in zip(weight.clusterings, labels, strict=True):
        clusters.label = torch.as_tensor(label)
    return weight


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_naive_loop(groups, floor, make_ask):
    ask = make_ask(M=5, N=20)
    g = torch.Generator().manual_seed(groups)
    labels = [torch.randint(n, (20,), generator=g) for n in (2, 3, 4)]
    ids = torch.randint(20, (groups, 9), generator=g)
    valid = torch.rand(5, 9, generator=g) > 0.2
    before = torch.randn(5, 9, generator=g)
    scores = torch.randn(5, 9)
    weigh = with_labels(ClusterWeight((2, 3, 4), floor), *labels)
    kept, same = weigh.refine(Negatives(ids, None, valid, before), scores, ask)
    assert same is scores
    p, rows = kept.probabilities(scores), ungroup(ids, 5)
    for m in range(5):
        weight = []
        for k in range(9):
            g_ = 3 - sum((label[rows[m, k]] == label[ask.positive[m]]).item() for label in labels)
            w = floor + (1 - floor) * g_ / 3
            weight.append(w * before[m, k].exp().item() * valid[m, k].item())
            assert kept.valid[m, k] == (weight[-1] > 0)
        assert p[m].tolist() == pytest.approx([w / sum(weight) for w in weight], abs=1e-6)


def test_singletons_change_nothing(make_ask):
    """g = 1 for every other candidate: the plain denominator."""
    ask = make_ask(M=5, N=20)
    ids = (ask.positive[:, None] + torch.arange(1, 9)) % 20
    scores = torch.randn(5, 8)
    weigh = with_labels(ClusterWeight((20,)), torch.arange(20))
    kept, _ = weigh.refine(Negatives(ids), scores, ask)
    torch.testing.assert_close(kept.probabilities(scores), Negatives(ids).probabilities(scores))
    assert kept.valid.all()


def test_one_cluster_falls_back_to_no_weights(make_ask):
    ask = make_ask(M=5, N=20)
    negatives = Negatives(torch.randint(20, (1, 8)), None, torch.rand(5, 8) > 0.3)
    scores = torch.randn(5, 8)
    weigh = with_labels(ClusterWeight((1, 1)), [0] * 20, [0] * 20)
    kept, _ = weigh.refine(negatives, scores, ask)
    assert kept.valid.equal(negatives.valid)
    torch.testing.assert_close(kept.probabilities(scores), negatives.probabilities(scores))


def test_a_floor_of_one_changes_nothing_and_before_the_first_refresh_neither(make_ask):
    ask = make_ask(M=5, N=20)
    negatives, scores = Negatives(torch.randint(20, (1, 8))), torch.randn(5, 8)
    assert ClusterWeight().refine(negatives, scores, ask)[0] is negatives
    weigh = with_labels(ClusterWeight((3,), 1.0), torch.arange(20) % 3)
    kept, _ = weigh.refine(negatives, scores, ask)
    assert kept.valid.all()
    torch.testing.assert_close(kept.probabilities(scores), negatives.probabilities(scores))


def test_does_not_depend_on_the_order_of_columns(make_ask):
    ask = make_ask(M=5, N=20)
    ids, scores, order = torch.randint(20, (5, 8)), torch.randn(5, 8), torch.randperm(8)
    weigh = with_labels(ClusterWeight((4,)), torch.arange(20) % 4)
    one = weigh.refine(Negatives(ids), scores, ask)[0].probabilities(scores)
    two = weigh.refine(Negatives(ids[:, order]), scores[:, order], ask)[0]
    torch.testing.assert_close(one[:, order], two.probabilities(scores[:, order]))


def test_clusters_of_the_live_table_are_found_and_kept(make_ask):
    ask = make_ask(M=5, N=20)
    camps = torch.eye(4)[torch.arange(20) % 4] * 10 + 0.1 * torch.randn(20, 4)
    weigh = ClusterWeight((4,), refresh_every=5)
    assert [weigh.due(step) for step in range(6)] == [True, False, False, False, False, True]
    weigh.refresh(camps, torch.Generator().manual_seed(0))
    ids = torch.arange(20)[None]
    kept, _ = weigh.refine(Negatives(ids), torch.zeros(5, 20), ask)
    assert kept.valid.equal(torch.arange(20) % 4 != (ask.positive % 4)[:, None])
    again = ClusterWeight((4,), refresh_every=5)
    again.load_state_dict(weigh.state_dict())
    assert again.refine(Negatives(ids), torch.zeros(5, 20), ask)[0].valid.equal(kept.valid)
    with pytest.warns(DataWarning, match="ClusterWeight found one cluster only"):
        ClusterWeight((1,)).refresh(camps, None)


def test_bad_numbers_are_refused():
    with pytest.raises(UsageError, match=r"floor=2 in ClusterWeight must be in \[0, 1\]"):
        ClusterWeight(floor=2)
    with pytest.raises(UsageError, match=r"clusters=\(\) in ClusterWeight is no clustering"):
        ClusterWeight(())
    with pytest.raises(UsageError, match=r"clusters=0 .* in ClusterWeight"):
        ClusterWeight((0,))
