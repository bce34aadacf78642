"""Optimizers whose steps cost what the gradient names.

n gradient rows, duplicates allowed · V table rows · D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from ..datasets import compiled
from ..models.kernels.native import stable_order
from .optim_kernels import adagrad_rows, adam_rows


class RowOptimizer(torch.optim.Optimizer):
    """Routes each gradient: dense ones together, row-sparse ones row by row."""

    # Torch wraps these so that its compiler passes over them, and loads the compiler to say so:
    # 1.2 s of every start, and 70 MB, for what nothing here uses.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every parameter that has a gradient; the others are not even read."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            dense = []
            for table in group["params"]:
                if table.grad is None:
                    continue
                sparse = table.grad.is_sparse
                if not self.state[table]:
                    self.state[table].update(self.initial(table, sparse))
                if sparse or self.by_row(self.state[table]):
                    self.step_rows(table, table.grad, self.state[table], group)
                else:
                    dense.append(table)
            if dense:
                self.step_dense(dense, group)
        return loss

    def initial(self, table: Tensor, sparse: bool) -> dict[str, Tensor]:
        """Return the state of a parameter before its first step."""
        raise NotImplementedError

    def by_row(self, state: dict[str, Tensor]) -> bool:
        """Say whether a parameter with this state must be stepped by row even when dense."""
        return False

    def step_dense(self, tables: list[Tensor], group: dict[str, Any]) -> None:
        """Step parameters with dense gradients."""
        raise NotImplementedError

    def step_rows(
        self, table: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        """Step the rows a gradient names."""
        raise NotImplementedError


class RowAdam(RowOptimizer):
    """Adam and AdamW; see `optim.Adam` for what lazy means.

    State: ``step`` is float32 (as torch keeps it when fused, exact up to 2^24): one number for a
    dense parameter, (V,) for a table that ever had a row-sparse gradient.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        # "fused" also tells torch's load_state_dict to keep `step` in float32.
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "fused": True, "initial_lr": lr,
        }  # fmt: skip
        super().__init__(parameters, defaults)

    def initial(self, table: Tensor, sparse: bool) -> dict[str, Tensor]:
        """Return zero moments and zero counts."""
        shape = table.shape[:1] if sparse else ()
        zeros = torch.zeros_like(table, memory_format=torch.preserve_format)
        step = torch.zeros(shape, dtype=torch.float32, device=table.device)
        return {"step": step, "exp_avg": zeros, "exp_avg_sq": zeros.clone()}

    def by_row(self, state: dict[str, Tensor]) -> bool:
        """Say whether rows have their own clocks."""
        return state["step"].dim() == 1

    def step_dense(self, tables: list[Tensor], group: dict[str, Any]) -> None:
        """Step as torch does, fused."""
        states = [self.state[table] for table in tables]
        adam(
            tables,
            [table.grad for table in tables],  # type: ignore[misc]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled_weight_decay=True,
        )

    def step_rows(
        self, table: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        """Step the rows a gradient names; on the CPU one compiled pass, elsewhere torch."""
        if state["step"].dim() == 0:
            state["step"] = state["step"].expand(len(table)).clone()
        tensors = (table, state["exp_avg"], state["exp_avg_sq"])
        if _compiled(*tensors):
            ids, order, values = _sorted_rows(gradient)
            kernel: Any = adam_rows
            kernel(
                ids, order, values, *map(_matrix, tensors), state["step"].numpy(),
                float(group["lr"]), *group["betas"], group["eps"], group["weight_decay"],
                compiled.num_threads(),
            )  # fmt: skip
        else:
            adam_rows_torch(table, gradient, state, group)


def adam_rows_torch(
    table: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> None:
    """Step the rows a gradient names, on any device; the oracle of the compiled pass."""
    rows, g = merge(gradient)
    beta1, beta2 = group["betas"]
    count = state["step"][rows] + 1
    state["step"].index_copy_(0, rows, count)
    count = count.view(-1, *[1] * (table.dim() - 1))
    mean = state["exp_avg"][rows].lerp_(g, 1 - beta1)
    square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(g, g, value=1 - beta2)
    state["exp_avg"].index_copy_(0, rows, mean)
    state["exp_avg_sq"].index_copy_(0, rows, square)
    # The corrections are taken in double precision: 1 - beta2 is lost to rounding otherwise.
    size = (group["lr"] / (1 - beta1 ** count.double())).to(table.dtype)
    root = (1 - beta2 ** count.double()).rsqrt().to(table.dtype)
    move = size * mean / (square.sqrt() * root + group["eps"])
    value = table[rows].mul_(1 - group["lr"] * group["weight_decay"]).sub_(move)
    table.index_copy_(0, rows, value)


class RowAdagrad(RowOptimizer):
    """Adagrad, the same in both routes."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, eps: float) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps, "initial_lr": lr})

    def initial(self, table: Tensor, sparse: bool) -> dict[str, Tensor]:
        """Return the zero sum of squares."""
        return {"sum": torch.zeros_like(table, memory_format=torch.preserve_format)}

    def step_dense(self, tables: list[Tensor], group: dict[str, Any]) -> None:
        """Step whole parameters."""
        for table in tables:
            total, g = self.state[table]["sum"], table.grad
            assert g is not None
            total.addcmul_(g, g)
            table.addcdiv_(g, total.sqrt().add_(group["eps"]), value=-group["lr"])

    def step_rows(
        self, table: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        """Step the rows a gradient names; on the CPU one compiled pass, elsewhere torch."""
        if _compiled(table, state["sum"]):
            ids, order, values = _sorted_rows(gradient)
            kernel: Any = adagrad_rows
            kernel(
                ids, order, values, _matrix(table), _matrix(state["sum"]),
                float(group["lr"]), group["eps"], compiled.num_threads(),
            )  # fmt: skip
            return
        rows, g = merge(gradient)
        total = state["sum"][rows].addcmul_(g, g)
        state["sum"].index_copy_(0, rows, total)
        move = g / total.sqrt().add_(group["eps"])
        table.index_copy_(0, rows, table[rows].sub_(move, alpha=group["lr"]))


def merge(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient -> (rows (n,), summed gradient rows (n, ...)), without asking the host for a size.

    Slots left over by duplicates repeat the last merged row, so copying them back is harmless.
    """
    if not gradient.is_sparse:
        return torch.arange(len(gradient), device=gradient.device), gradient
    ids, values = gradient._indices()[0], gradient._values()
    if gradient.is_coalesced() or len(ids) == 0:
        return ids, values
    ids, order = ids.sort(stable=True)
    first = torch.ones_like(ids)
    first[1:] = ids.diff().ne(0)
    segment = first.cumsum(0) - 1
    total = torch.zeros_like(values).index_add_(0, segment, values[order])
    slot = torch.arange(len(ids), device=ids.device).minimum(segment[-1])
    rows = torch.zeros_like(ids).index_copy_(0, segment, ids)
    return rows[slot], total[slot]


def _compiled(*tensors: Tensor) -> bool:
    return compiled.available() and all(
        t.device.type == "cpu" and t.is_contiguous() and t.dtype in (torch.float32, torch.float64)
        for t in tensors
    )


def _matrix(tensor: Tensor) -> np.ndarray:
    """(V, ...) -> (V, D), the same memory."""
    return tensor.detach().view(len(tensor), -1).numpy()


def _sorted_rows(gradient: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient -> sorted ids (n,), where each one's values stand (n,), and the values (n, D)."""
    if not gradient.is_sparse:
        every = np.arange(len(gradient))
        return every, every, gradient.contiguous().view(len(gradient), -1).numpy()
    ids = gradient._indices()[0].contiguous().numpy()
    gradients = gradient._values().contiguous()
    values = gradients.view(len(ids), gradients[:1].numel() or 1).numpy()
    if gradient.is_coalesced():
        return ids, np.arange(len(ids)), values
    return *stable_order(ids, len(gradient)), values
