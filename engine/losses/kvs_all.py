"""All known answers of a query at once. M predictions · N candidates · C columns of a chunk."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...datasets.positives import Positives
from ...datasets.training import Training
from ...models.base import Similarity
from . import chunks
from .base import TableLoss

HELD = 8  # float32 tensors (M, C) alive at a time: scores, slope, its product, mask and its search


class KvsAll(TableLoss):
    r"""Ask for every known positive of the row among all candidates, a chunk at a time.

    .. math:: \text{bce: } L_m = \frac1N \sum_{j=1}^N \big[\mathrm{softplus}(s_{mj})
        - y_{mj} s_{mj}\big], \qquad
        \text{kl: } L_m = \log \sum_j e^{s_{mj}} - \sum_j y_{mj} s_{mj}

    y is 1 at each known training positive of the row and 0 elsewhere ("bce"), or that over their
    number ("kl"), after which y becomes :math:`(1 - \epsilon) y + \epsilon / N`. The entropy
    of y, a constant, is left out of "kl": with one positive it is `FullSoftmax`. A query comes once
    for each of its positives, so queries with many count more.

    Args:
        form: yes or no for each candidate, or a distribution over them.
        label_smoothing: epsilon; 1 forgets the positives and asks for constant scores.
        budget_mb: megabytes that chunks of scores may take.

    Cost: 4 products of (M, D) by (D, N) for dot products, and a look-up of M N pairs twice.
    Source: Dettmers et al. 2018, arXiv:1707.01476; Ruffinelli et al. 2020 (the comparison).
    """

    def __init__(
        self,
        form: Literal["bce", "kl"] = "bce",
        label_smoothing: Annotated[float, FloatDistribution(0.0, 0.3)] = 0.0,
        budget_mb: float = 64,
    ) -> None:
        super().__init__()
        if form not in ("bce", "kl"):
            raise UsageError(f"form={form!r} in KvsAll; use 'bce' or 'kl'")
        if not 0 <= label_smoothing <= 1:
            raise UsageError(
                f"label_smoothing={label_smoothing} in KvsAll is outside [0, 1]; choose inside"
            )
        self.form = form
        self.label_smoothing = float(label_smoothing)
        self.budget_mb = chunks.check_budget(budget_mb, "KvsAll")
        self.known: Positives | None = None

    def prepare(self, training: Training) -> None:
        """Take the known positives of every row."""
        self.known = training.known

    def forward(
        self,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        row: Tensor | None = None,
    ) -> Tensor:
        """(M, D), (N, D), (M,), (M,) rows -> (M,)."""
        if self.known is None or row is None:
            raise UsageError(
                "KvsAll needs the row of every prediction and the known positives; call prepare "
                "with Training(..., known=...) and pass row="
            )
        kind = _YesNo if self.form == "bce" else _Shares
        rule = kind(self.known, row, self.label_smoothing, len(table))
        width = chunks.width(self.budget_mb, HELD, len(q), len(table))
        return chunks.over_table(q, table, similarity, rule, width)


class _Answers:
    """What both rules need: the target of a chunk, and its inner product with the scores."""

    def __init__(self, known: Positives, row: Tensor, smoothing: float, N: int) -> None:
        self.known, self.row, self.smoothing, self.N = known, row, smoothing, N
        # What one known positive gets, (M, 1) or (1, 1), in a precision that does not round it.
        self.per_answer = torch.full((1, 1), 1 - smoothing, dtype=torch.float64, device=row.device)
        self.agreed: Tensor | float = 0.0  # (M,) sum of target times score

    def target(self, scores: Tensor, first: int) -> Tensor:
        """(M, C) scores -> (M, C) target in their precision."""
        ids = torch.arange(first, first + scores.shape[1], device=scores.device)
        answers = self.known.contains(self.row, ids[None]).to(scores.dtype)
        return answers * self.per_answer.to(scores.dtype) + self.smoothing / self.N

    def agree(self, scores: Tensor, first: int) -> None:
        self.agreed = self.agreed + (self.target(scores, first) * scores).sum(1)


class _YesNo(_Answers):
    """Binary cross-entropy, mean over the candidates."""

    def __init__(self, known: Positives, row: Tensor, smoothing: float, N: int) -> None:
        super().__init__(known, row, smoothing, N)
        self.total: Tensor | float = 0.0

    def see(self, scores: Tensor, first: int) -> None:
        self.agree(scores, first)
        self.total = self.total + F.softplus(scores).sum(1)

    def value(self) -> Tensor:
        loss = (self.total - self.agreed) / self.N
        assert isinstance(loss, Tensor)
        return loss

    def slope(self, scores: Tensor, first: int) -> Tensor:
        return (scores.sigmoid() - self.target(scores, first)).div_(self.N)


class _Shares(_Answers):
    """Cross-entropy with the share of every known positive."""

    def __init__(self, known: Positives, row: Tensor, smoothing: float, N: int) -> None:
        super().__init__(known, row, smoothing, N)
        start, stop = known.bounds(row)
        # A row without a positive has no target but the smoothing.
        self.per_answer = self.per_answer / (stop - start).clamp_min(1)[:, None]
        self.lse = chunks.RunningLogSumExp()

    def see(self, scores: Tensor, first: int) -> None:
        self.agree(scores, first)
        self.lse.add(scores)

    def value(self) -> Tensor:
        assert self.lse.value is not None
        return self.lse.value - self.agreed

    def slope(self, scores: Tensor, first: int) -> Tensor:
        return self.lse.softmax(scores).sub_(self.target(scores, first))
