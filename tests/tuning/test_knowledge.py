"""What a study's folder teaches: lessons, budgets, forecasts, savings, the front, sentences."""

import json

import numpy as np
import optuna
import pytest

from hardneg.datasets.errors import DataError, UsageError
from hardneg.tuning.budget import affordable, budgets, ended, front, pareto, reached, saving
from hardneg.tuning.evidence import Evidence, family_of, is_baseline, quality
from hardneg.tuning.knowledge import comparable, learn
from hardneg.tuning.learned import learned, show_learned
from hardneg.tuning.pages.study_page import study_page
from hardneg.tuning.storage import ADDRESS
from hardneg.tuning.verdict import near, sentences

pytestmark = pytest.mark.usefixtures("one_thread")

HARD, PLAIN = "Uniform(256) | TopK(share=0.1)", "Uniform(256)"


@pytest.fixture(scope="module")
def study(written_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "films"
    return Evidence.open(written_study(folder, objectives=("quality", "seconds")))


@pytest.fixture(scope="module")
def known(study):
    return learn(study)


def test_a_folder_is_read_as_it_was_written(study):
    assert list(study.families) == [HARD, PLAIN]
    assert [is_baseline(name) for name in study.families] == [False, True]
    assert ended(study) == {"finished": 37, "pruned": 8, "failed": 3}
    assert study.objectives == ("quality", "seconds")
    assert quality(study.ranked[0]) == max(map(quality, study.finished))
    assert len(study.curves[0]) == 20


def test_the_lesson_of_each_family(known):
    hard, plain = known.lessons
    assert (hard.family, hard.baseline, plain.baseline) == (HARD, False, True)
    assert hard.shares[0].name == "negatives.TopK.share"
    share = hard.marginals[0]
    assert share.advised()[0] <= 0.1 <= share.advised()[1]
    assert hard.surface.ratio.name == "negatives.Uniform.num"
    assert hard.surface.hardness.name == "negatives.TopK.share"
    assert plain.surface is None
    assert "not both searched" in plain.no_surface


def test_few_trials_are_a_sentence(written_study, tmp_path):
    found = learn(Evidence.open(written_study(tmp_path / "s", trials=4)))
    for lesson in found.lessons:
        assert "too few to say which knobs matter; give the family 10 or more" in lesson.why
        assert not lesson.shares
        assert lesson.surface is None
    assert found.outlooks[0].law is not None  # curves do not need many trials


def test_a_family_of_which_most_were_pruned_still_tells_what_matters(written_study, tmp_path):
    place = written_study(tmp_path / "s")
    kept = [t.number for t in Evidence.open(place).ranked if family_of(t) == HARD][:5]
    evidence = Evidence.open(place)
    for trial in evidence.trials:
        if trial.state == optuna.trial.TrialState.COMPLETE and trial.number not in kept:
            trial.intermediate_values = {6: trial.value}
            trial.state, trial.values = optuna.trial.TrialState.PRUNED, None
            trial.user_attrs["why"] = "pruned at epoch 6"
    hard = learn(evidence).lessons[0]
    assert (hard.trials, hard.pruned) == (5, 18)
    assert hard.shares[0].name == "negatives.TopK.share"
    assert not hard.marginals
    assert hard.no_surface == "5 finished trials are too few to draw what knobs do"
    assert "5 finished and 18 pruned trials" in study_page(evidence)
    assert learned(evidence)["importances"][HARD][0]["name"] == "negatives.TopK.share"


def test_a_study_that_only_failed_teaches_why(written_study, tmp_path):
    evidence = Evidence.open(written_study(tmp_path / "s", trials=3, only_failed=True))
    found = learn(evidence)
    assert [lesson.trials for lesson in found.lessons] == [0, 0]
    assert found.reached[""] == []
    assert found.affordable == []
    assert found.saving is None
    assert sentences(evidence, found) == [
        "No trial finished within the limits, so there is no winner."
    ]


def test_trials_of_one_value_show_no_knob(written_study, tmp_path):
    place = written_study(tmp_path / "s", quality=lambda number, params: 0.5)
    found = learn(Evidence.open(place))
    assert "all trials came to the same value" in found.lessons[0].why


def test_trials_on_parts_of_the_data_are_not_mixed(study):
    trials = study.families[HARD]
    for number, trial in enumerate(trials):
        trial.user_attrs["share"] = 0.25 if number % 2 else 1.0
    try:
        assert len(comparable(trials)) == 12
        assert {t.user_attrs["share"] for t in comparable(trials)} == {1.0}
        assert {t.user_attrs["share"] for t in comparable(trials[:16])} == {1.0}
        assert comparable([]) == []
        few = [*trials[1::2], trials[0]]
        assert {t.user_attrs["share"] for t in comparable(few)} == {0.25}
    finally:
        for trial in trials:
            del trial.user_attrs["share"]


@pytest.mark.parametrize("family", ["", HARD, PLAIN])
def test_best_so_far_only_rises_and_counts_every_second(family, study):
    curve = reached(study, family)
    values = [r.quality for r in curve]
    assert values == sorted(values)
    assert [r.seconds for r in curve] == sorted(r.seconds for r in curve)
    own = [t for t in study.trials if family in ("", family_of(t))]
    assert curve[-1].trials == len(own)
    assert curve[-1].seconds == pytest.approx(sum(study.seconds(t) for t in own))
    done = [t for t in study.finished if family in ("", family_of(t))]
    assert curve[-1].quality == max(map(quality, done))


def test_best_so_far_falls_where_less_is_better(written_study, tmp_path):
    place = written_study(tmp_path / "s", metric="MR", quality=lambda n, p: 50.0 - n, trials=4)
    evidence = Evidence.open(place)
    values = [r.quality for r in reached(evidence)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == min(map(quality, evidence.finished))


def test_the_best_for_each_budget_is_what_a_search_by_hand_finds(study):
    rows = affordable(study)
    failed = {t.number for t in study.trials if t.state == optuna.trial.TrialState.FAIL}
    for row in rows:
        everything = [
            step
            for number, steps in study.curves.items()
            if number not in failed
            for step in steps
            if step.seconds <= row.budget
        ]
        assert row.quality == max(step.quality for step in everything)
        assert row.seconds <= row.budget
    assert [r.quality for r in rows] == sorted(r.quality for r in rows)
    assert rows[-1].quality == quality(study.ranked[0])
    assert budgets(1.3, 37.0) == [2.0, 5.0, 10.0, 20.0, 50.0]
    assert budgets(4.0, 4.0) == [5.0]


def test_pruning_saved_what_the_others_ran_on(study):
    found = saving(study)
    pruned = [t for t in study.trials if t.user_attrs.get("why", "").startswith("pruned")]
    assert found.pruned == len(pruned) == 8
    assert found.epochs == 8 * (20 - 6)
    paces = [study.seconds(t) / 6 for t in pruned]
    assert found.seconds == pytest.approx(14 * sum(paces))
    assert found.share == pytest.approx(112 / (112 + 48 + 37 * 20))


def test_the_front_is_optunas(study):
    assert sorted(pareto(study)) == sorted(t.number for t in study.record.best_trials)
    own = {t.number: t for t in study.finished}
    cheap = front(study, "seconds")
    assert set(cheap) == set(pareto(study))
    assert [quality(own[n]) for n in cheap] == sorted(quality(own[n]) for n in cheap)


def test_forecasts_are_of_the_best_and_hold(study, known):
    first = known.outlooks[0]
    assert first.trial == study.ranked[0].number
    top = first.steps[-1].quality
    (epochs, value), _ = first.later()
    assert epochs == 40
    assert value == pytest.approx(top + 0.2 * 20**-0.8 - 0.2 * 40**-0.8, rel=1e-4)


def test_a_curve_past_its_peak_and_a_short_one_are_not_drawn_on(study, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(study.folder, copy)
    best, second = study.ranked[0].number, study.ranked[1].number
    rows = [
        {"split": "valid", "epoch": t, "step": t, "seconds": t, "NDCG@10": 0.3 - abs(t - 5) / 100}
        for t in range(1, 21)
    ]
    for number, kept in ((best, rows), (second, rows[:4])):
        lines = "".join(json.dumps(row) + "\n" for row in kept)
        (copy / "trials" / f"{number:04d}" / "metrics.jsonl").write_text(lines)
    past, brief, _ = learn(Evidence.open(copy)).outlooks
    assert "best at epoch 5 of 20; more epochs of this do not help" in past.why
    assert "judged 4 times; an extrapolation needs 5" in brief.why
    assert past.later() == []


def test_finalists_are_drawn_as_the_mean_of_their_seeds(written_study, tmp_path):
    row = {"trial": 2, "family": HARD, "runs": ["finalists/a", "finalists/b"], "baseline": False}
    row |= {"params": {}, "validation": 0.3, "validation_again": 0.29, "test": 0.28, "sd": 0.01}
    row |= {"optimism": 0.02, "difference": 0.03, "low": 0.01, "high": 0.05, "p": 0.002}
    place = written_study(tmp_path / "s", trials=4, finalists=[row])
    for run, add, last in (("a", 0.0, 9), ("b", 0.02, 8)):
        (place / "finalists" / run).mkdir(parents=True)
        lines = [
            {"split": "valid", "epoch": t, "seconds": 2.0 * t, "NDCG@10": 0.2 + add - 0.1 / t}
            for t in range(1, last)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (place / "finalists" / run / "metrics.jsonl").write_text(text)
    evidence = Evidence.open(place)
    found = learn(evidence)
    (only,) = found.outlooks
    assert [s.epoch for s in only.steps] == list(range(1, 8))
    assert only.steps[0].quality == pytest.approx(0.11)
    told = " ".join(sentences(evidence, found))
    assert "trial 2 is better than tuned uniform negatives: NDCG@10 +0.0300" in told
    assert "p = 0.002 after Holm" in told


def test_sentences_say_what_a_reader_asks(study, known):
    told = sentences(study, known)
    best = study.ranked[0]
    assert told[0].startswith(f"The best trial on validation is number {best.number}: {HARD} with")
    assert any("Tuned uniform negatives reach" in text for text in told)
    assert any(
        text.startswith("What matters for the best results: negatives.TopK.share") for text in told
    )
    assert any(text.startswith("Hardness: negatives.TopK.share is best from") for text in told)
    assert any("Pruning gave up 8 trials and saved about 112 epochs" in text for text in told)
    soon = near(study, known.reached[""])
    assert soon.quality >= 0.99 * quality(best)
    assert all(text.endswith(".") and "\n" not in text for text in told)


def test_a_winner_at_the_end_of_a_range_is_said(written_study, tmp_path):
    rising = Evidence.open(
        written_study(tmp_path / "a", quality=lambda number, params: params["optimizer.Adam.lr"])
    )
    best = rising.ranked[0]
    space = best.distributions["optimizer.Adam.lr"]
    best.params["optimizer.Adam.lr"] = space.high
    told = " ".join(sentences(rising, learn(rising)))
    assert "The best trial stands at the end of a range" in told
    assert f"optimizer.Adam.lr ({space.high:.3g} of {space.low:.3g} to {space.high:.3g})" in told
    for name, value in best.distributions.items():
        best.params[name] = value.high - (value.high - value.low) / 2
    assert "stands at the end" not in " ".join(sentences(rising, learn(rising)))


def test_the_surface_asked_for_must_be_searched(study):
    found = learn(study, ["Uniform.num", "Adam.lr"])
    assert found.lessons[1].surface.hardness.name == "optimizer.Adam.lr"
    with pytest.raises(UsageError, match=r"no knob 'Topk\.share'; did you mean 'TopK\.share'"):
        learn(study, ["Uniform.num", "Topk.share"])
    with pytest.raises(UsageError, match="name two knobs"):
        learn(study, ["Uniform.num"])


def test_a_terminal_gets_the_short_form(study, capsys):
    found = json.loads(json.dumps(learned(study)))
    assert found["importances"][HARD][0]["name"] == "negatives.TopK.share"
    assert found["budgets"][-1]["trial"] == study.ranked[0].number
    assert found["pruning"]["pruned"] == 8
    show_learned(study)
    text = capsys.readouterr().out
    assert f"importance, {HARD}: negatives.TopK.share" in text
    assert "(no more than chance)" in text
    assert "best on validation within so many seconds of training" in text
    assert "pruning saved about 112 epochs" in text
    assert "report.html" in text


def test_what_is_no_study_says_so(tmp_path, study, monkeypatch):
    with pytest.raises(DataError, match="no study; `hardneg tune RECIPE --out"):
        Evidence.open(tmp_path)
    with pytest.raises(DataError, match="no study"):
        Evidence.open(tmp_path / "nowhere")
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(study.folder, copy)
    (copy / "test.json").write_text("{")
    with pytest.raises(DataError, match=r"test\.json: damaged"):
        Evidence.open(copy)
    (copy / "test.json").unlink()
    (copy / "study.db").unlink()
    assert Evidence.open(copy).trials == []
    assert not (copy / "study.db").exists(), "reading begins nothing"
    card = json.loads((copy / "study.json").read_text())
    card["storage"] = "postgresql://me:***@host/base"
    (copy / "study.json").write_text(json.dumps(card))
    monkeypatch.delenv(ADDRESS, raising=False)
    with pytest.raises(UsageError, match=f"password is written nowhere; set {ADDRESS}"):
        Evidence.open(copy)
    journal = str(tmp_path / "x.journal")
    monkeypatch.setenv(ADDRESS, journal)
    with pytest.raises(DataError, match="holds no study 'hardneg-copy'"):
        Evidence.open(copy)


def test_seconds_of_a_trial_that_was_never_judged(study):
    trial = study.trials[3]
    assert study.seconds(trial) == study.curves[3][-1].seconds
    assert np.isfinite([study.seconds(t) for t in study.trials]).all()
