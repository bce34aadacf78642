"""What trials teach: importances, effects with intervals, the surface, power laws."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from hardneg.datasets.errors import UsageError
from hardneg.tuning.axis import Axis, axes_of
from hardneg.tuning.gaussian import MEAN, SMALL, GaussianProcess, process_of
from hardneg.tuning.importance import ENOUGH, LEAST, _in_order, importances
from hardneg.tuning.marginal import marginal
from hardneg.tuning.scaling import fit_law
from hardneg.tuning.surface import choose_axes, kind_of, surface

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = {
    "negatives.Uniform.num": IntDistribution(1, 4096, log=True),
    "negatives.TopK.share": FloatDistribution(0.01, 1.0, log=True),
    "optimizer.Adam.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "loss": CategoricalDistribution(["a", "b", "c"]),
}
EFFECTS = {
    "negatives.Uniform.num": lambda u: 0.05 * np.sin(3 * u),
    "negatives.TopK.share": lambda u: -0.4 * (u - 0.6) ** 2,
    "optimizer.Adam.lr": lambda u: 0.0 * u,
    "loss": lambda u: 0.03 * (u == 1),
}


def made(count, seed=0, noise=0.005, sign=1.0):
    """Return trials whose quality is a sum of one function for each knob, and noise."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        params = {}
        for name, space in SPACE.items():
            if isinstance(space, CategoricalDistribution):
                params[name] = space.choices[random.integers(3)]
                continue
            value = np.exp(random.uniform(np.log(space.low), np.log(space.high)))
            params[name] = int(value) if isinstance(space, IntDistribution) else float(value)
        total = sum(
            float(effect(Axis(name, SPACE[name]).unit([params[name]])[0]))
            for name, effect in EFFECTS.items()
        )
        value = sign * (0.3 + total + noise * random.normal())
        found.append(create_trial(value=value, params=params, distributions=SPACE))
    return found


@pytest.mark.parametrize("up", [True, False])
def test_the_knob_that_matters_most_is_first_and_the_idle_one_is_no_more_than_chance(up):
    shares = importances(made(60, sign=1.0 if up else -1.0), up)
    assert shares[0].name == "negatives.TopK.share"
    assert shares[0].shown
    assert sum(s.share for s in shares) == pytest.approx(1.0)
    assert not next(s for s in shares if s.name == "optimizer.Adam.lr").shown


def test_importances_are_those_of_optuna():
    trials = made(30)
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=LEAST / 30)
    want = get_param_importances(study, evaluator=evaluator)
    assert {s.name: s.share for s in importances(trials, True)} == pytest.approx(want)


def test_values_that_know_nothing_of_the_knobs_show_nothing():
    shown = 0
    for seed in range(3):
        trials = made(30, seed, noise=0.0)
        order = np.random.default_rng(seed).permutation(30)
        mixed = [
            create_trial(value=trials[o].value, params=t.params, distributions=SPACE)
            for t, o in zip(trials, order, strict=True)
        ]
        shown += sum(s.shown for s in importances(mixed, True, seed))
    assert shown <= 2  # of 12, at one in twenty


def test_few_trials_and_equal_ones_have_no_importances():
    assert importances(made(ENOUGH - 1), True) == []
    assert len(importances(made(ENOUGH), True)) == 4
    assert importances([], True) == []
    params = {"optimizer.Adam.lr": 0.01}
    alone = {"optimizer.Adam.lr": SPACE["optimizer.Adam.lr"]}
    same = [create_trial(value=1.0, params=params, distributions=alone) for _ in range(20)]
    assert importances(same, True) == []
    assert axes_of(same) == []


def test_one_knob_is_fitted_as_scikit_learn_does():
    random = np.random.default_rng(0)
    axis = Axis("x", FloatDistribution(0.0, 1.0))
    x, grid = random.uniform(size=(25, 1)), np.linspace(0, 1, 7)[:, None]
    y = np.sin(5 * x[:, 0]) + 0.1 * random.normal(size=25)
    ours = GaussianProcess([axis], x, y, draws=0)
    kernel = (
        ConstantKernel(ours.size.item()) * Matern(ours.lengths.item(), nu=2.5)
        + ConstantKernel(MEAN)
        + WhiteKernel(ours.noise.item() + SMALL)
    )
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0)
    theirs.fit(x, (y - y.mean()) / y.std())
    mean, covariance = theirs.predict(grid, return_cov=True)
    covariance -= np.eye(len(grid)) * (ours.noise.item() + SMALL)  # of a mean, not of a value
    found = ours.effect([0], grid)
    assert found.mean == pytest.approx(y.mean() + y.std() * mean)
    assert found.covariance == pytest.approx(y.std() ** 2 * covariance, abs=1e-9)


