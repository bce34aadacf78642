"""Paired differences against scipy, and the step-down correction by hand."""

import numpy as np
import pytest
from scipy import stats

from hardneg.datasets.errors import DataError
from hardneg.engine.significance import holm, paired


def test_agrees_with_scipy_on_the_means_over_runs():
    g = np.random.default_rng(0)
    ours, theirs = g.random((3, 200)) + 0.02, g.random((2, 200))
    found = paired(list(ours), list(theirs))
    want = stats.ttest_rel(ours.mean(0), theirs.mean(0))
    assert found.p == pytest.approx(want.pvalue)
    low, high = want.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.mean == pytest.approx((ours.mean(0) - theirs.mean(0)).mean())


def test_equal_runs_do_not_differ_and_a_constant_gain_is_certain():
    values = np.arange(5.0)
    assert paired([values], [values]).p == 1.0
    gain = paired([values + 1], [values])
    assert (gain.mean, gain.low, gain.high, gain.p) == (1.0, 1.0, 1.0, 0.0)


def test_other_queries_are_refused():
    with pytest.raises(DataError, match=r"answered \[4, 5\] queries"):
        paired([np.zeros(5)], [np.zeros(4)])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
