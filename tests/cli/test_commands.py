"""Every command as a user types it: what it prints, for people and for machines."""

import json
import math
import subprocess
import sys

import pytest

from hardneg.engine import checkpoint
from hardneg.engine.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
NET = "LightGCN(dim=8,layers=1)"


def test_train_prints_figures_and_what_comes_next(hardneg, small, tmp_path):
    out = tmp_path / "run"
    answer = hardneg("train", NET, small / "log.csv", "epochs=2", "--out", out)
    assert answer.code == 0, answer.err
    assert answer.err.count("valid NDCG@10") == 3, "one line an epoch and one for the start"
    for part in ("Recall@10", "NDCG@20", f"run folder: {out}", f"hardneg recommend {out}"):
        assert part in answer.out


def test_options_and_settings_and_a_recipe_file(hardneg, small, tmp_path):
    words = ["train", NET, small / "log.csv", "model.dim=4", "split=LeaveOneOut()", "-q"]
    options = ["--negatives", "Uniform(16) | TopK(4)", "--loss", "BPR", "--seed", "3"]
    more = ["--optimizer", "Adam(lr=0.01)", "--epochs", "1", "--out", tmp_path / "a"]
    answer = hardneg(*words, *options, *more, "--json")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    found = json.loads(answer.out)
    recipe = Run(tmp_path / "a").recipe
    assert found["run"] == str(tmp_path / "a")
    assert recipe.model == "LightGCN(dim=4, layers=1)"
    assert recipe.negatives == "Uniform(num=16) | TopK(num=4)"
    assert (recipe.loss, recipe.seed, recipe.epochs) == ("BPR()", 3, 1)
    assert recipe.optimizer == "Adam(lr=0.01)"
    again = hardneg(
        "train", tmp_path / "a" / "recipe.toml", "--out", tmp_path / "b", "-q", "--json"
    )
    figures = json.loads(again.out)
    for name in ("Recall@10", "NDCG@10"):
        assert figures[name] == found[name]
    changed = hardneg(
        "train", tmp_path / "a" / "recipe.toml", "epochs=0", "--out", tmp_path / "c", "-q", "--json"
    )
    assert json.loads(changed.out)["step"] == 0


def test_a_loss_within_the_batch_needs_no_negatives(hardneg, small, tmp_path):
    words = ["train", NET, small / "log.csv", "epochs=2", "split=LeaveOneOut()"]
    answer = hardneg(*words, "--loss", "DirectAU()", "--out", tmp_path / "a")
    assert answer.code == 0, answer.err
    assert "is not used" not in answer.err
    recipe = Run(tmp_path / "a").recipe
    assert (recipe.loss, recipe.negatives) == ("DirectAU()", "")
    again = hardneg("resume", tmp_path / "a", "epochs=3")
    assert again.code == 0, again.err
    for loss, what in (("DirectAU()", "the rows of a batch"), ("FullSoftmax()", "whole tables")):
        options = ["--negatives", "Uniform(4)", "--loss", loss, "--out", tmp_path / loss]
        answer = hardneg(*words, *options)
        assert answer.code == 0, answer.err
        line = f"negatives = Uniform(num=4) is not used: {loss} compares {what}, not sampled"
        assert answer.err.count(line) == 1
    back = hardneg("train", tmp_path / "a" / "recipe.toml", "loss=BPR()", "--out", tmp_path / "b")
    assert back.code == 0, back.err
    assert Run(tmp_path / "b").recipe.negatives == "Uniform(num=1024)"


def test_the_scale_of_clip_is_trained_and_resumed(hardneg, small, tmp_path):
    words = ["train", NET, small / "log.csv", "split=LeaveOneOut()", "--loss", "Clip(0.2)", "-q"]
    assert hardneg(*words, "epochs=1", "--out", tmp_path / "a").code == 0
    assert hardneg("resume", tmp_path / "a", "epochs=3", "-q").code == 0
    assert hardneg(*words, "epochs=3", "--out", tmp_path / "b").code == 0
    scales = [
        checkpoint.load(tmp_path / run / "state" / "state.safetensors")["loss_values"]["log_scale"]
        for run in "ab"
    ]
    assert scales[0] == scales[1] != -math.log(0.2)