def test_an_effect_is_the_average_over_what_the_other_knobs_were():
    trials = made(20)
    process = process_of(trials, axes_of(trials))
    places = np.array([[0.1], [0.5], [0.8]])
    found = process.effect([1], places)
    everywhere = np.repeat(process.points.numpy()[None], 3, 0)
    everywhere[:, :, 1] = places
    whole = process.effect([0, 1, 2, 3], everywhere.reshape(60, 4))
    assert found.mean == pytest.approx(whole.mean.reshape(3, 20).mean(1))
    want = whole.covariance.reshape(3, 20, 3, 20).mean((1, 3))
    assert found.covariance == pytest.approx(want, abs=1e-9)
    assert found.against(1)[1] == 0.0


@pytest.mark.parametrize("count", [12, 30])
def test_the_interval_of_an_effect_covers_the_truth(count):
    """Over 6 studies and all knobs, 95% intervals hold the true effect nearly so often."""
    inside = []
    for seed in range(6):
        trials = made(count, seed)
        axes = axes_of(trials)
        process = process_of(trials, axes)
        for knob, axis in enumerate(axes):
            found = marginal(process, knob, True)
            others = [
                np.mean([EFFECTS[a.name](u) for u in a.unit([t.params[a.name] for t in trials])])
                for a in axes
                if a.name != axis.name
            ]
            truth = 0.3 + sum(others) + EFFECTS[axis.name](found.places)
            inside.append(np.mean((found.low <= truth) & (truth <= found.high)))
    assert np.mean(inside) > 0.85


def test_an_effect_names_the_good_range_and_the_idle_knob_has_none():
    trials = made(50)
    process = process_of(trials, axes_of(trials))
    share = marginal(process, 1, True)
    low, high = share.advised()
    assert low <= 0.01**0.4 <= high  # 0.6 of the way in logs
    assert high / low < 10
    assert share.shown
    rate = marginal(process, 2, True)
    assert not rate.shown
    assert rate.advised() == [rate.values[0], rate.values[-1]]
    assert marginal(process, 3, True).advised() == ["b"]
    worst = marginal(process, 1, False)  # less is better: the good end is another
    assert worst.advised()[0] == worst.values[0]


def test_ratio_and_hardness_are_told_apart():
    kinds = {
        "negatives.Uniform.num": "ratio",
        "negatives.Uniform.pools": "ratio",
        "batch_size": "ratio",
        "negatives.TopK.num": "hardness",
        "negatives.TopK.share": "hardness",
        "negatives.SelfAdversarial.alpha": "hardness",
        "negatives.Popularity.power": "hardness",
        "model.similarity.temperature": "hardness",
        "model.LightGCN.similarity.temperature": "hardness",
        "optimizer.Adam.lr": "",
        "model.dim": "",
    }
    assert {name: kind_of(name) for name in kinds} == kinds


def test_the_surface_peaks_where_quality_does_and_knows_where_trials_are():
    trials = made(60)
    axes = axes_of(trials)
    ratio, hardness = choose_axes(axes, importances(trials, True))
    assert (ratio.name, hardness.name) == ("negatives.Uniform.num", "negatives.TopK.share")
    found = surface(process_of(trials, axes), ratio, hardness, trials)
    row, column = np.unravel_index(found.mean.argmax(), found.mean.shape)
    at = ratio.unit([found.xs[column]])[0], hardness.unit([found.ys[row]])[0]
    assert at == pytest.approx((np.pi / 6, 0.6), abs=0.15)
    assert len(found.spots) == 60
    assert 0 <= found.known.min() <= found.known.max() <= 1
    # A corner without a trial is known less than the place with the most of them.
    spots = np.array([[s.x, s.y] for s in found.spots])
    grid = np.array([[(x, y) for x in ratio.unit(found.xs)] for y in hardness.unit(found.ys)])
    near = (np.linalg.norm(grid[:, :, None] - spots, axis=-1) < 0.15).sum(-1)
    assert found.known[near == near.max()].mean() > found.known[near == near.min()].mean()


