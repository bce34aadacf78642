"""The learnt proposal: its policy, its gradient by enumeration, and that it learns."""

import pytest
import torch
from scipy.stats import chisquare

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.samplers import Ask, Generator, Negatives, SelfAdversarial, TopK
from hardneg.samplers.schedules import Linear

pytestmark = pytest.mark.usefixtures("one_thread")
N, D, M = 12, 5, 3


def question(seed=0, known=None):
    g = torch.Generator().manual_seed(seed)
    q, table = torch.randn(M, D, generator=g), torch.randn(N, D, generator=g)
    score = lambda ids: (q @ table.T).gather(1, ids.expand(M, -1))  # noqa: E731
    return Ask(torch.tensor([0, 4, 7]), torch.arange(M), q, table, score, known, g)


def prepared(*args, started=True, **kwargs):
    torch.manual_seed(0)
    sampler = Generator(*args, **kwargs)
    sampler.prepare(Training(torch.ones(N), width=D))
    if started:
        with torch.no_grad():
            sampler.table += torch.randn(sampler.table.shape)
    return sampler


def chance(sampler, ask):
    return sampler.log_policy(ask, torch.arange(N)).exp().detach()


def assert_follows(ids, p):
    for m in range(M):
        count, expected = torch.bincount(ids[m], minlength=N), p[m].double()
        some = expected > 0
        assert not count[~some].any()
        expected = expected[some] / expected[some].sum() * len(ids[m])
        assert chisquare(count[some].numpy(), expected.numpy()).pvalue > 1e-4


def test_the_policy_is_the_plain_formula():
    sampler, ask = prepared(4, candidates=N, dim=2, temperature=0.7), question()
    A, g = sampler.map.tolist(), sampler.table.tolist()
    for m in range(M):
        logits = [
            sum(ask.query[m, i].item() * A[i][d] * g[j][d] for i in range(D) for d in range(2))
            / 0.7
            for j in range(N)
        ]
        logits[ask.positive[m]] = -torch.inf
        want = torch.tensor(logits).softmax(0)
        torch.testing.assert_close(chance(sampler, ask)[m], want)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_draws_follow_the_policy(temperature):
    sampler, ask = prepared(30_000, candidates=N, dim=3, temperature=temperature), question()
    drawn = sampler.propose(ask)
    assert drawn.log_q is None
    assert drawn.valid.all()
    assert_follows(drawn.ids, chance(sampler, ask))


@pytest.mark.parametrize("make", [
    lambda: prepared(30_000, candidates=N, dim=3, temperature=1e6),
    lambda: prepared(30_000, candidates=N, dim=3, started=False),
])  # fmt: skip
def test_uniform_when_hot_and_before_it_has_learnt(make):
    ask = question()
    uniform = torch.full((M, N), 1 / (N - 1)).scatter(1, ask.positive[:, None], 0.0)
    assert_follows(make().draw(ask).ids, uniform)


def test_candidates_are_uniform():
    sampler, ask = prepared(2, candidates=7), question()
    found = torch.stack([sampler._among(ask) for _ in range(4000)])
    assert found.shape == (4000, 7)
    assert chisquare(torch.bincount(found.flatten(), minlength=N).numpy()).pvalue > 1e-4


def test_the_mean_reinforce_gradient_is_the_exact_one():
    """Enumerate all candidates: the gradient of minus the expected score, with any baseline."""
    sampler, ask = prepared(20_000, candidates=N, dim=2, learning=3.0), question()
    parameters = sampler.table, sampler.map
    reward = ask.score(torch.arange(N)[None])
    log_p = sampler.log_policy(ask, torch.arange(N))
    exact = torch.autograd.grad(-3.0 * (log_p.exp() * reward).sum(1).mean(), parameters)
    total = [torch.zeros_like(p) for p in parameters]
    for _ in range(10):
        sampler.propose(ask)
        objective = sampler.penalty()
        assert objective.item() == 0  # it teaches, but the loss shown does not count it
        for sum_, one in zip(total, torch.autograd.grad(objective, parameters), strict=True):
            sum_ += (one.to_dense() if one.is_sparse else one) / 10
    for got, want in zip(total, exact, strict=True):
        torch.testing.assert_close(got, want.to_dense(), atol=0.02, rtol=0)
        assert want.to_dense().abs().max() > 0.2
    assert sampler.penalty() == 0.0  # once for each draw


