"""Metrics against paper and pencil, trec_eval (through ir-measures) and ranx."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets.errors import UsageError
from hardneg.engine.metrics import Ranked, higher_is_better, parse, standard_name


def value(name, ranks, num_candidates=100):
    rank = torch.tensor(ranks, dtype=torch.float64)
    ranked = Ranked(rank, torch.zeros(len(ranks), dtype=torch.int64), 1, num_candidates)
    return parse(name).values(ranked).item()


@pytest.mark.parametrize(
    ("given_name", "standard"),
    [
        ("recall@20", "Recall@20"),
        ("NDCG@5", "NDCG@5"),
        ("hr@3", "HitRate@3"),
        ("hit_rate@3", "HitRate@3"),
        ("HITS@10", "Hits@10"),
        ("Map@7", "MAP@7"),
        ("mrr", "MRR"),
        ("MRR@10", "MRR@10"),
        ("mr", "MR"),
        ("precision@1", "Precision@1"),
        (" coverage@4 ", "Coverage@4"),
        ("mrr/head", "MRR/head"),
    ],
)
def test_names_are_read_in_any_case(given_name, standard):
    assert standard_name(given_name) == standard


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Recal@10", "did you mean 'Recall@10'"),
        ("ndgc@5", "did you mean 'NDCG@5'"),
        ("accuracy", "'accuracy' is unknown; choose from Coverage"),
        ("recall", "write Recall@10"),
        ("MR@3", "takes no length"),
        ("MRR@0", "looks at no rank"),
        ("ndcg@-1", "unknown"),
        ("ndcg@1.5", "unknown"),
        ("ndcg@ten", "did you mean .NDCG@10."),
        ("", "unknown"),
    ],
)
def test_other_names_are_refused_with_the_remedy(name, match):
    with pytest.raises(UsageError, match=match):
        parse(name)


def test_only_the_mean_rank_is_better_when_lower():
    assert [higher_is_better(n) for n in ("MR", "mr/tail", "MRR", "Hits@1/1-N")] == [
        False, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "ranks", "expected"),
    [
        ("Recall@3", [1, 3, 9, 12], 2 / 4),
        ("Recall@1", [1, 3, 9, 12], 1 / 4),  # over all relevant, not over min(k, relevant)
        ("Precision@4", [1, 3, 9, 12], 2 / 4),
        ("HitRate@2", [5, 3], 0),
        ("HitRate@3", [5, 3], 1),
        ("Hits@10", [10], 1),
        ("Hits@10", [10.5], 0),
        ("MRR", [50], 1 / 50),
        ("MRR", [7, 4], 1 / 4),
        ("MRR@3", [7, 4], 0),
        ("MR", [7, 4], 5.5),
        ("NDCG@3", [1, 2, 3], 1),
        ("NDCG@2", [1, 2, 3], 1),  # the ideal has min(k, relevant) places
        ("NDCG@10", [2], 1 / math.log2(3)),
        ("NDCG@3", [2, 9], (1 / math.log2(3)) / (1 + 1 / math.log2(3))),
        ("NDCG@1000", [1, 3], 1.5 / (1 + 1 / math.log2(3))),
        ("MAP@10", [2, 4], (1 / 2 + 2 / 4) / 2),
        ("MAP@3", [2, 4], (1 / 2) / 2),
        ("MAP@5", [1.5, 1.5], 1),  # two targets tied at the top
        ("NDCG@5", [1.5, 1.5], 2 / math.log2(2.5) / (1 + 1 / math.log2(3))),
    ],
)
def test_hand_computed(name, ranks, expected):
    assert value(name, ranks) == pytest.approx(expected, abs=1e-12)
    assert value(name, ranks[::-1]) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 200).map(lambda r: r / 2), min_size=1, max_size=8),
    st.sampled_from(["Recall", "NDCG", "HitRate", "Precision", "MAP", "MRR"]),
    st.integers(1, 30),
)
def test_values_lie_between_0_and_1_unless_ranks_are_impossible(ranks, kind, k):
    ranks = sorted(ranks)  # the i-th best of several targets cannot stand before place i
    ranks = [max(r, i + 1) for i, r in enumerate(ranks)]
    assert 0 <= value(f"{kind}@{k}", ranks) <= 1 + 1e-12


NAMES = ("Recall", "Precision", "NDCG", "MAP", "MRR", "HitRate")


@pytest.fixture(scope="module")
def rankings():
    """40 queries over 30 candidates without ties: scores, relevant sets, our values at 1, 5, 10."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(40, 30, generator=generator).argsort(1).double()  # all different
    relevant = [torch.randperm(30, generator=generator)[: 1 + m % 7] for m in range(40)]
    owner = torch.repeat_interleave(torch.arange(40), torch.tensor([len(r) for r in relevant]))
    rank = 30 - scores[owner, torch.cat(relevant)]
    ranked = Ranked(rank, owner, 40, 30)
    ours = {
        f"{name}@{k}": parse(f"{name}@{k}").values(ranked).tolist()
        for name in NAMES
        for k in (1, 5, 10)
    }
    run = {
        f"q{m:02}": {f"d{n}": float(s) for n, s in enumerate(row)} for m, row in enumerate(scores)
    }
    qrels = {f"q{m:02}": {f"d{n}": 1 for n in r.tolist()} for m, r in enumerate(relevant)}
    return run, qrels, ours


def test_agrees_with_trec_eval(rankings):
    ir_measures = pytest.importorskip("ir_measures")
    run, qrels, ours = rankings
    theirs = {"Recall": "R", "Precision": "P", "NDCG": "nDCG", "MAP": "AP", "MRR": "RR"}
    theirs["HitRate"] = "Success"
    for name, values in ours.items():
        kind, k = name.split("@")
        measure = ir_measures.parse_measure(f"{theirs[kind]}@{k}")
        found = {m.query_id: m.value for m in ir_measures.iter_calc([measure], qrels, run)}
        assert [found[q] for q in run] == pytest.approx(values, abs=1e-9), name


RANX = """
import json, sys
from ranx import Qrels, Run, evaluate
run, qrels, names = json.load(sys.stdin)
found = evaluate(Qrels(qrels), Run(run), names, return_mean=False)
print(json.dumps({name: list(map(float, values)) for name, values in found.items()}))
"""


def test_agrees_with_ranx(rankings):
    """ranx compiles for a minute and its deprecated imports warn: it runs interpreted, apart."""
    run, qrels, ours = rankings
    theirs = dict(
        zip(NAMES, ["recall", "precision", "ndcg", "map", "mrr", "hit_rate"], strict=True)
    )
    spelled = {name: f"{theirs[name.split('@')[0]]}@{name.split('@')[1]}" for name in ours}
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", RANX],
        input=json.dumps([run, qrels, list(spelled.values())]),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "No module named 'ranx'" in done.stderr:
        pytest.skip("ranx is not installed")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, values in ours.items():
        assert found[spelled[name]] == pytest.approx(values, abs=1e-9), name
