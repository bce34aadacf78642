"""What a study may search: the ranges that constructors declare beside their arguments."""

from __future__ import annotations

from optuna.distributions import BaseDistribution

from ..datasets.errors import UsageError, closest
from ..engine import components
from ..engine.recipe import EXPRESSIONS, Recipe
from ..models.baselines.base import Baseline


def ranges(recipe: Recipe) -> dict[str, BaseDistribution]:
    """Return every range of the recipe's components: ``negatives.Uniform.num`` and so on."""
    found: dict[str, BaseDistribution] = {}
    [spec] = recipe.expression("model")
    learns = not issubclass(components.find(spec, "model", "model"), Baseline)
    for field, role in EXPRESSIONS.items():
        if getattr(recipe, field) and (learns or field == "model"):
            inside = components.tunable(recipe.expression(field), role, field)
            found |= {f"{field}.{path}": space for path, space in inside.items()}
    return found


def choose(recipe: Recipe, names: list[str]) -> dict[str, BaseDistribution]:
    """Return the ranges to search; without names, all of the negatives and the learning rate.

    A name may leave out the component: ``negatives.num`` when only one stage has a `num`.
    """
    space = ranges(recipe)
    if not names:
        chosen = {k: v for k, v in space.items() if k.startswith("negatives.")}
        chosen |= {k: v for k, v in space.items() if k.endswith(".lr")}
    else:
        chosen = {}
        for name in names:
            field, _, rest = name.partition(".")
            hits = [k for k in space if k == name or (k.startswith(f"{field}.") and _tail(k, rest))]
            if len(hits) != 1:
                trouble = "is ambiguous" if hits else "has no declared range"
                raise UsageError(f"search: {name!r} {trouble}; {closest(name, hits or space)}")
            chosen[hits[0]] = space[hits[0]]
    if not chosen:
        raise UsageError(
            f"nothing to search in {recipe.model} with {recipe.negatives}; name ranges with "
            "--search, or choose a model that learns"
        )
    return chosen


def _tail(path: str, rest: str) -> bool:
    return bool(rest) and path.partition(".")[2].endswith(f".{rest}")