def test_settings_may_replace_the_model_and_the_data(hardneg, small, tmp_path):
    words = ["train", "LightGCN", f"dataset={small / 'log.csv'}", "model=SASRec(dim=8)"]
    answer = hardneg(*words, "epochs=0", "-q", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert Run(tmp_path / "run").recipe.model == "SASRec(dim=8)"


def test_resume_goes_on(hardneg, small, tmp_path):
    words = ["train", NET, small / "log.csv", "split=LeaveOneOut()", "-q", "--json"]
    assert hardneg(*words, "epochs=1", "--out", tmp_path / "a").code == 0
    answer = hardneg("resume", tmp_path / "a", "epochs=3", "-q", "--json")
    whole = hardneg(*words, "epochs=3", "--out", tmp_path / "b")
    assert answer.code == whole.code == 0
    found, expected = json.loads(answer.out), json.loads(whole.out)
    assert found["NDCG@10"] == expected["NDCG@10"]
    assert found["step"] == expected["step"]


@pytest.mark.parametrize("kind", ["graph", "sequence", "triples"])
def test_evaluate_agrees_with_training(kind, hardneg, runs):
    answer = hardneg("evaluate", runs / kind, "--json")
    assert answer.code == 0
    stored = Run(runs / kind).metrics
    found = json.loads(answer.out)
    assert found
    for name, value in found.items():
        assert value == pytest.approx(stored[name])
    only = hardneg("evaluate", runs / kind, "--split", "valid", "--metrics", "mrr, hr@3", "--json")
    assert {"MRR", "HitRate@3"} <= set(json.loads(only.out))
    assert "MRR" in hardneg("evaluate", runs / kind, "--metrics", "MRR").out


@pytest.mark.parametrize("kind", ["graph", "sequence"])
def test_recommend(kind, hardneg, runs):
    answer = hardneg("recommend", runs / kind, "--user", "u3", "-k", "3", "--json")
    hits = json.loads(answer.out)
    assert [set(hit) for hit in hits] == [{"id", "label", "score"}] * 3
    table = hardneg("recommend", runs / kind, "--user", "u3", "-k", "3").out
    assert all(hit["id"] in table for hit in hits)
    less = hardneg(
        "recommend", runs / kind, "--user", "u3", "-k", "2", "--exclude", hits[0]["id"], "--json"
    )
    assert json.loads(less.out) == hits[1:]
    seen = hardneg("recommend", runs / kind, "--user", "u3", "-k", "30", "--allow-seen", "--json")
    assert len(json.loads(seen.out)) == 30
    folded = hardneg("recommend", runs / kind, "--history", "i1, i2", "-k", "30", "--json")
    assert len(json.loads(folded.out)) == 28


def test_predict(hardneg, runs, facts):
    head, relation, tail = facts["test"][0]
    ends = {"--head": head, "--tail": tail}
    for option, given in ends.items():
        words = ["predict", runs / "triples", option, given, "--relation", relation, "-k", "30"]
        hits = json.loads(hardneg(*words, "--json").out)
        asked = tail if option == "--head" else head
        assert asked not in {hit["id"] for hit in hits}, "a fact of the test part is known"
        every = json.loads(hardneg(*words, "--allow-known", "--json").out)
        assert len(every) == 30
        assert hits[0]["id"] in hardneg(*words).out


def test_ls_lists_finished_unfinished_and_damaged_runs(hardneg, runs, damaged):
    damaged("spoilt", "recipe.toml", "junk")
    root = damaged("begun", "metrics.jsonl", "gone").parent
    rows = json.loads(hardneg("ls", root, "--json").out)
    states = {row["run"].rpartition("/")[2]: row["state"] for row in rows}
    assert states["begun"] == "unfinished at epoch 0"
    assert states["spoilt"].startswith("damaged: ")
    done = json.loads(hardneg("ls", runs, "--json").out)
    assert {row["state"] for row in done} == {"finished"}
    assert "finished" in hardneg("ls", runs).out


def test_ls_of_an_empty_folder_says_how_to_begin(hardneg, tmp_path):
    assert "hardneg train" in hardneg("ls", tmp_path).out


def test_tune_prints_its_trials(hardneg, small, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'model = "{NET}"\ndataset = "{small / "log.csv"}"\nepochs = 1\n')
    words = ["tune", recipe, "negatives=Uniform(8)", "model.dim=4", "--trials", "2"]
    words += ["--search", "negatives.num"]
    answer = hardneg(*words, "--out", tmp_path / "study", "-q", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert len(found["trials"]) == 2
    assert found["trials"][0]["NDCG@10"] >= found["trials"][1]["NDCG@10"]
    assert "negatives.Uniform.num" in found["trials"][0]
    again = hardneg(*words, "--out", tmp_path / "study", "-q")
    assert again.code == 0
    assert "NDCG@10" in again.out
    assert Run(tmp_path / "study" / "trials" / "0000").recipe.model == "LightGCN(dim=4, layers=1)"


def test_data_describe_and_list(hardneg, small):
    found = json.loads(hardneg("data", "describe", small / "log.csv", "--json").out)
    assert "40" in json.dumps(found)
    assert "entit" in hardneg("data", "describe", small / "kg").out
    names = {row["name"] for row in json.loads(hardneg("data", "list", "--json").out)}
    assert {"ml-100k", "gowalla", "umls", "wn18rr"} <= names
    assert "gowalla" in hardneg("data", "list").out


def test_data_fetch_prints_where(hardneg, tmp_path, monkeypatch):
    monkeypatch.setenv("HARDNEG_DATA", str(tmp_path))
    (tmp_path / "umls").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "umls" / f"{part}.txt").write_text("a\tr\tb\n")
    answer = hardneg("data", "fetch", "umls")
    assert (answer.code, answer.out.strip()) == (0, str(tmp_path / "umls"))


def test_doctor(hardneg):
    found = json.loads(hardneg("doctor", "--json").out)
    assert {"torch", "device", "HARDNEG_DATA", "problems"} <= set(found)
    assert found["CPU kernels"] in ("numba", "eager")
    assert found["CUDA kernels"] in ("triton", "eager", "no CUDA device")
    assert "torch" in hardneg("doctor").out


COMMANDS = ["train", "resume", "evaluate", "recommend", "predict", "tune", "ls", "doctor", "data"]
COMMANDS += ["clusters", "concat"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, hardneg):
    answer = hardneg(command, "--help")
    assert answer.code == 0
    assert "Usage:" in answer.out


def test_help_lists_every_command_without_heavy_imports():
    code = (
        "import sys\n"
        "from hardneg.__main__ import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "assert 'torch' not in sys.modules and 'polars' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


def test_a_closed_pipe_is_no_error(small, runs):
    command = f"{sys.executable} -P -m hardneg data list --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
