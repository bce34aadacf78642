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
from .space import Entries, Space, apply, as_table, default_of, plan

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
            value = _inside(default_of(self.recipe, path), space)
            if value is not None:
                found[path] = value
        return found


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
    recipes = [_with_negatives(base, text) for text in texts]
    shown = [recipe.negatives for recipe in recipes]
    for text in shown:
        if shown.count(text) > 1:
            raise UsageError(f"families names {text!r} twice; leave one out")
    uniform = [r for r in recipes if is_uniform(r)]
    if baseline and base.negatives and samples(base) and not uniform:
        recipes.append(_with_negatives(base, _uniform(recipes[0])))
    table = as_table(entries)
    found: list[Family] = []
    used: set[str] = set()
    trouble: UsageError | None = None
    for recipe in recipes:
        own, refused = _fitting(recipe, table)
        trouble = trouble or refused
        used |= own.keys()
        found.append(_family(recipe, own, table, base))
    missing = [name for name in table if name not in used]
    if missing and trouble is not None:
        raise trouble
    if not any(family.ranges for family in found):
        plan(base, {})  # says that there is nothing to search
    return found


def is_uniform(recipe: Recipe) -> bool:
    """Say whether the negatives are plain uniform ones, unrefined."""
    stages = recipe.expression("negatives")
    return len(stages) == 1 and components.short(stages[0]) == "Uniform"


def _with_negatives(base: Recipe, text: str) -> Recipe:
    return resolve(base.model_dump(exclude_none=True), {"negatives": text} if text else {})


def _uniform(recipe: Recipe) -> str:
    """Write uniform negatives as many as the recipe's proposal draws, from as many pools."""
    first = components.normalise(recipe.expression("negatives")[0], "negatives", "negatives")
    given = {"num": USUAL, **{k: v for k, v in first.kwargs.items() if type(v) is int}}
    accepted = components.parameters(components.catalogue("negatives")["Uniform"])
    words = [f"{k}={v}" for k, v in given.items() if k in accepted]
    return f"Uniform({', '.join(words)})"


def _fitting(recipe: Recipe, table: Table) -> tuple[Table, UsageError | None]:
    """Return the entries that this family has arguments for, and why one was refused."""
    own: Table = {}
    trouble: UsageError | None = None
    for name, raw in table.items():
        try:
            plan(recipe, {name: raw})
            own[name] = raw
        except UsageError as error:
            if "is ambiguous" in str(error):  # another family where it is not does not help
                raise
            trouble = trouble or error
    return own, trouble


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
    """Return the value of a range nearest to a recipe's own; None where there is none."""
    if isinstance(space, CategoricalDistribution):
        return value if value in space.choices else space.choices[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    assert isinstance(space, (IntDistribution, FloatDistribution))
    near = min(max(value, space.low), space.high)
    if space.step is not None:
        near = space.low + round((near - space.low) / space.step) * space.step
        near = min(near, space.high)
    return int(near) if isinstance(space, IntDistribution) else float(near)
