"""Samplers and pruners: a point depends on the past alone, whatever became of it; who is pruned."""

import optuna
import pytest
from optuna.trial import TrialState

from hardneg.tuning.engines import PRUNERS, SAMPLERS, make_pruner, prunes, suggest

UP = optuna.study.StudyDirection.MAXIMIZE
DOWN = optuna.study.StudyDirection.MINIMIZE


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("directions", [[UP], [UP, DOWN]], ids=["one", "two"])
def test_a_point_depends_on_the_past_alone(sampler, directions):
    space = {
        "k": optuna.distributions.IntDistribution(1, 64, log=True),
        "t": optuna.distributions.FloatDistribution(0.0, 1.0),
    }
    past = []
    for number in range(7):
        params = suggest(sampler, 3, number, past, space, directions)
        assert params == suggest(sampler, 3, number, past, space, directions)
        values = [params["t"]] * len(directions)
        past.append(
            optuna.trial.create_trial(
                values=values,
                params=params,
                distributions=space,
                system_attrs={"constraints:runs": -1.0},
            )
        )
    assert len({tuple(t.params.values()) for t in past}) > 3


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("directions", [[UP], [UP, DOWN]], ids=["one", "two"])
def test_a_point_is_drawn_whatever_became_of_the_trials_before(sampler, directions):
    """Most pruned, one skipped, one over a limit, one running: with every number of objectives."""
    space = {"t": optuna.distributions.FloatDistribution(0.0, 1.0)}

    def trial(number, state, over=-1.0):
        ended = state == TrialState.COMPLETE
        return optuna.trial.create_trial(
            state=state,
            values=[number / 10] * len(directions) if ended else None,
            params={"t": number / 20},
            distributions=space,
            system_attrs={"constraints:runs": over},
            intermediate_values={1: number / 10} if over < 0 else {},
        )

    past = [trial(n, TrialState.COMPLETE) for n in range(2)]
    past += [trial(n, TrialState.PRUNED) for n in range(2, 14)]
    past += [trial(14, TrialState.PRUNED, 1.0), trial(15, TrialState.COMPLETE, 1.0)]
    past += [trial(16, TrialState.RUNNING)]
    assert 0 <= suggest(sampler, 0, len(past), past, space, directions)["t"] <= 1


@pytest.mark.parametrize("name", PRUNERS)
def test_a_bad_trial_among_good_ones_is_pruned_on_the_primary(name):
    def trial(state, values, level, last):
        curve = {epoch: level + epoch / 100 for epoch in range(1, last + 1)}
        return optuna.trial.create_trial(state=state, values=values, intermediate_values=curve)

    past = [trial(TrialState.COMPLETE, [0.8, 1.0], 0.5 + n / 100, 36) for n in range(9)]
    now = trial(TrialState.RUNNING, None, 0.1, 9)
    pruned, notes = prunes(make_pruner(name, 36, 1), [*past, now], 9, UP)
    assert pruned == (name in ("median", "wilcoxon"))
    assert bool(notes) == (name == "hyperband")


def test_the_median_counts_trials_that_were_pruned():
    """A median of those that finished, which are above it, would let fewer and fewer through."""

    def trial(state, level, last):
        curve = dict.fromkeys(range(1, last + 1), level)
        values = [level] if state == TrialState.COMPLETE else None
        return optuna.trial.create_trial(state=state, values=values, intermediate_values=curve)

    past = [trial(TrialState.COMPLETE, 0.6 + n / 100, 16) for n in range(5)]
    past += [trial(TrialState.PRUNED, 0.1 + n / 100, 4) for n in range(6)]
    median = make_pruner("median", 16, 1)

    def gives_up(level, last):
        now = trial(TrialState.RUNNING, level, last)
        return prunes(median, [*past, now], len(past), UP)[0]

    assert not gives_up(0.5, 4)  # above half of all eleven, below all that finished
    assert gives_up(0.12, 4)
    assert not gives_up(0.12, 3)  # in the first quarter nothing is judged
    assert gives_up(0.5, 8)  # the pruned never got here
    assert not gives_up(0.5, 7)  # and between quarters nothing is judged
