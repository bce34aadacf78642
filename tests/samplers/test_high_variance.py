"""Score and deviation over epochs: the naive loop, its limits, resuming, what it keeps out."""

import math

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.samplers import Ask, HighVariance
from hardneg.samplers.schedules import Linear

pytestmark = pytest.mark.usefixtures("one_thread")
N, ROWS, D, STEPS = 30, 60, 5, 3  # rows 0, 10, 20, … occur


def known_pairs():
    row = torch.arange(0, ROWS, 10).repeat_interleave(3)
    return Positives(row, (row * 7 + torch.arange(len(row)) % 3) % N, ROWS, N)


def prepared(*args, **kwargs):
    sampler = HighVariance(*args, **kwargs)
    counts = torch.ones(N, dtype=torch.int64)
    sampler.prepare(Training(counts, known=known_pairs(), width=D))
    return sampler


def ask_for(row, q, table, known=None, seed=0):
    def score(ids, table=table, query=q):
        return (query @ table.T).gather(1, ungroup(ids, len(row)))

    g = torch.Generator().manual_seed(seed)
    positive = (row * 7) % N
    return Ask(positive, row, q, table, score, known, g)


def course(seed=0, epochs=5, repeats=True):
    """Yield the epoch and the ask of every step; rows may stand twice, 50 misses epochs 2 and 3."""
    g = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        table = torch.randn(N, D, generator=g)
        for step in range(STEPS):
            row = torch.tensor([10 * ((step * 2 + n) % 6) for n in (0, 1)])
            if repeats:
                row = torch.cat([row, row[:1]])
            if epoch in (2, 3):
                row = row.masked_fill(row == 50, 0)
            table = table + 0.1 * torch.randn(N, D, generator=g)
            q = torch.randn(len(row), D, generator=g)
            yield epoch + step / STEPS, ask_for(row, q, table, known_pairs(), seed=step)


class Naive:
    """Keeps every epoch's first table and last queries in dictionaries."""

    def __init__(self, window):
        self.window, self.tables, self.queries = window, {}, {}

    def deviation(self, at, ask, members):
        epoch = int(at)
        self.tables.setdefault(epoch, ask.table.clone())
        rows = ask.row.tolist()
        for row in rows:
            same = [ask.query[n] for n, other in enumerate(rows) if other == row]
            self.queries[epoch, row] = sum(same) / len(same)
        found = torch.zeros(members.shape)
        for m, row in enumerate(rows):
            past = range(max(1, epoch - self.window + 1), epoch + 1)
            epochs = [e for e in past if (e, row) in self.queries]
            for k, j in enumerate(members[m].tolist()):
                p = []
                for e in epochs:
                    q, x = self.queries[e, row], self.tables[e]
                    gap = (q @ x[j] - q @ x[ask.positive[m]]).item()
                    p.append(1 / (1 + math.exp(-gap)))
                if p:
                    mean = sum(p) / len(p)
                    found[m, k] = math.sqrt(sum((x - mean) ** 2 for x in p) / len(p))
        return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("window", [2, 3, 5])
def test_the_naive_loop_of_the_formula(window, seed):
    sampler, naive = prepared(2, cache=6, candidates=7, alpha=3.0, epochs=window), Naive(window)
    some = False
    for at, ask in course(seed):
        sampler.advance(at)
        slot = ask.row // 10
        members = sampler.member[slot].long()
        drawn = sampler.propose(ask)
        apart = naive.deviation(at, ask, members) if at >= 1 else torch.zeros(members.shape)
        some |= bool((apart > 0.1).any())
        live = (ask.query @ ask.table.T).sub((ask.query * ask.table[ask.positive]).sum(1)[:, None])
        key = live.gather(1, members).sigmoid() + 3.0 * apart
        out = ask.known.contains(ask.row, members) | (members == ask.positive[:, None])
        key = key.masked_fill(out, -1)
        best = key.topk(2, dim=1)
        torch.testing.assert_close(key.gather(1, (members[:, None] == drawn.ids[..., None]).float()
                                   .argmax(2)), best.values)  # fmt: skip
        assert drawn.log_q is None
    assert some, "nothing ever moved in this test"


