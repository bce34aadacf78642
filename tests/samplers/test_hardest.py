"""Hardest takes the best of the table, live or as it was at the last copy."""

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.samplers import Hardest, hardest

pytestmark = pytest.mark.usefixtures("one_thread")


def with_tables(ask):
    """Let the ask score against other tables, as a step's does."""

    def score(ids, table=None):
        return (ask.query @ (ask.table if table is None else table).T).gather(
            1, ungroup(ids, len(ask.query))
        )

    return ask._replace(score=score)


def by_hand(ask, table):
    """Return each row's candidates, best first, positives left out."""
    ranked = []
    for m, scores in enumerate((ask.query @ table.T).tolist()):
        known = set(ask.known.of(ask.row[m : m + 1])[1].tolist()) | {int(ask.positive[m])}
        order = sorted(range(len(scores)), key=lambda j, s=scores: -s[j])
        ranked.append([j for j in order if j not in known])
    return ranked


@pytest.mark.parametrize("skip", [0, 1, 5])
@pytest.mark.parametrize("budget", [64 << 20, 1])
def test_it_is_the_top_after_those_skipped(skip, budget, make_ask, monkeypatch):
    monkeypatch.setattr(hardest, "BUDGET", budget)
    ask = make_ask(M=6, N=30)
    negatives = Hardest(4, skip=skip).propose(ask)
    assert negatives.ids.tolist() == [r[skip : skip + 4] for r in by_hand(ask, ask.table)]
    assert negatives.valid.all()


def test_a_row_with_too_few_left_says_so(make_ask):
    ask = make_ask(M=3, N=6, known=2)
    negatives = Hardest(4, skip=2).propose(ask)
    for m, ranked in enumerate(by_hand(ask, ask.table)):
        assert negatives.valid[m].sum() == len(ranked) - 2
    with pytest.raises(UsageError, match=r"skip=6 .* all 6 candidates"):
        Hardest(4, skip=6).propose(ask)


def test_live_queries_meet_the_copied_table(make_ask):
    ask = with_tables(make_ask(M=6, N=30))
    sampler = Hardest(4, refresh_every=3)
    assert [step for step in range(7) if sampler.due(step)] == [0, 3, 6]
    before = sampler.propose(ask).ids
    assert before.tolist() == [r[:4] for r in by_hand(ask, ask.table)]  # nothing copied yet
    old = torch.randn(30, 4, generator=ask.generator)
    sampler.refresh(old, ask.generator)
    assert sampler.propose(ask).ids.tolist() == [r[:4] for r in by_hand(ask, old)]
    old += 1  # the copy is no view
    assert sampler.propose(ask).ids.tolist() == [r[:4] for r in by_hand(ask, old - 1)]


def test_overlap_is_the_share_a_refresh_left(make_ask):
    ask = with_tables(make_ask(M=6, N=30))
    sampler = Hardest(4, refresh_every=3)
    old = torch.randn(30, 4, generator=ask.generator)
    sampler.refresh(old, ask.generator)
    sampler.propose(ask)
    assert sampler.overlap == -1
    sampler.refresh(old, ask.generator)
    sampler.propose(ask)
    assert sampler.overlap == 1
    sampler.refresh(ask.table, ask.generator)
    sampler.propose(ask)
    first, then = by_hand(ask, old), by_hand(ask, ask.table)
    same = sum(len(set(a[:4]) & set(b[:4])) for a, b in zip(first, then, strict=True))
    assert sampler.overlap.item() == pytest.approx(same / 24)
    assert sampler.previous is None


def test_an_interval_of_one_keeps_no_copy(make_ask):
    ask = make_ask()
    sampler = Hardest(4)
    assert not any(sampler.due(step) for step in range(5))
    sampler.refresh(ask.table, ask.generator)
    assert sampler.snapshot.numel() == 0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Hardest(4, refresh_every=0), r"refresh_every=0 in Hardest"),
        (lambda: Hardest(4, skip=-1), r"skip=-1"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()
