"""Several proposals at once. M predictions · K_i columns of part i · N candidates · G groups."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, NegativeSampler, Proposal


class Mixture(Proposal):
    r"""Put the columns of several proposals side by side.

    .. math:: q(j) = \sum_i K_i\, q_i(j) \Big/ \sum_i K_i

    Which part a column came from does not matter to a loss: a column picked at random follows q,
    and that is what a corrected softmax divides by. There is no `log_q` as soon as one part has
    none. ``Mixture(InBatch(), Uniform(64))`` is mixed negative sampling; without the uniform
    columns it is `InBatch`. ``Mixture(InBatch(), CrossBatch(4096))`` reaches over several batches.

    Parts may differ in their `pools`: each is scored in its own, so a shared pool beside an own one
    is one product for all rows; ids, masks and `log_q` are (M, sum of K_i) numbers then.

    Args:
        first: a proposal.
        second: a proposal.
        third: a proposal, or None.
        fourth: a proposal, or None. A mixture inside a mixture is laid out flat.

    Shapes: ids and log_q (G, sum of K_i), where G is the finer grouping of the parts; columns that
        stand for vectors without a row in the table come last.
    Cost: that of the parts, and each part's `log_prob` for the ids of all.
    Source: Yang et al. 2020, Mixed Negative Sampling, for `InBatch` with `Uniform`.
    """

    def __init__(
        self,
        first: NegativeSampler,  # wider than it takes, so that the refusal below is its own
        second: NegativeSampler,
        third: NegativeSampler | None = None,
        fourth: NegativeSampler | None = None,
    ) -> None:
        super().__init__()
        flat: list[Proposal] = []
        for part in (first, second, third, fourth):
            if isinstance(part, Mixture):
                flat += part.proposals()
            elif isinstance(part, Proposal):
                flat.append(part)
            elif part is not None:
                raise UsageError(
                    f"{type(part).__name__} in Mixture is no proposal; mix proposals only and put "
                    "refiners behind, e.g. Mixture(InBatch(), Uniform(64)) | TopK(16)"
                )
        self.parts = nn.ModuleList(flat)
        self.elastic = any(part.elastic for part in flat)
        self.loose = any(part.loose for part in flat)
        widths = [width for part in flat if isinstance(width := getattr(part, "num", None), int)]
        if len(widths) == len(flat):
            self.num = sum(widths)
        self._split: list[tuple[int, int]] = []  # (K_i, vectors) of the last draw, for `refine`
        self._wanted: list[bool] = []

    def proposals(self) -> list[Proposal]:
        """Return the parts in order."""
        return list(self.parts)  # type: ignore[arg-type]

    def draw(self, ask: Ask) -> Negatives:
        """Draw from every part and join the columns."""
        M, parts = len(ask.positive), self.proposals()
        counts = [part.draws(ask) for part in parts]  # a draw may change them
        drawn = [part.draw(ask) for part in parts]
        sizes = [_size(one.ids, M) for one in drawn]
        self._split = [
            (one.ids.shape[1], 0 if one.vectors is None else len(one.vectors)) for one in drawn
        ]
        ids = self._join([_regroup(one.ids, M, _finest(sizes, M)) for one in drawn])
        full = [k if c is None else c for c, (k, _) in zip(counts, self._split, strict=True)]
        log_q = None
        if all(one.log_q is not None for one in drawn):
            log_q = self._log_q(ask, ids, full, sizes)
        vectors = [one.vectors for one in drawn if one.vectors is not None]
        return Negatives(
            ids,
            log_q,
            self._join_valid([one.valid for one in drawn], M, ids.device),
            self._join_weight(drawn, M, ids.device),
            torch.cat(vectors) if vectors else None,
            self._pools(drawn),
        )

    def _pools(self, drawn: list[Negatives]) -> tuple[Tensor, ...]:
        """Return each part's pools as it drew them: a shared one is scored once for all rows."""
        kept = zip(drawn, self._split, strict=True)
        return tuple(one.ids[:, : k - e] for one, (k, e) in kept if k > e)

    def draws(self, ask: Ask) -> int | Tensor | None:
        """Return the sum of the parts', None when one part does not say."""
        total: int | Tensor = 0
        for part in self.proposals():
            count = part.draws(ask)
            if count is None:
                return None
            total = total + count
        return total

    def _log_q(
        self, ask: Ask, ids: Tensor, counts: list[int | Tensor], sizes: list[int]
    ) -> Tensor | None:
        """(G, K) ids, columns K_i and rows in a group of each part -> (G, K)."""
        M, own, total = len(ask.positive), _size(ids, len(ask.positive)), sum(counts)
        q = torch.zeros((), device=ids.device)
        for part, count, size in zip(self.proposals(), counts, sizes, strict=True):
            log_q = part.log_prob(ask, _merge(ids, M, own, size))  # in the part's own groups
            if log_q is None:
                return None
            q = q + count * log_q.exp().reshape(-1, ids.shape[1])[: len(ids)]
        # Only a column that no part can draw has q = 0: one that stands in a queue not yet filled.
        least = torch.finfo(q.dtype).tiny
        return (q.clamp_min(least) / torch.as_tensor(total, device=q.device).clamp_min(1)).log()

    # ---- columns: those of the table, part by part, then those with vectors ----

    def _join(self, parts: list[Tensor]) -> Tensor:
        """Put (R, K_i) of each part side by side: (R, K)."""
        table = [x[:, : k - e] for x, (k, e) in zip(parts, self._split, strict=True)]
        loose = [x[:, k - e :] for x, (k, e) in zip(parts, self._split, strict=True) if e]
        return torch.cat([x.expand(len(parts[0]), -1) for x in table + loose], 1)

    def _apart(self, whole: Tensor) -> list[Tensor]:
        """(R, K) -> the columns (R, K_i) of each part."""
        table = whole.split([k - e for k, e in self._split] + [e for _, e in self._split], 1)
        n = len(self._split)
        return [torch.cat([table[i], table[n + i]], 1) for i in range(n)]

    def _join_valid(
        self, parts: list[Tensor | None], M: int, device: torch.device
    ) -> Tensor | None:
        if all(valid is None for valid in parts):
            return None
        return self._join(
            [
                torch.ones(M, k, dtype=torch.bool, device=device) if valid is None else valid
                for valid, (k, _) in zip(parts, self._split, strict=True)
            ]
        )

    def _join_weight(self, parts: list[Negatives], M: int, device: torch.device) -> Tensor | None:
        """Join log-weights so that each part keeps the say of its valid columns."""
        if all(part.weight is None for part in parts):
            return None
        joined = []
        for part, (k, _) in zip(parts, self._split, strict=True):
            p = part.probabilities(torch.empty(M, k, device=device))
            p = p * (k if part.valid is None else part.valid.sum(1, keepdim=True))
            joined.append(p.clamp_min(torch.finfo(p.dtype).tiny).log())
        return self._join(joined)

    # ---- what parts do beside drawing ----

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Let each part see its own columns, in case it chooses or learns."""
        parts = self.proposals()
        if all(type(part).refine is NegativeSampler.refine for part in parts):
            return negatives, scores
        M, device = len(scores), scores.device
        n = len(parts)
        ids = self._apart(negatives.ids)
        log_q = [None] * n if negatives.log_q is None else self._apart(negatives.log_q)
        valid = [None] * n if negatives.valid is None else self._apart(negatives.valid)
        weight = [None] * n if negatives.weight is None else self._apart(negatives.weight)
        loose = [e for _, e in self._split]
        vectors = [None] * n if negatives.vectors is None else list(negatives.vectors.split(loose))
        kept, kept_scores = [], []
        for i, (part, column) in enumerate(zip(parts, self._apart(scores), strict=True)):
            its = Negatives(ids[i], log_q[i], valid[i], weight[i], vectors[i] if loose[i] else None)
            its, column = part.refine(its, column, ask)
            kept.append(its)
            kept_scores.append(column)
        self._split = [
            (s.shape[1], 0 if one.vectors is None else len(one.vectors))
            for s, one in zip(kept_scores, kept, strict=True)
        ]
        size = _finest([_size(one.ids, M) for one in kept], M)
        some = [one.vectors for one in kept if one.vectors is not None]
        q = [_regroup(one.log_q, M, size) for one in kept if one.log_q is not None]
        whole = Negatives(
            self._join([_regroup(one.ids, M, size) for one in kept]),
            self._join(q) if len(q) == n else None,
            self._join_valid([one.valid for one in kept], M, device),
            self._join_weight(kept, M, device),
            torch.cat(some) if some else None,
        )
        return whole, self._join(kept_scores)

    def penalty(self) -> Tensor | float:
        """Add up what the parts add to the loss."""
        return sum((part.penalty() for part in self.proposals()), 0.0)

    def advance(self, epoch: float) -> None:
        """Tell every part."""
        self.epoch = epoch
        for part in self.proposals():
            part.advance(epoch)

    def due(self, step: int) -> bool:
        """Say whether any part wants a refresh, and note which."""
        self._wanted = [part.due(step) for part in self.proposals()]
        return any(self._wanted)

    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Refresh the parts that were due; all of them when nobody asked."""
        wanted = self._wanted if any(self._wanted) else [True] * len(self.parts)
        for part, want in zip(self.proposals(), wanted, strict=True):
            if want:
                part.refresh(table, generator)

    def prepare(self, training: Training) -> None:
        """Prepare every part."""
        for part in self.proposals():
            part.prepare(training)


