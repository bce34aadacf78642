"""Negatives that a second model proposes. M predictions · K negatives · C candidates · D width."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .pools import check_num
from .schedules import Number, check_range, value_of

MEMORY = 0.9  # share of the moving average that a step keeps


class Generator(Proposal):
    r"""Let a small model learn which of some uniform candidates are hard, and draw from it.

    .. math:: \pi_{mj} = \mathrm{softmax}_{j \in C}(\langle q_m A, g_j \rangle / T), \quad
        \nabla = \frac1{MK}\sum_{mk} (r_{mk} - \bar r)\, \nabla \log \pi_{m j_{mk}}

    The reward r is the encoder's score of what was drawn, :math:`\bar r` its moving average. g is
    a table (N, d) and A a map (D, d) that the run's optimizer trains beside the encoder; the
    encoder gets no gradient from it, and the loss shown does not count it. g starts at 0: the
    first draws are uniform. Candidates that are known positives have probability 0.

    ``exact=True`` scores all C candidates and needs neither draws nor a baseline: the generator
    raises :math:`-\sum_j \pi_{mj} \log \sigma(s^+_m - s_{mj})`, the expected loss of telling the
    positive from its candidate, in closed form (AR2, without its distillation).

    Pitfalls: the generator may collapse to few candidates (a large T or a small `learning`
    counters), and what fools the encoder best are positives nobody has marked; follow it with a
    guard or `Debias`. Rewards are noisy: more draws help. With the encoder itself as generator the
    expectation over its draws is what `SelfAdversarial` computes without sampling.

    Args:
        num: K, draws a row, with replacement.
        candidates: C, uniform draws a step that all rows choose from; N or more is every candidate.
        dim: d, width of the generator's table.
        temperature: T, above 0; large is uniform. May be a schedule.
        learning: what the generator's objective is multiplied by; 0 keeps it uniform. Adam does not
            mind its size.
        exact: teach by the expectation over all C candidates instead of by the draws.

    Shapes: ids (M, K), valid (M, K). No `log_q`: the set of candidates is drawn as well.
    Cost: N d + D d parameters, of which a step moves C d + D d; O(M (D d + C d)), an (M, C)
        tensor, and one more score of the (M, K) draws, or of (M, C) candidates where `exact`.
    Source: Cai and Wang 2018, KBGAN, arXiv:1711.04071; Wang et al. 2017, IRGAN, arXiv:1705.10513;
        Zhang et al. 2022, AR2, arXiv:2110.03611, for `exact`.
    """

    baseline: Tensor  # () sum of the moving average
    share: Tensor  # () what part of a whole average it is

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 256, log=True)] = 16,
        candidates: Annotated[int, IntDistribution(16, 4096, log=True)] = 256,
        dim: Annotated[int, IntDistribution(4, 64, log=True)] = 16,
        temperature: Annotated[Number, FloatDistribution(0.1, 10.0, log=True)] = 1.0,
        learning: Annotated[float, FloatDistribution(0.01, 10.0, log=True)] = 1.0,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.num = check_num(num, "Generator")
        if candidates < 1 or dim < 1 or learning < 0:
            raise UsageError(
                f"candidates={candidates}, dim={dim} and learning={learning} in Generator must be "
                "at least 1, 1 and 0; raise them"
            )
        self.candidates, self.dim, self.learning = candidates, dim, float(learning)
        self.exact = exact
        self.temperature = check_range(temperature, "temperature", "Generator", 1e-6)
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("share", torch.zeros(()))
        self.table = nn.Parameter(torch.empty(0, dim))
        self.map = nn.Parameter(torch.empty(0, dim))
        self._objective: Tensor | None = None  # of this step, from `draw` to `penalty`

    def prepare(self, training: Training) -> None:
        """Make the parameters; before the optimizer, which has to hold them."""
        if training.width is None:
            raise UsageError(
                "Generator needs the width of the model's queries; prepare it with "
                "Training(..., width=D)"
            )
        D, device = training.width, self.baseline.device
        g = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        self.table = nn.Parameter(torch.zeros(training.num_candidates, self.dim, device=device))
        self.map = nn.Parameter((torch.randn(D, self.dim, generator=g) / D**0.5).to(device))

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (M, K) and keep what `penalty` will return."""
        if not len(self.table):
            raise UsageError("Generator has no parameters; prepare it with the training data first")
        among = self._among(ask)  # (C,)
        with torch.enable_grad():
            log_p = self.log_policy(ask, among)  # (M, C)
        cdf = log_p.detach().double().exp().cumsum(1)
        shape = (len(cdf), self.num)
        u = torch.rand(shape, generator=ask.generator, device=cdf.device, dtype=cdf.dtype)
        at = torch.searchsorted(cdf, u * cdf[:, -1:], right=True).clamp_max(len(among) - 1)
        ids = among[at]
        if self.learning and self.exact:
            own = ask.score(ask.positive[:, None])  # (M, 1)
            reward = F.softplus(ask.score(among[None]) - own).detach().float()  # (M, C)
            with torch.enable_grad():
                objective = -self.learning * (log_p.exp() * reward).sum(1).mean()
                self._objective = objective - objective.detach()
        elif self.learning:
            reward = ask.score(ids).detach().float()
            with torch.enable_grad():
                self._objective = self._reinforce(log_p.gather(1, at), reward)
        return Negatives(ids)

    def _among(self, ask: Ask) -> Tensor:
        N, device = len(self.table), ask.positive.device
        if self.candidates >= N:
            return torch.arange(N, device=device)
        return torch.randint(N, (self.candidates,), generator=ask.generator, device=device)

    def log_policy(self, ask: Ask, among: Tensor) -> Tensor:
        """(C,) ids -> log pi (M, C), with gradient; lowest where a known positive stands."""
        rows = F.embedding(among, self.table, sparse=True)
        query = ask.query.detach().to(self.map.dtype)
        logits = (query @ self.map) @ rows.T / value_of(self.temperature, self.epoch)
        out = among == ask.positive[:, None]
        if ask.known is not None:
            out |= ask.known.contains(ask.row, among[None])
        return logits.masked_fill(out, torch.finfo(logits.dtype).min / 2).log_softmax(1)

    def _reinforce(self, log_p: Tensor, reward: Tensor) -> Tensor:
        """Return a scalar of value 0 whose gradient is minus the expected reward's."""
        gain = reward - self.baseline / self.share.clamp_min(1e-6)
        objective = -self.learning * (gain * log_p).mean()
        with torch.no_grad():  # after use: this step's draws must not be in their own baseline
            self.baseline = MEMORY * self.baseline + (1 - MEMORY) * reward.mean()
            self.share = MEMORY * self.share + (1 - MEMORY)
        return objective - objective.detach()

    def penalty(self) -> Tensor | float:
        """Return what teaches the generator; once for each draw."""
        objective, self._objective = self._objective, None
        return 0.0 if objective is None else objective

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        for name, parameter in self.named_parameters(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != parameter.shape:
                setattr(self, name, nn.Parameter(parameter.new_empty(saved.shape)))
        super()._load_from_state_dict(state_dict, prefix, *args)
