"""Guards drop what their rule says, and nothing else; they never empty a row."""

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.samplers import (
    Ask,
    FalseNegatives,
    MarginGuard,
    Negatives,
    OwnerSimilarity,
    SkipTop,
    Tilt,
    TopK,
    TwoCondition,
    Uniform,
)
from hardneg.samplers.cosines import cosines, products
from hardneg.samplers.schedules import Linear

pytestmark = pytest.mark.usefixtures("one_thread")
GUARDS = [
    FalseNegatives(0.95),
    MarginGuard(0.3),
    SkipTop(3),
    OwnerSimilarity(0.1),
    TwoCondition(),
    TwoCondition(closer=False),
]


def ask_of(positive_score):
    empty = torch.zeros(len(positive_score), dtype=torch.int64)
    return Ask(
        empty, empty, torch.zeros(len(empty), 2), torch.zeros(9, 2), None, None, None,
        positive_score=positive_score,
    )  # fmt: skip


def valid_after(guard, scores, positive, valid=None):
    negatives = Negatives(torch.arange(scores.shape[1])[None], None, valid)
    kept, same = guard.refine(negatives, scores, ask_of(positive))
    assert same is scores
    return kept.valid


def setting(make_ask, seed=0, groups=None):
    ask = make_ask(M=7, N=40, D=4, seed=seed)
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(40, (groups or 7, 12), generator=g)
    score = ask.score(ask.positive[:, None]).squeeze(1)
    valid = torch.rand(7, 12, generator=g) > 0.3
    return ask._replace(positive_score=score), Negatives(ids, None, valid)


def test_ratio_and_margin_naive_loop():
    scores = torch.tensor([[0.5, 1.96, 1.89, 2.5], [-3.0, -2.05, -2.2, -1.0]])
    positive = torch.tensor([2.0, -2.0])
    for guard, rule in [
        (FalseNegatives(0.95), lambda s, p: s > 0.95 * p if p > 0 else s > 1.05 * p),
        (MarginGuard(0.15), lambda s, p: s > p - 0.15),
        (MarginGuard(-0.25), lambda s, p: s > p + 0.25),
    ]:
        expected = [
            [not rule(s, p) for s in row]
            for row, p in zip(scores.tolist(), positive.tolist(), strict=True)
        ]
        assert valid_after(guard, scores, positive).tolist() == expected


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.95])
def test_the_ratio_stays_below_the_positive_whatever_its_sign(ratio):
    """A ratio of a negative score would lie above the positive and let false negatives through."""
    positive = torch.tensor([4.0, -4.0])
    scores = torch.tensor([[4.0, -100.0], [-4.0, -100.0]])
    assert valid_after(FalseNegatives(ratio), scores, positive).tolist() == [[False, True]] * 2


def test_skip_top_then_top_k_is_a_band_of_ranks():
    scores = torch.tensor([[5.0, 1.0, 9.0, 7.0, 3.0], [5.0, 1.0, 9.0, 7.0, 3.0]])
    valid = torch.tensor([[True] * 5, [True, True, False, True, True]])
    pipeline = Uniform(5) | SkipTop(1) | TopK(2)  # composing: SkipTop sets no number of columns
    kept, best = pipeline.refine(
        Negatives(torch.arange(5)[None], None, valid), scores, ask_of(torch.zeros(2))
    )
    assert best.tolist() == [[7, 5], [5, 3]]
    assert kept.valid.all()
    assert valid_after(SkipTop(0), scores, torch.zeros(2), valid).equal(valid)
    assert valid_after(SkipTop(9), scores, torch.zeros(2), valid).tolist() == [
        [False, True, False, False, False]
    ] * 2  # fmt: skip


@pytest.mark.parametrize("groups", [1, 3, 7])
def test_owner_similarity_naive_loop(groups, make_ask):
    ask, negatives = setting(make_ask, groups=groups)
    kept, _ = OwnerSimilarity(0.2).refine(negatives, ask.score(negatives.ids), ask)
    ids = ungroup(negatives.ids, 7)
    for m in range(7):
        own = ask.table[ask.positive[m]]
        alike = [F.cosine_similarity(ask.table[j], own, dim=0).item() for j in ids[m]]
        expected = [c <= 0.2 and v for c, v in zip(alike, negatives.valid[m].tolist(), strict=True)]
        assert any(expected)
        assert kept.valid[m].tolist() == expected