def test_the_exact_objective_is_the_expected_mistake_by_a_plain_loop():
    sampler, ask = prepared(4, candidates=N, dim=2, learning=3.0, exact=True), question()
    parameters = sampler.table, sampler.map
    log_p, scores = sampler.log_policy(ask, torch.arange(N)), ask.score(torch.arange(N)[None])
    expected = 0.0
    for m in range(M):
        own = scores[m, ask.positive[m]]
        for j in range(N):
            if j != ask.positive[m]:
                loss = -torch.log(torch.sigmoid(own - scores[m, j]))
                expected = expected - 3.0 * log_p[m, j].exp() * loss / M
    want = torch.autograd.grad(expected, parameters)
    sampler.propose(ask)
    objective = sampler.penalty()
    assert objective.item() == 0
    assert (sampler.baseline, sampler.share) == (0, 0)  # nothing to compare draws with
    for got, one in zip(torch.autograd.grad(objective, parameters), want, strict=True):
        torch.testing.assert_close(got.to_dense(), one.to_dense())


def test_the_gradient_of_the_table_is_row_sparse_and_the_encoder_gets_none():
    sampler, ask = prepared(4, candidates=3, dim=2), question()
    ask = ask._replace(query=ask.query.requires_grad_())
    sampler.draw(ask)
    sampler.penalty().backward()
    assert sampler.table.grad.is_sparse
    assert len(sampler.table.grad.coalesce().indices()[0]) <= 3
    assert not sampler.map.grad.is_sparse
    assert ask.query.grad is None


def test_the_baseline_is_a_moving_average_of_what_came_before():
    sampler, ask = prepared(6), question()
    mean = []
    for _ in range(4):
        ids = sampler.draw(ask).ids
        mean.append(ask.score(ids).mean().item())
    weight = [0.9**n for n in (3, 2, 1, 0)]
    want = sum(w * r for w, r in zip(weight, mean, strict=True)) / sum(weight)
    assert (sampler.baseline / sampler.share).item() == pytest.approx(want, rel=1e-4)


def test_it_learns_what_is_hard():
    sampler, ask = prepared(8, candidates=N, dim=4, started=False), question()
    reward = ask.score(torch.arange(N)[None])
    optimizer = torch.optim.SGD(sampler.parameters(), lr=0.3)
    before = (chance(sampler, ask) * reward).sum(1)
    for _ in range(150):
        sampler.propose(ask)
        optimizer.zero_grad()
        sampler.penalty().backward()
        optimizer.step()
    after = (chance(sampler, ask) * reward).sum(1)
    assert (after > before + 0.5).all()


def test_the_encoder_as_generator_is_the_expectation_of_self_adversarial():
    ask = question()
    sampler = prepared(4, candidates=N, dim=D, temperature=1 / 0.6)
    with torch.no_grad():
        sampler.map.copy_(torch.eye(D))
        sampler.table.copy_(ask.table)
    scores = ask.score(torch.arange(N)[None])
    valid = torch.arange(N) != ask.positive[:, None]
    given = Negatives(torch.arange(N)[None], None, valid)
    weighed, _ = SelfAdversarial(0.6).refine(given, scores, ask)
    torch.testing.assert_close(chance(sampler, ask), weighed.probabilities(scores))


def test_no_learning_adds_nothing_and_a_pipeline_passes_the_penalty_on():
    ask = question()
    still = prepared(4, learning=0)
    still.draw(ask)
    assert still.penalty() == 0.0
    pipeline = prepared(8) | TopK(2)
    pipeline.propose(ask)
    assert pipeline.penalty().requires_grad


def test_a_schedule_moves_the_temperature():
    sampler, ask = prepared(4, dim=3, temperature=Linear(4.0, 1.0, epochs=3)), question()
    sampler.advance(2.0)
    fixed = prepared(4, dim=3, temperature=2.0)
    fixed.load_state_dict(sampler.state_dict())
    assert torch.equal(chance(sampler, ask), chance(fixed, ask))


def test_state_goes_into_one_that_was_never_prepared():
    sampler, fresh = prepared(4, dim=3), Generator(4, dim=3)
    sampler.draw(question())
    fresh.load_state_dict(sampler.state_dict())
    for key, value in sampler.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Generator(0), r"num=0 in Generator"),
        (lambda: Generator(dim=0), r"dim=0 and learning=1.0 in Generator must be at least 1, 1"),
        (lambda: Generator(temperature=0.0), r"temperature=0 in Generator must be at least 1e-06"),
        (lambda: Generator().draw(question()), r"no parameters; prepare it"),
        (lambda: Generator().prepare(Training(torch.ones(N))), r"Training\(..., width=D\)"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()
