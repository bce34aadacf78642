"""The cache of hard negatives: constant without candidates, exact with all, no update lost."""

import pytest
import torch
from scipy.stats import chisquare

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.samplers import Ask, Cache
from hardneg.samplers.slots import slots

pytestmark = pytest.mark.usefixtures("one_thread")
N, ROWS = 40, 100  # rows 0, 10, 20, … occur


def ask_for(row, known=None, seed=0, own=False):
    """Build an ask whose score depends on the query row, or on the position where `own`."""
    g = torch.Generator().manual_seed(seed)
    full = torch.randn(ROWS, N, generator=torch.Generator().manual_seed(9))
    if own:
        full = torch.randn(len(row), N, generator=g)
    mine = full if own else full[row]
    score = lambda ids: mine.gather(1, ungroup(ids, len(row)))  # noqa: E731
    positive = (row * 7) % N
    return Ask(positive, row, mine, torch.zeros(N, 1), score, known, g), mine


def known_pairs():
    row = torch.arange(0, ROWS, 10).repeat_interleave(3)
    return Positives(row, (row * 7 + torch.arange(len(row)) % 3) % N, ROWS, N)


def prepared(*args, **kwargs):
    sampler = Cache(*args, **kwargs)
    sampler.prepare(Training(torch.ones(N, dtype=torch.int64), known=known_pairs()))
    return sampler


def test_one_cache_for_each_query_that_occurs():
    sampler = prepared(4, cache=6)
    assert sampler.query.tolist() == list(range(0, ROWS, 10))
    assert sampler.member.shape == (11, 6)
    assert sampler.member.dtype == torch.int32
    assert slots(sampler.query, torch.tensor([30, 0, 90, 31, 99])).tolist() == [3, 0, 9, 10, 10]


def test_no_candidates_leave_it_constant_and_draws_are_uniform_from_it():
    sampler = prepared(20_000, cache=5, candidates=0)
    sampler.member = torch.stack([torch.randperm(N)[:5] for _ in range(11)]).int()
    before = sampler.member.clone()
    drawn = sampler.draw(ask_for(torch.tensor([20, 50]))[0])
    assert torch.equal(sampler.member, before)
    assert drawn.log_q is None
    for m, slot in enumerate((2, 5)):
        count = torch.bincount(drawn.ids[m], minlength=N)
        inside = before[slot].long()
        assert count[inside].sum() == 20_000
        assert chisquare(count[inside].numpy()).pvalue > 1e-4


def test_top_with_every_candidate_is_exact_after_one_update():
    known = known_pairs()
    sampler = prepared(2, cache=6, candidates=N, refresh="top")
    row = torch.tensor([50, 10, 50, 90])
    ask, full = ask_for(row, known)
    untouched = sampler.member.clone()
    sampler.draw(ask)
    for m, slot in enumerate((5, 1, 5, 9)):
        out = known.of(row[m : m + 1])[1]
        best = full[m].index_fill(0, out, -torch.inf).index_fill(0, ask.positive[m], -torch.inf)
        assert sampler.member[slot].tolist() == best.topk(6).indices.tolist()
    rest = [s for s in range(11) if s not in (1, 5, 9)]
    assert torch.equal(sampler.member[rest], untouched[rest])


