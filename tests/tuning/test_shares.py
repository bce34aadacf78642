"""Parts of the data are nested and keep the protocol; rungs promote; all data decide."""

import json
from itertools import pairwise

import optuna
import pytest
import torch
from optuna.trial import TrialState

from hardneg.datasets.errors import UsageError
from hardneg.datasets.load import load_dataset
from hardneg.datasets.protocol import ProtocolCard
from hardneg.engine.history import read_metrics
from hardneg.engine.run import Run
from hardneg.tuning.results import trial_rows
from hardneg.tuning.rungs import promotion
from hardneg.tuning.shares import home, read_shares, subsample
from hardneg.tuning.study import Options, prepare, tune

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
LR = ["optimizer.lr"]


@pytest.fixture
def fields(small):
    return {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8)",
        "batch_size": 64,
        "epochs": 1,
        "radar": False,
    }


def rows_of(dataset, part):
    """Return the rows of a part in the user's own ids."""
    words, rows = dataset.vocabularies, getattr(dataset, part)
    names = {"user": "user", "item": "item", "head": "entity", "tail": "entity"}
    names["relation"] = "relation"
    columns = [
        words[names[name]].decode(column.tolist())
        for name, column in rows.columns().items()
        if name in names
    ]
    return set(zip(*columns, strict=True))


@pytest.mark.parametrize("data", ["log.csv", "kg"])
def test_shares_are_nested_and_hold_whole_users_or_whole_neighbourhoods(data, small):
    whole = load_dataset(small / data)
    parts = [subsample(whole, share, seed=3) for share in (0.2, 0.5, 0.9)] + [whole]
    for part in ("train", "valid", "test"):
        found = [rows_of(d, part) for d in parts]
        assert found == sorted(found, key=len)
        assert all(a <= b for a, b in pairwise(found))
    for share, dataset in zip((0.2, 0.5, 0.9), parts, strict=False):
        train = rows_of(dataset, "train")
        if data == "kg":
            assert len(train) >= share * len(whole.train)
            inside = set(dataset.vocabularies["entity"].tokens)
            every = {t for t in rows_of(whole, "train") if t[0] in inside and t[2] in inside}
            assert train == every, "no fact among the entities is left out"
            counts = dataset.train.counts()
            assert len(counts) == len(inside)
            assert counts.min() >= 1
        else:
            users = set(dataset.vocabularies["user"].tokens)
            assert len(users) == -(-40 * share // 1)
            assert train == {row for row in rows_of(whole, "train") if row[0] in users}
            assert dataset.train.num_items == whole.train.num_items, "as many candidates"
        assert dataset.card.differences(whole.card), "figures do not compare with the whole"
        assert "a random share of" in dataset.card.notes[0]
    again = subsample(whole, 0.5, seed=3)
    assert torch.equal(again.train.columns()["head" if data == "kg" else "item"],
                       parts[1].train.columns()["head" if data == "kg" else "item"])  # fmt: skip
    assert subsample(whole, 0.5, seed=4).card.hash != parts[1].card.hash
    assert subsample(whole, 1.0, seed=3) is whole


def test_shares_are_read():
    assert read_shares("") == read_shares(()) == (1.0,)
    assert read_shares("0.1, 0.3,1") == (0.1, 0.3, 1.0)
    assert read_shares(0.25) == (0.25,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "cannot be read; write 0.25"),
        ("0", "a share lies above 0"),
        ("1.5", "is at most 1"),
        ("nan", "a share lies above 0"),
        ("0.5,0.2", "from small to large, each once"),
        ("0.5,0.5", "from small to large, each once"),
    ],
)
def test_bad_shares(text, message):
    with pytest.raises(UsageError, match=message):
        read_shares(text)


def test_nothing_left_is_said(small, tmp_path):
    whole = load_dataset(small / "kg")
    with pytest.raises(UsageError, match=r"subsample = 0.001 of 'kg' leaves no row for valid"):
        subsample(whole, 0.001, seed=0)