def test_the_surface_asked_for_is_drawn():
    axes = [Axis(name, space) for name, space in SPACE.items()]
    found = choose_axes(axes, [], ["Adam.lr", "negatives.TopK.share"])
    assert [axis.name for axis in found] == ["optimizer.Adam.lr", "negatives.TopK.share"]
    assert choose_axes(axes, [], ["Adam.lr", "Other.num"]) is None
    assert choose_axes(axes[1:], []) is None  # no ratio
    with pytest.raises(UsageError, match="name two knobs"):
        choose_axes(axes, [], ["Adam.lr"])


@pytest.mark.parametrize(("a", "b", "c"), [(0.5, 0.3, 0.7), (0.31, 0.2, 0.1), (0.9, 5.0, 3.0)])
def test_a_power_law_is_recovered_from_exact_points(a, b, c):
    t = np.arange(1, 21)
    law = fit_law(t, a - b * t**-c)
    assert (law.a, law.b, law.c) == pytest.approx((a, b, c), rel=1e-4)
    assert law.error < 1e-5
    assert law.at(80.0) == pytest.approx(a - b * 80**-c, rel=1e-5)
    assert law.useful


def test_a_law_of_ranks_falls():
    t = np.arange(5, 105, 5)
    law = fit_law(t, 100 + 400 * t**-0.9, up=False)
    assert (law.a, law.b, law.c) == pytest.approx((100, -400, 0.9), rel=1e-4)


def test_noise_is_stated_as_error():
    t = np.arange(1, 31)
    random = np.random.default_rng(0)
    errors = [
        fit_law(t, 0.5 - 0.3 * t**-0.7 + size * random.normal(size=30)).error
        for size in (0.0, 0.003, 0.03)
    ]
    assert errors == sorted(errors)
    assert errors[1] > 1e-3
    assert errors[2] > 1e-2


def test_a_law_needs_five_points_and_never_worsens():
    t = np.arange(1, 11)
    q = 0.5 - 0.3 * t**-0.7
    assert fit_law(t[:4], q[:4]) is None
    assert fit_law(t[:5], q[:5]) is not None
    assert fit_law(t, [*q[:3], float("nan"), *q[4:]]).a == pytest.approx(0.5, rel=1e-3)
    falling = fit_law(t, q[::-1])
    assert falling.b == 0.0
    assert not falling.useful
    level = fit_law(t, np.full(10, 0.4))
    assert level.at(1000.0) == pytest.approx(0.4)


def cut(trial, at):
    """Return a trial as it is when it was pruned at an epoch."""
    return create_trial(
        state=TrialState.PRUNED, params=trial.params, distributions=trial.distributions,
        intermediate_values={at: trial.value},
    )  # fmt: skip


@pytest.mark.parametrize("up", [True, False])
def test_pruned_trials_count_as_behind_those_that_finished(up):
    trials = sorted(made(60, sign=1.0 if up else -1.0), key=lambda t: t.value, reverse=up)
    good, bad = trials[:12], [cut(t, 3) for t in trials[12:]]
    whole = {s.name: s for s in importances(trials, up)}
    found = {s.name: s for s in importances(good, up, pruned=bad[::-1])}
    for name, share in whole.items():  # the same order, so the same shares
        assert found[name].share == pytest.approx(share.share), name


def test_a_knob_whose_bad_values_are_all_pruned_still_matters():
    name, trials = "negatives.TopK.share", made(60)
    good = [
        t
        for t in trials
        if EFFECTS[name](Axis(name, SPACE[name]).unit([t.params[name]])[0]) > -0.02
    ]
    bad = [cut(t, 3) for t in trials if t not in good]
    assert not next(s for s in importances(good, True) if s.name == name).shown
    first = importances(good, True, pruned=bad)[0]
    assert (first.name, first.shown) == (name, True)


def test_pruned_trials_are_ordered_by_how_far_they_got():
    one, *rest = made(ENOUGH + 10)
    early = [cut(t, 2) for t in rest]
    early[3] = cut(rest[3], 9)
    assert len(importances([one], True, pruned=early)) == 4
    order = _in_order(early, True)
    assert order[0] is early[3]
    values = [t.intermediate_values[2] for t in order[1:]]
    assert values == sorted(values, reverse=True)
    assert importances([], True, pruned=early) == []
    assert importances([one], True, pruned=early[: ENOUGH - 2]) == []
