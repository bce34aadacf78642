"""Files of weights and state: any nesting there and back, foreign files named, no pickle."""

import ast
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import hardneg
from hardneg.datasets.errors import DataError, ResourceError
from hardneg.engine import checkpoint

ROOT = Path(hardneg.__file__).parent
PACKAGES = ("datasets", "samplers", "models", "engine", "tuning")

tensors = st.builds(
    lambda shape, dtype: torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]),
)
trees = st.recursive(
    tensors | st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def equal(left, right):
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return type(left) is type(right) and left == right


@given(st.dictionaries(st.text(max_size=4), trees, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "tree.safetensors"
    checkpoint.save(path, tree)
    assert equal(checkpoint.load(path), tree)


def test_keys_that_look_like_paths_do_not_collide(tmp_path):
    tree = {"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1), "": {"a": {"b": torch.ones(2)}}}
    checkpoint.save(tmp_path / "x", tree)
    assert equal(checkpoint.load(tmp_path / "x"), tree)


def test_tied_and_strided_tensors_are_written_whole(tmp_path):
    table = torch.arange(12.0).reshape(3, 4)
    checkpoint.save(tmp_path / "x", {"table": table, "tied": table, "view": table.T[1:]})
    found = checkpoint.load(tmp_path / "x")
    assert torch.equal(found["view"], table.T[1:])
    assert torch.equal(found["tied"], found["table"])


@pytest.mark.parametrize("share", [0, 7, 8, 50, 99])
def test_every_truncation_is_noticed(tmp_path, share):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"a": torch.randn(100)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * share // 100 if share > 8 else share])
    with pytest.raises(DataError, match=r"x\.safetensors: truncated or damaged"):
        checkpoint.load(path)


def test_files_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"format": "pt"})
    with pytest.raises(DataError, match="not a hardneg file \\(format 'pt'\\)"):
        checkpoint.load(path)
    save_file({"a": torch.zeros(1)}, path, {"format": checkpoint.FORMAT, "tree": "{"})
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(path)
    tree = json.dumps({"$dict": [["w", {"$tensor": ".gone"}]]})
    save_file({"a": torch.zeros(1)}, path, {"format": checkpoint.FORMAT, "tree": tree})
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"a": torch.zeros(1)})

    def full(*args):
        raise checkpoint.SafetensorError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ResourceError, match="free some space"):
        checkpoint.save(path, {"a": torch.ones(1)})
    assert torch.equal(checkpoint.load(path)["a"], torch.zeros(1))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_weights_of_another_model_are_named():
    model = nn.Linear(2, 3)
    with pytest.raises(DataError, match=r"f: weight 'bias' is absent in the file, \(3,\) in the"):
        checkpoint.load_weights(model, {"weight": torch.zeros(3, 2)}, Path("f"))
    wrong = {"weight": torch.zeros(9, 2), "bias": torch.zeros(3)}
    with pytest.raises(DataError, match=r"weight 'weight' is \(9, 2\) in the file, \(3, 2\)"):
        checkpoint.load_weights(model, wrong, Path("f"))


def test_buffers_come_back_in_whatever_shape_they_have_grown_to():
    module = nn.Sequential(nn.Identity())
    module[0].register_buffer("grown", torch.empty(0), persistent=False)
    saved = {"0.grown": torch.arange(5.0)}
    checkpoint.restore_values(module, saved)
    assert torch.equal(module[0].grown, saved["0.grown"])
    assert equal(checkpoint.values(module), saved)


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {("torch", "load"), ("torch", "save"), ("pd", "read_pickle")}


def dangers(tree):
    """Yield what could run code out of a file or a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from {a.name.split(".")[0] for a in node.names} & FORBIDDEN_MODULES
        elif isinstance(node, ast.ImportFrom):
            yield from {(node.module or "").split(".")[0]} & FORBIDDEN_MODULES
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from {node.func.id} & FORBIDDEN_NAMES
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from {(node.value.id, node.attr)} & FORBIDDEN_METHODS
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield from [] if getattr(node.value, "value", True) is False else ["allow_pickle"]


def test_nothing_unpickles_or_evaluates():
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    assert len(files) > 60
    found = {
        str(p): list(dangers(ast.parse(p.read_text()))) for p in [*files, ROOT / "__main__.py"]
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from dill import loads", "eval('1')", "torch.load(f)", "f(allow_pickle=x)"],
)
def test_the_search_for_dangers_finds_them(code):
    assert list(dangers(ast.parse(code)))
