"""Segments of the test against loops over its queries, and the ranks that are kept."""

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats

from hardneg.datasets.triples import CATEGORIES
from hardneg.engine import api
from hardneg.engine.job import history_and_known
from hardneg.engine.run import Run
from hardneg.engine.segments import by_size, overall, read_queries, segments, summary

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")


@pytest.fixture(scope="module")
def made(small, tmp_path_factory, private_cache):
    folder = tmp_path_factory.mktemp("segments")
    for name, model, data, settings in (
        ("log", "LightGCN(dim=8, layers=1)", small / "log.csv", {"split": "Ratio(0.6, 0.2)"}),
        ("kg", "DistMult(dim=8)", small / "kg", {"negatives": "Uniform(8)"}),
    ):
        api.train(model, data, out=folder / name, quiet=True, epochs=2, **settings)
    return folder


def rank_of(scores, target, known):
    """Count by hand: known ones and the target itself aside, higher ones and half of the equal."""
    others = [s for i, s in enumerate(scores) if i != target and i not in known]
    higher = sum(s > scores[target] for s in others)
    return 1 + higher + sum(s == scores[target] for s in others) / 2


def test_ranks_of_all_targets_are_kept_in_the_order_of_the_questions(made):
    run = Run(made / "log")
    each, test = read_queries(run.folder), run.dataset.test
    history, known = history_and_known(run.dataset, "test")
    rows = pl.DataFrame({"user": test.user.numpy(), "item": test.item.numpy()})
    assert rows.group_by("user").len()["len"].max() > 1  # several targets
    want = []
    with torch.no_grad():
        for question in run.model.view(history).questions(test, 1):
            q = run.model.encode(question.query, run.nodes)
            scores = run.model.similarity.full(q, run.model.table(run.nodes))[0].tolist()
            left_out = set(known.of(question.row)[1].tolist())
            want += [rank_of(scores, int(t), left_out) for t in question.target]
    assert each["rank"].tolist() == pytest.approx(want)


def test_popularity_counts_targets_by_the_tenth_of_the_catalogue(made):
    run = Run(made / "log")
    each = read_queries(run.folder)
    found = segments(run, each)[0]
    count = np.bincount(run.dataset.train.item.numpy(), minlength=30)
    order = run.dataset.test.chronological()[1]
    cells = {}
    for item, rank in zip(run.dataset.test.item[order].tolist(), each["rank"], strict=True):
        decile = 10 * sum(c < count[item] for c in count) // len(count)
        cells.setdefault(decile + 1, []).append(rank <= 10)
    rows = {int(row.name.split()[0]): row for row in found.rows}
    for decile, hits in cells.items():
        assert rows[decile].members == len(hits)
        assert rows[decile].mean == pytest.approx(np.mean(hits))
    assert sum(row.members for row in found.rows) == len(each["rank"])


def test_history_is_what_may_be_read_before_the_test(made):
    run = Run(made / "log")
    each = read_queries(run.folder)
    found = segments(run, each)[1]
    data = run.dataset
    before = np.bincount(torch.cat([data.train.user, data.valid.user]).numpy(), minlength=40)
    users = sorted(set(data.test.user.tolist()))
    for row in found.rows:
        low, _, high = row.name.partition("–")
        inside = [int(low) <= before[u] <= int(high or low) for u in users]
        assert row.members == sum(inside)
        assert row.mean == pytest.approx(each[run.recipe.metric][inside].mean())


def test_categories_agree_with_the_figures_of_the_test(made):
    run = Run(made / "kg")
    each = read_queries(run.folder)
    parts = {part.title: part for part in segments(run, each)}
    rows = parts["by category of the relation and side asked"].rows
    for category in CATEGORIES:
        mine = [row for row in rows if row.name.startswith(category)]
        if mine:
            total = sum(row.mean * row.members for row in mine) / sum(r.members for r in mine)
            assert total == pytest.approx(run.metrics[f"MRR/{category}"], abs=1e-6)
    test, named = run.dataset.test, parts["by relation, those asked most"].rows
    for row in named:
        r = run.dataset.vocabularies["relation"].find(row.name)
        asked = np.tile((test.relation == r).numpy(), 2)
        assert row.mean == pytest.approx(each["MRR"][asked].mean())
        assert row.members == 2 * int((test.relation == r).sum())
    assert [row.members for row in named] == sorted((r.members for r in named), reverse=True)


def test_the_interval_is_students():
    values = np.random.default_rng(0).random(17)
    row = summary("x", values)
    low, high = stats.t.interval(0.95, 16, values.mean(), stats.sem(values))
    assert (row.mean - row.reach, row.mean + row.reach) == pytest.approx((low, high))
    assert summary("one", np.array([0.5])) == ("one", 1, 0.5, 0.0)
    assert summary("none", np.array([])) == ("none", 0, None, 0.0)


@pytest.mark.parametrize("size", [[3] * 9, list(range(9)), [0, 0, 0, 0, 0, 0, 0, 0, 7]])
def test_each_query_is_in_one_range_of_sizes(size):
    rows = by_size(np.arange(9.0), np.array(size))
    assert sum(row.members for row in rows) == 9
    assert all(row.members for row in rows)


def test_the_whole_test_is_averaged_as_it_was(made):
    run = Run(made / "log")
    for row in overall(read_queries(run.folder)):
        assert row.mean == pytest.approx(run.metrics[row.name], abs=1e-6)


def test_queries_of_other_data_are_not_cut(made):
    run = Run(made / "log")
    each = {name: values[:-1] for name, values in read_queries(run.folder).items()}
    assert segments(run, each) == []
    assert segments(run, {}) == []
