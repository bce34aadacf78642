"""A machine whose numba is missing or broken: the same figures, and one sentence about it."""

import json
import os
import subprocess
import sys

import pytest

HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "numba":
            raise {error}

sys.meta_path.insert(0, Hide())
"""
MAIN = "from hardneg.__main__ import main\nmain({words!r})"
JOBS = [
    (["train", "LightGCN(dim=8,layers=2)", "log.csv", "split=LeaveOneOut()"], "NDCG@10"),
    (["train", "RotatE(dim=8)", "kg", "negatives=Uniform(8, pools=2)"], "MRR"),
]


def call(code, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("words", "metric"), JOBS, ids=[words[1] for words, _ in JOBS])
def test_a_run_without_numba_gives_the_same_figures(small, tmp_path, private_cache, words, metric):
    words = [*words[:2], str(small / words[2]), *words[3:], "epochs=2", "--json", "-q", "--out"]
    hidden = HIDDEN.format(error="ModuleNotFoundError(\"No module named 'numba'\")")
    with_it = call(MAIN.format(words=[*words, str(tmp_path / "a")]), tmp_path)
    without = call(hidden + MAIN.format(words=[*words, str(tmp_path / "b")]), tmp_path)
    assert without.returncode == 0, without.stderr
    assert with_it.stderr == ""
    [line] = without.stderr.splitlines()
    assert line.startswith("warning: kernels run in plain PyTorch, up to 40 times slower")
    one, other = json.loads(with_it.stdout), json.loads(without.stdout)
    assert other[metric] == pytest.approx(one[metric], abs=0.02)


def test_doctor_says_that_numba_is_broken(tmp_path):
    hidden = HIDDEN.format(error='ImportError("Numba needs NumPy 2.0 or less")')
    answer = call(hidden + MAIN.format(words=["doctor", "--json"]), tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert "numba does not load (Numba needs NumPy 2.0 or less)" in found["problems"]
    assert found["numba threads"] == 1