def test_trials_on_a_share_and_a_winner_on_all_data(fields, tmp_path, capsys):
    out = tmp_path / "s"
    study = tune(fields, trials=3, baseline=False, search=LR, out=out, subsample="0.5")
    said = capsys.readouterr().err
    assert "trials train on a random 0.5 of the users; finalists on all data" in said
    assert "on 0.5 of the data" in said
    assert {t.user_attrs["share"] for t in study.record.trials} == {0.5}
    cards = [ProtocolCard.open(home(out, share) / "protocol.json") for share in (0.5, 1.0)]
    assert Run(out / "trials" / "0000").dataset.card.hash == cards[0].hash
    assert study.best.dataset.card.hash == cards[1].hash
    assert study.best.folder.parent.name == "finalists"
    assert study.finalists[0]["share"] == 0.5
    assert study.test["NDCG@10"] == study.best.metrics["NDCG@10"]
    assert all(row["share"] == 0.5 for row in trial_rows(study))
    for number in range(3):
        lines = read_metrics(out / "trials" / f"{number:04d}" / "metrics.jsonl")
        assert {line["split"] for line in lines} == {"valid"}, "no trial reads the test"
    again = tune(fields, trials=3, baseline=False, out=out, quiet=True)
    assert again.record.trials[-1].number == 2
    assert json.loads((out / "study.json").read_text())["subsample"] == [0.5]
    with pytest.raises(UsageError, match=r"with subsample = \[0\.5\], not \[0\.2\]"):
        tune(fields, trials=3, baseline=False, out=out, quiet=True, subsample=0.2)


def test_the_best_third_of_a_rung_climbs(fields, tmp_path):
    study = tune(
        fields, trials=8, baseline=False, search=LR, out=tmp_path / "s", quiet=True,
        subsample="0.4,1",
    )  # fmt: skip
    trials = study.record.trials
    low = [t for t in trials if t.user_attrs["share"] == 0.4]
    high = [t for t in trials if t.user_attrs["share"] == 1.0]
    assert (len(low), len(high)) == (6, 2)
    for trial in high:
        parent = trials[trial.user_attrs["promoted"]]
        assert trial.params == parent.params
        before = [t for t in low if t.number < trial.number]
        place = sorted(before, key=lambda t: -t.values[0]).index(parent)
        assert place < len(before) // 3, "it was among the best third when it rose"
    assert study.best.folder.name in {f"{t.number:04d}" for t in high}, "the whole data decide"
    assert trial_rows(study)[0]["share"] == 1.0


def test_a_family_with_nothing_to_search_climbs_too(fields, tmp_path):
    fields |= {"negatives": "Uniform(8) | TopK(2)"}
    study = tune(
        fields, trials=6, search=["negatives.TopK.num"], out=tmp_path / "s", quiet=True,
        subsample="0.5,1",
    )  # fmt: skip
    plain = [t for t in study.record.trials if "TopK" not in t.user_attrs["family"]]
    assert [t.user_attrs["share"] for t in plain] == [0.5, 1.0]


def test_pruning_compares_within_a_share(fields, tmp_path, monkeypatch):
    from hardneg.engine.job import Job

    def evaluate(self, split, limit=0):
        part = self.dataset.train.num_users / 40
        return {self.recipe.metric: 0.9 if part < 1 else 0.1 + 1e-4 * self.recipe.seed % 0.01}

    monkeypatch.setattr(Job, "evaluate", evaluate)
    study = tune(
        {**fields, "epochs": 2}, trials=8, baseline=False, search=LR, out=tmp_path / "s",
        quiet=True, subsample="0.5,1", pruner="median",
    )  # fmt: skip
    high = [t for t in study.record.trials if t.user_attrs["share"] == 1.0]
    assert high
    assert all(t.state == TrialState.COMPLETE for t in high), "0.9 on a part is not held against"


def test_asynchronous_halving_by_hand():
    class Setting:
        shares = (0.1, 0.3, 1.0)

        class record:
            directions = (optuna.study.StudyDirection.MAXIMIZE,)

        @staticmethod
        def share(trial):
            return trial.user_attrs["share"]

    class Family:
        ranges = {"x": 1}  # noqa: RUF012

    def trial(number, share, value, **attrs):
        made = optuna.trial.create_trial(value=value, user_attrs={"share": share, **attrs})
        made.number = number
        return made

    own = [trial(n, 0.1, n / 10) for n in range(9)]
    assert promotion(Setting, Family, own[:2]) is None
    assert promotion(Setting, Family, own[:3])[0].number == 2
    assert promotion(Setting, Family, own) == (own[8], 0.3)
    own += [trial(9 + i, 0.3, i / 10, promoted=8 - i) for i in range(3)]
    rising, share = promotion(Setting, Family, own)
    assert (rising.number, share) == (11, 1.0), "the higher rung is served first"
    own += [trial(12, 1.0, 0.5, promoted=11)]
    assert promotion(Setting, Family, own) is None


def test_a_plan_says_what_trials_train_on(fields, small):
    lines = prepare(fields, Options(search=LR, subsample="0.1,0.3,1")).describe()
    assert any("a random 0.1, 0.3, 1 of the users, the best of every 3" in line for line in lines)
    graph = {"model": "RotatE(dim=4)", "dataset": str(small / "kg")}
    lines = prepare(graph, Options(search=LR, subsample=0.25)).describe()
    assert "trials train on a random 0.25 of the training facts; finalists on all data" in lines
