"""A random choice of the hard ones. M predictions · K candidates in · k candidates out."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from .base import Ask
from .choice import Choice, gumbel
from .schedules import Hardness, Number, check_range, value_of


class GumbelTopK(Choice):
    r"""Draw k candidates of each row without replacement, likelier the higher they score.

    .. math:: J_m = \mathrm{topk}_j\,(s_{mj} / T + g_{mj}), \quad g \sim \text{Gumbel}(0, 1)

    The first pick has the probabilities :math:`\mathrm{softmax}_j(s_{mj} / T)`, each further one
    those of what is left. T = 0 is `TopK`, a large T a uniform choice. `log_q` is dropped: the
    inclusion probabilities of more than one draw have no closed form.

    Args:
        num: k, candidates kept; a schedule may move it. A pool of fixed size must hold k.
        temperature: T, of the draw, on top of that of the similarity; may be a schedule.

    Shapes: scores (M, K) -> ids, scores, valid (M, k), in the order they were drawn.
    Cost: (M, K) random numbers and one `topk`.
    Source: Kool et al. 2019, Stochastic Beams, arXiv:1903.06059 (Gumbel top-k).
    """

    def __init__(
        self,
        num: Annotated[int | Hardness, IntDistribution(1, 256, log=True)] = 16,
        temperature: Annotated[Number, FloatDistribution(0.05, 20.0, log=True)] = 1.0,
    ) -> None:
        super().__init__(num)
        self.temperature = check_range(temperature, "temperature", "GumbelTopK", 0)

    def keys(self, scores: Tensor, valid: Tensor | None, ask: Ask) -> Tensor:
        """Perturb the tempered scores."""
        temperature = value_of(self.temperature, self.epoch)
        if temperature == 0:
            return scores
        # Scaling the noise, not the scores, keeps a temperature near 0 from overflowing.
        return scores + temperature * gumbel(scores, ask.generator)