def test_owner_similarity_to_all_that_is_known(make_ask):
    ask, negatives = setting(make_ask)
    guard = OwnerSimilarity(0.2, "known", refresh_every=3)
    guard.prepare(Training(torch.ones(40), known=ask.known))
    assert [guard.due(step) for step in range(4)] == [True, False, False, True]
    assert not OwnerSimilarity().due(0)
    guard.refresh(ask.table, None)
    kept, _ = guard.refine(negatives, ask.score(negatives.ids), ask)
    for m in range(7):
        known = ask.known.of(ask.row[m : m + 1])[1]
        mean = F.normalize(ask.table[known], dim=1).mean(0)
        alike = F.cosine_similarity(ask.table[negatives.ids[m]], mean[None])
        expected = (alike <= 0.2) & negatives.valid[m]
        assert expected.any()
        assert kept.valid[m].equal(expected)
    again = OwnerSimilarity(0.2, "known")
    again.load_state_dict(guard.state_dict())  # its vectors come back from a checkpoint
    assert again.anchor.equal(guard.anchor)


@pytest.mark.parametrize("closer", [True, False])
def test_two_conditions_naive_loop(closer, make_ask):
    fell_back = 0
    for seed in range(5):
        ask, negatives = setting(make_ask, seed)
        kept, _ = TwoCondition(closer).refine(negatives, ask.score(negatives.ids), ask)
        for m in range(7):
            q, p = ask.query[m], ask.table[ask.positive[m]]
            expected, suspicion = [], {}
            for k, j in enumerate(negatives.ids[m]):
                d = ask.table[j]
                near, own, twin = (1 - F.cosine_similarity(a, b, dim=0).item()
                                   for a, b in ((q, d), (q, p), (p, d)))  # fmt: skip
                valid = negatives.valid[m, k].item()
                expected.append(near < twin and (near < own or not closer) and valid)
                if valid:
                    suspicion[k] = near - twin
            if not any(expected):
                expected[min(suspicion, key=suspicion.get)] = True
                fell_back += 1
            assert kept.valid[m].tolist() == expected
    assert not closer or fell_back > 0  # both branches were seen