def test_without_alpha_the_highest_scores_of_the_cache():
    sampler = prepared(3, cache=8, candidates=9, alpha=0.0)
    for at, ask in course():
        sampler.advance(at)
        members = sampler.member[ask.row // 10].long()
        drawn = sampler.propose(ask)
        scores = (ask.query @ ask.table.T).gather(1, members)
        out = ask.known.contains(ask.row, members) | (members == ask.positive[:, None])
        want = scores.masked_fill(out, -torch.inf).topk(3, dim=1).values
        found = (ask.query @ ask.table.T).gather(1, drawn.ids)
        torch.testing.assert_close(found[drawn.valid], want[want > -torch.inf])


def test_what_settled_is_passed_over():
    """Two candidates score alike now; the one that has moved is taken."""
    sampler = prepared(1, cache=2, candidates=0, alpha=1.0, epochs=3)
    sampler.member[:] = torch.tensor([20, 21], dtype=torch.int32)
    row, q = torch.tensor([10]), torch.ones(1, D)
    for epoch, moving in enumerate((0.0, 3.0, -3.0, 0.9)):
        table = torch.zeros(N, D)
        table[20], table[21] = 1.0 / D, moving / D
        sampler.advance(float(epoch))
        drawn = sampler.propose(ask_for(row, q, table))
    assert drawn.ids.item() == 21
    sampler.alpha = 0.0
    assert sampler.propose(ask_for(row, q, table)).ids.item() == 20


def test_one_reading_is_no_deviation():
    sampler = prepared(1, cache=6, candidates=4)
    for at, ask in course(epochs=2):
        sampler.advance(at)
        sampler.propose(ask)
        ids = torch.cat([sampler.member[ask.row // 10].long(), ask.positive[:, None]], 1)
        assert not sampler.deviation(ask, ask.row // 10, ids).any()


@pytest.mark.parametrize("cut", [4, 6, 8, 11])
def test_a_run_goes_on_exactly(cut):
    """Stopped in mid-epoch or between epochs: draws and state are those of the unbroken run."""
    whole = prepared(2, cache=6, candidates=7, alpha=Linear(0, 3, epochs=4))
    steps, later = list(course(epochs=5)), []
    for n, (at, ask) in enumerate(steps):
        if n == cut:
            state = {k: v.clone() for k, v in whole.state_dict().items()}
        whole.advance(at)
        later.append(whole.propose(ask).ids)
    fresh = HighVariance(2, cache=6, candidates=7, alpha=Linear(0, 3, epochs=4))
    fresh.load_state_dict(state)
    for n, (at, ask) in enumerate(course(epochs=5)):
        if n >= cut:
            fresh.advance(at)
            assert torch.equal(fresh.propose(ask).ids, later[n])
    for key, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@pytest.mark.parametrize("scale", [1e9, -1e9, 1e30])
def test_extreme_scores(scale):
    sampler = prepared(2, cache=6, candidates=6, alpha=2.0)
    for at, ask in course(epochs=4):
        score = ask.score
        sampler.advance(at)
        wild = ask._replace(score=lambda *a, score=score, **k: scale * score(*a, **k))
        ids = sampler.propose(wild).ids
        assert ids.min() >= 0
        assert ids.max() < N


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: HighVariance(9, cache=8), r"num=9 exceeds cache=8 in HighVariance; raise cache"),
        (lambda: HighVariance(0), r"num=0 in HighVariance"),
        (lambda: HighVariance(epochs=1), r"epochs=1 in HighVariance must be at least 2"),
        (
            lambda: HighVariance(temperature=0),
            r"temperature=0 in HighVariance must be at leas",
        ),
        (lambda: HighVariance(alpha=-1.0), r"alpha=-1 in HighVariance must be at least 0"),
        (lambda: HighVariance(alpha=Linear(-2, 1)), r"alpha=-2 in HighVariance"),
        (lambda: prepared(cache=99), r"cache=99 in HighVariance exceeds the 30 candidates"),
        (lambda: HighVariance().prepare(Training(torch.ones(9))), r"width of the model's queries"),
        (lambda: HighVariance().draw(ask_for(*[torch.zeros(1, D).long()] * 3)), "prepare"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_too_much_memory_names_the_remedies():
    row = torch.arange(10_000)
    known = Positives(row, row % N, len(row), N)
    with pytest.raises(ResourceError, match=r"12 MiB, above budget_mb=10; .* epochs to 4, or use"):
        HighVariance(budget_mb=10).prepare(Training(torch.ones(N), known=known, width=64))
