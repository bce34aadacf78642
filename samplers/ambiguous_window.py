"""Neither too easy nor too hard. M predictions · K candidates in · k candidates out."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from .base import Ask
from .choice import Choice, gumbel
from .schedules import Hardness, Number, check_range, value_of, whole_of


class AmbiguousWindow(Choice):
    r"""Draw k candidates of each row that score about as much as the positive, or b beside it.

    .. math:: \pi_{mj} \propto \exp\!\big(-a\,(s_{mj} - s^+_m - b)^2\big) \,/\, |B(s_{mj})|

    Without replacement. The window is centred at :math:`s^+ + b`: b < 0 looks *below* the positive,
    away from what is probably a positive nobody has marked yet. The published formula writes
    ``-b`` as here, while the published code adds b, so its ``b=1`` is our ``b=-1``. a = 0 is
    a uniform choice from the pool, a large a keeps the k nearest to the centre. `log_q` is dropped.
    Scores are compared after the temperature of the similarity: with ``Cosine(0.1)`` a distance of
    1 is 0.1 of cosine.

    With `bins` the margins of a row, from the least to the greatest among its valid candidates, are
    cut into bins of equal width, and a candidate counts 1 / |B|, B being those in its bin. So
    ``AmbiguousWindow(a=0, num=1, bins=10)`` picks a bin that is not empty, then any candidate in
    it: the margin bins of TAS-B, of the model's own margins instead of a teacher's. In a pool most
    candidates are easy and few are not; bins show all degrees of hardness alike. One bin is none.

    Args:
        a: narrowness of the window, at least 0; may be a schedule.
        b: offset of the centre from the positive's score; 0 or below is meant, above is allowed.
        num: k, candidates kept; a schedule may move it. A pool of fixed size must hold k.
        bins: of equal width, at least 1; may be a schedule. For k > 1 each pick takes its candidate
            out, and the others keep the weights they had.

    Shapes: scores (M, K) -> ids, scores, valid (M, k), in the order they were drawn.
    Cost: (M, K) random numbers and one `topk`; (M, bins) counts.
    Source: Zhou et al. 2022, SimANS, arXiv:2210.11773; Hofstätter et al. 2021, TAS-B,
        arXiv:2104.06967, for the bins.
    """

    def __init__(
        self,
        a: Annotated[Number, FloatDistribution(0.05, 5.0, log=True)] = 0.5,
        b: Annotated[Number, FloatDistribution(-3.0, 0.0)] = 0.0,
        num: Annotated[int | Hardness, IntDistribution(1, 256, log=True)] = 16,
        bins: Annotated[int | Hardness, IntDistribution(1, 32, log=True)] = 1,
    ) -> None:
        super().__init__(num)
        self.a = check_range(a, "a", "AmbiguousWindow", 0)
        self.b = check_range(b, "b", "AmbiguousWindow")
        check_range(bins, "bins", "AmbiguousWindow", 1)
        self.bins = bins

    def keys(self, scores: Tensor, valid: Tensor | None, ask: Ask) -> Tensor:
        """Perturb the log-probabilities of the window."""
        assert ask.positive_score is not None
        centre = ask.positive_score.detach()[:, None] + value_of(self.b, self.epoch)
        keys = gumbel(scores, ask.generator)
        keys = keys - value_of(self.a, self.epoch) * (scores - centre).square()
        num = whole_of(self.bins, self.epoch)
        return keys - _crowd(scores, valid, num).log() if num > 1 else keys


def _crowd(scores: Tensor, valid: Tensor | None, num: int) -> Tensor:
    """(M, K) scores -> how many valid ones share the bin of each, of `num` bins a row, (M, K)."""
    valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid
    scores = scores.float()  # half precision does not count beyond 256
    low = scores.masked_fill(~valid, torch.inf).amin(1, keepdim=True)
    high = scores.masked_fill(~valid, -torch.inf).amax(1, keepdim=True)
    place = (scores - low) / (high - low).clamp_min(torch.finfo(scores.dtype).tiny) * num
    # Rows without a valid one have no range; what is not valid has no bin that counts.
    at = place.nan_to_num(0.0, num - 1, 0.0).clamp(0, num - 1).long()
    count = scores.new_zeros(len(scores), num).scatter_add_(1, at, valid.to(scores.dtype))
    return count.gather(1, at).clamp_min(1)