@pytest.mark.parametrize("guard", GUARDS, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("seed", range(5))
def test_never_empties_a_row_and_never_fills_one(guard, seed, make_ask):
    ask, negatives = setting(make_ask, seed)
    valid = negatives.valid.clone()
    valid[0] = False
    valid[1] = torch.arange(12) == seed  # one left
    positive = torch.tensor([-1e9, -1e9, -1e9, 0.0, 1.0, 1e9, -torch.inf])
    ask = ask._replace(positive_score=positive)
    for given in (valid, None):
        negatives = negatives._replace(valid=given, log_q=torch.zeros(7, 12))
        kept, scores = guard.refine(negatives, ask.score(negatives.ids), ask)
        had = torch.ones(7, 12, dtype=torch.bool) if given is None else given
        assert kept.valid.any(1).equal(had.any(1))
        assert not (kept.valid & ~had).any()
        assert kept.log_q is negatives.log_q
        assert scores.shape == (7, 12)


def test_an_infinite_margin_keeps_the_mildest():
    scores = torch.tensor([[3.0, -1.0, 2.0], [-1e38, 4.0, -torch.inf]])
    valid = torch.tensor([[True, False, True], [True, True, False]])
    kept = valid_after(MarginGuard(float("inf")), scores, torch.zeros(2), valid)
    assert kept.tolist() == [[False, False, True], [True, False, False]]


def test_limits_that_change_nothing(make_ask):
    ask, negatives = setting(make_ask)
    scores = ask.score(negatives.ids)
    for guard in (MarginGuard(-float("inf")), OwnerSimilarity(1.0), SkipTop(0)):
        clear = negatives.valid & (negatives.ids != ask.positive[:, None])
        kept, _ = guard.refine(negatives._replace(valid=clear), scores, ask)
        assert kept.valid.equal(clear)


def test_no_gradient_is_lost_and_none_added():
    scores = torch.randn(2, 3, requires_grad=True)
    positive = torch.randn(2, requires_grad=True)
    negatives = Negatives(torch.arange(3)[None])
    kept, same = FalseNegatives().refine(negatives, scores, ask_of(positive))
    assert same is scores
    assert not kept.valid.requires_grad


def test_the_threshold_follows_its_schedule():
    guard = MarginGuard(Linear(0.0, 1.0, epochs=2))
    scores, positive = torch.tensor([[0.5, -2.0]]), torch.tensor([1.0])
    assert valid_after(guard, scores, positive).tolist() == [[True, True]]
    guard.advance(2.0)
    assert valid_after(guard, scores, positive).tolist() == [[False, True]]


def test_the_line_of_the_documentation_composes(make_ask):
    ask, _ = setting(make_ask)
    pipeline = Uniform(64) | FalseNegatives(0.95) | TopK(16) | Tilt(Linear(0, 2, epochs=10))
    negatives = pipeline.propose(ask)
    kept, scores = pipeline.refine(negatives, ask.score(negatives.ids), ask)
    limit = ask.positive_score - 0.05 * ask.positive_score.abs()
    assert scores.shape == (7, 16)
    assert torch.isfinite(scores).all()
    passed = ask.score(kept.ids) <= limit[:, None]  # Tilt has changed the scores themselves
    most = ask.score(negatives.ids).masked_fill(~negatives.valid, torch.inf).amin(1) > limit
    assert (passed | most[:, None])[kept.valid].all()
    assert (kept.valid.sum(1) == 1)[most].all()


@pytest.mark.parametrize("groups", [1, 2, 3, 7])
@pytest.mark.parametrize("budget", [1, 500, 1 << 24])
def test_products_in_chunks_equal_products_at_once(groups, budget, make_ask, monkeypatch):
    monkeypatch.setattr("hardneg.samplers.cosines.BUDGET", budget)
    ask, negatives = setting(make_ask, groups=groups)
    expected = (ask.query @ ask.table.T).gather(1, ungroup(negatives.ids, 7))
    torch.testing.assert_close(products(ask.query, ask.table, negatives.ids), expected)
    unit = F.normalize(ask.query, dim=1) @ F.normalize(ask.table, dim=1).T
    expected = unit.gather(1, ungroup(negatives.ids, 7))
    torch.testing.assert_close(cosines(ask.query, ask.table, negatives), expected)
    loose = torch.randn(3, 4)
    expected[:, -3:] = F.normalize(ask.query, dim=1) @ F.normalize(loose, dim=1).T
    found = cosines(ask.query, ask.table, negatives._replace(vectors=loose))
    torch.testing.assert_close(found, expected)


def test_bad_numbers_are_refused():
    with pytest.raises(UsageError, match=r"ratio=3 in FalseNegatives must be in \[0, 2\]"):
        FalseNegatives(3)
    with pytest.raises(UsageError, match="num=-1 in SkipTop must be at least 0"):
        SkipTop(-1)
    with pytest.raises(UsageError, match=r"limit=1.5 in OwnerSimilarity must be in \[-1, 1\]"):
        OwnerSimilarity(1.5)
    with pytest.raises(UsageError, match="of='mean' in OwnerSimilarity is unknown; use 'positive'"):
        OwnerSimilarity(of="mean")
    with pytest.raises(UsageError, match="refresh_every=0 in OwnerSimilarity must be at least 1"):
        OwnerSimilarity(refresh_every=0)
    with pytest.raises(UsageError, match="has none; use of='positive'"):
        OwnerSimilarity(of="known").prepare(Training(torch.ones(3)))


def test_owners_that_never_occur_take_no_memory(make_ask):
    """Triples have 2 E R rows of known positives, of which a fraction occurs."""
    ask = make_ask(M=4, N=20, known=2)
    rows = 1_000_000_007 * torch.arange(4)
    known = Positives(rows.repeat_interleave(2), ask.known.keys % 20, 4_000_000_029, 20)
    guard, small = OwnerSimilarity(0.1, "known"), OwnerSimilarity(0.1, "known")
    guard.prepare(Training(torch.ones(20), known=known, width=4))
    small.prepare(Training(torch.ones(20), known=ask.known, width=4))
    for one in (guard, small):
        one.refresh(ask.table, None)
    assert guard.anchor.shape == (4, 4)
    negatives = Uniform(30).propose(ask)
    scores = ask.score(negatives.ids)
    far, _ = guard.refine(negatives, scores, ask._replace(row=rows))
    near, _ = small.refine(negatives, scores, ask)
    assert torch.equal(far.valid, near.valid)
    guard = OwnerSimilarity(0.1, "known", budget_mb=1e-5)
    with pytest.raises(ResourceError, match=r"4 numbers for each of 4 owners, .*budget_mb=1e-05"):
        guard.prepare(Training(torch.ones(20), known=known, width=4))
