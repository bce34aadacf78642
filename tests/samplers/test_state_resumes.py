"""Samplers that remember or learn: a run cut in the middle of an epoch goes on bit for bit."""

import os
import signal

import pytest
import torch

from hardneg.engine import api, checkpoint
from hardneg.engine.interrupt import Interrupted
from hardneg.engine.progress import Reporter

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
DATA = {
    "LightGCN(dim=8, layers=1)": ("log.csv", {"split": "LeaveOneOut()"}),
    "SASRec(dim=8, max_length=6)": ("log.csv", {"split": "LeaveOneOut()"}),
    "RotatE(dim=8)": ("kg", {}),
}


def fit(small, out, model, negatives):
    data, settings = DATA[model]
    settings = {**settings, "epochs": 3, "patience": 0, "batch_size": 16, "negatives": negatives}
    return api.train(model, small / data, out=out, quiet=True, **settings)


def state(run):
    return checkpoint.load(run.folder / "state" / "state.safetensors")


@pytest.mark.parametrize("model", DATA)
@pytest.mark.parametrize(
    "negatives",
    [
        "Cache(4, cache=5, candidates=6)",
        "Generator(8, candidates=12, dim=4) | GumbelTopK(4) | Debias(0.01)",
    ],
)
def test_a_cut_run_goes_on_exactly(model, negatives, small, tmp_path, monkeypatch):
    whole = fit(small, tmp_path / "whole", model, negatives)
    usual, count = Reporter.advance, [0]

    def advance(self, *args):
        count[0] += 1
        if count[0] == 5:
            os.kill(os.getpid(), signal.SIGINT)
        usual(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "advance", advance)
        with pytest.raises(Interrupted):
            fit(small, tmp_path / "cut", model, negatives)
    cut = api.resume(tmp_path / "cut", quiet=True)
    for part in ("model", "sampler"):
        mine, theirs = state(whole)[part], state(cut)[part]
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    if "Generator" in negatives:
        table = state(whole)["sampler"]["stages.0.table"]
        assert table.abs().max() > 1e-3  # the optimizer holds it