# Groups are runs of `size` rows, as `datasets.batch.ungroup` says; the last may be shorter.


def _size(values: Tensor, num_rows: int) -> int:
    """Return how many rows share a pool."""
    return max(1, -(-num_rows // max(1, len(values))))


def _finest(sizes: list[int], num_rows: int) -> int:
    """Return the greatest number of rows to share a pool that fits in the groups of all parts."""
    size = gcd(*sizes)
    groups = max(1, -(-num_rows // size))
    return size if max(1, -(-num_rows // groups)) == size else 1


def _regroup(values: Tensor, num_rows: int, size: int) -> Tensor:
    """(G_i, K) -> (G, K) for groups of `size` rows, which must fit in those of `values`."""
    own, groups = _size(values, num_rows), max(1, -(-num_rows // size))
    if len(values) == 1:
        return values.expand(groups, -1)
    if own == size:
        return values[:groups]
    return values[torch.arange(groups, device=values.device) * size // own]


def _merge(ids: Tensor, num_rows: int, size: int, coarse: int) -> Tensor:
    """(G, K) -> (G', K * coarse / size): put the columns of fine groups in one coarse group."""
    ratio, groups = coarse // size, max(1, -(-num_rows // coarse))
    if ratio == 1:
        return ids
    at = torch.arange(groups * ratio, device=ids.device).clamp_max(len(ids) - 1)
    return ids[at].reshape(groups, -1)
