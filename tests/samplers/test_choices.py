"""Random choices of columns: their probabilities, their limits and the shares TopK can keep."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare

from hardneg.datasets.errors import UsageError
from hardneg.samplers import (
    AmbiguousWindow,
    GumbelTopK,
    InBatch,
    Negatives,
    SelfAdversarial,
    TopK,
    Uniform,
)
from hardneg.samplers.choice import gumbel
from hardneg.samplers.schedules import Constant, Linear

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = 60_000
SCORES = torch.tensor([0.3, -1.0, 1.2, 0.0, 0.9, 2.0])
VALID = torch.tensor([True, True, True, True, True, False])


def choose(refiner, make_ask, rows=ROWS, scores=SCORES, positive=0.8, seed=0):
    ask = make_ask(M=2, seed=seed)._replace(positive_score=torch.full((rows,), positive))
    K = len(scores)
    given = Negatives(torch.arange(K)[None], torch.zeros(1, K), VALID[:K].expand(rows, K))
    return refiner.refine(given, scores.expand(rows, K), ask)


def expected(weights, num):
    """Chance of each ordered draw without replacement, by enumeration."""
    found = {}
    for order in itertools.permutations(range(len(weights)), num):
        chance, left = 1.0, sum(weights)
        for j in order:
            chance *= weights[j] / left
            left -= weights[j]
        found[order] = chance
    return found


@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize(
    ("refiner", "weigh"),
    [
        (lambda k: GumbelTopK(k, 0.7), lambda s: math.exp(s / 0.7)),
        (lambda k: GumbelTopK(k), lambda s: math.exp(s)),
        (lambda k: AmbiguousWindow(1.5, -0.5, k), lambda s: math.exp(-1.5 * (s - 0.3) ** 2)),
        (lambda k: AmbiguousWindow(0.0, -0.5, k), lambda s: 1.0),
        # Bins of the valid scores, -1 to 1.2, by thirds: {-1}, {0, .3}, {.9, 1.2}.
        (lambda k: AmbiguousWindow(0.0, 0.0, k, bins=3), lambda s: 1.0 if s < -0.3 else 0.5),
        (
            lambda k: AmbiguousWindow(1.5, -0.5, k, bins=3),
            lambda s: math.exp(-1.5 * (s - 0.3) ** 2) / (1 if s < -0.3 else 2),
        ),
    ],
)
def test_draws_without_replacement_by_enumeration(refiner, weigh, num, make_ask):
    kept, scores = choose(refiner(num), make_ask)
    assert kept.log_q is None
    assert kept.valid.all()
    assert torch.equal(scores, SCORES[kept.ids])
    want = expected([weigh(s) for s in SCORES[:5].tolist()], num)
    code = kept.ids[:, 0] if num == 1 else kept.ids[:, 0] * 6 + kept.ids[:, 1]
    count = torch.bincount(code, minlength=36)
    cells = [order[0] if num == 1 else order[0] * 6 + order[1] for order in want]
    assert count.sum() == count[cells].sum() == ROWS  # never the same one twice
    chance = torch.tensor(list(want.values()), dtype=torch.float64) * ROWS
    assert chisquare(count[cells].double().numpy(), chance.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("temperature", [0.0, 1e-9])
def test_temperature_to_zero_is_top_k(temperature, make_ask):
    kept, _ = choose(GumbelTopK(3, temperature), make_ask, rows=7)
    best, _ = TopK(3).refine(Negatives(torch.arange(6)[None], None, VALID.expand(7, 6)),
                             SCORES.expand(7, 6), None)  # fmt: skip
    assert torch.equal(kept.ids, best.ids)


@pytest.mark.parametrize("b", [0.0, -0.5, -3.0, 0.4])
def test_a_narrow_window_keeps_what_is_nearest_to_its_centre(b, make_ask):
    kept, _ = choose(AmbiguousWindow(1e9, b, 2), make_ask, rows=7)
    nearest = (SCORES[:5] - 0.8 - b).abs().argsort()[:2]
    assert torch.equal(kept.ids.sort(1).values, nearest.sort().values.expand(7, 2))


def test_the_window_is_symmetric(make_ask):
    scores = torch.tensor([0.3, 1.3])
    kept, _ = choose(AmbiguousWindow(4.0, 0.0, 1), make_ask, scores=scores)
    assert kept.ids.double().mean().item() == pytest.approx(0.5, abs=0.01)


BINNED = AmbiguousWindow(0.0, num=3, bins=4)


@pytest.mark.parametrize("refiner", [GumbelTopK(3), AmbiguousWindow(num=3), BINNED, TopK(3)])
@pytest.mark.parametrize("scale", [1.0, 1e9, -1e9, 1e30])
def test_not_valid_ones_come_only_where_others_run_out(refiner, scale, make_ask):
    valid = torch.tensor([[False, True, False, True, False], [False] * 5])
    ask = make_ask(M=2)._replace(positive_score=torch.zeros(2))
    scores = scale * torch.ones(2, 5)
    kept, best = refiner.refine(Negatives(torch.arange(5)[None], None, valid), scores, ask)
    assert kept.valid.sum(1).tolist() == [2, 0]
    assert sorted(kept.ids[0][kept.valid[0]].tolist()) == [1, 3]
    assert torch.isfinite(best).all()


@pytest.mark.parametrize("refiner", [GumbelTopK(2), AmbiguousWindow(num=2)])
def test_gradient_only_to_the_chosen_and_same_seed_same_choice(refiner, make_ask):
    scores = torch.randn(4, 6, requires_grad=True)
    found = []
    for _ in range(2):
        ask = make_ask(M=4)._replace(positive_score=torch.zeros(4, requires_grad=True))
        weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
        given = Negatives(torch.arange(6)[None], None, None, weight)
        kept, best = refiner.refine(given, scores, ask)
        assert torch.equal(kept.weight, weight.gather(1, kept.ids))
        found.append(kept.ids)
    assert torch.equal(*found)
    [gradient] = torch.autograd.grad(best.sum(), scores)
    assert torch.equal(gradient, torch.zeros(4, 6).scatter(1, kept.ids, 1.0))


def test_a_share_of_the_pool():
    for share, pool, k in ((0.1, 64, 6), (1.0, 5, 5), (0.001, 64, 1), (Constant(0.5), 9, 4)):
        assert TopK(share=share).columns(pool) == k
    pipeline = Uniform(64) | TopK(share=Linear(1.0, 0.25, epochs=2)) | TopK(4) | SelfAdversarial()
    width = []
    for epoch in (0.0, 1.0, 2.0, 9.0):
        pipeline.advance(epoch)
        stage = list(pipeline)[1]
        width.append(stage.columns(64))
    assert width == [64, 40, 16, 16]
    given = Negatives(torch.arange(64)[None])
    assert pipeline.refine(given, torch.randn(3, 64), None)[0].ids.shape == (3, 4)
    assert set(pipeline.schedules()) == {"TopK.share"}


def test_a_number_that_moves(make_ask):
    pipeline = InBatch() | TopK(Linear(8, 2, epochs=3)) | GumbelTopK(2)
    assert set(pipeline.schedules()) == {"TopK.num"}
    stage = list(pipeline)[1]
    found = []
    for epoch in (0.0, 1.0, 2.0, 5.0):
        pipeline.advance(epoch)
        found.append(stage.refine(Negatives(torch.arange(9)[None]), torch.randn(2, 9), None)[1])
    assert [len(s[0]) for s in found] == [8, 6, 4, 2]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Uniform(16) | GumbelTopK(32), r"k=32 exceeds the pool of 16; raise num in Unif"),
        (lambda: Uniform(16) | AmbiguousWindow(num=32), r"k=32 exceeds the pool of 16"),
        (lambda: Uniform(16) | TopK(Linear(4, 32)), r"k=32 exceeds the pool of 16"),
        (lambda: Uniform(16) | TopK(Linear(8, 4)) | TopK(6), r"k=6 exceeds the pool of 4"),
        (lambda: TopK(Linear(4, 0)), r"num=0 in TopK must be at least 1 throughout; raise it"),
        (lambda: TopK(share=0.0), r"share=0 in TopK must be in"),
        (lambda: TopK(share=1.5), r"share=1.5 in TopK must be in"),
        (lambda: GumbelTopK(0), r"num=0 in GumbelTopK"),
        (lambda: GumbelTopK(4, -1.0), r"temperature=-1 in GumbelTopK must be at least 0"),
        (lambda: AmbiguousWindow(a=-1.0), r"a=-1 in AmbiguousWindow must be at least 0"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_noise_has_all_its_values_in_half_precision():
    """256 numbers below 1 would tie thousands of columns and cut the tail at 5.5."""
    noise = gumbel(torch.empty(1, 200_000, dtype=torch.bfloat16), torch.Generator().manual_seed(0))
    assert noise.dtype == torch.float32
    assert noise.unique().numel() > 150_000
    assert noise.max() > 8
