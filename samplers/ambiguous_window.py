"""Neither too easy nor too hard. M predictions · K candidates in · k candidates out."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from .base import Ask
from .choice import Choice, gumbel
from .schedules import Hardness, Number, check_range, value_of


class AmbiguousWindow(Choice):
    r"""Draw k candidates of each row that score about as much as the positive, or b beside it.

    .. math:: \pi_{mj} \propto \exp\!\big(-a\,(s_{mj} - s^+_m - b)^2\big)

    Without replacement. The window is centred at :math:`s^+ + b`: b < 0 looks *below* the positive,
    away from what is probably a positive nobody has marked yet. The published formula writes
    ``-b`` as here, while the published code adds b, so its ``b=1`` is our ``b=-1``. a = 0 is
    a uniform choice from the pool, a large a keeps the k nearest to the centre. `log_q` is dropped.
    Scores are compared after the temperature of the similarity: with ``Cosine(0.1)`` a distance of
    1 is 0.1 of cosine.

    Args:
        a: narrowness of the window, at least 0; may be a schedule.
        b: offset of the centre from the positive's score; 0 or below is meant, above is allowed.
        num: k, candidates kept; a schedule may move it. A pool of fixed size must hold k.

    Shapes: scores (M, K) -> ids, scores, valid (M, k), in the order they were drawn.
    Cost: (M, K) random numbers and one `topk`.
    Source: Zhou et al. 2022, SimANS, arXiv:2210.11773.
    """

    def __init__(
        self,
        a: Annotated[Number, FloatDistribution(0.05, 5.0, log=True)] = 0.5,
        b: Annotated[Number, FloatDistribution(-3.0, 0.0)] = 0.0,
        num: Annotated[int | Hardness, IntDistribution(1, 256, log=True)] = 16,
    ) -> None:
        super().__init__(num)
        self.a = check_range(a, "a", "AmbiguousWindow", 0)
        self.b = check_range(b, "b", "AmbiguousWindow")

    def keys(self, scores: Tensor, ask: Ask) -> Tensor:
        """Perturb the log-probabilities of the window."""
        assert ask.positive_score is not None
        centre = ask.positive_score.detach()[:, None] + value_of(self.b, self.epoch)
        noise = gumbel(scores, ask.generator)
        return noise - value_of(self.a, self.epoch) * (scores - centre).square()
