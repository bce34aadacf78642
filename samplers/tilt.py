"""Negatives weighted towards the hard ones. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor

from .base import Ask, Negatives, Refiner
from .schedules import Number, check_range, value_of


class Tilt(Refiner):
    r"""Tilt the distribution of the negatives towards those that score high.

    .. math:: w_{mj} = n_m\, \mathrm{softmax}_j(\beta\, s_{mj}), \quad \text{no gradient through } w

    n_m is the number of valid negatives. With `SampledSoftmax` the sum over the negatives becomes
    :math:`\sum_j w_{mj} e^{s_{mj}}`, the hard contrastive loss; put ``Debias(tau_plus)`` after it
    for the whole HCL. beta = 0 is InfoNCE, a large beta :math:`n_m e^{\max_j s_{mj}}`, and the sum
    never falls when beta rises. The paper samples from the tilted distribution, so the weights are
    constants here; its code lets the gradient flow through them as well. beta multiplies the score
    *after* the temperature of the similarity, as in that code: on the cosine it is beta / T. With
    losses that take a mean over the negatives the same weights are `SelfAdversarial`.

    Args:
        beta: the tilt, at least 0; a schedule that lets it fall to 0 guards against negatives that
            are positives nobody has marked.

    Shapes: scores (M, K) -> weight (M, K), log-weights added to those already there.
    Cost: O(M K), no extra scoring.
    Source: Robinson et al. 2021, HCL, arXiv:2010.04592; with labels (H-SCL) the same tilt over the
        negatives a label leaves valid.
    """

    def __init__(self, beta: Annotated[Number, FloatDistribution(0.0, 4.0)] = 1.0) -> None:
        super().__init__()
        self.beta = check_range(beta, "beta", "Tilt", 0)

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Add beta times the detached score to the log-weights."""
        return negatives.weighed(value_of(self.beta, self.epoch) * scores.detach()), scores
