"""Hardness that moves: endpoints, order, ranges, and what the engine makes of it."""

import math
import os
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.errors import UsageError
from hardneg.engine import api, checkpoint, components
from hardneg.engine.components import parse, show
from hardneg.engine.interrupt import Interrupted
from hardneg.engine.progress import Reporter
from hardneg.samplers import Pipeline, SelfAdversarial, Tilt, TopK, Uniform
from hardneg.samplers.schedules import (
    Constant,
    Cosine,
    Doubling,
    Linear,
    Steps,
    check_range,
    value_of,
)

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

SCHEDULES = [
    Constant(0.7),
    Linear(0.5, 2.0, epochs=4),
    Linear(2.0, 0.5, epochs=4),
    Cosine(0.0, 3.0, epochs=5),
    Cosine(3.0, -1.0, epochs=0.5),
    Steps((1.0, 4.0, 2.0), (2, 6)),
    Doubling(2.0, 50.0, every=3),
]
each = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


@each
def test_values_stay_between_the_ends_and_nothing_moves_after_the_span(schedule):
    low, high = schedule.ends()
    span = schedule.span()
    values = [schedule.at(span * n / 50) for n in range(51)]
    assert all(low - 1e-12 <= v <= high + 1e-12 for v in values)
    assert (min(values), max(values)) == (pytest.approx(low), pytest.approx(high))
    for after in (span, span + 0.5, 10 * span + 7, 1e6):
        assert schedule.at(after) == schedule.at(span)
    assert schedule.at(-1.0) == schedule.at(0.0)  # before the first step


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_endpoints_and_the_middle(kind):
    schedule = kind(1.0, 5.0, epochs=8)
    assert [schedule.at(e) for e in (0, 4, 8, 9)] == [1, pytest.approx(3), 5, 5]


def test_plain_formulas():
    assert Linear(0.0, 2.0, epochs=10).at(2.5) == pytest.approx(0.5)
    assert Cosine(0.0, 2.0, epochs=10).at(2.5) == pytest.approx(1 - math.cos(math.pi / 4))
    assert [Steps((1, 4, 2), (2, 6)).at(e) for e in (0, 1.99, 2, 5.9, 6)] == [1, 1, 4, 4, 2]
    doubled = [Doubling(2.0, 50.0, every=3).at(e) for e in (0, 2.9, 3, 6, 9, 12, 15, 1e300)]
    assert doubled == [2, 2, 4, 8, 16, 32, 50, 50]
    assert Doubling(2.0, 50.0, every=3).span() == 15
    assert Doubling(2.0, 64.0, every=3).span() == 15
    assert Doubling(4.0, 4.0).span() == 0


@pytest.mark.parametrize("kind", [Linear, Cosine])
@given(
    start=st.floats(-1e3, 1e3),
    end=st.floats(-1e3, 1e3),
    epochs=st.floats(0.1, 100),
    a=st.floats(0, 200),
    b=st.floats(0, 200),
)
def test_never_back(kind, start, end, epochs, a, b):
    schedule = kind(start, end, epochs)
    first, second = schedule.at(min(a, b)), schedule.at(max(a, b))
    assert (second - first) * (end - start) >= -1e-9


def test_numbers_and_schedules_are_read_alike():
    assert value_of(2, 5.0) == value_of(Constant(2.0), 5.0) == 2.0
    assert value_of(Linear(0, 1, epochs=2), 1.0) == 0.5


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Linear(0, 1, epochs=0), r"epochs=0 in Linear must be above 0"),
        (lambda: Cosine(0, 1, epochs=-2), r"epochs=-2 in Cosine must be above 0"),
        (lambda: Steps((1, 2), (1, 2)), r"Steps has 2 values and 2 epochs; give one value more"),
        (lambda: Steps((1, 2, 3), (5, 2)), r"at_epochs=\(5, 2\) in Steps must ascend"),
        (lambda: Doubling(0, 8), r"Doubling\(start=0, .* needs 0 < start <= limit"),
        (lambda: Doubling(9, 8), r"needs 0 < start <= limit"),
        (lambda: Doubling(1, 8, every=0), r"every > 0"),
        (lambda: check_range(Linear(0.5, 2.0), "x", "Y", 0, 1), r"x=2 in Y must be in \[0, 1\]"),
        (lambda: check_range(-1, "x", "Y", 0), r"x=-1 in Y must be at least 0"),
        (lambda: SelfAdversarial(Cosine(1, -2)), r"alpha=-2 in SelfAdversarial must be at least 0"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_a_pipeline_lists_its_schedules_and_moves_them():
    pipeline = Uniform(8) | TopK(4) | SelfAdversarial(Linear(0, 2)) | Tilt(Steps((1, 2), (3,)))
    assert pipeline.schedules() == {
        "SelfAdversarial.alpha": Linear(0, 2),
        "Tilt.beta": Steps((1, 2), (3,)),
    }
    pipeline.advance(2.5)
    assert {stage.epoch for stage in pipeline} == {2.5}


RECIPE = "Uniform(64) | Tilt(Linear(0, 2, epochs=10)) | TopK(Doubling(2, 32, every=2))"


def test_in_a_recipe_they_are_read_written_and_built():
    expression = parse(RECIPE, "negatives")
    assert show(expression) == RECIPE
    full = tuple(components.normalise(s, "negatives", "negatives") for s in expression)
    assert parse(show(full), "negatives") == full
    assert "Tilt(beta=Linear(start=0, end=2, epochs=10))" in show(full)
    pipeline = Pipeline(*(components.build(s, "negatives", "negatives") for s in expression))
    assert pipeline.schedules() == {
        "Tilt.beta": Linear(0, 2, epochs=10),
        "TopK.num": Doubling(2, 32, every=2),
    }


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("beta.end", 3, "Tilt(beta=Linear(start=0, end=3, epochs=10))"),
        ("Tilt.beta.epochs", 4, "Tilt(beta=Linear(start=0, end=2, epochs=4))"),
        ("Tilt.beta", 0.5, "Tilt(beta=0.5)"),
        ("TopK.num", 8, "TopK(num=8)"),
        ("TopK.num.limit", 16, "TopK(num=Doubling(start=2, limit=16, every=2))"),
    ],
)
def test_settings_reach_into_them(path, value, shown):
    changed = components.override(parse(RECIPE, "n"), path, value, "negatives", "negatives")
    assert shown in show(changed)
    for stage in changed:
        components.build(stage, "negatives", "negatives")


