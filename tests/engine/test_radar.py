"""The radar of constructed steps against loops; what it leaves unchanged; what it says."""

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from hardneg.datasets.batch import Batch, UserQuery
from hardneg.datasets.positives import Positives
from hardneg.engine import api, checkpoint
from hardneg.engine.losses import BCE, BPR, SampledSoftmax
from hardneg.engine.radar import Radar
from hardneg.engine.readings import NAMES
from hardneg.engine.step import Outcome
from hardneg.samplers import Negatives, SameDomain, Uniform

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

M, N, K, D = 6, 20, 8, 4


class Table:
    """A model as the radar sees it."""

    def __init__(self, table):
        self.vectors = table

    def frozen_nodes(self):
        return self.vectors

    def table(self, nodes):
        return nodes


def make(seed=0, groups=M, device="cpu", **more):
    """Return a batch, positive and negative scores that learn, and the negatives."""
    g = torch.Generator().manual_seed(seed)
    positive_id = torch.randint(N, (M,), generator=g)
    weight = torch.rand(M, generator=g) + 0.5
    batch = Batch(UserQuery(torch.arange(M)), positive_id, torch.arange(M), weight)
    positive = torch.randn(M, generator=g)
    scores = torch.randn(M, K, generator=g)
    valid = torch.rand(M, K, generator=g) < 0.8
    ids = torch.randint(N, (groups, K), generator=g)
    table = torch.randn(N, D, generator=g)
    negatives = Negatives(ids, valid=valid, **more)
    return batch, positive, scores, negatives, table


def run(radar, loss, batch, positive, scores, negatives, table, q=None):
    """Make one watched step; return d loss_m / d s_mj as autograd has it, row by row."""
    scores = scores.clone().requires_grad_() * 1
    row = loss(positive, scores, negatives, batch.row)
    total = (row * batch.weight).sum() / batch.weight.sum()
    q = torch.ones(M, D, device=scores.device) if q is None else q
    outcome = Outcome(total, 0, q, positive, scores.detach(), negatives, scores, table)
    radar.watch(outcome, batch)
    total.backward()
    again = scores.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(positive, again, negatives, batch.row).sum(), again)[0]


def radar_of(table, held_out=None, sampler=None, counts=None, **more):
    counts = torch.ones(N) if counts is None else counts
    return Radar(Table(table), sampler or Uniform(K), counts, held_out, **more)