def naive(sampler, ask, row, ids, scores):
    """Union of the candidates of all rows of a query, each once, its best score, top n1."""
    want = {}
    for slot in set(row.tolist()):
        best = {}
        for m in (row == slot).nonzero().flatten().tolist():
            for j, s in zip(ids[m].tolist(), scores[m].tolist(), strict=True):
                usable = j != ask.positive[m].item() and not ask.known.contains(
                    ask.row[m : m + 1], torch.tensor([[j]])
                )
                best[j] = max(best.get(j, -1e9), s if usable else -1e9)
        order = sorted(best, key=lambda j: -best[j])[: sampler.cache]
        want[slot // 10] = [j for j in order if best[j] > -1e9]
    return want


@pytest.mark.parametrize("seed", range(4))
def test_no_update_is_lost_when_a_query_stands_twice(seed):
    """Rows of one query with different scores and candidates renew one cache from all of them."""
    sampler = prepared(2, cache=5, candidates=7, refresh="top")
    row = torch.tensor([50, 10, 50, 50, 10, 70])
    ask, _ = ask_for(row, known_pairs(), seed=seed, own=True)
    seen = []
    score = ask.score
    ask = ask._replace(score=lambda ids: seen.append((ids, score(ids))) or seen[-1][1])
    before = sampler.member.clone()
    sampler.draw(ask)
    [(ids, scores)] = seen
    assert torch.equal(ids[:, :5], before[row // 10].long())
    assert ids.shape == (6, 12)
    for slot, want in naive(sampler, ask, row, ids, scores).items():
        assert sampler.member[slot, : len(want)].tolist() == want


def test_importance_keeps_by_softmax_without_replacement():
    """With n1 = 1 and all candidates the one kept has the probabilities of the softmax."""
    sampler = Cache(1, cache=1, candidates=N)
    sampler.prepare(Training(torch.ones(N)))  # no known positives: one cache for all rows
    count = torch.zeros(N, dtype=torch.int64)
    ask, _ = ask_for(torch.tensor([50]), seed=3)
    for _ in range(4000):
        sampler.draw(ask)
        count[sampler.member[0, 0]] += 1
    p = ask.query[0].index_fill(0, ask.positive[0], -torch.inf).softmax(0).double()
    some = p > 0
    assert count[~some].sum() == 0
    assert chisquare(count[some].numpy(), (p[some] / p[some].sum() * 4000).numpy()).pvalue > 1e-4


def test_a_cache_never_holds_one_twice_and_known_positives_leave():
    sampler = prepared(3, cache=8, candidates=10)
    for step in range(6):
        ask, _ = ask_for(torch.arange(0, ROWS, 10), known_pairs(), seed=step)
        sampler.propose(ask)
    for slot in range(10):
        members = sampler.member[slot].tolist()
        assert len(set(members)) == 8
        inside = known_pairs().contains(torch.tensor([slot * 10]), torch.tensor([members]))
        assert not inside.any()


def test_hardness_builds_up():
    sampler = prepared(4, cache=6, candidates=6)
    row = torch.arange(0, ROWS, 10)
    mean = []
    for step in range(30):
        ask, full = ask_for(row, seed=step)
        mean.append(full.gather(1, sampler.draw(ask).ids).mean().item())
    assert sum(mean[-5:]) / 5 > mean[0] + 0.5


@pytest.mark.parametrize("scale", [1e9, -1e9, 1e30])
def test_extreme_scores(scale):
    sampler = prepared(4, cache=6, candidates=6)
    ask, _ = ask_for(torch.tensor([10, 10, 20]), known_pairs())
    score = ask.score
    ids = sampler.propose(ask._replace(score=lambda ids: scale * score(ids))).ids
    assert ids.min() >= 0
    assert sampler.member.max() < N


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Cache(0), r"num=0 in Cache"),
        (lambda: Cache(cache=0), r"cache=0 and candidates=30 in Cache must be at least 1 and 0"),
        (lambda: Cache(refresh="worst"), r"refresh='worst' in Cache; use 'importance' or 'top'"),
        (lambda: prepared(cache=99), r"cache=99 in Cache exceeds the 40 candidates; lower it"),
        (lambda: Cache(cache=4).draw(ask_for(torch.tensor([0]))[0]), "prepare"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_too_much_memory_names_both_remedies():
    row = torch.arange(100_000)
    known = Positives(row, row % N, len(row), N)
    with pytest.raises(ResourceError, match=r"11 MiB, above budget_mb=2; lower cache to 5 or"):
        Cache(cache=30, budget_mb=2).prepare(Training(torch.ones(N), known=known))
