"""Small data that several folders test on, and a question for proposals."""

import json
import os
from functools import partial
from random import Random

import numba
import numpy as np
import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.positives import Positives
from hardneg.datasets.triples import Triples
from hardneg.samplers import Ask


@pytest.fixture(scope="module")
def one_thread():
    """Keep tiny tensors on one thread: waking others costs more than the work, most when busy."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.fixture
def interactions():
    """12 users, 15 items, 5 or 6 distinct items each, in time order."""
    g = torch.Generator().manual_seed(0)
    items = [torch.randperm(15, generator=g)[: 5 + u % 2] for u in range(12)]
    user = torch.repeat_interleave(torch.arange(12), torch.tensor([len(i) for i in items]))
    item = torch.cat(items)
    return Interactions(user, item, 12, 15, timestamp=torch.arange(len(item)))


@pytest.fixture
def triples():
    """40 distinct facts among 14 entities and 3 relations."""
    g = torch.Generator().manual_seed(0)
    key = torch.randperm(14 * 3 * 14, generator=g)[:40]
    return Triples(key // 42, key // 14 % 3, key % 14, num_entities=14, num_relations=3)


@pytest.fixture
def make_ask():
    """Build an Ask over dot products: M rows, N candidates, some of them known to each row."""

    def make(M=6, N=20, D=4, known=3, seed=0):
        g = torch.Generator().manual_seed(seed)
        q = torch.randn(M, D, generator=g)
        table = torch.randn(N, D, generator=g)
        positive = torch.randint(N, (M,), generator=g)
        row = torch.arange(M)
        pairs = None
        if known:
            candidate = torch.stack([torch.randperm(N, generator=g)[:known] for _ in range(M)])
            pairs = Positives(row.repeat_interleave(known), candidate.flatten(), M, N)

        def score(ids):
            return (q @ table.T).gather(1, ungroup(ids, M))

        return Ask(positive, row, q, table, score, pairs, g)

    return make


@pytest.fixture(scope="session")
def log_rows():
    """40 users with 5 to 9 of 30 items each, in three camps of ten items; times are mixed."""
    random = Random(0)
    pairs = [
        (f"u{user}", f"i{10 * (user % 3) + item}")
        for user in range(40)
        for item in random.sample(range(10), 5 + user % 5)
    ]
    random.shuffle(pairs)
    return [(*pair, 1_600_000_000 + 60 * n) for n, pair in enumerate(pairs)]


@pytest.fixture(scope="session")
def facts():
    """220 facts or so among 30 entities and 4 relations, as train, valid and test."""
    random = Random(1)
    found = {
        (f"e{random.randrange(30)}", f"r{n % 4}", f"e{random.randrange(30)}") for n in range(220)
    }
    rows = sorted(found)
    random.shuffle(rows)
    cut = len(rows) - 40
    return {"train": rows[:cut], "valid": rows[cut : cut + 20], "test": rows[cut + 20 :]}


@pytest.fixture(scope="session")
def small(tmp_path_factory, log_rows, facts):
    """Write both to disk: a folder with log.csv and kg/{train,valid,test}.txt."""
    folder = tmp_path_factory.mktemp("small")
    lines = ["user,item,timestamp", *(",".join(map(str, row)) for row in log_rows)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    (folder / "kg").mkdir()
    for part, rows in facts.items():
        (folder / "kg" / f"{part}.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def private_cache(tmp_path_factory):
    """Keep encoded data of the whole session in a folder of its own."""
    before = os.environ.get("HARDNEG_CACHE")
    os.environ["HARDNEG_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HARDNEG_CACHE")
    if before is not None:
        os.environ["HARDNEG_CACHE"] = before


@pytest.fixture(scope="session")
def written_study(small, private_cache):
    """Write a study folder whose trials are made up; nothing is trained. See `_write_study`."""
    return partial(_write_study, small / "log.csv")


def _write_study(
    log, folder, *, trials=24, quality=None, objectives=(), extra=None, finalists=(),
    metric="NDCG@10", only_failed=False, why="failed: the loss is not a number",
):  # fmt: skip
    """Write `trials` trials of two families, a sixth of them pruned and three failed.

    `quality` gives a trial's last value from its number and params; `extra` are more knobs.
    """
    from hardneg.engine.recipe import resolve
    from hardneg.tuning import card as cards
    from hardneg.tuning.objective import objective
    from hardneg.tuning.storage import open_record

    names = ["Uniform(256) | TopK(share=0.1)", "Uniform(256)"]
    fields = {"model": "LightGCN(dim=4, layers=0)", "dataset": str(log), "split": "LeaveOneOut()"}
    base = resolve({**fields, "negatives": names[0], "epochs": 20, "metric": metric})
    kept = {"search": {}, "families": names[:1], "baseline": True, "storage": "", "limits": []}
    cards.open_folder(base, folder, kept | {"objectives": list(objectives)})
    goal = objective(list(objectives))
    record = open_record(folder, "", goal.directions(base))
    with record._storage._backend.engine.connect() as connection:  # many writes, none to survive
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
    random = np.random.default_rng(0)
    for number in range(trials * 2):
        ranges = _space(extra or {}, hard=number % 2 == 0)
        params = {name: _draw(space, random) for name, space in ranges.items()}
        failed = only_failed or number in (3, 8, 9)
        end = why if failed else "pruned at epoch 6" if number % 6 == 5 else ""
        last = float((quality or _usual)(number, params))
        _write_trial(
            folder, record, goal, number, names[number % 2], ranges, params, last, end, metric
        )
    if finalists:
        (folder / "finalists.json").write_text(json.dumps({"finalists": list(finalists)}))
    elif not only_failed:
        test = {"trial": 0, "test": {metric: 0.25, "Recall@10": 0.4}, "opened": 1}
        (folder / "test.json").write_text(json.dumps(test))
        (folder / "best.toml").write_text(base.to_toml())
    return folder


def _write_trial(folder, record, goal, number, family, ranges, params, last, why, metric):
    from optuna.trial import TrialState, create_trial

    states = {"": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(why.partition(" ")[0], TrialState.FAIL)
    epochs = {TrialState.COMPLETE: 20, TrialState.PRUNED: 6}.get(state, 2)
    pace = 0.002 * params["negatives.Uniform.num"] + 1.0
    cost = {"seconds": pace * epochs, "memory": 1e6 * (5 + params["negatives.Uniform.num"])}
    attrs = {"family": family, **({"why": why} if why else {"cost": cost})}
    values = None if why else goal.values(last, cost)
    record.add_trial(
        create_trial(
            state=state, values=values, params=params, distributions=ranges, user_attrs=attrs,
            system_attrs={"constraints:runs": -1.0},
        )
    )  # fmt: skip
    rows = [
        {"split": "valid", "epoch": t, "step": t, "seconds": pace * t}
        | {metric: last - 0.2 * t**-0.8 + 0.2 * 20**-0.8}
        for t in range(1, epochs + 1)
    ]
    place = folder / "trials" / f"{number:04d}"
    place.mkdir(parents=True)
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    start = {"when": "2026-01-01T00:00:00+00:00", "command": "hardneg tune r.toml", "device": "cpu"}
    (place / "environment.json").write_text(json.dumps([start | {"versions": {"torch": "2"}}]))


def _space(extra, *, hard):
    from optuna.distributions import FloatDistribution, IntDistribution

    share = {"negatives.TopK.share": FloatDistribution(0.01, 0.5, log=True)}
    return {
        "negatives.Uniform.num": IntDistribution(16, 1024, log=True),
        **(share if hard else {}),
        "optimizer.Adam.lr": FloatDistribution(1e-3, 1e-1, log=True),
        **extra,
    }


def _draw(space, random):
    if hasattr(space, "choices"):
        return space.choices[random.integers(len(space.choices))]
    value = np.exp(random.uniform(np.log(space.low), np.log(space.high)))
    return int(value) if isinstance(space.low, int) else float(value)


def _usual(number, params):
    """Best at 200 negatives, of which a tenth is kept; the learning rate hardly matters."""
    share = params.get("negatives.TopK.share")
    found = 0.26 if share is None else 0.3 - 0.03 * np.log(share / 0.1) ** 2
    found -= 0.006 * np.log(params["negatives.Uniform.num"] / 200) ** 2
    found -= 0.001 * np.log(params["optimizer.Adam.lr"] / 0.01) ** 2
    return found + 0.002 * np.random.default_rng(number).normal()
