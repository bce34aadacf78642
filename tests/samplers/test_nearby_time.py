"""Items of the same hour: the window by a plain loop, its limits, what has no time."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.training import Training
from hardneg.samplers import Ask, NearbyTime

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def log():
    """60 interactions of 9 users with 8 items, several at the same second, some pairs twice."""
    g = torch.Generator().manual_seed(0)
    user = torch.randint(9, (60,), generator=g)
    item = torch.randint(8, (60,), generator=g)
    return Interactions(user, item, 9, 8, torch.randint(1000, 1040, (60,), generator=g))


def ready(log, *args, **kwargs):
    sampler = NearbyTime(*args, **kwargs)
    sampler.prepare(Training(log.counts(), log, log.known()))
    return sampler


def asking(log, index, known=None):
    index = torch.tensor(index)
    g = torch.Generator().manual_seed(1)
    return Ask(log.item[index], log.user[index], None, torch.zeros(8, 2), None, known, g)


def law(log, m, window, unit):
    """Return q of one row (N,) by a plain loop."""
    order = sorted(range(len(log)), key=lambda e: int(log.timestamp[e]))
    same = [e for e in order if log.user[e] == log.user[m] and log.item[e] == log.item[m]]
    own = order.index(same[0])
    q = torch.zeros(8, dtype=torch.float64)
    for place, e in enumerate(order):
        gap = place - own
        if unit == "seconds":
            gap = int(log.timestamp[e]) - int(log.timestamp[same[0]])
        q[log.item[e]] += abs(gap) <= window
    return log.counts().double() / len(log) if q.sum() == 1 else q / q.sum()


@pytest.mark.parametrize(("window", "unit"), [(2, "seconds"), (0.5, "seconds"), (3, "events")])
@pytest.mark.parametrize("pools", ["own", 1, 2])
def test_draws_follow_log_q_and_the_plain_loop(window, unit, pools, log):
    index = [0, 7, 15, 33, 59]
    ask = asking(log, index, log.known())
    negatives = ready(log, 20_000, window, unit, pools).propose(ask)
    size = math.ceil(5 / len(negatives.ids))
    q = torch.stack([law(log, m, window, unit) for m in index])
    for m in range(5):
        first = m // size * size
        want = q[first : min(5, first + size)].mean(0)
        ids, log_q = ungroup(negatives.ids, 5)[m], ungroup(negatives.log_q, 5)[m]
        torch.testing.assert_close(log_q.double().exp(), want[ids], rtol=1e-5, atol=1e-9)
        assert not (negatives.valid[m] & (ids == ask.positive[m])).any()
        count, some = torch.bincount(ids, minlength=8), want > 0
        assert not count[~some].any()
        if some.sum() > 1:
            expected = (want[some] * 20_000).numpy()
            assert chisquare(count[some].numpy(), expected).pvalue > 1e-4


@pytest.mark.parametrize("unit", ["seconds", "events"])
def test_a_window_over_the_whole_log_is_the_data_distribution(unit, log):
    sampler = ready(log, 8, 1e12, unit)
    ids = torch.arange(8).expand(3, -1)
    want = (log.counts() / len(log)).expand(3, -1)
    torch.testing.assert_close(sampler.log_prob(asking(log, [0, 1, 2]), ids).exp(), want)


def test_an_interaction_alone_in_its_window_and_an_unknown_pair_take_the_whole_log():
    log = Interactions(
        torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), 3, 8, torch.tensor([0, 10**6, 10**6 + 1])
    )
    sampler = ready(log, 2000, 60.0)
    ask = asking(log, [0, 1, 2])._replace(row=torch.tensor([0, 1, 2]))  # (2, item 2) never was
    ids = sampler.propose(ask).ids
    assert [row.unique().tolist() for row in ids] == [[0, 1, 2], [1, 2], [0, 1, 2]]


def test_what_has_no_time_is_refused(log, triples):
    with pytest.raises(UsageError, match=r"no timestamps; map a timestamp column"):
        ready(replace(log, timestamp=None))
    with pytest.raises(UsageError, match=r"no times at all"):
        ready(triples)
    with pytest.raises(UsageError, match=r"window=0 in NearbyTime reaches nobody .* more seconds"):
        NearbyTime(8, window=0)
    with pytest.raises(UsageError, match=r"window=-1 in NearbyTime must be at least 0"):
        NearbyTime(8, window=-1)
    with pytest.raises(UsageError, match=r"unit='hours' in NearbyTime; use 'seconds' or 'events'"):
        NearbyTime(8, unit="hours")
