"""Stages: clusters of earlier runs for the next, and their vectors end to end."""

import polars as pl
import pytest
import torch

from hardneg.datasets.errors import DataError, UsageError
from hardneg.engine import api
from hardneg.engine.job import Job
from hardneg.engine.stages import concat, write_clusters
from hardneg.samplers import SameCluster, Uniform

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

LOG = {"split": "LeaveOneOut()", "patience": 0, "quiet": True, "batch_size": 64, "epochs": 2}
MODELS = {
    "LightGCN": ("LightGCN(dim=8, layers=1)", "LightGCN(dim=4, layers=0, similarity=Cosine(0.2))"),
    "SASRec": ("SASRec(dim=8, max_length=6)", "SASRec(dim=8, max_length=6, heads=1)"),
    "RotatE": ("RotatE(dim=8)", "RotatE(dim=4)"),
}


@pytest.fixture(scope="module")
def runs(small, tmp_path_factory, private_cache):
    done = {}
    for name, stages in MODELS.items():
        kg = name == "RotatE"
        own = {k: v for k, v in LOG.items() if not (kg and k == "split")}
        for number, model in enumerate(stages):
            out = tmp_path_factory.mktemp(name) / str(number)
            run = api.train(model, small / ("kg" if kg else "log.csv"), out=out, **own, seed=number)
            done.setdefault(name, []).append(run)
    return done


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_the_whole_are_the_sums_of_the_stages(name, runs, tmp_path):
    folders = [run.folder for run in runs[name]]
    whole = concat(folders, tmp_path / "run")
    data = whole.dataset.train
    batch = whole.model.view(data).batch(torch.arange(5))
    ids = torch.arange(6)[None]
    found, full = [], []
    for run in (whole, *runs[name]):
        with torch.no_grad():
            q = run.model.encode(batch.query, run.nodes)
            found.append(run.model.score(q, run.nodes, ids))
            full.append(run.model.similarity.full(q, run.model.table(run.nodes)))
    torch.testing.assert_close(found[0], found[1] + found[2])
    torch.testing.assert_close(full[0], full[1] + full[2])
    assert whole.metrics["split"] == "test"
    assert api.Run(whole.folder).evaluate("test").keys() == runs[name][0].evaluate("test").keys()


def test_the_whole_recommends_and_folds_in(runs, tmp_path):
    whole = concat([run.folder for run in runs["LightGCN"]], tmp_path / "run")
    user = whole.dataset.vocabularies["user"].tokens[3]
    assert len(whole.recommend(user, k=4)) == 4
    assert len(whole.recommend(history=["i1", "i2"], k=4)) == 4
    assert whole.embeddings("item")["vector"].dtype.shape == (12,)


def test_clusters_are_the_intersection_over_runs(runs, tmp_path):
    folders = [run.folder for run in runs["LightGCN"]]
    labels = []
    for number, some in enumerate((folders[:1], folders[1:], folders)):
        path = tmp_path / f"{number}.csv"
        num = write_clusters(some, path, num=3)
        labels.append(pl.read_csv(path)["label"].to_list())
        assert len(set(labels[-1])) == num
    together = {(a, b): c for a, b, c in zip(*labels, strict=True)}
    assert len(set(together.values())) == len(together), "both agree exactly where the third does"
    assert len(together) == len(set(labels[2]))


def test_negatives_of_the_next_stage_come_from_the_intersection(small, runs, tmp_path):
    path = tmp_path / "next.csv"
    write_clusters([run.folder for run in runs["LightGCN"]], path, num=3)
    negatives = f"SameCluster(8, by={str(path)!r}, within=1.0)"
    run = api.train(
        MODELS["LightGCN"][0], small / "log.csv", out=tmp_path / "run", negatives=negatives, **LOG
    )
    sampler = Job(run.recipe, run.dataset).sampler
    frame = pl.read_csv(path)
    tokens = run.dataset.vocabularies["item"].tokens
    label = torch.tensor([dict(frame.iter_rows())[t] for t in tokens])
    assert isinstance(sampler, SameCluster)
    own = sampler.clusters.label
    assert len(torch.unique(torch.stack([own, label]), dim=1)[0]) == len(label.unique())


@pytest.mark.filterwarnings("ignore:SameCluster found one cluster")
def test_with_one_cluster_all_stages_draw_alike(runs, tmp_path, make_ask):
    path = tmp_path / "one.csv"
    assert write_clusters([run.folder for run in runs["LightGCN"]], path, num=1) == 1
    run = runs["LightGCN"][0]
    training = Job(run.recipe, run.dataset)._training()
    sampler = SameCluster(64, by=str(path))
    sampler.prepare(training)
    ask = make_ask(M=200, N=training.num_candidates, known=0)
    share = [
        torch.bincount(proposal.draw(ask).ids.flatten(), minlength=training.num_candidates) / 12800
        for proposal in (sampler, Uniform(64, pools="own"))
    ]
    torch.testing.assert_close(share[0], share[1], atol=0.012, rtol=0)
    log_q = sampler.draw(ask).log_q
    torch.testing.assert_close(log_q.exp(), torch.full_like(log_q, 1 / training.num_candidates))


def test_what_cannot_stand_side_by_side(runs, tmp_path):
    log, kg = runs["LightGCN"][0].folder, runs["RotatE"][0].folder
    with pytest.raises(UsageError, match="1 runs; give 2 or more"):
        concat([log], tmp_path / "a")
    with pytest.raises(DataError, match="other data or another split"):
        concat([log, kg], tmp_path / "a")
    with pytest.raises(UsageError, match="interactions, sequences cannot stand side by side"):
        concat([log, runs["SASRec"][0].folder], tmp_path / "a")
    with pytest.raises(UsageError, match=r"labels are written to \.csv and \.parquet"):
        write_clusters([log], tmp_path / "a.txt")
    assert not (tmp_path / "a").exists()


def test_the_commands(runs, tmp_path):
    from typer.testing import CliRunner

    from hardneg.tuning.cli import app

    folders = [str(run.folder) for run in runs["LightGCN"]]
    out = tmp_path / "labels.parquet"
    done = CliRunner().invoke(app, ["clusters", *folders, "--num", "3", "--out", str(out)])
    assert done.exit_code == 0
    assert "clusters" in done.stdout
    assert pl.read_parquet(out).columns == ["token", "label"]
    done = CliRunner().invoke(app, ["concat", *folders, "--out", str(tmp_path / "w"), "--json"])
    assert done.exit_code == 0
    assert '"NDCG@10"' in done.stdout
