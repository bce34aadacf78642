"""What a run is foretold to take: sizes against real models and files, times against known ones."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.errors import ResourceError
from hardneg.engine import api, fit, footprint, machine, plan
from hardneg.engine.job import build_model
from hardneg.engine.recipe import resolve
from hardneg.engine.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
LOG = {"split": "LeaveOneOut()", "epochs": 3, "batch_size": 64}


def recipe_of(small, model, data="log.csv", **settings):
    fields = settings if data == "kg" else {**LOG, **settings}
    return resolve({"model": model, "dataset": str(small / data)}, fields)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("LightGCN(dim=40, layers=2)", "log.csv"),
        ("LightGCN(dim=37, layers=0)", "log.csv"),
        ("SASRec(dim=96, heads=4, max_length=6, blocks=3, expansion=2, tied=False)", "log.csv"),
        ("SASRec(dim=36, heads=3, max_length=6)", "log.csv"),
        ("RotatE(dim=70)", "kg"),
        ("ComplEx(dim=5)", "kg"),
    ],
)
def test_the_tables_are_those_of_the_real_model(small, model, data):
    recipe = recipe_of(small, model, data)
    dataset = api.load(recipe)
    real = build_model(recipe, dataset.train)
    learnt = sum(p.numel() for p in real.parameters())
    needs = fit.foretold(recipe, dataset)
    shape = needs.shape()
    assert shape.parameters == learnt
    assert (shape.rows, shape.width) == real.nodes().shape
    assert shape.leaf == real.nodes().is_leaf
    assert needs.at().weights == 4 * learnt


@pytest.mark.parametrize(
    ("settings", "states"),
    [
        ({"optimizer": "Adam()"}, 2),
        ({"optimizer": "Adagrad()"}, 1),
        ({"optimizer": "Adam()", "average": 0.9}, 3),
    ],
)
def test_the_files_are_as_large_as_foretold(small, tmp_path, settings, states):
    recipe = recipe_of(small, "LightGCN(dim=256, layers=1)", **settings).model_copy(
        update={"epochs": 1}
    )
    found = fit.foretold(recipe, api.load(recipe)).at()
    assert found.optimizer == states * found.tables
    run = api.train_recipe(recipe, out=tmp_path / "run", quiet=True)
    for name, size in (("weights", found.weights), ("state/state", found.state)):
        real = (run.folder / f"{name}.safetensors").stat().st_size
        assert size <= real <= size + 20_000  # a header, generators, sums


def test_more_of_anything_takes_no_less(small):
    recipe = recipe_of(small, "SASRec(dim=32, max_length=6)", negatives="Uniform(64, pools='own')")
    needs = fit.foretold(recipe, api.load(recipe))
    for name, values in (("dim", (8, 32, 64, 640)), ("num", (1, 64, 900)), ("batch", (1, 9, 30))):
        sizes = [sum(needs.at(**{name: value}).parts().values()) for value in values]
        assert sizes == sorted(sizes), name
        assert len(set(sizes)) > 1, name


def test_columns_of_negatives_are_counted():
    def drawn(text):
        recipe = resolve({"model": "LightGCN", "dataset": "x", "negatives": text})
        return [tuple(d) for d in footprint._proposals(recipe, 100)]

    assert drawn("Uniform(256) | TopK(32)") == [(1, 256)]
    assert drawn("Uniform(8, pools=4)") == [(4, 8)]
    assert drawn("SameCluster(16)") == [(100, 16)]
    assert drawn("Mixture(InBatch(), Uniform(64)) | TopK(2)") == [(1, 100), (1, 64)]
    assert drawn("CrossBatch(capacity=512)") == [(1, 512)]


@given(high=st.integers(1, 10**9), edge=st.integers(0, 10**9))
def test_bisection_finds_the_last_that_fits(high, edge):
    assert fit.largest(lambda x: x <= edge, high) == min(edge, high)


@pytest.fixture
def never_built(monkeypatch):
    def job(*arguments, **more):
        raise AssertionError("allocated")

    monkeypatch.setattr(plan, "Job", job)


def test_what_does_not_fit_in_memory_is_refused_with_what_does(small, monkeypatch, never_built):
    recipe = recipe_of(small, "SASRec(dim=4096, heads=4, max_length=6)")
    monkeypatch.setattr(fit, "free_memory", lambda device: 200 * 2**20)
    message = r"needs about \d[\d.,]* [GM]iB of memory and 200 MiB are free.* model\.dim=(\d+)"
    with pytest.raises(ResourceError, match=message) as refused:
        plan.plan(recipe)
    assert refused.value.exit_code == 4
    dim = int(str(refused.value).split("model.dim=")[1].split()[0])
    needs = fit.foretold(recipe, api.load(recipe))
    assert dim % 4 == 0
    assert needs.at(dim=dim).memory <= 200 * 2**20 < needs.at(dim=dim + 4).memory


def test_negatives_and_batch_that_would_fit(small, monkeypatch, never_built):
    recipe = recipe_of(small, "LightGCN(dim=8, layers=1)", negatives="Uniform(100_000_000)")
    monkeypatch.setattr(fit, "free_memory", lambda device: 2**30)
    with pytest.raises(ResourceError, match=r"it fits with \d+ negatives instead of 100000000"):
        plan.plan(recipe)
    recipe = recipe_of(small, "LightGCN(dim=8, layers=1)")
    monkeypatch.setattr(fit, "free_memory", lambda device: 1000)
    with pytest.raises(ResourceError, match="no width, batch or number of negatives alone"):
        plan.plan(recipe)


def test_a_full_disk_is_refused(small, monkeypatch, never_built, tmp_path):
    recipe = recipe_of(small, "LightGCN(dim=1024, layers=1)")
    monkeypatch.setattr(fit, "free_disk", lambda folder: 10**6)
    message = r"writes about .* model\.dim=\d+, or choose another --out"
    with pytest.raises(ResourceError, match=message):
        plan.plan(recipe, folder=tmp_path / "there")


def test_the_disk_of_a_folder_to_come_is_looked_at(tmp_path):
    assert machine.free_disk(tmp_path / "not" / "yet") > 0


def test_a_probe_leaves_nothing_behind(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state()
    found = plan.plan(recipe_of(small, "LightGCN(dim=8, layers=1)", average=0.9))
    assert torch.equal(torch.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []
    assert found["notes"] == []


def test_times_are_those_of_the_parts(small, monkeypatch):
    """Steps that take 4 ms, after some that took 50 as if compiled: 4 ms, and the sums of it."""
    made = []

    def step(self, index):
        made.append((self.epoch, self.done))
        time.sleep(0.05 if len(made) <= plan.WARM else 0.004)
        return len(index), 7 * len(index)

    monkeypatch.setattr(Trainer, "_step", step)
    recipe = recipe_of(small, "LightGCN(dim=8, layers=1)", epochs=5, evaluate_every=2)
    found = plan.plan(recipe)
    assert 0.004 <= found["seconds_per_step"] < 0.03
    assert found["negatives_per_row"] == 7
    rows = len(api.load(recipe).train)
    assert found["steps_per_epoch"] == -(-rows // 64)
    assert found["validations"] == 4  # the start, 2, 4 and the last
    assert len(made) == plan.WARM + plan.STEPS
    assert max(epoch for epoch, _ in made) < recipe.epochs
    whole = found["seconds_to_start"] + 5 * found["seconds_per_epoch"]
    whole += 4 * found["seconds_per_validation"] + found["seconds_of_test"]
    assert found["seconds_in_all"] == pytest.approx(whole)
    epoch = found["steps_per_epoch"] * found["seconds_per_step"]
    assert epoch <= found["seconds_per_epoch"] < epoch + 0.1


def test_the_refreshes_of_an_epoch_are_added(small, monkeypatch):
    from hardneg.samplers import SameCluster

    whole = SameCluster.refresh

    def refresh(self, table, generator):
        time.sleep(0.05)
        whole(self, table, generator)

    monkeypatch.setattr(SameCluster, "refresh", refresh)
    recipe = recipe_of(
        small, "LightGCN(dim=8, layers=1)", negatives="SameCluster(8, clusters=3, refresh_every=2)"
    )
    found = plan.plan(recipe)
    due = -(-found["steps_per_epoch"] // 2)
    steps = found["steps_per_epoch"] * found["seconds_per_step"]
    assert found["seconds_per_epoch"] - steps >= 0.05 * due


def test_outliers_do_not_count():
    assert plan.typical([1.0] * 18 + [50.0, 0.0]) == 1.0
    assert plan.typical([2.0]) == 2.0


@pytest.mark.parametrize(
    ("model", "data", "settings", "chunk"),
    [
        ("SASRec(dim=8, max_length=6)", "log.csv", {"loss": "FullSoftmax()"}, 30),
        ("LightGCN(dim=8, layers=0)", "log.csv", {"loss": "DirectAU()", "epochs": 0}, None),
        ("ItemKNN()", "log.csv", {}, None),
        ("RotatE(dim=8)", "kg", {"negatives": "Uniform(8)", "max_minutes": 1e-9}, None),
    ],
)
def test_every_kind_of_run_has_a_plan(small, model, data, settings, chunk):
    found = plan.plan(recipe_of(small, model, data, **settings))
    assert found["loss_chunk"] == chunk
    assert found["evaluation_block"] > 1
    assert found["seconds_in_all"] > 0
    assert found["host_peak_bytes"] > 2**20
    trained = found["epochs"] > 0
    assert (found["seconds_per_step"] > 0) == trained
    assert any("max_minutes" in note for note in found["notes"]) == ("max_minutes" in settings)


def test_more_threads_than_cores_are_lowered_and_said(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    [sentence] = machine.limit_threads()
    assert torch.get_num_threads() == 1
    assert sentence == (
        "OMP_NUM_THREADS=2 is more than the 1 cores here; 1 are used, set OMP_NUM_THREADS=1"
    )
    assert machine.limit_threads() == []
