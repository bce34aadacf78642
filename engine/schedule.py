"""How the learning rate moves while training runs: multipliers over progress in [0, 1]."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution

from ..datasets.errors import UsageError

Share = Annotated[float, FloatDistribution(0.0, 1.0)]


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"{name}={value!r} is outside [0, 1]; it is a share of the training run")


@dataclass(frozen=True)
class Schedule:
    """A multiplier of the optimizer's rate, as a function of progress only.

    A run that is stopped and resumed asks for the same progress and gets the same rates.
    """

    def __call__(self, progress: float) -> float:
        """Progress in [0, 1] -> the multiplier."""
        raise NotImplementedError

    def apply(self, optimizer: torch.optim.Optimizer, progress: float) -> float:
        """Set every group's rate to its first rate times the multiplier, which is returned."""
        multiplier = self(min(max(progress, 0.0), 1.0))
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        return multiplier


@dataclass(frozen=True)
class Constant(Schedule):
    """One rate throughout."""

    def __call__(self, progress: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Linear(Schedule):
    """Rise from 0 over the first `warmup` of the run, then fall in a straight line to `final`."""

    warmup: Share = 0.0
    final: Share = 0.0

    def __post_init__(self) -> None:
        """Check the shares."""
        _check_share("warmup", self.warmup)
        _check_share("final", self.final)

    def __call__(self, progress: float) -> float:
        """Progress in [0, 1] -> the multiplier."""
        if progress < self.warmup:
            return progress / self.warmup
        rest = (progress - self.warmup) / (1.0 - self.warmup) if self.warmup < 1.0 else 0.0
        return self.final + (1.0 - self.final) * self.shape(rest)

    def shape(self, rest: float) -> float:
        """Share of the run after the warm-up, in [0, 1] -> what falls from 1 to 0."""
        return 1.0 - rest


@dataclass(frozen=True)
class Cosine(Linear):
    """Like `Linear`, but falling along half a cosine (Loshchilov and Hutter 2017, no restarts)."""

    def shape(self, rest: float) -> float:
        """Share of the run after the warm-up, in [0, 1] -> what falls from 1 to 0."""
        return 0.5 + 0.5 * math.cos(math.pi * rest)


@dataclass(frozen=True)
class Steps(Schedule):
    """Multiply by `factor` whenever progress passes one of the points `at`."""

    at: tuple[float, ...] = (0.6, 0.85)
    factor: Share = 0.3

    def __post_init__(self) -> None:
        """Check that the points are shares."""
        for point in self.at:
            _check_share("at", point)
        _check_share("factor", self.factor)

    def __call__(self, progress: float) -> float:
        """Progress in [0, 1] -> the multiplier."""
        return self.factor ** sum(progress >= point for point in self.at)
