"""Families: the alternatives a study compares, each with its own knobs and an equal budget.

A family is one way to choose negatives, such as ``Popularity(256) | TopK(16)``. Plain uniform
negatives are always one of them, so that whatever wins has been compared with a tuned baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from ..datasets.errors import UsageError
from ..engine import components
from ..engine.expression import show
from ..engine.recipe import Recipe, resolve, samples
from .space import REPLACED, Entries, Space, apply, as_table, default_of, has, plan

Table = dict[str, Any]
USUAL = 256  # negatives of the baseline where the recipe's proposal has no number of its own


class Family(NamedTuple):
    """One alternative: its name, the recipe it starts from, what it searches."""

    name: str
    recipe: Recipe
    ranges: dict[str, BaseDistribution]
    baseline: bool = False

    def defaults(self) -> dict[str, object]:
        """Return the recipe's own values of what is searched, moved into their ranges."""
        found = {}
        for path, space in self.ranges.items():
            own = default_of(self.recipe, path)
            found[path] = _inside(self._as_share(path) if own is None else own, space)
        return found

    def _as_share(self, path: str) -> float | None:
        """Return the share of the pool that a refiner's plain number keeps, as in TopK(32)."""
        stage, _, name = path.rpartition(".")
        first = components.short(self.recipe.expression("negatives")[0])
        pool = default_of(self.recipe, f"negatives.{first}.num")
        kept = default_of(self.recipe, f"{stage}.{REPLACED[name]}") if name in REPLACED else None
        known = type(kept) is int and type(pool) is int
        return min(1.0, kept / pool) if known else None


def families(
    base: Recipe, entries: Entries, negatives: Sequence[str] = (), *, baseline: bool = True
) -> list[Family]:
    """Return the families of a study; the first starts from the recipe as it stands.

    Args:
        base: resolved.
        entries: what to search, see `space.plan`; an entry must fit at least one family.
        negatives: expressions to compare; by default the recipe's own.
        baseline: add uniform negatives, unless they are there already.
    """
    texts = list(negatives) or [base.negatives]
    recipes = [with_negatives(base, text) for text in texts]
    shown = [recipe.negatives for recipe in recipes]
    for text in shown:
        if shown.count(text) > 1:
            raise UsageError(f"families names {text!r} twice; leave one out")
    uniform = [r for r in recipes if is_uniform(r)]
    if baseline and base.negatives and samples(base) and not uniform:
        recipes.append(with_negatives(base, _uniform(recipes[0])))
    table = as_table(entries)
    found: list[Family] = []
    used: set[str] = set()
    trouble: dict[str, UsageError] = {}
    for recipe in recipes:
        own, refused = _fitting(recipe, table)
        for name, error in refused.items():
            if name not in trouble or has(recipe, name):  # its range is wrong, not its family
                trouble[name] = error
        used |= own.keys()
        found.append(_family(recipe, own, table, base))
    missing = [name for name in table if name not in used]
    if missing:
        raise trouble[missing[0]]
    if not any(family.ranges for family in found):
        plan(base, {})  # says that there is nothing to search
    return found


def is_uniform(recipe: Recipe) -> bool:
    """Say whether the negatives are plain uniform ones, unrefined."""
    stages = recipe.expression("negatives")
    return len(stages) == 1 and components.short(stages[0]) == "Uniform"


def with_negatives(base: Recipe, text: str) -> Recipe:
    """Return the recipe with other negatives; with none named, as it is."""
    return resolve(base.model_dump(exclude_none=True), {"negatives": text} if text else {})


def _uniform(recipe: Recipe) -> str:
    """Write uniform negatives as many as the recipe's proposal draws, from as many pools."""
    first = components.normalise(recipe.expression("negatives")[0], "negatives", "negatives")
    given = {"num": USUAL, **{k: v for k, v in first.kwargs.items() if type(v) is int}}
    accepted = components.parameters(components.catalogue("negatives")["Uniform"])
    words = [f"{k}={v}" for k, v in given.items() if k in accepted]
    return f"Uniform({', '.join(words)})"


def fits(recipe: Recipe, name: str, raw: Any) -> bool:
    """Say whether a recipe has the argument an entry of a space speaks of."""
    return bool(_fitting(recipe, {name: raw})[0])


def _fitting(recipe: Recipe, table: Table) -> tuple[Table, dict[str, UsageError]]:
    """Return the entries that this family has arguments for, and why others were refused."""
    own: Table = {}
    refused: dict[str, UsageError] = {}
    for name, raw in table.items():
        try:
            plan(recipe, {name: raw})
            own[name] = raw
        except UsageError as error:
            if "is ambiguous" in str(error):  # another family where it is not does not help
                raise
            refused[name] = error
    return own, refused


def _family(recipe: Recipe, own: Table, table: Table, base: Recipe) -> Family:
    """Make a family; one that none of the entries fits has nothing to search."""
    plain = is_uniform(recipe)
    name = show(recipe.expression("negatives")) or "no negatives"
    if table and not own:
        return Family(name, recipe, {}, plain)
    try:
        space = plan(recipe, own)
    except UsageError:
        if recipe is base or not table:
            raise
        space = Space({}, {})
    fixed = apply(recipe, space.fixed) if space.fixed else recipe
    return Family(show(fixed.expression("negatives")) or name, fixed, space.ranges, plain)


def _inside(value: object, space: BaseDistribution) -> object:
    """Return the value of a range nearest to a recipe's own; its middle where that is no number."""
    if isinstance(space, CategoricalDistribution):
        return value if value in space.choices else space.choices[0]
    assert isinstance(space, (IntDistribution, FloatDistribution))
    low, high = space.low, space.high
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        value = (low * high) ** 0.5 if space.log else (low + high) / 2
    near = min(max(value, low), high)
    if space.step is not None:
        near = min(low + round((near - low) / space.step) * space.step, high)
    return int(near) if isinstance(space, IntDistribution) else float(near)