@pytest.mark.parametrize("loss", [SampledSoftmax(), BPR(), BCE()], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("groups", [1, 2, M])
def test_readings_are_their_formulas(loss, groups):
    step = _, positive, scores, negatives, table = make(groups=groups)
    counts = torch.arange(N)
    pairs = torch.randperm(M * N, generator=torch.Generator().manual_seed(3))[:40]
    held_out = Positives(pairs // N, pairs % N, M, N)
    radar = radar_of(table, held_out, counts=counts)
    gradient = run(radar, loss, *step)
    found = radar.read()
    wrong = {(int(p) // N, int(p) % N) for p in pairs}
    gaps, effective, hardest, pull, bad, flags, popular, above = [], [], [], [], [], [], [], []
    for m in range(M):
        keep = [k for k in range(K) if negatives.valid[m, k]]
        ids = [int(negatives.ids[m // -(-M // groups), k]) for k in keep]
        s, g = scores[m, keep], gradient[m, keep].abs()
        w = g / g.sum()
        gaps.append(positive[m] - s.mean())
        above += (s > positive[m]).tolist()
        effective.append(1 / (w**2).sum())
        hardest.append(w[s.argmax()])
        pull.append(g.sum())
        is_wrong = [(m, i) in wrong for i in ids]
        flags += is_wrong
        bad.append((w * torch.tensor(is_wrong)).sum())
        popular += [(1.0 + counts[i]).log() for i in ids]

    def mean(values):
        return pytest.approx(sum(map(float, values)) / len(values), rel=1e-4, abs=1e-6)

    for name, values in (
        ("gap", gaps), ("above", above), ("effective", effective), ("hardest_share", hardest),
        ("pull", pull), ("held_out", flags), ("held_out_gradient", bad),
    ):  # fmt: skip
        assert found[name] == mean(values), name
    level = (1.0 + counts).log().mean()
    assert found["popularity"] == mean([p - level for p in popular])
    assert found["valid_share"] == mean(negatives.valid.flatten().tolist())
    assert (found["columns"], found["hardest"]) == (K, 1)


def test_equal_scores_make_k_effective_negatives():
    batch, positive, _, negatives, table = make()
    radar = radar_of(table)
    run(radar, BPR(), batch, positive, torch.ones(M, K), Negatives(negatives.ids), table)
    assert radar.read()["effective"] == pytest.approx(K)


def test_the_held_out_share_of_a_constructed_step_is_exact():
    """Each row has 8 negatives of one score; row m has m of them held out."""
    batch, positive, _, _, table = make()
    ids = torch.arange(8).repeat(M, 1)
    pairs = [(m, i) for m in range(M) for i in range(m)] + [(0, 19), (5, 12)]  # and not drawn
    row, item = torch.tensor(pairs).T
    radar = radar_of(table, Positives(row, item, M, N))
    run(radar, SampledSoftmax(), batch, positive, torch.zeros(M, K), Negatives(ids), table)
    found = radar.read()
    assert found["held_out"] == pytest.approx(15 / 48, rel=1e-5)
    assert found["held_out_gradient"] == pytest.approx(15 / 48, rel=1e-5)


def test_padding_and_rows_without_negatives_count_nothing():
    batch, positive, scores, negatives, table = make()
    valid = torch.ones(M, K, dtype=torch.bool)
    valid[1] = False
    weight = torch.tensor([1.0, 1, 0, 1, 1, 1])
    batch = batch._replace(weight=weight)
    radar = radar_of(table)
    run(radar, BPR(), batch, positive, scores, negatives._replace(valid=valid), table)
    found = radar.read()
    rest = [0, 3, 4, 5]
    expected = (positive - scores.mean(1))[rest].mean().item()
    assert found["gap"] == pytest.approx(expected, rel=1e-5)
    assert found["negatives"] == pytest.approx(4 * K / 5)
    assert found["valid_share"] == pytest.approx(4 / 5)


def test_vectors_without_a_row_have_neither_owner_nor_popularity():
    batch, positive, scores, negatives, table = make(vectors=torch.zeros(3, D))
    held_out = Positives(torch.arange(M), negatives.ids[:, -1], M, N)  # the made-up column's id
    ids = negatives.ids.clone()
    ids[:, :-3] = (batch.positive[:, None] + 1) % N
    negatives = negatives._replace(ids=ids, valid=None)
    counts = torch.zeros(N)
    counts[ids[:, -3:]] = 1e6
    expected = counts[ids[:, :-3]].log1p().mean() - counts.log1p().mean()
    radar = radar_of(table, held_out, counts=counts)
    run(radar, BPR(), batch, positive, scores, negatives, table)
    found = radar.read()
    clear = [(int(ids[m, -1]) == int(ids[m, 0])) for m in range(M)]
    assert found["held_out"] == pytest.approx(sum(clear) / M)
    assert found["popularity"] == pytest.approx(expected.item(), rel=1e-4)


def test_purity_and_collapse_use_the_samplers_clusters():
    batch, positive, scores, negatives, table = make()
    sampler = Uniform(K)
    sampler.register_buffer("label", torch.arange(N) % 4)
    radar = radar_of(table, sampler=sampler)
    run(radar, BPR(), batch, positive, scores, negatives, table)
    found = radar.read()
    same = negatives.ids % 4 == batch.positive[:, None] % 4
    expected = (same & negatives.valid).sum() / negatives.valid.sum()
    assert found["purity"] == pytest.approx(expected.item(), rel=1e-5)
    assert {"nc1", "nc2_norms", "nc2_angles"} <= found.keys()
    assert "purity" not in radar_of(table).read()
    domains = SameDomain("labels.csv")
    domains.label = torch.arange(N) % 4
    radar = radar_of(table, batches=domains)
    run(radar, BPR(), batch, positive, scores, negatives, table)
    assert {name: found[name] for name in ("purity", "nc1")} == pytest.approx(
        {name: value for name, value in radar.read().items() if name in ("purity", "nc1")}
    )


def test_several_steps_are_averaged_and_reading_forgets():
    one, two = radar_of(make()[4]), radar_of(make()[4])
    values = []
    for seed in (1, 2):
        run(one, BPR(), *make(seed))
        run(two, BPR(), *make(seed))
        values.append(two.read()["effective"])
    assert one.read()["effective"] == pytest.approx(sum(values) / 2, rel=1e-5)
    assert "effective" not in one.read()


def test_alignment_is_read_for_losses_without_sampled_negatives():
    batch, _, _, _, table = make()
    q = 3 * table[batch.positive]
    radar = radar_of(table)
    radar.watch(Outcome(torch.zeros(()), 0, q, nodes=table), batch)
    found = radar.read()
    assert found["alignment"] == pytest.approx(0, abs=1e-6)
    assert "gap" not in found
    assert found["rank_me"] > 1


def test_a_step_is_watched_without_reading_the_device():
    """A meta tensor has no values: any look at one raises."""
    batch, positive, scores, negatives, table = (
        type(x)(*[v if v is None or isinstance(v, tuple) else v.to("meta") for v in x])
        if isinstance(x, tuple) else x.to("meta")
        for x in make(groups=2)
    )  # fmt: skip
    held_out = Positives(torch.arange(M), torch.arange(M), M, N).to("meta")
    radar = Radar(Table(table), Uniform(K), torch.ones(N, device="meta"), held_out)
    run(radar, SampledSoftmax(), batch, positive, scores, negatives, table)
    assert radar.value.device.type == "meta"


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 64, 1000])
def test_steps_are_spread_and_never_more_than_one_in_eight(total):
    seen = [done for done in range(total) if Radar.wants(done, total)]
    assert len(seen) == min(8, -(-total // 8))
    gaps = {b - a for a, b in pairwise(seen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


# ---- in a run -----------------------------------------------------------------------------------

LOG = {"split": "LeaveOneOut()", "epochs": 2, "patience": 0, "batch_size": 16, "quiet": True}
HARD = "SameCluster(8, clusters=4) | TopK(4)"
RUNS = {
    "graph": ("LightGCN(dim=8)", "log.csv", {**LOG, "negatives": HARD}),
    "sequence": ("SASRec(dim=8, dropout=0.3)", "log.csv", {**LOG, "negatives": "Uniform(8)"}),
    "table": ("LightGCN(dim=8)", "log.csv", {**LOG, "loss": "FullSoftmax()"}),
    "triples": ("RotatE(dim=8)", "kg", {"epochs": 2, "batch_size": 50, "quiet": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_a_run_is_the_same_bit_for_bit_without_the_radar(case, small, tmp_path):
    model, data, settings = RUNS[case]
    weights, shown = [], []
    for on in (True, False):
        run = api.train(model, small / data, out=tmp_path / str(on), radar=on, **settings)
        state = checkpoint.load(run.folder / "state" / "state.safetensors")
        weights.append(json.dumps(checkpoint.flatten(state["model"], found := {})) + "".join(found))
        shown.append((found, state["generator"], state["cpu_rng"], run))
    (mine, *draws, run), (theirs, *others, without) = shown
    assert weights[0] == weights[1]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert all(map(torch.equal, draws, others))
    lines = [line["radar"] for line in run.history if line["split"] == "valid"]
    assert len(lines) == 3
    assert "rank_me" in lines[0]  # the start
    assert ("effective" in lines[-1]) == (case != "table")
    assert ("held_out" in lines[-1]) == (case != "table")
    assert set(lines[-1]) <= {*NAMES, "corrects", "known_q"}
    assert not any("radar" in line for line in without.history)
    report = (run.folder / "report.html").read_text()
    assert ">Radar</h2>" in report
    assert NAMES["rank_me"] in report
    assert ">Radar</h2>" not in (without.folder / "report.html").read_text()
    assert json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[1])["radar"]


def test_what_is_said_at_the_end(small, tmp_path, capsys):
    model, data, settings = RUNS["graph"]
    api.train(model, small / data, out=tmp_path / "run", **{**settings, "quiet": False})
    assert "radar: gap" in capsys.readouterr().err


def test_a_job_that_does_not_train_has_no_radar():
    job = SimpleNamespace(recipe=SimpleNamespace(radar=True), trains=False)
    assert Radar.of(job) is None
