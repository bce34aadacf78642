"""Ranges as a recipe or a command line writes them: ``16..4096:log``, ``0.1|0.5|1``, ``32``."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, TypeAlias

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from ..datasets.errors import UsageError

FORMS = "write low..high, low..high:log, low..high:step=8, a|b|c or one value"
Choice: TypeAlias = "bool | int | float | str | None"


def split_entries(text: str) -> list[str]:
    """'a, b=[1, 2]' -> ['a', 'b=[1, 2]']: commas inside brackets do not count."""
    found, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [entry.strip() for entry in found if entry.strip()]


def read_range(path: str, raw: Any, declared: BaseDistribution | None) -> Any:
    """Return the distribution that `raw` describes, or the value it fixes the argument to.

    Args:
        path: the argument, for messages.
        raw: text, a list of choices, a plain value, or True for the declared range.
        declared: what the constructor says; it decides whether the numbers are whole.

    Raises:
        UsageError: the range is empty, inverted or cannot be read.
    """
    if raw is True and not _switch(declared):
        if declared is None:
            raise UsageError(f"search: {path!r} has no declared range; give one: {path}=1..64:log")
        return declared
    if isinstance(raw, (list, tuple)):
        return _choices(path, raw)
    if not isinstance(raw, str):
        return raw
    if ".." in raw:
        return _interval(path, raw, declared)
    if "|" in raw and "(" not in raw:
        return _choices(path, [_literal(word) for word in raw.split("|")])
    if not raw.strip():
        raise UsageError(f"search: {path}= is empty; {FORMS}")
    return _literal(raw)


def _switch(declared: BaseDistribution | None) -> bool:
    return isinstance(declared, CategoricalDistribution) and True in declared.choices


def _choices(path: str, raw: Sequence[Any]) -> BaseDistribution:
    options: list[Choice] = list(raw)
    if not options:
        raise UsageError(f"search: {path} has no choices; give at least two, or one value")
    for option in options:
        if not isinstance(option, (bool, int, float, str, type(None))):
            raise UsageError(f"search: {path} has the choice {option!r}; give numbers or text")
    if len({repr(option) for option in options}) < len(options):
        raise UsageError(f"search: {path} names a choice twice in {options}; leave one out")
    return CategoricalDistribution(options)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.strip(), text.strip())


def _interval(path: str, raw: str, declared: BaseDistribution | None) -> BaseDistribution:
    """Read ``low..high`` with its options."""
    bounds, *options = (part.strip() for part in raw.split(":"))
    ends = [_literal(word) for word in bounds.split("..")]
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
        raise UsageError(f"search: {path}={raw} cannot be read; {FORMS}")
    low, high = ends
    log, step = _options(path, raw, options)
    if low > high:
        raise UsageError(f"search: {path}={raw} is inverted; write {path}={high}..{low}")
    if low == high:
        raise UsageError(f"search: {path}={raw} is empty; write {path}={low} to fix it")
    if log and low <= 0:
        raise UsageError(f"search: {path}={raw} starts at {low}; a log range starts above 0")
    whole = isinstance(low, int) and isinstance(high, int)
    if isinstance(declared, IntDistribution) and not whole:
        raise UsageError(f"search: {path}={raw} needs whole numbers; write them without a point")
    if whole and not isinstance(declared, FloatDistribution):
        if step is not None and step != int(step):
            raise UsageError(f"search: {path}={raw} needs a whole step")
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _options(path: str, raw: str, options: list[str]) -> tuple[bool, float | None]:
    log, step = False, None
    for option in options:
        name, _, value = option.partition("=")
        number = _literal(value)
        if option == "log":
            log = True
        elif name == "step" and type(number) in (int, float) and number > 0:
            step = number
        else:
            raise UsageError(f"search: {path}={raw}: {option!r} is no option; {FORMS}")
    if log and step is not None:
        raise UsageError(f"search: {path}={raw} is log and has a step; leave one out")
    return log, step


def text_of_range(space: BaseDistribution) -> str:
    """Write a distribution the way `read_range` reads it."""
    if isinstance(space, CategoricalDistribution):
        return "|".join(map(str, space.choices))
    assert isinstance(space, (IntDistribution, FloatDistribution))
    text = f"{space.low:g}..{space.high:g}"
    if isinstance(space, IntDistribution):
        text = f"{space.low}..{space.high}"
    usual = 1 if isinstance(space, IntDistribution) else None
    return (
        text
        + (":log" if space.log else "")
        + ("" if space.step in (None, usual) else f":step={space.step:g}")
    )