def test_a_setting_may_put_a_schedule_where_a_number_was():
    [schedule] = parse("Cosine(0, 2)", "negatives")
    changed = components.override(
        parse("Uniform() | Tilt()", "n"), "beta", schedule, "negatives", "n"
    )
    assert components.build(changed[1], "negatives", "n").beta == Cosine(0, 2)


def test_a_study_still_sees_the_ranges_of_the_component():
    assert set(components.tunable(parse(RECIPE, "n"), "negatives", "negatives")) == {
        "Uniform.num",
        "Tilt.beta",
        "TopK.num",
        "TopK.share",
    }


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Tilt(Linear(0, 2, epoch=10))", "Linear has no argument 'epoch'"),
        ("Tilt(Linear(0, 'two'))", r"Linear\(end='two'\)"),
        ("Tilt(Ramp(0, 2))", "no hardness 'Ramp'"),
        ("Tilt(Linear(2, -1))", "beta=-1 in Tilt"),
        ("Uniform(Linear(8, 16))", "Linear"),
    ],
)
def test_bad_expressions_are_refused_in_one_sentence(text, match):
    with pytest.raises(UsageError, match=match):
        components.build(parse(text, "negatives")[0], "negatives", "negatives")


SETTINGS = {
    "split": "LeaveOneOut()",
    "epochs": 3,
    "patience": 0,
    "batch_size": 64,
    "negatives": "Uniform(16) | TopK(Linear(16, 4, epochs=2.5)) | Tilt(Cosine(0, 2, epochs=3))",
}


def fit(small, out, **more):
    model = "LightGCN(dim=8, layers=1)"
    return api.train(model, small / "log.csv", out=out, quiet=True, **{**SETTINGS, **more})


@pytest.mark.parametrize("negatives", ["Tilt(Linear(0, 2, epochs=30))", "TopK(Linear(8, 2, 4))"])
def test_a_schedule_longer_than_the_run_is_refused(negatives, small, tmp_path):
    match = r"still moves at epoch \d+ but the run has 3; shorten the schedule or raise epochs"
    with pytest.raises(UsageError, match=match):
        fit(small, tmp_path / "run", negatives=f"Uniform(16) | {negatives}")


RESUMED = [
    (SETTINGS["negatives"], "Uniform(16) | TopK(16) | Tilt(0)"),
    (
        "Popularity(16, beta=Linear(0, 1, epochs=3)) | SkipTop(Steps((0, 3), (1,))) "
        "| TopK(Doubling(2, 8, every=1))",
        "Popularity(16, beta=0.0) | SkipTop(0) | TopK(2)",
    ),
    (
        "NeighbourBand(16, low=Linear(9, 2, epochs=3), high=20, refresh_every=4) "
        "| Propensity(Cosine(0.1, 1, epochs=3)) | SelfAdversarial(Constant(0.5))",
        "NeighbourBand(16, low=9, high=20, refresh_every=4) | Propensity(0.1) "
        "| SelfAdversarial(0.5)",
    ),
]


@pytest.mark.parametrize(("moving", "still"), RESUMED, ids=["refiners", "proposal", "band"])
def test_a_scheduled_run_resumes_exactly(moving, still, small, tmp_path, monkeypatch):
    whole = fit(small, tmp_path / "whole", negatives=moving)
    constant = fit(small, tmp_path / "constant", negatives=still)
    usual, count = Reporter.advance, [0]

    def advance(self, *args):
        count[0] += 1
        if count[0] == 5:
            os.kill(os.getpid(), signal.SIGINT)
        usual(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "advance", advance)
        with pytest.raises(Interrupted):
            fit(small, tmp_path / "cut", negatives=moving)
    cut = api.resume(tmp_path / "cut", quiet=True)
    runs = (whole, cut, constant)
    weights = [checkpoint.load(run.folder / "state" / "state.safetensors")["model"] for run in runs]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not all(torch.equal(value, weights[2][name]) for name, value in weights[0].items())
