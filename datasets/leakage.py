"""How much of the future, or of the answer, a split lets a model see; measured, not guessed."""

from __future__ import annotations

import numpy as np
import polars as pl

from .interactions import Interactions
from .split import CHUNK_ROWS
from .triples import Triples

OVERLAP = 0.8


def future_share(train: Interactions, test: Interactions) -> dict[str, float]:
    """Measure training rows that happen after what they help to predict.

    Returns:
        "later train share": over test rows, the mean share of all training rows that are later.
        "users with own future": share of test users with a training row of their own later than
        their first test row. Empty when a part has no time or no rows.
    """
    if train.timestamp is None or test.timestamp is None or not len(train) or not len(test):
        return {}
    asked, count = np.unique(test.timestamp.numpy(), return_counts=True)
    before = np.zeros(len(asked) + 1, dtype=np.int64)  # training rows by first test row not earlier
    first = np.full(train.num_users, np.iinfo(np.int64).max)
    np.minimum.at(first, test.user.numpy(), test.timestamp.numpy())
    last = np.full(train.num_users, np.iinfo(np.int64).min)
    for start in range(0, len(train), CHUNK_ROWS):
        time = train.timestamp[start : start + CHUNK_ROWS].numpy()
        late = time[time > asked[0]]
        before[0] += len(time) - len(late)
        before += np.bincount(np.searchsorted(asked, late), minlength=len(before))
        np.maximum.at(last, train.user[start : start + CHUNK_ROWS].numpy(), time)
    later = 1.0 - before.cumsum()[:-1] / len(train)
    users = np.flatnonzero(np.bincount(test.user.numpy()))
    return {
        "later train share": float((later * count).sum() / count.sum()),
        "users with own future": float((last[users] > first[users]).mean()),
    }


def frame_of(triples: Triples) -> pl.DataFrame:
    """Return the triples as a frame of h, r, t."""
    columns = zip("hrt", triples.columns().values(), strict=True)
    return pl.DataFrame({name: column.numpy() for name, column in columns})


def overlapping(triples: Triples, inverse: bool) -> pl.DataFrame:
    """Find pairs of relations that say the same about (almost) the same entities.

    Relations r and s overlap when both |r and s| / |r| and |r and s| / |s| exceed 0.8, where s is
    read backwards if `inverse` (then s may be r: a symmetric relation). Akrami et al. 2020,
    "Realistic Re-evaluation of Knowledge Graph Completion Methods", use this on both sides.

    Returns:
        A frame of r, s, overlap (the smaller of the two shares).
    """
    facts = frame_of(triples).unique()
    size = facts.group_by("r").len("size")
    other = facts.rename({"h": "t", "t": "h", "r": "s"} if inverse else {"r": "s"})
    both = facts.lazy().join(other.lazy(), on=["h", "t"])
    if not inverse:
        both = both.filter(pl.col("r") < pl.col("s"))
    shared = both.group_by("r", "s").len("both").collect(engine="streaming")
    shared = shared.join(size, on="r").join(size.rename({"r": "s", "size": "other"}), on="s")
    share = pl.col("both") / pl.max_horizontal("size", "other")
    found = shared.select("r", "s", share.alias("overlap")).filter(pl.col("overlap") > OVERLAP)
    return found.sort("overlap", "r", "s", descending=[True, False, False])


def inverse_share(train: Triples, valid: Triples, test: Triples) -> float:
    """Share of test triples (h, r, t) whose (t, s, h) is in train, s overlapping r backwards.

    The overlap is measured on all triples: a random split alone takes a fifth of the reverses out
    of train and would hide that two relations are inverse.
    """
    if not len(train) or not len(test):
        return 0.0
    pairs = overlapping(train.concat(valid).concat(test), inverse=True).select("r", "s")
    asked = frame_of(test).with_row_index("row").join(pairs, on="r")
    back = frame_of(train).rename({"h": "t", "t": "h", "r": "s"}).unique()
    found = asked.join(back, on=["h", "s", "t"], how="semi")
    return found["row"].n_unique() / len(test)
