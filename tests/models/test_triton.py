"""Triton kernels against the eager oracle: on CUDA, and in Triton's interpreter on the CPU.

The interpreter accepts what the compiler refuses, so the kernels are also compiled for a GPU, which
needs none. The interpreter needs TRITON_INTERPRET=1 before Triton is imported, so the last test
runs this file once more in a process of its own; every test that has a device takes "cpu" there.
"""

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets.errors import SlowWarning
from hardneg.models import kernels
from hardneg.models.kernels import eager, gpu
from hardneg.models.similarity import Cosine, Distance, Dot

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KINDS = ("dot", "l1", "l2", "complex")
EXAMPLES = 12 if INTERPRETED else 100
SIZES = st.tuples(
    st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 5, 11]),
    st.integers(1, 12), st.sampled_from([2, 6, 34]), st.integers(0, 1000), st.booleans(),
)  # fmt: skip


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cpu" and not INTERPRETED:
        pytest.skip("needs TRITON_INTERPRET=1, which the last test sets")
    if request.param == "cuda" and (INTERPRETED or not torch.cuda.is_available()):
        pytest.skip("needs a CUDA device")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "DEVICE", request.param)
        gpu._load.cache_clear()
        assert gpu.reason() == ""
        yield request.param
    gpu._load.cache_clear()


