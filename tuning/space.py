"""What a study may search: the ranges that constructors declare beside their arguments.

A recipe's ``[space]`` table and ``--search`` narrow, replace or fix them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution

from ..datasets.errors import UsageError, closest
from ..engine import components
from ..engine.expression import Spec
from ..engine.recipe import EXPRESSIONS, Recipe, resolve
from ..models.baselines.base import Baseline
from .ranges import read_range

PLAIN = ("batch_size", "average")  # fields of a recipe that are numbers a study may move
REPLACED = {"share": "num"}  # an argument that, where it is given, takes the place of another

Entries = Iterable[str] | Mapping[str, Any]


class Space(NamedTuple):
    """The arguments a family searches, and those it sets once and for all."""

    ranges: dict[str, BaseDistribution]
    fixed: dict[str, Any]


def ranges(recipe: Recipe, *, unset: bool = False) -> dict[str, BaseDistribution]:
    """Return every range of the recipe's components: ``negatives.Uniform.num`` and so on.

    Arguments that are None unless written out, such as ``TopK(share=...)``, count when they are
    written out or with `unset`.
    """
    found: dict[str, BaseDistribution] = {}
    [spec] = recipe.expression("model")
    learns = not issubclass(components.find(spec, "model", "model"), Baseline)
    for field, role in EXPRESSIONS.items():
        if getattr(recipe, field) and (learns or field == "model"):
            for stage in recipe.expression(field):
                inside = components.tunable((stage,), role, field)
                found |= {
                    f"{field}.{path}": space
                    for path, space in inside.items()
                    if unset or _is_in_force(stage, path.partition(".")[2], role, field)
                }
    return found


def _is_in_force(stage: Spec, name: str, role: str, field: str) -> bool:
    """Say whether an argument does something as the stage is written."""
    if "." in name:
        return True
    given = components.normalise(stage, role, field).kwargs
    parameter = components.parameters(components.find(stage, role, field))[name]
    absent = parameter.default is None and given.get(name) is None
    replaced = any(given.get(new) is not None for new, old in REPLACED.items() if old == name)
    return not (absent or replaced)


def choose(recipe: Recipe, entries: Entries) -> dict[str, BaseDistribution]:
    """Return the ranges to search; see `plan`."""
    return plan(recipe, entries).ranges


def plan(recipe: Recipe, entries: Entries) -> Space:
    """Return what is searched and what is fixed.

    Args:
        recipe: resolved.
        entries: ``path`` for the declared range, ``path=16..4096:log`` for one of one's own,
            ``path=32`` to fix it; or the same as a table. A path may leave out the component:
            ``negatives.num`` when only one stage has a `num`. Without entries that search, all of
            the negatives, temperatures that are written out, and the learning rate are searched.

    Raises:
        UsageError: an argument that is not there, a range that is empty or inverted.
    """
    wanted = as_table(entries)
    declared, known = ranges(recipe), ranges(recipe, unset=True)
    chosen, fixed = {}, {}
    for name, raw in wanted.items():
        bare = raw is True and (_hits(name, declared) or not _hits(name, known))
        path = _full_path(name, raw, declared if bare else known, recipe)
        value = read_range(path, raw, known.get(path))
        if isinstance(value, BaseDistribution):
            _check_ends(recipe, path, value)
            chosen[path] = value
        else:
            _try(recipe, path, value)
            fixed[path] = _component(value)
    if all(name in fixed or not _searches(raw) for name, raw in wanted.items()):
        chosen = {k: v for k, v in declared.items() if _by_default(k) and k not in fixed}
    for path in [p for p in chosen if _is_replaced(p, {**chosen, **fixed})]:
        del chosen[path]
    if not chosen:
        raise UsageError(
            f"nothing to search in {recipe.model} with {recipe.negatives}; name ranges with "
            "--search, or choose a model that learns"
        )
    return Space(chosen, fixed)


def as_table(entries: Entries) -> dict[str, Any]:
    """['a.b', 'c=1..2'] -> {'a.b': True, 'c': '1..2'}; nested tables get dotted names."""
    if isinstance(entries, Mapping):
        flat: dict[str, Any] = {}
        for name, value in entries.items():
            if isinstance(value, Mapping):
                flat |= {f"{name}.{inner}": v for inner, v in as_table(value).items()}
            else:
                flat[name] = value
        return flat
    found: dict[str, Any] = {}
    for entry in entries:
        name, equals, raw = entry.partition("=")
        found[name.strip()] = raw.strip() if equals else True
    return found


def _searches(raw: Any) -> bool:
    """Say whether an entry asks for a search, and does not only fix an argument."""
    many = isinstance(raw, str) and (".." in raw or ("|" in raw and "(" not in raw))
    return raw is True or many or isinstance(raw, (list, tuple))


def _by_default(path: str) -> bool:
    return path.startswith("negatives.") or path.endswith((".lr", ".temperature"))


def _is_replaced(path: str, others: Mapping[str, Any]) -> bool:
    stage, _, name = path.rpartition(".")
    return any(f"{stage}.{new}" in others for new, old in REPLACED.items() if old == name)


def _full_path(name: str, raw: Any, space: Mapping[str, BaseDistribution], recipe: Recipe) -> str:
    """Return the one argument a name stands for."""
    if name in PLAIN and raw is not True:
        return name
    field, _, rest = name.partition(".")
    hits = _hits(name, space)
    if len(hits) == 1:
        return hits[0]
    if not hits and raw is not True and field in EXPRESSIONS and rest:
        _try(recipe, name, None)
        return name
    trouble = "is ambiguous" if hits else "has no declared range"
    raise UsageError(f"search: {name!r} {trouble}; {closest(name, hits or space)}")


def has(recipe: Recipe, name: str) -> bool:
    """Say whether a recipe has the argument that a path names, whatever is asked of it."""
    try:
        _full_path(name, "", ranges(recipe, unset=True), recipe)
    except UsageError:
        return False
    return True


def _hits(name: str, space: Mapping[str, BaseDistribution]) -> list[str]:
    """Return the arguments that a name, perhaps without its component, may stand for."""
    field, _, rest = name.partition(".")
    return [k for k in space if k == name or (k.startswith(f"{field}.") and _tail(k, rest))]


def _tail(path: str, rest: str) -> bool:
    return bool(rest) and path.partition(".")[2].endswith(f".{rest}")


def _check_ends(recipe: Recipe, path: str, space: BaseDistribution) -> None:
    """Build the component at both ends of a range, so that a bound it refuses is said now."""
    ends = (
        space.choices if isinstance(space, CategoricalDistribution) else (space.low, space.high)  # type: ignore[attr-defined]
    )
    for value in ends:
        try:
            _try(recipe, path, value)
        except UsageError as error:
            raise UsageError(f"search: {path}, at {value}: {error}") from None


def _try(recipe: Recipe, path: str, value: Any) -> None:
    """Set an argument and build its component; None only asks whether the argument exists."""
    field, _, rest = path.partition(".")
    if field in PLAIN:
        apply(recipe, {path: value})
        return
    role = EXPRESSIONS[field]
    if value is None:
        components.override(recipe.expression(field), rest, None, role, field)
        return
    changed = apply(recipe, {path: value})
    if field not in ("model", "split"):
        for stage in changed.expression(field):
            components.build(stage, role, field)


def apply(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with arguments set; text such as ``Linear(0, 1)`` becomes a component."""
    ready = {path: _component(value) for path, value in values.items()}
    return resolve(recipe.model_dump(exclude_none=True), ready)


def _component(value: Any) -> Any:
    if isinstance(value, str) and value.endswith(")") and "(" in value:
        return components.parse(value, "search")[0]
    return value


def default_of(recipe: Recipe, path: str) -> Any:
    """Return what the recipe itself gives an argument; None when that is not a plain value."""
    if path in PLAIN:
        return getattr(recipe, path)
    field, stage_name, *names = path.split(".")
    for stage in recipe.expression(field):
        if components.short(stage) == stage_name:
            return _value_in(stage, names, EXPRESSIONS[field], field)
    return None


def _value_in(stage: Spec, names: list[str], role: str, field: str) -> Any:
    stage = components.normalise(stage, role, field)
    value = stage.kwargs.get(names[0])
    if value is None:
        parameter = components.parameters(components.find(stage, role, field)).get(names[0])
        value = None if parameter is None else parameter.default
        value = None if value is inspect.Parameter.empty else value
    if len(names) == 1:
        return None if isinstance(value, Spec) else value
    if not isinstance(value, Spec):
        return None
    roles = (r for r in components.HOMES if components.short(value) in components.catalogue(r))
    inner = next(roles, "")
    return _value_in(value, names[1:], inner, field) if inner else None
