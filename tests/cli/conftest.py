"""The command line in this process, on small data, with finished runs to ask."""

import shutil
from typing import NamedTuple

import pytest

from hardneg.__main__ import main
from hardneg.engine import api

MODELS = {
    "graph": ("LightGCN(dim=8, layers=1)", "log.csv", {"split": "LeaveOneOut()"}),
    "sequence": ("SASRec(dim=8, max_length=6)", "log.csv", {"split": "LeaveOneOut()"}),
    "triples": ("RotatE(dim=8)", "kg", {"negatives": "Uniform(8)"}),
}


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def hardneg(capsys, monkeypatch, private_cache):
    """Run a command and return its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        found = capsys.readouterr()
        return Answer(int(stop.value.code or 0), found.out, found.err)

    return run


@pytest.fixture(scope="session")
def runs(small, tmp_path_factory, private_cache):
    """Train one epoch of a model of each kind: runs/{graph,sequence,triples}."""
    folder = tmp_path_factory.mktemp("trained")
    for name, (model, data, settings) in MODELS.items():
        api.train(model, small / data, out=folder / name, quiet=True, epochs=1, **settings)
    return folder


@pytest.fixture
def damaged(runs, tmp_path):
    """Copy a run and spoil one of its files."""

    def make(name, file, how, kind="graph"):
        folder = tmp_path / "damaged" / name
        shutil.copytree(runs / kind, folder)
        path = folder / file
        if how == "gone":
            path.unlink()
        elif how == "junk":
            path.write_bytes(b"this is no such file")
        elif how == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:  # another run's
            shutil.copy(runs / how / file, path)
        return folder

    return make
