"""Hard negatives where the positive is easy, and the reverse. M predictions · K -> k candidates."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from .base import Ask
from .choice import Choice
from .schedules import Hardness, Number, check_range, value_of

LEAST = 1e-2  # of s+ + alpha: below it a negative power would leave any score behind


class Adaptive(Choice):
    r"""Keep the k valid candidates whose score is nearest to a target that falls as s+ rises.

    .. math:: J_m = \mathrm{argmin}^{(k)}_j\,
        \left| s_{mj} - \beta\, (s^+_m + \alpha)^{p + 1} \right|, \qquad p < -1

    A positive the model already ranks high gets easy negatives, one it ranks low gets hard ones.
    p = -1 makes the target beta for every row, and the farther below, the steeper it is. The power
    needs s+ + alpha above 0: it is clamped to .01 from below, where the target is as hard as it
    gets. So choose alpha to lift the scores above 0 (1 / temperature for `Cosine`); distances with
    a large margin gamma are positive while they matter.

    Args:
        num: k, candidates kept. Each of the four may be a schedule.
        alpha: shift of the positive's score.
        beta: scale of the target; 0 takes the scores nearest to 0.
        p: from -10 to -1.

    Shapes: scores (M, K) -> ids, scores, valid (M, k); every row then has its own pool.
    Cost: one `topk` over (M, K), nothing is scored again.
    Source: Lai et al. 2024, AHNS, arXiv:2401.05191; k = 1, p = -2 and alpha from .1 to 1 in code.
    """

    def __init__(
        self,
        num: Annotated[int | Hardness, IntDistribution(1, 256, log=True)] = 1,
        alpha: Annotated[Number, FloatDistribution(0.0, 10.0)] = 1.0,
        beta: Annotated[Number, FloatDistribution(0.0, 10.0)] = 1.0,
        p: Annotated[Number, FloatDistribution(-4.0, -1.0)] = -2.0,
    ) -> None:
        super().__init__(num)
        self.alpha = check_range(alpha, "alpha", "Adaptive")
        self.beta = check_range(beta, "beta", "Adaptive", 0)
        self.p = check_range(p, "p", "Adaptive", -10, -1)  # above -1 the target would rise

    def keys(self, scores: Tensor, valid: Tensor | None, ask: Ask) -> Tensor:
        """Return minus the distance to the target."""
        assert ask.positive_score is not None
        lifted = ask.positive_score.detach() + value_of(self.alpha, self.epoch)
        power = value_of(self.p, self.epoch) + 1
        target = value_of(self.beta, self.epoch) * lifted.clamp_min(LEAST).pow(power)
        return -(scores - target[:, None]).abs()
