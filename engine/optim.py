"""Optimizers that step only what a batch touched.

A recipe writes ``Adam(lr=1e-3)``: a small specification that `build` turns into a
`torch.optim.Optimizer`. Dense gradients are stepped as torch does. Row-sparse gradients (COO over
the first dimension, duplicates allowed) step only the rows they name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from .row_optimizer import RowAdagrad, RowAdam

Rate = Annotated[float, FloatDistribution(1e-5, 1e-1, log=True)]
Decay = Annotated[float, FloatDistribution(1e-6, 1e-1, log=True)]


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise UsageError(f"{name}={value!r} is outside [{low:g}, {high:g}); choose a value inside")


@dataclass(frozen=True)
class Optim:
    """What a recipe says about the optimizer."""

    lr: Rate = 1e-3

    def __post_init__(self) -> None:
        """Check the rate."""
        _check("lr", self.lr, 0.0, float("inf"))

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer for these parameters."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adam(Optim):
    r"""Adam, lazy on row-sparse gradients.

    Each row of a table runs on its own clock: an untouched row keeps value and moments bit for bit,
    and bias correction uses how often the row was stepped, not how often the optimizer was. With
    the global count, a row first met late would start from zero moments that are no longer
    corrected and move by :math:`(1-\beta_1)/\sqrt{1-\beta_2} \approx 3` rates at its first step and
    over 6 at its tenth; on its own clock it moves by one. When every row is touched at every step,
    both agree with dense Adam.

    Source: Kingma and Ba 2015, Adam, algorithm 1.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        _check("betas[0]", self.betas[0], 0.0, 1.0)
        _check("betas[1]", self.betas[1], 0.0, 1.0)
        _check("eps", self.eps, 0.0, float("inf"))

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer for these parameters."""
        return RowAdam(parameters, self.lr, self.betas, self.eps, 0.0)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay; a row of a sparse table decays when it is stepped.

    Source: Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization.
    """

    weight_decay: Decay = 1e-2

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        _check("weight_decay", self.weight_decay, 0.0, float("inf"))

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer for these parameters."""
        return RowAdam(parameters, self.lr, self.betas, self.eps, self.weight_decay)


@dataclass(frozen=True)
class Adagrad(Optim):
    """Adagrad; being lazy changes nothing, because a zero gradient moves nothing.

    Source: Duchi, Hazan and Singer 2011.
    """

    lr: Rate = 1e-2
    eps: float = 1e-10

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer for these parameters."""
        return RowAdagrad(parameters, self.lr, self.eps)
