"""Runs against each other: figures by hand and by scipy, and what is refused."""

import shutil

import numpy as np
import pytest
import torch
from scipy import stats

from hardneg.datasets.errors import DataError, UsageError
from hardneg.engine import api, checkpoint
from hardneg.engine.compare import compare, short_names
from hardneg.engine.comparison_table import plain, rows_of, verdict
from hardneg.engine.segments import read_queries

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

BASE = "LightGCN(dim=8, layers=1)"


@pytest.fixture(scope="module")
def made(small, tmp_path_factory, private_cache):
    folder = tmp_path_factory.mktemp("compared")
    for name, model, seed, settings in (
        ("a0", BASE, 0, {}),
        ("a1", BASE, 1, {}),
        ("b0", "LightGCN(dim=8, layers=2)", 0, {}),
        ("pop", "Popularity()", 0, {}),
        ("ratio", BASE, 0, {"split": "Ratio(0.6, 0.2)"}),
        ("other", BASE, 0, {"metric": "MRR", "metrics": ["MRR"]}),
    ):
        settings = {"split": "LeaveOneOut()", "seed": seed, **settings}
        api.train(model, small / "log.csv", out=folder / name, quiet=True, epochs=2, **settings)
    api.train("Degree()", small / "kg", out=folder / "kg", quiet=True)
    return folder


def spoiled(made, tmp_path, change):
    """Copy a run with other queries."""
    folder = tmp_path / "b0"
    shutil.copytree(made / "b0", folder)
    path = folder / "queries.safetensors"
    checkpoint.save(path, change(checkpoint.load(path)))
    return folder


def test_differences_are_paired_and_seeds_are_one_group(made):
    found = compare([made / name for name in ("a0", "b0", "a1", "pop")])
    assert [group.name for group in found.groups] == ["a0", "b0", "pop"]
    assert [len(group.runs) for group in found.groups] == [2, 1, 1]
    assert found.metrics[0] == "NDCG@10"
    base, ours = found.groups[:2]
    values = [read_queries(made / n)["NDCG@10"].astype(float) for n in ("a0", "a1", "b0")]
    assert base.mean("NDCG@10") == pytest.approx(np.mean(values[:2]))
    assert base.sd("NDCG@10") == pytest.approx(np.std([v.mean() for v in values[:2]], ddof=1))
    assert ours.sd("NDCG@10") is None
    want = stats.ttest_rel(values[2], np.mean(values[:2], axis=0))
    got = ours.against["NDCG@10"]
    interval = want.confidence_interval()
    assert (got.difference.low, got.difference.high) == pytest.approx((interval.low, interval.high))
    assert got.difference.p == pytest.approx(want.pvalue)
    assert got.corrected >= got.difference.p
    gain = values[2] - np.mean(values[:2], axis=0)
    assert (got.better, got.worse) == ((gain > 0).mean(), (gain < 0).mean())


def test_a_metric_that_says_the_same_is_shown_once(made):
    found = compare([made / "a0", made / "b0"])
    assert "Recall@10" in found.metrics
    assert "HitRate@10" not in found.metrics  # one target each
    assert compare([made / "a0", made / "b0"], metrics=["hr@10"]).metrics == ["HitRate@10"]


def test_the_baseline_can_be_chosen_and_need_not_be_among_the_runs(made):
    found = compare([made / "a0", made / "b0"], baseline=made / "pop")
    assert [group.name for group in found.groups] == ["pop", "a0", "b0"]
    found = compare([made / "a0", made / "b0"], baseline=made / "b0")
    assert [group.name for group in found.groups] == ["b0", "a0"]
    assert list(found.changes(found.groups[1])) == ["model"]


def test_lower_is_better_for_mean_rank(made, small, tmp_path):
    folders = []
    for name, model in (("x", BASE), ("y", "Popularity()")):
        settings = {"split": "LeaveOneOut()", "metric": "MR", "metrics": ["MR"]}
        folders.append(tmp_path / name)
        api.train(model, small / "log.csv", out=folders[-1], quiet=True, epochs=2, **settings)
    group = compare(folders).groups[1]
    found = group.against["MR"]
    each = [read_queries(folder)["MR"] for folder in folders]
    assert found.better == pytest.approx((each[1] < each[0]).mean())
    if found.corrected < 0.05:
        assert (verdict(group, "MR") == "better") == (found.difference.mean < 0)


def test_rows_and_plain_values_tell_the_same(made):
    found = compare([made / name for name in ("a0", "a1", "b0")])
    rows = rows_of(found, "NDCG@10")
    assert rows[0]["verdict"] == "baseline"
    assert rows[0]["run"] == "a0 (2 seeds)"
    values = plain(found)["groups"][1]
    assert values["changes"] == {"model": "LightGCN(dim=8, layers=2)"}
    told = values["metrics"]["NDCG@10"]["difference"]
    assert rows[1]["difference"] == f"{told['mean']:+.4f}"
    assert {"mean", "low", "high", "p", "p_holm", "better_share", "worse_share"} == set(told)


def test_other_protocol_cards_are_refused_by_field(made):
    with pytest.raises(DataError, match=r"different protocol cards.*hash.*split 'LeaveOneOut\(\)'"):
        compare([made / "a0", made / "ratio"])
    with pytest.raises(DataError, match=r"kind is 'interactions' and 'triples'.*train both on the"):
        compare([made / "a0", made / "kg"])


def test_a_run_without_a_test_is_refused(made, tmp_path):
    folder = tmp_path / "b0"
    shutil.copytree(made / "b0", folder)
    (folder / "queries.safetensors").unlink()
    with pytest.raises(DataError, match=r"no figures of test queries.*hardneg resume"):
        compare([made / "a0", folder])
    api.resume(folder, quiet=True)
    assert compare([made / "a0", folder]).num_queries == 40


@pytest.mark.parametrize("where", ["short", "tags"])
def test_other_queries_are_refused(where, made, tmp_path):
    def change(each):
        if where == "short":
            return {name: values[:-1] for name, values in each.items()}
        return {**each, "tag": torch.ones_like(each["tag"])}

    with pytest.raises(DataError, match=r"answered \d+ test queries.*not the same"):
        compare([made / "a0", spoiled(made, tmp_path, change)])


def test_what_says_nothing_is_refused(made, tmp_path):
    with pytest.raises(UsageError, match="needs two run folders"):
        compare([made / "a0", made / "a0"])
    with pytest.raises(UsageError, match="one recipe with different seeds"):
        compare([made / "a0", made / "a1"])
    shutil.copytree(made / "a0", tmp_path / "copy")
    with pytest.raises(UsageError, match="same recipe with the same seed 0"):
        compare([made / "a0", tmp_path / "copy", made / "b0"])
    with pytest.raises(DataError, match="no metric in common"):
        compare([made / "a0", made / "other"])
    with pytest.raises(UsageError, match=r"metric 'NDCG@11' is not in every run; did you mean"):
        compare([made / "a0", made / "b0"], metrics=["ndcg@11"])
    with pytest.raises(DataError, match="no such run folder"):
        compare([made / "a0", tmp_path / "nowhere"])


def test_names_are_as_short_as_tells_them_apart(tmp_path):
    assert short_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert short_names([tmp_path / "x" / "a", tmp_path / "y" / "a"]) == ["x/a", "y/a"]
