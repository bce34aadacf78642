"""Candidates near the query but not near its positive. M predictions · K negatives · D width."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .base import Ask, Negatives
from .cosines import cosines
from .guard import Guard


class TwoCondition(Guard):
    r"""Keep candidates that are nearer to the query than the positive is, and than they are to it.

    .. math:: \mathrm{keep}_{mj} = [\, \cos(q_m, t_j) > \cos(q_m, t_{p_m}) \,] \cdot
        [\, \cos(q_m, t_j) > \cos(t_{p_m}, t_j) \,]

    The first condition asks for hardness, the second drops twins of the positive, which are likely
    to be right answers. The source states both with cosine distances d = 1 - cos between a query Q,
    its positive PD and a document D: d(Q, D) < d(Q, PD) and d(Q, D) < d(PD, D). Queries and
    candidates must live in one space, as they do for every model here; the cosine is taken whatever
    the similarity.

    The source leaves a query without a passing document out. Here a row is never emptied: the valid
    candidate with the greatest cos(q, t) - cos(p, t) stays.

    Args:
        closer: whether to ask for the first condition; without it easy candidates stay.

    Shapes: query (M, D), ids (G, K), table (N, D) -> valid (M, K).
    Cost: O(M K D) twice a step, with at most 16 MiB of gathered rows at a time or one group's pool
        where that is more.
    Source: Meghwani et al. 2025, equations 1 and 2; arXiv:2505.18366.
    """

    def __init__(self, closer: bool = True) -> None:
        super().__init__()
        self.closer = closer

    def judge(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
        """Compare three cosines."""
        positive = ask.table[ask.positive]
        near = cosines(ask.query, ask.table, negatives)
        twin = cosines(positive, ask.table, negatives) - near
        drop = twin >= 0
        if self.closer:
            own = F.cosine_similarity(ask.query, positive, dim=-1)[:, None]
            drop = drop | (near <= own)
        return twin, drop
