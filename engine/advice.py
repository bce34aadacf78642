"""Sentences about a training whose radar shows that something is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Readings = dict[str, Any]

FEW = 8.0  # negatives that carry the gradient: with so few, one mislabelled one is an eighth of it
FEW_SHARE = 0.05  # ... of those there are: 8 of 16 is what TopK(16) is for, 8 of 1,024 is a waste
HELD_OUT = 0.10  # of the gradient pushes true answers down: as much as a tenth of all labels wrong
EASY_PULL = 0.01  # a row's negatives pull a hundredth of what they do when nothing is learnt yet
EASY_ABOVE = 0.001  # ... and not one in a thousand outscores the positive
FLAT = 0.10  # directions used, of those there are: as good as a table a tenth as wide
FELL = 0.5  # RankMe halves ...
WITHIN = 3  # ... within so many readings; a slow fall is a table that learns structure
UNLIKE = math.log(4)  # popularity against the catalogue: four times is a tenth of its usual range
UNUSABLE = 0.5  # of a pool: half of the scoring is thrown away


def advise(history: Sequence[Readings]) -> list[str]:
    """Return sentences on the last readings, worst first; none when all is well.

    Args:
        history: readings of a run, oldest first; `Radar.read` returned them.
    """
    if not history:
        return []
    last = history[-1]
    rules = (_concentrated, _held_out, _easy, _popularity, _invalid)
    found = [rule(last) for rule in rules] + [_collapse(history)]
    return [sentence for sentence in found if sentence]


def _concentrated(r: Readings) -> str | None:
    """Few negatives carry the gradient."""
    effective, number = r.get("effective", math.inf), r.get("negatives", 0)
    if effective >= FEW or effective >= FEW_SHARE * number:
        return None
    which = "1 negative" if r["hardest"] < 1.5 else f"{r['hardest']:.0f} negatives"
    text = f"{r['hardest_share']:.0%} of the gradient comes from the hardest {which} of "
    text += f"{number:,.0f}"
    wrong = r.get("held_out_gradient", 0)
    if wrong >= HELD_OUT:
        return (
            f"{text}, and {wrong:.0%} from held-out positives: lower the hardness (alpha, beta) or "
            "add FalseNegatives(...)"
        )
    return f"{text}: lower the hardness (alpha, beta) or raise the temperature to use the others"


def _held_out(r: Readings) -> str | None:
    """True answers are pushed down."""
    wrong = r.get("held_out_gradient", 0)
    if wrong < HELD_OUT or _concentrated(r):
        return None
    return (
        f"{wrong:.0%} of the gradient pushes down held-out positives, which are "
        f"{r['held_out']:.1%} of the negatives: choose less hard ones, or add FalseNegatives(...)"
    )


def _easy(r: Readings) -> str | None:
    """Nothing is left to learn from these negatives."""
    if r.get("pull", math.inf) >= EASY_PULL or r.get("above", 1) >= EASY_ABOVE:
        return None
    return (
        f"the negatives are trivially easy ({r['above']:.2%} of them outscore the positive, the "
        f"gap is {r['gap']:.1f}): raise the hardness with TopK(...) or SameCluster(...)"
    )


def _popularity(r: Readings) -> str | None:
    """Draws that follow the data push popular candidates down unless the loss corrects."""
    apart = r.get("popularity", 0.0)
    if abs(apart) < UNLIKE or not r.get("known_q") or r.get("corrects"):
        return None
    often, way = ("often", "lower") if apart > 0 else ("rarely", "raise")
    return (
        f"the negatives occur {math.exp(abs(apart)):.1f} times as {often} as the catalogue and the "
        f"loss does not correct for it: {way} beta, or use SampledSoftmax(correct=True)"
    )


def _invalid(r: Readings) -> str | None:
    """Most of the pool may not be used."""
    share = r.get("valid_share", 1.0)
    if share >= UNUSABLE:
        return None
    return (
        f"only {share:.0%} of the negatives may be used, the rest are known positives or filtered "
        "out: loosen the filter, or draw from more candidates"
    )


def _collapse(history: Sequence[Readings]) -> str | None:
    """The table uses few directions, or loses them fast."""
    last = history[-1]
    rank, width = last.get("rank_me", math.inf), last.get("width", 1)
    remedy = "weaken the hardness or the regularisation, or use similarity=Cosine()"
    if rank < FLAT * width:
        return f"the table has collapsed to {rank:.1f} of {width:.0f} directions: {remedy}"
    # The start does not count: random vectors have every direction and no structure.
    earlier = [r["rank_me"] for r in history[1:-1][-WITHIN:] if "rank_me" in r]
    if earlier and rank < FELL * max(earlier):
        return (
            f"the table is collapsing, from {max(earlier):.1f} to {rank:.1f} of {width:.0f} "
            f"directions: {remedy}"
        )
    return None
