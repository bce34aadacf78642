"""Row-sparse optimizers: equal to torch where torch is right, untouched where nothing was asked."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.engine.optim import Adagrad, Adam, AdamW
from hardneg.engine.row_optimizer import merge
from hardneg.engine.schedule import Constant, Cosine, Linear, Steps
from hardneg.models.kernels.native import stable_order

SPECS = [Adam(lr=0.01), AdamW(lr=0.01, weight_decay=0.1), Adagrad(lr=0.05)]
TORCH = {
    Adam: lambda p, s: torch.optim.Adam(p, lr=s.lr, betas=s.betas, eps=s.eps),
    AdamW: lambda p, s: torch.optim.AdamW(
        p, lr=s.lr, betas=s.betas, eps=s.eps, weight_decay=s.weight_decay
    ),
    Adagrad: lambda p, s: torch.optim.Adagrad(p, lr=s.lr, eps=s.eps),
}
specs = pytest.mark.parametrize("spec", SPECS, ids=lambda s: type(s).__name__)


def sparse(ids, values, num_rows):
    shape = (num_rows, *values.shape[1:])
    return torch.sparse_coo_tensor(ids[None], values, shape, check_invariants=True)


@specs
def test_dense_gradients_step_as_torch_does(spec):
    mine = [torch.randn(7, 5).requires_grad_(), torch.randn(3).requires_grad_()]
    theirs = [p.detach().clone().requires_grad_() for p in mine]
    a, b = spec.build(mine), TORCH[type(spec)](theirs, spec)
    for _ in range(20):
        for p, q in zip(mine, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        a.step(), b.step()
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@specs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_equals_dense_when_every_row_is_touched(spec, dtype):
    torch.manual_seed(1)
    mine = torch.randn(11, 6, dtype=dtype).requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    a, b = spec.build([mine]), TORCH[type(spec)]([theirs], spec)
    for _ in range(25):
        ids = torch.cat([torch.randperm(11), torch.randint(11, (30,))])  # many duplicates
        mine.grad = sparse(ids, torch.randn(41, 6, dtype=dtype), 11)
        theirs.grad = mine.grad.to_dense()
        a.step(), b.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@specs
def test_untouched_rows_stay_bit_for_bit_and_rows_run_on_their_own_clock(spec):
    torch.manual_seed(2)
    table = torch.randn(9, 4).requires_grad_()
    before = table.detach().clone()
    optimizer = spec.build([table])
    alone = before[3:4].clone().requires_grad_()  # row 3 on its own, stepped densely when touched
    reference = TORCH[type(spec)]([alone], spec)
    for step in range(12):
        ids = torch.tensor([3, 3, 5]) if step % 3 == 0 else torch.tensor([5])
        table.grad = sparse(ids, torch.randn(len(ids), 4), 9)
        if step % 3 == 0:
            alone.grad = table.grad.to_dense()[3:4]
            reference.step()
        optimizer.step()
    others = torch.tensor([0, 1, 2, 4, 6, 7, 8])
    assert torch.equal(table[others], before[others])
    for name, value in optimizer.state[table].items():
        assert not value[others].any(), name
    torch.testing.assert_close(table[3:4], alone, rtol=1e-6, atol=1e-6)


@specs
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40), n=st.integers(0, 90))
def test_the_compiled_pass_equals_the_torch_path(spec, seed, rows, n):
    generator = torch.Generator().manual_seed(seed)
    fast = torch.randn(rows, 3, generator=generator).requires_grad_()
    # A transposed copy is not contiguous, which sends it down the torch path.
    slow = fast.detach().t().contiguous().t().requires_grad_()
    a, b = spec.build([fast]), spec.build([slow])
    for _ in range(3):
        ids = torch.randint(rows, (n,), generator=generator)
        gradient = sparse(ids, torch.randn(n, 3, generator=generator), rows)
        fast.grad, slow.grad = gradient, gradient.coalesce() if seed % 2 else gradient
        a.step(), b.step()
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 2, 3)])
def test_duplicates_are_summed_before_the_step(shape):
    values = torch.randn(3, *shape[1:])
    tables = [torch.ones(shape).requires_grad_() for _ in range(2)]
    tables[0].grad = sparse(torch.tensor([4, 1, 4]), values, 6)
    tables[1].grad = sparse(
        torch.tensor([1, 4]), torch.stack([values[1], values[0] + values[2]]), 6
    )
    for table in tables:
        Adam().build([table]).step()
    assert torch.equal(*tables)


def test_merge_repeats_the_last_row_in_spare_slots():
    rows, total = merge(sparse(torch.tensor([4, 1, 4, 4]), torch.eye(4), 6))
    assert rows.tolist() == [1, 4, 4, 4]
    assert total[0].tolist() == [0, 1, 0, 0]
    assert total[1:].tolist() == [[1, 0, 1, 1]] * 3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(0, 300), bits=st.integers(0, 24))
def test_radix_order_is_the_stable_order(seed, n, bits):
    ids = np.random.default_rng(seed).integers(0, 1 << bits, n)
    got, order = stable_order(ids, 1 << bits)
    np.testing.assert_array_equal(order, np.argsort(ids, kind="stable"))
    np.testing.assert_array_equal(got, np.sort(ids))


def test_an_autograd_step_touches_only_the_rows_it_read():
    table = torch.randn(50, 8).requires_grad_()
    before = table.detach().clone()
    optimizer = Adam(lr=0.1).build([table])
    loss = F.embedding(torch.tensor([3, 9]), table, sparse=True).sum()
    (loss + F.embedding(torch.tensor([9]), table, sparse=True).sum()).backward()
    optimizer.step()
    assert (table != before).any(1).nonzero().squeeze(1).tolist() == [3, 9]
    torch.testing.assert_close(table[3], before[3] - 0.1)  # the first Adam step is one rate


def test_dense_and_sparse_gradients_may_alternate():
    torch.manual_seed(3)
    mine = torch.randn(5, 2).requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    a, b = Adam(lr=0.1).build([mine]), torch.optim.Adam([theirs], lr=0.1)
    for step in (0, 1, 1, 0, 1):
        theirs.grad = torch.randn(5, 2)
        mine.grad = sparse(torch.arange(5), theirs.grad, 5) if step else theirs.grad.clone()
        a.step(), b.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_a_parameter_without_gradient_is_left_alone():
    idle, busy = torch.ones(4, 2).requires_grad_(), torch.ones(2).requires_grad_()
    optimizer = AdamW().build([idle, busy])
    busy.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(idle, torch.ones(4, 2))
    assert idle not in optimizer.state


@specs
def test_a_saved_state_goes_on_bit_for_bit(spec):
    def run(tables, optimizer, steps):
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            ids = torch.randint(20, (13,), generator=generator)
            tables[0].grad = sparse(ids, torch.randn(13, 4, generator=generator), 20)
            tables[1].grad = torch.randn(4, generator=generator)
            optimizer.step()

    whole = [torch.ones(20, 4).requires_grad_(), torch.ones(4).requires_grad_()]
    run(whole, spec.build(whole), range(10))
    first = [torch.ones(20, 4).requires_grad_(), torch.ones(4).requires_grad_()]
    optimizer = spec.build(first)
    run(first, optimizer, range(6))
    saved = copy.deepcopy(optimizer.state_dict())
    second = [p.detach().clone().requires_grad_() for p in first]
    resumed = spec.build(second)
    resumed.load_state_dict(saved)
    for key, state in saved["state"].items():
        for name, value in state.items():
            loaded = resumed.state_dict()["state"][key][name]
            assert loaded.dtype == value.dtype
            assert torch.equal(loaded, value)
    run(second, resumed, range(6, 10))
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Adam(lr=-1), r"lr=-1 is outside"),
        (lambda: Adam(betas=(0.9, 1.0)), r"betas\[1\]=1.0"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay"),
        (lambda: Cosine(warmup=2), "warmup=2"),
        (lambda: Steps(at=(60,)), "at=60"),
    ],
)
def test_bad_values_are_named(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_schedules_start_and_end_where_they_say():
    assert [Constant()(p) for p in (0.0, 0.5, 1.0)] == [1, 1, 1]
    assert [Linear()(p) for p in (0.0, 0.5, 1.0)] == [1, 0.5, 0]
    assert [Linear(warmup=0.5, final=0.2)(p) for p in (0.0, 0.25, 0.5, 1.0)] == [0, 0.5, 1, 0.2]
    assert [Cosine()(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    assert [Cosine(warmup=0.2, final=0.1)(p) for p in (0.1, 0.2, 0.6, 1.0)] == pytest.approx(
        [0.5, 1, 0.55, 0.1]
    )
    assert [Steps()(p) for p in (0.0, 0.59, 0.6, 0.85, 1.0)] == pytest.approx(
        [1, 1, 0.3, 0.09, 0.09]
    )
    assert Linear(warmup=1.0)(1.0) == 1.0


def test_a_schedule_sets_the_rate_from_the_first_rate():
    optimizer = Adagrad(lr=0.5).build([torch.ones(1).requires_grad_()])
    schedule = Cosine()
    schedule.apply(optimizer, 0.5)
    assert schedule.apply(optimizer, 0.5) == pytest.approx(0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


def test_specifications_print_as_they_are_written():
    assert repr(Adam(lr=0.01)) == "Adam(lr=0.01, betas=(0.9, 0.999), eps=1e-08)"
    assert repr(Steps()) == "Steps(at=(0.6, 0.85), factor=0.3)"


COMPILER = """
import sys, torch
from hardneg.engine.optim import Adagrad, Adam, AdamW
for make in (Adam, AdamW, Adagrad):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = make().build([weight])
    weight.sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""


def test_optimizers_do_without_the_compiler_of_torch():
    """It takes a second to load, at every start."""
    command = [sys.executable, "-P", "-c", COMPILER]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
