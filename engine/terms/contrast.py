"""Contrast between views of the same rows. B rows · D width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ..losses.mv_dhel import mv_dhel

Form = Literal["infonce", "dhel"]


def info_nce(
    a: Tensor,
    b: Tensor,
    temperature: float,
    *,
    owner: Tensor | None = None,
    within: bool = False,
) -> Tensor:
    r"""(B, D), (B, D) -> scalar: each row of `a` should find its row of `b`.

    .. math:: -\frac1B \sum_i \log \frac{e^{\cos(a_i, b_i)/\tau}}
        {\sum_j e^{\cos(a_i, b_j)/\tau} + [within] \sum_{j \ne i} e^{\cos(a_i, a_j)/\tau}}

    Args:
        a: one view.
        b: the other.
        temperature: tau.
        owner: (B,) rows with the same owner are never each other's negatives.
        within: whether the other rows of `a` itself are negatives too (NT-Xent).

    Cost: one (or two) products of (B, D) by (D, B); 4 B^2 (or 8 B^2) bytes.
    """
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    scores = a @ b.T / temperature  # (B, B)
    own = torch.eye(len(a), dtype=torch.bool, device=a.device)
    same = own if owner is None else owner[:, None] == owner
    low = torch.finfo(scores.dtype).min
    against = scores.masked_fill(same & ~own, low)
    if within:
        more = (a @ a.T / temperature).masked_fill(same | own, low)
        against = torch.cat([against, more], 1)
    return (against.logsumexp(1) - scores.diagonal()).mean()


def dhel(views: Sequence[Tensor], temperature: float, owner: Tensor) -> Tensor:
    """(B, D) of each view -> scalar: views of a row agree, and rows of one view repel each other.

    The mean of `mv_dhel`. Rows with the same owner (B,) do not repel each other.
    """
    return mv_dhel(torch.stack(list(views)), owner[:, None] != owner, temperature).mean()


def check_views(owner: str, views: int, form: str) -> None:
    """Refuse a formula there is not, and a number of views it does not take."""
    if form not in ("infonce", "dhel"):
        raise UsageError(f"form={form!r} in {owner}; use 'infonce' or 'dhel'")
    if views < 2:
        raise UsageError(f"views={views} in {owner} must be at least 2; raise it")
    if views > 2 and form == "infonce":
        raise UsageError(
            f"views={views} in {owner} are more than form='infonce' compares; use form='dhel' or "
            "views=2"
        )


def check_weight(owner: str, **values: float) -> None:
    """Refuse a negative weight, or a temperature that is not above 0."""
    for name, value in values.items():
        if name == "temperature" and not value > 0:
            raise UsageError(f"temperature={value} in {owner} must be above 0, e.g. 0.2")
        if not value >= 0:
            raise UsageError(f"{name}={value} in {owner} is negative; use 0 or more")


def check_share(owner: str, **values: float) -> None:
    """Refuse what is no share."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UsageError(f"{name}={value} in {owner} is outside [0, 1); choose inside")
