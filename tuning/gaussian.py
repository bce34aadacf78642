"""A Gaussian process through a family's finished trials: what lies between them, how surely.

The kernel is a product over knobs, s² Π_j m(|x_j - x'_j| / l_j), with m of Matérn 5/2 for numbers
and exp(-[x ≠ x'] / l) for choices. So the average over the other knobs, as the trials had them, is
again Gaussian, and its mean and covariance are exact given the lengths. Lengths, size and noise are
those most likely after the trials (maximum a posteriori); that they are not known exactly is left
out.

n trials · d knobs · g places to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from optuna.trial import FrozenTrial
from scipy.optimize import minimize
from torch import Tensor

from .axis import Axis
from .evidence import quality

MOST = 300  # trials it is fitted on; of more, evenly spaced ones
MEAN = 1.0  # prior variance of the constant, in units of the values' own
SMALL = 1e-6
# log of lengths, size and noise (as shares of the values' variance): mean and sd of their priors
LENGTH, SIZE, NOISE = (np.log(0.6), 0.9), (0.0, 1.0), (np.log(0.05), 1.5)


class Effect(NamedTuple):
    """What quality is on average at g places, its covariance (g, g), its sd far from trials."""

    mean: np.ndarray
    covariance: np.ndarray
    unknown: float

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations (g,)."""
        return np.sqrt(np.clip(np.diag(self.covariance), 0.0, None))

    def against(self, place: int) -> np.ndarray:
        """Return the sd of the difference of every place to one of them (g,)."""
        own, shared = np.diag(self.covariance), self.covariance[:, place]
        return np.sqrt(np.clip(own + own[place] - 2 * shared, 0.0, None))


class GaussianProcess:
    """Fitted on construction.

    Args:
        axes: the d knobs.
        points: (n, d) their places, see `Axis.unit`.
        values: (n,) quality.
    """

    def __init__(self, axes: Sequence[Axis], points: np.ndarray, values: np.ndarray) -> None:
        self.axes = list(axes)
        if len(values) > MOST:
            kept = np.linspace(0, len(values) - 1, MOST).round().astype(int)
            points, values = points[kept], values[kept]
        self.points = torch.from_numpy(np.ascontiguousarray(points, dtype=float))
        self.centre, self.scale = float(values.mean()), float(values.std()) or 1.0
        self.values = torch.from_numpy((values - self.centre) / self.scale)
        self._distances = [self._apart(j, self.points[:, j]) for j in range(len(self.axes))]
        self.settings = self._fit()
        self.lengths, self.size, self.noise = self._read(self.settings)
        factors = [self._factor(j, d) for j, d in enumerate(self._distances)]
        self._factors = factors
        total = self.size * torch.stack(factors).prod(0) + MEAN
        total = total + (self.noise + SMALL) * torch.eye(len(self.values), dtype=torch.float64)
        self._root = torch.linalg.cholesky(total)
        self._solved = torch.cholesky_solve(self.values[:, None], self._root)[:, 0]

    @property
    def spread(self) -> float:
        """What trials differ by that no knob explains, as a standard deviation of quality."""
        return self.scale * float(self.noise) ** 0.5

    def effect(self, knobs: Sequence[int], places: np.ndarray) -> Effect:
        """Return quality as a function of some knobs, averaged over the others' values in trials.

        Args:
            knobs: which.
            places: (g, len(knobs)) in units.
        """
        own = torch.ones(len(places), len(self.values), dtype=torch.float64)
        among = torch.ones(len(places), len(places), dtype=torch.float64)
        for column, j in enumerate(knobs):
            at = torch.from_numpy(np.ascontiguousarray(places[:, column], dtype=float))
            own = own * self._factor(j, self._apart(j, at, self.points[:, j]))
            among = among * self._factor(j, self._apart(j, at))
        rest = torch.ones_like(self._factors[0])
        for j, factor in enumerate(self._factors):
            if j not in knobs:
                rest = rest * factor
        cross = self.size * own * rest.mean(0) + MEAN
        prior = self.size * among * rest.mean() + MEAN
        mean = cross @ self._solved
        covariance = prior - cross @ torch.cholesky_solve(cross.T, self._root)
        unknown = self.scale * float(self.size * rest.mean()) ** 0.5
        found = self.centre + self.scale * mean.numpy()
        return Effect(found, self.scale**2 * covariance.numpy(), unknown)

    def _apart(self, j: int, left: Tensor, right: Tensor | None = None) -> Tensor:
        """Return how far places of a knob are from each other."""
        right = left if right is None else right
        gap = (left[:, None] - right[None, :]).abs()
        return (gap > 0).double() if self.axes[j].discrete else gap

    def _factor(self, j: int, gap: Tensor, length: Tensor | None = None) -> Tensor:
        r = gap / (self.lengths[j] if length is None else length)
        if self.axes[j].discrete:
            return torch.exp(-r)
        r = 5**0.5 * r
        return (1 + r + r * r / 3) * torch.exp(-r)

    def _read(self, settings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = settings.exp()
        return found[:-2], found[-2], found[-1]

    def _fit(self) -> Tensor:
        """Return the logs of lengths, size and noise that are the most likely."""
        d = len(self.axes)
        prior = torch.tensor([LENGTH] * d + [SIZE, NOISE], dtype=torch.float64)
        eye = torch.eye(len(self.values), dtype=torch.float64)

        def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
            settings = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            lengths, size, noise = self._read(settings)
            total = size * torch.ones_like(eye)
            for j, gap in enumerate(self._distances):
                total = total * self._factor(j, gap, lengths[j])
            root, info = torch.linalg.cholesky_ex(total + MEAN + (noise + SMALL) * eye)
            if info.any():
                return 1e10, np.zeros_like(x)
            white = torch.linalg.solve_triangular(root, self.values[:, None], upper=False)
            fit = 0.5 * (white * white).sum() + root.diagonal().log().sum()
            belief = 0.5 * (((settings - prior[:, 0]) / prior[:, 1]) ** 2).sum()
            total_cost = fit + belief
            total_cost.backward()
            assert settings.grad is not None
            return total_cost.item(), settings.grad.numpy()

        starts = [np.array([length] * d + [0.0, noise]) for length, noise in
                  ((np.log(0.6), np.log(0.05)), (np.log(0.2), np.log(0.005)))]  # fmt: skip
        bounds = [(-4.0, 4.0)] * d + [(-5.0, 5.0), (-12.0, 2.0)]
        found = [minimize(cost, s, jac=True, method="L-BFGS-B", bounds=bounds) for s in starts]
        return torch.from_numpy(min(found, key=lambda f: f.fun).x)


def process_of(trials: Sequence[FrozenTrial], axes: Sequence[Axis]) -> GaussianProcess:
    """Fit one to finished trials of a family."""
    kept = [t for t in trials if np.isfinite(quality(t))]
    columns: list[Any] = [axis.unit([t.params[axis.name] for t in kept]) for axis in axes]
    return GaussianProcess(axes, np.stack(columns, 1), np.array([quality(t) for t in kept]))
