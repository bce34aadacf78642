"""Synthetic hard negatives. M predictions · K candidates · k made · H hop tables · D width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..datasets.batch import ungroup
from ..datasets.errors import UsageError
from .base import Ask, Live, Negatives, NegativeSampler, Refiner
from .choice import greatest
from .cosines import products
from .pools import check_num
from .schedules import Hardness, Number, check_range, value_of, whole_of


class Mix(Refiner):
    r"""Make negatives that are no candidates: mixed with the positive, or with each other.

    .. math:: \text{positive:} \quad \tilde n = \frac{1}{H} \sum_{h} \bigl( a_h\, p^{(h)} +
        (1 - a_h)\, n^{(h)}_{j_h} \bigr), \qquad
        j_h = \mathrm{argmax}_j\, a_{jh}\, s(p^{(h)}) + (1 - a_{jh})\, s(n_j^{(h)})

    .. math:: \text{pairs:} \quad \tilde n = a\, n_i + (1 - a)\, n_j, \qquad
        i \ne j \text{ among the hardest}

    *Positive* mixing draws a for every row, candidate and hop; *hop* mixing takes each hop of the
    synthetic negative from the candidate that is hardest there. Hops are the tables whose mean a
    graph model ranks with; other models have one. Made columns 1 to k come from k equal runs of
    the pool, so ``Uniform(64, pools="own") | Mix(1)`` is MixGCF with its default pool. Its code
    draws one a for all candidates of a row and hop, which leaves the argmax as it is without a.

    How hard a mixture is within a hop is read off (M, K) scores, since an inner product of a
    mixture is the mixture of the inner products. With one hop these are the model's own scores: for
    `Dot` exact, for distances a lower bound (they are convex), for `Cosine` near enough to choose
    by. With several hops they are inner products with q, as in the paper.

    Choices are detached; the gradient flows through the made vectors into q, into the candidates
    and, as in the authors' code, into the positive, which a mixture pushes away a little.

    Limits: a = 1 gives s- = s+ (BPR loses log 2 and has no gradient in the positive); a = 0 with
    one hop is `TopK(1)`, dynamic negative sampling, and of a pool of one plain uniform BPR.

    Args:
        num: k, columns made.
        of: "positive" (MixGCF) or "pairs" (MixKG, MoCHi).
        low: a is uniform between this and `high`.
        high: both from 0 to 1.
        among: for "pairs", how many of the hardest valid candidates of a row take part. Each of
            the three may be a schedule.
        keep: whether the pool stays, behind the made columns.

    Shapes: scores (M, K) -> (M, k), or (M, k + K); ids are those of a candidate that took part (of
        hop 0, or the larger share), for reports; there is no `log_q`.
    Cost: with H > 1 hops H (M, K) inner products and H graph products, gathered at most 16 MiB, or
        one group's pool, at a time; always a few (M, k, D) for made vectors, 4 M k D bytes each,
        2 H + 3 of them until the step ends, and twice as much in the gradient of a leaf table.
        Never (M, K, D).
    Source: Huang et al. 2021, MixGCF, sections 3.1 and 3.2; Kalantidis et al. 2020, MoCHi,
        arXiv:2010.01028, equation 4; Che et al. 2022, MixKG, arXiv:2202.09606.
    """

    num: int | None

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 64, log=True)] = 1,
        of: Literal["positive", "pairs"] = "positive",
        low: Annotated[Number, FloatDistribution(0.0, 1.0)] = 0.0,
        high: Annotated[Number, FloatDistribution(0.0, 1.0)] = 1.0,
        among: Annotated[int | Hardness, IntDistribution(2, 256, log=True)] = 32,
        keep: bool = False,
    ) -> None:
        super().__init__()
        self.made = check_num(num, "Mix")
        self.num = None if keep else self.made
        if of not in ("positive", "pairs"):
            raise UsageError(f"of={of!r} in Mix is unknown; use 'positive' or 'pairs'")
        check_range(among, "among", "Mix", 1)
        self.low = check_range(low, "low", "Mix", 0, 1)
        self.high = check_range(high, "high", "Mix", 0, 1)
        self.of, self.among, self.keep = of, among, keep

    def follow(self, source: NegativeSampler) -> None:
        """Check k against what comes before, and say how many columns there are then."""
        if self.of == "positive" and getattr(source, "loose", False):
            raise UsageError(
                f"Mix(of='positive') needs candidates of the table, and some of "
                f"{type(source).__name__}'s are vectors without a row; use of='pairs', or another "
                "proposal"
            )
        pool = getattr(source, "num", None)
        if not isinstance(pool, int):
            return
        if self.of == "positive" and self.made > pool:
            raise UsageError(
                f"num={self.made} in Mix exceeds the pool of {pool}, of which each made column "
                f"takes an own part; raise {source.width_name} in {type(source).__name__} or lower "
                "num in Mix"
            )
        self.num = self.made + pool * self.keep

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Make k columns and score them, with gradient."""
        assert ask.live is not None
        mix = self._of_pairs if self.of == "pairs" else self._of_positive
        vectors, named = mix(negatives, scores, ask, ask.live)
        made = ask.live.score(vectors)  # (M, k)
        ids = ungroup(negatives.ids, len(scores))
        valid, weight = negatives.valid, negatives.weight
        picked = Negatives(
            ids.gather(1, named),
            None,
            None if valid is None else valid.gather(1, named),
            None if weight is None else weight.gather(1, named),
        )
        if not self.keep:
            return picked, made
        both = Negatives(
            torch.cat([picked.ids, ids], 1),
            None,
            None if picked.valid is None or valid is None else torch.cat([picked.valid, valid], 1),
            None
            if picked.weight is None or weight is None
            else torch.cat([picked.weight, weight], 1),
            negatives.vectors,  # still those of the last columns
        )
        return both, torch.cat([made, scores], 1)

    def _share(self, like: Tensor, ask: Ask) -> Tensor:
        """Draw a, uniform between `low` and `high`."""
        low, high = value_of(self.low, self.epoch), value_of(self.high, self.epoch)
        u = torch.rand(like.shape, generator=ask.generator, device=like.device, dtype=like.dtype)
        return low + (high - low) * u

    def _of_positive(
        self, negatives: Negatives, scores: Tensor, ask: Ask, live: Live
    ) -> tuple[Tensor, Tensor]:
        """Return vectors (M, k, D), and the columns (M, k) that hop 0 came from."""
        tables = live.hops()
        tables = (live.nodes,) if len(tables) == 1 else tables
        assert negatives.vectors is None  # `follow` refuses what proposes them
        M, K = scores.shape
        made = min(self.made, K)
        run = K // made
        first = torch.arange(made, device=scores.device) * run
        ids = ungroup(negatives.ids, M)
        valid = None if negatives.valid is None else negatives.valid[:, : made * run]
        total: Tensor | float = 0.0
        columns = []
        for table, own, other in self._hop_scores(tables, negatives, scores, ask, live):
            share = self._share(other[:, : made * run], ask)
            hard = torch.lerp(other[:, : made * run], own[:, None], share)
            hard = hard if valid is None else hard.masked_fill(~valid, -torch.inf)
            at = hard.view(M, made, run).argmax(2) + first  # (M, k)
            columns.append(at)
            share = share.gather(1, at)[:, :, None]
            right, wrong = _rows(table, ask.positive)[:, None], _rows(table, ids.gather(1, at))
            total = total + torch.lerp(wrong, right, share)
        assert isinstance(total, Tensor)
        return total / len(tables), columns[0]

    @staticmethod
    def _hop_scores(
        tables: tuple[Tensor, ...], negatives: Negatives, scores: Tensor, ask: Ask, live: Live
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give each hop's table, the positive's score (M,) and the pool's (M, K), both detached."""
        if len(tables) == 1:
            assert ask.positive_score is not None
            yield tables[0], ask.positive_score.detach(), scores.detach()
            return
        q = live.q.detach()
        for table in tables:
            frozen = table.detach()
            own = (q * frozen[ask.positive]).sum(1)
            yield table, own, products(q, frozen, negatives.ids)

    def _of_pairs(
        self, negatives: Negatives, scores: Tensor, ask: Ask, live: Live
    ) -> tuple[Tensor, Tensor]:
        """Return vectors (M, k, D), and the columns (M, k) that have the larger share."""
        M, K = scores.shape
        valid = negatives.valid
        hardest = greatest(scores.detach(), valid, whole_of(self.among, self.epoch))  # (M, A)
        count = scores.new_full((M, 1), hardest.shape[1])
        if valid is not None:
            count = valid.gather(1, hardest).sum(1, keepdim=True).clamp_min(1).to(scores.dtype)
        shape = scores.new_empty(M, self.made)
        u, v = torch.rand(
            (2, *shape.shape), generator=ask.generator, device=scores.device, dtype=scores.dtype
        )
        i = torch.minimum((u * count).floor(), count - 1)
        # j is another one where there is another one.
        step = 1 + torch.minimum((v * (count - 1)).floor(), (count - 2).clamp_min(0))
        j = torch.remainder(i + step, count)
        one, two = (hardest.gather(1, at.long()) for at in (i, j))
        share = self._share(shape, ask)
        right, wrong = (_columns(negatives, live, at, M, K) for at in (one, two))
        vectors = torch.lerp(wrong, right, share[:, :, None])
        return vectors, torch.where(share >= 0.5, one, two)


def _rows(table: Tensor, ids: Tensor) -> Tensor:
    """(V, D), (...) -> (..., D); a leaf gets a row-sparse gradient, as everywhere in a step."""
    return F.embedding(ids, table, sparse=table.is_leaf and table.requires_grad)


def _columns(negatives: Negatives, live: Live, at: Tensor, M: int, K: int) -> Tensor:
    """Columns (M, k) -> what they were scored against, (M, k, D)."""
    rows = _rows(live.nodes, ungroup(negatives.ids, M).gather(1, at))
    if negatives.vectors is None:
        return rows
    first = K - len(negatives.vectors)
    loose = negatives.vectors[(at - first).clamp_min(0)].to(rows.dtype)
    return torch.where((at >= first)[:, :, None], loose, rows)