def problem(M, G, K, C, D, device, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    q, table = torch.randn(M, D, generator=g), torch.randn(C, D, generator=g)
    ids = torch.randint(C, (min(G, M), K), generator=g)
    if M and K:
        q[0] = table[ids[0, 0]]  # a difference of exactly 0
    weight = torch.randn(M, K, generator=g)
    q, table = (x.to(device, dtype).requires_grad_() for x in (q, table))
    return q, table, ids.to(device), weight.to(device)


def oracle(kind, q, table, ids, weight):
    q, table = (x.detach().double().requires_grad_() for x in (q, table))
    scores = eager.scores(kind, q, table, ids)
    return scores, *torch.autograd.grad((scores * weight).sum(), (q, table))


def compare(kind, q, table, ids, weight, sparse=False, rtol=1e-4, atol=1e-4):
    launch = gpu.kernels(q, table)
    scores = launch.scores(kind, q, table, ids, sparse)
    to_q, to_table = torch.autograd.grad((scores * weight).sum(), (q, table))
    assert to_table.is_sparse == sparse
    assert (to_q.dtype, to_table.dtype) == (q.dtype, table.dtype)
    want = oracle(kind, q, table, ids, weight)
    torch.testing.assert_close(scores.double(), want[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(to_q.double(), want[1], rtol=rtol, atol=atol)
    torch.testing.assert_close(to_table.to_dense().double(), want[2], rtol=rtol, atol=atol)
    return to_table


@given(SIZES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_scores_and_gradients_equal_the_oracle(device, case):
    """Shared, ragged, own pools, duplicates, widths that are no power of two."""
    kind, M, G, K, C, D, seed, sparse = case
    compare(kind, *problem(M, G, K, C, D, device, seed=seed), sparse)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [(9, 2, 11, 4, 10), (5, 5, 7, 3, 6)])
def test_many_blocks_runs_and_splits(device, kind, layout, monkeypatch):
    """With tiny blocks, small problems go around every loop and over every edge."""
    launch = gpu.kernels(torch.empty(0, device=device))
    if not INTERPRETED:
        layout = tuple(13 * x for x in layout)
    else:
        monkeypatch.setattr(launch, "block", lambda *_: launch.Block(2, 2, 4))
        monkeypatch.setattr(launch, "RUN", 3)
        monkeypatch.setattr(
            launch, "_splits", lambda programs, length, unit, _: (-(-length // 4), 4)
        )
    compare(kind, *problem(*layout, device), sparse=True)


@pytest.mark.parametrize("popular", [1.0, 0.7, 0.0])
def test_a_popular_candidate_is_summed_over_runs(device, popular, monkeypatch):
    launch = gpu.kernels(torch.empty(0, device=device))
    monkeypatch.setattr(launch, "RUN", 4)
    q, table, ids, weight = problem(5, 5, 8, 30, 6, device)
    mark = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)).to(device) < popular
    ids[mark] = 17
    gradient = compare("l1", q, table, ids, weight, sparse=True)
    index = gradient._indices()[0]
    assert len(index) == min(ids.numel(), len(table))
    assert (index.diff() >= 0).all()
    assert set(index.tolist()) == set(ids.flatten().tolist())  # left-over slots name no other row
    again = compare("l1", q, table, ids, weight, sparse=True)
    assert torch.equal(gradient._values(), again._values())  # nothing is added atomically


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pools", [[[0, 2, 2]], [[1, 1], [2, 0], [3, 3]]])
def test_gradients_are_those_of_differences(device, kind, pools):
    launch = gpu.kernels(torch.empty(0, device=device))
    g = torch.Generator().manual_seed(1)
    q = torch.randn(3, 4, generator=g, dtype=torch.float64).to(device).requires_grad_()
    table = torch.randn(4, 4, generator=g, dtype=torch.float64).to(device).requires_grad_()
    ids = torch.tensor(pools, device=device)
    assert torch.autograd.gradcheck(
        lambda q, t: launch.scores(kind, q, t, ids), (q, table), fast_mode=INTERPRETED
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("kind", "G"), [("complex", 1), ("l2", 3), ("dot", 6)])
def test_half_precision_is_summed_in_float32(device, dtype, kind, G):
    """The scores are those of the rounded inputs; only gradients are rounded again."""
    q, table, ids, weight = problem(6, G, 3, 5, 34, device, dtype)
    eps = torch.finfo(dtype).eps
    compare(kind, q, table, ids, weight, rtol=eps, atol=eps)
    mixed = q.detach().float().requires_grad_()  # as under autocast
    compare(kind, mixed, table, ids, weight, rtol=eps, atol=eps)


@pytest.mark.parametrize("kind", KINDS)
def test_no_ids_mean_the_whole_table(device, kind):
    q, table, _, _ = problem(5, 1, 1, 11, 6, device)
    weight = torch.ones(5, 11, device=device)
    scores = kernels.scores(kind, q, table, None)
    got = (scores, *torch.autograd.grad((scores * weight).sum(), (q, table)))
    every = torch.arange(11, device=device)[None]
    for ours, theirs in zip(got, oracle(kind, q, table, every, weight), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("M", "G", "K"), [(0, 1, 3), (3, 1, 0), (3, 3, 0), (0, 0, 2)])
def test_nothing_to_score(device, M, G, K):
    q, table, ids, weight = problem(M, G, K, 5, 6, device)
    launch = gpu.kernels(q)
    for sparse in (False, True):
        scores = launch.scores("complex", q, table, ids, sparse)
        assert scores.shape == (M, K)
        to_q, to_table = torch.autograd.grad((scores * weight).sum(), (q, table))
        assert to_q.shape == q.shape
        assert not to_q.any()
        assert not to_table.to_dense().any()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in the interpreter
def test_a_diverged_query_is_seen(device):
    q, table, ids, weight = problem(6, 1, 3, 5, 4, device)
    with torch.no_grad():
        q[2], q[3] = float("nan"), float("inf")
    for kind in KINDS:
        scores = kernels.scores(kind, q, table, ids)
        assert torch.isfinite(scores).all(1).tolist() == [True, True, False, False, True, True]
        (to_q,) = torch.autograd.grad((scores * weight).sum(), q)
        assert kind == "dot" or to_q[2].isnan().all()


@pytest.mark.parametrize("similarity", [Dot(0.5), Cosine(), Distance(p=1), Distance(p=2)], ids=str)
def test_similarities_give_a_leaf_row_sparse_gradients(device, similarity):
    q, table, ids, weight = problem(6, 6, 3, 50, 4, device)
    scores = similarity(q, table, ids)
    (sparse,) = torch.autograd.grad((scores * weight).sum(), table)
    assert sparse.is_sparse
    assert sparse._values().shape[0] <= ids.numel()
    computed = table * 1
    (dense,) = torch.autograd.grad((similarity(q, computed, ids) * weight).sum(), computed)
    assert not dense.is_sparse
    torch.testing.assert_close(sparse.to_dense(), dense)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "DEVICE", "none")
        torch.testing.assert_close(scores, similarity(q, table, ids))


def test_no_host_sync_in_finding_places(device):
    launch = gpu.kernels(torch.empty(0, device=device))
    found = launch.places(torch.empty(3, 5, dtype=torch.int64, device="meta"))
    assert [x.shape for x in found] == [(15,)] * 3
    found = launch.places(torch.tensor([[3, 1], [3, 0]]))
    assert [x.tolist() for x in found] == [[0, 1, 3, 3], [3, 1, 0, 2], [0, 1, 2, 2]]


@pytest.mark.parametrize("error", ["No module named 'triton'", "boo\n\nFailed to find C compiler."])
def test_without_triton_the_eager_path_answers_and_says_so(monkeypatch, error):
    def fail(*_):
        raise RuntimeError(error)

    q, table, ids, _ = problem(6, 1, 3, 5, 4, "cpu")
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "import_module", fail)
    gpu._load.cache_clear()
    gpu._warn.cache_clear()
    reason = error.splitlines()[-1].rstrip(".")
    try:
        with pytest.warns(SlowWarning, match="CUDA run in plain PyTorch") as caught:
            got = kernels.pooled("l1", q, table, ids)
        [said] = caught
        assert f"({reason}); it needs the triton" in str(said.message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kernels.pooled("l1", q, table, ids)  # once is enough
        assert gpu.reason() == reason
    finally:
        gpu._load.cache_clear()
        gpu._warn.cache_clear()
    torch.testing.assert_close(got, eager.scores("l1", q, table, ids))


IDS = ("ids", "candidate", "order", "segment", "slots")
COUNTS = ("M", "K", "size", "step", "places", "n")
OWN = {"size": 1, "BM": 1}  # Triton compiles a count of 1 as a constant
VARIANTS = {
    "forward": [{}, OWN, {**OWN, "K": 1}, {"ids": None}],
    "backward_query": [{}, OWN, {"ids": None}],
    "backward_pool": [{}, {"ids": None}],
    "pull_rows": [{}, OWN],
    "sum_rows": [{}],
    "join": [{}],
}


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton: pip install triton")
@pytest.mark.parametrize("name", VARIANTS)
def test_kernels_compile_for_a_gpu(name):
    import triton
    from triton.backends.compiler import GPUTarget

    from hardneg.models.kernels import launch

    scores, places = launch.triton_scores, launch.triton_places
    kernel = getattr(scores, name, None) or getattr(places, name)
    blocks = {"BM": 4, "BK": 4, "BD": 16, "RUN": 4}
    fixed = {"D": 34, "KIND": 3, "ACC": triton.language.float32, **blocks}
    for variant in VARIANTS[name]:
        chosen = {**fixed, "WHOLE": "ids" in variant, **variant}
        signature = {}
        for argument in kernel.arg_names:
            pointer = "*i64" if argument in IDS else "*fp32"
            kind = "i32" if argument in COUNTS else pointer
            signature[argument] = "constexpr" if argument in chosen else kind
        constants = {(at,): chosen[a] for at, a in enumerate(kernel.arg_names) if a in chosen}
        source = triton.compiler.ASTSource(kernel, signature, constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        assert "sm_90" in compiled.asm["ptx"]


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton: pip install triton")
def test_in_the_interpreter():
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-4000:]
