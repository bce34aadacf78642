"""A Gaussian process through a family's finished trials: what lies between them, how surely.

The kernel is a product over knobs, s² Π_j m(|x_j - x'_j| / l_j), with m of Matérn 5/2 for numbers
and exp(-[x ≠ x'] / l) for choices. So the average over the other knobs, as the trials had them, is
again Gaussian, with an exact mean and covariance. Lengths, size and noise are not known: they are
drawn around the most likely ones (Laplace's approximation, each draw weighted by how likely it is
after the trials), and their spread is part of the covariance.

n trials · d knobs · g places to look at · S draws.
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

MOST = 200  # trials it is fitted on; of more, evenly spaced ones
MEAN = 1.0  # prior variance of the constant, in units of the values' own
SMALL = 1e-6
DRAWS = 24
WIDER = 1.2  # the draws' sd, of Laplace's: its tails are too thin
FLATTEST = 0.2  # curvature that is taken for real
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
        draws: S; with none the most likely lengths, size and noise are taken for the true ones.
    """

    def __init__(
        self, axes: Sequence[Axis], points: np.ndarray, values: np.ndarray, draws: int = DRAWS
    ) -> None:
        self.axes = list(axes)
        if len(values) > MOST:
            kept = np.linspace(0, len(values) - 1, MOST).round().astype(int)
            points, values = points[kept], values[kept]
        self.points = torch.from_numpy(np.ascontiguousarray(points, dtype=float))
        self.centre, self.scale = float(values.mean()), float(values.std()) or 1.0
        self.values = torch.from_numpy((values - self.centre) / self.scale)
        self._gaps = [self._apart(j, self.points[:, j]) for j in range(len(self.axes))]
        d = len(self.axes)
        self._prior = torch.tensor([LENGTH] * d + [SIZE, NOISE], dtype=torch.float64)
        settings, self.weight = self._draw(self._fit(), draws)
        self.lengths, self.size, self.noise = _read(settings)
        self._root = torch.linalg.cholesky(self._covariance(settings))
        self._solved = torch.cholesky_solve(self.values[:, None], self._root)[..., 0]

    @property
    def spread(self) -> float:
        """What trials differ by that no knob explains, as a standard deviation of quality."""
        return self.scale * float(self.weight @ self.noise) ** 0.5

    def effect(self, knobs: Sequence[int], places: np.ndarray) -> Effect:
        """Return quality as a function of some knobs, averaged over the others' values in trials.

        Args:
            knobs: which.
            places: (g, len(knobs)) in units.
        """
        own = among = rest = torch.ones(len(self.weight), 1, 1, dtype=torch.float64)
        for column, j in enumerate(knobs):
            at = torch.from_numpy(np.ascontiguousarray(places[:, column], dtype=float))
            own = own * self._factor(j, self._apart(j, at, self.points[:, j]), self.lengths)
            among = among * self._factor(j, self._apart(j, at), self.lengths)
        rest = rest.expand(-1, len(self.values), len(self.values))
        for j, gap in enumerate(self._gaps):
            if j not in knobs:
                rest = rest * self._factor(j, gap, self.lengths)
        size = self.size[:, None, None]
        level = size * rest.mean((1, 2), keepdim=True)
        cross = size * own * rest.mean(1, keepdim=True) + MEAN  # (S, g, n)
        mean = (cross @ self._solved[..., None])[..., 0]
        covariance = level * among + MEAN - cross @ torch.cholesky_solve(cross.mT, self._root)
        centre = self.weight @ mean
        off = mean - centre
        total = (self.weight[:, None, None] * (covariance + off[:, :, None] * off[:, None])).sum(0)
        unknown = self.scale * float(self.weight @ level[:, 0, 0]) ** 0.5
        found = self.centre + self.scale * centre.numpy()
        return Effect(found, self.scale**2 * total.numpy(), unknown)

    def _apart(self, j: int, left: Tensor, right: Tensor | None = None) -> Tensor:
        """Return how far places of a knob are from each other."""
        right = left if right is None else right
        gap = (left[:, None] - right[None, :]).abs()
        return (gap > 0).double() if self.axes[j].discrete else gap

    def _factor(self, j: int, gap: Tensor, lengths: Tensor) -> Tensor:
        """Return a knob's part of the kernel for lengths (..., d)."""
        r = gap / lengths[..., j, None, None]
        if self.axes[j].discrete:
            return torch.exp(-r)
        r = 5**0.5 * r
        return (1 + r + r * r / 3) * torch.exp(-r)

    def _covariance(self, settings: Tensor) -> Tensor:
        """Return that of the trials' values (..., n, n), noise included."""
        lengths, size, noise = _read(settings)
        total = size[..., None, None]
        for j, gap in enumerate(self._gaps):
            total = total * self._factor(j, gap, lengths)
        eye = torch.eye(len(self.values), dtype=torch.float64)
        return total + MEAN + (noise[..., None, None] + SMALL) * eye

    def _cost(self, settings: Tensor) -> Tensor:
        """Return minus the log of how likely logs (..., d + 2) are, but for a constant."""
        root, info = torch.linalg.cholesky_ex(self._covariance(settings))
        white = torch.linalg.solve_triangular(root, self.values[:, None], upper=False)
        fit = 0.5 * (white * white).sum((-1, -2)) + root.diagonal(0, -2, -1).log().sum(-1)
        belief = 0.5 * (((settings - self._prior[:, 0]) / self._prior[:, 1]) ** 2).sum(-1)
        return torch.where(info > 0, 1e10, fit + belief)

    def _fit(self) -> Tensor:
        """Return the logs of lengths, size and noise that are the most likely."""

        def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
            settings = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            found = self._cost(settings)
            (slope,) = torch.autograd.grad(found, settings)
            return found.item(), torch.nan_to_num(slope).numpy()

        d = len(self.axes)
        starts = [np.array([length] * d + [0.0, noise]) for length, noise in
                  ((np.log(0.6), np.log(0.05)), (np.log(0.2), np.log(0.005)))]  # fmt: skip
        bounds = [(-4.0, 4.0)] * d + [(-5.0, 5.0), (-12.0, 2.0)]
        found = [minimize(cost, s, jac=True, method="L-BFGS-B", bounds=bounds) for s in starts]
        return torch.from_numpy(min(found, key=lambda f: f.fun).x)

    def _draw(self, best: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """Return settings (S, d + 2) and their weights (S,); always the same ones."""
        if not draws:
            return best[None], torch.ones(1, dtype=torch.float64)
        bend = torch.autograd.functional.hessian(self._cost, best)
        values, vectors = torch.linalg.eigh(torch.nan_to_num((bend + bend.mT) / 2))
        step = WIDER * vectors / values.clamp(min=FLATTEST).sqrt()
        z = torch.randn(
            draws, len(best), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        settings = best + z @ step.mT
        log = -self._cost(settings) + 0.5 * (z * z).sum(-1)
        weight = (log - log.max()).exp()
        # A weight far above the others would make one draw speak for all (truncated weights).
        weight = weight.clamp(max=float(weight.mean()) * draws**0.5)
        return settings, weight / weight.sum()


def _read(settings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return lengths (..., d), size and noise."""
    found = settings.exp()
    return found[..., :-2], found[..., -2], found[..., -1]


def process_of(trials: Sequence[FrozenTrial], axes: Sequence[Axis]) -> GaussianProcess:
    """Fit one to finished trials of a family."""
    kept = [t for t in trials if np.isfinite(quality(t))]
    columns: list[Any] = [axis.unit([t.params[axis.name] for t in kept]) for axis in axes]
    return GaussianProcess(axes, np.stack(columns, 1), np.array([quality(t) for t in kept]))
