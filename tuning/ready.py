"""Ready spaces: what is worth searching for an encoder, as files in ``recipes/spaces/``.

A file holds ``title``, ``model``, the ``families`` to compare, ``space``, and what is ``optional``:
ranges of arguments that a recipe may leave unwritten, taken where it has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..datasets.errors import UsageError, closest
from ..engine import components
from ..engine.recipe import Recipe, read
from .families import fits, with_negatives

ROOT = __name__.rsplit(".", 2)[0]


class ReadySpace(BaseModel):
    """What a file in ``recipes/spaces/`` says."""

    model_config = ConfigDict(extra="forbid")
    title: str = ""
    model: str
    families: list[str] = []
    space: dict[str, Any] = {}
    optional: dict[str, Any] = {}


def available() -> dict[str, Path]:
    """Return the spaces that come with the package, by name."""
    folder = Path(str(files(ROOT))) / "recipes" / "spaces"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def open_space(name: str) -> ReadySpace:
    """Read one by its name, or a file of one's own by its path."""
    options = available()
    if name not in options and not name.endswith(".toml"):
        raise UsageError(f"no space {name!r}; {closest(name, options)}, or give a .toml file")
    path = options.get(name, Path(name))
    try:
        return ReadySpace(**read(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {place}: {first['msg'].lower()}") from None


def ready(
    base: Recipe, name: str, chosen: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the entries and families a space gives for a recipe, and notes for people.

    The recipe's own negatives are the first family, in the place of one of the same stages. With
    families `chosen` by the user the space gives the ranges that these have.

    Raises:
        UsageError: there is no such space, or it is one for another encoder.
    """
    found = open_space(name)
    [model] = base.expression("model")
    if components.short(model) != found.model:
        fitting = [n for n in available() if open_space(n).model == components.short(model)]
        remedy = f"take --space {fitting[0]}" if fitting else "write ranges with --search"
        raise UsageError(
            f"space {name!r} is for {found.model}, but the recipe trains "
            f"{components.short(model)}; {remedy}"
        )
    families = list(chosen) or _families(base, found.families)
    recipes = [with_negatives(base, text) for text in families] or [base]
    open_ = {k: v for k, v in found.space.items() if chosen and k.startswith("negatives.")}
    asked = {**found.optional, **open_}
    taken = {k: v for k, v in asked.items() if any(fits(r, k, v) for r in recipes)}
    sure = {k: v for k, v in found.space.items() if k not in open_}
    left = [k for k in found.optional if k not in taken]
    notes = [f"space {name}: the recipe writes out no {', '.join(left)}, so it is not searched"]
    return {**sure, **taken}, families, notes if left else []


def _families(base: Recipe, texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    others = [t for t in texts if _stages(with_negatives(base, t)) != _stages(base)]
    return [base.negatives, *others] if base.negatives else others


def _stages(recipe: Recipe) -> list[str]:
    return [components.short(stage) for stage in recipe.expression("negatives")]
