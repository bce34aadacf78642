"""Components named in expressions: found, checked, built, changed, and what a study may search.

A short name is one of ours; a dotted path (``mypackage.samplers.Mine``) is anybody's class.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..datasets.errors import UsageError, closest
from .expression import Expression, Spec, parse, show, text_of

__all__ = ["Expression", "Spec", "parse", "show"]

ROOT = __name__.rsplit(".", 2)[0]
HOMES = {
    "model": ("models", "models.baselines", "engine.concatenated"),
    "similarity": ("models",),
    "negatives": ("samplers",),
    "batches": ("samplers",),
    "hardness": ("samplers.schedules",),
    "loss": ("engine.losses",),
    "term": ("engine.terms",),
    "optimizer": ("engine.optim",),
    "schedule": ("engine.schedule",),
    "split": ("datasets.split",),
}


@cache
def catalogue(role: str) -> dict[str, type]:
    """Return our own components of a role by short name, found where they live."""
    found: dict[str, type] = {}
    for home in HOMES[role]:
        try:
            package = import_module(f"{ROOT}.{home}")
        except ModuleNotFoundError:
            continue
        for module in _modules(package):
            for name, item in vars(module).items():
                own = inspect.isclass(item) and item.__module__ == module.__name__
                if own and not name.startswith("_") and _is_component(role, item):
                    found[name] = item
    return found


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for info in iter_modules(getattr(package, "__path__", [])):
        if not info.ispkg:
            yield import_module(f"{package.__name__}.{info.name}")


def base_classes(role: str) -> tuple[type, ...]:
    """Return what a component of the role must be a subclass of."""
    names = {
        "model": [("models.base", "Model"), ("models.baselines.base", "Baseline")],
        "similarity": [("models.base", "Similarity")],
        "negatives": [("samplers.base", "NegativeSampler")],
        "batches": [("samplers.batches", "BatchSampler")],
        "hardness": [("samplers.schedules", "Hardness")],
        "loss": [("engine.losses.base", n) for n in ("Loss", "TableLoss", "BatchLoss")],
        "term": [("engine.terms.base", "Term")],
        "optimizer": [("engine.optim", "Optim")],
        "schedule": [("engine.schedule", "Schedule")],
        "split": [("datasets.split", "Split")],
    }[role]
    return tuple(getattr(import_module(f"{ROOT}.{module}"), name) for module, name in names)


def _is_component(role: str, item: type) -> bool:
    bases = base_classes(role)
    return (
        issubclass(item, bases)
        and item not in bases
        and not inspect.isabstract(item)
        and item.__name__ not in {"Proposal", "Refiner", "Pipeline"}
    )


def find(spec: Spec, role: str, where: str) -> type:
    """Return the class a spec names, checked to fit the role."""
    if "." not in spec.name:
        options = catalogue(role)
        if spec.name in options:
            return options[spec.name]
        raise UsageError(f"{where}: no {role} {spec.name!r}; {closest(spec.name, options)}")
    module, _, name = spec.name.rpartition(".")
    try:
        item = getattr(import_module(module), name)
    except Exception as error:  # the module is anybody's and may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"{where}: cannot import {spec.name!r} ({reason}); check the path and PYTHONPATH"
        ) from None
    if not (inspect.isclass(item) and issubclass(item, base_classes(role))):
        wanted = " or ".join(base.__name__ for base in base_classes(role))
        raise UsageError(f"{where}: {spec.name!r} is not a {wanted}; derive the class from it")
    return item


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's tunable and plain arguments; a leading `data` is the engine's."""
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(cls).parameters
    return {n: p for n, p in found.items() if n != "data" and p.kind not in many}


def normalise(spec: Spec, role: str, where: str) -> Spec:
    """Turn positional arguments into named ones and check names, types and inner components."""
    cls = find(spec, role, where)
    accepted = parameters(cls)
    kwargs = dict(spec.kwargs)
    names = list(accepted)
    if len(spec.args) > len(names):
        raise UsageError(f"{where}: {spec.name} takes {len(names)} arguments, got {len(spec.args)}")
    for name, value in zip(names, spec.args, strict=False):
        if name in kwargs:
            raise UsageError(f"{where}: {spec.name} got {name!r} twice")
        kwargs[name] = value
    for name in kwargs:
        if name not in accepted:
            options = closest(name, accepted) if accepted else "it takes none"
            raise UsageError(f"{where}: {spec.name} has no argument {name!r}; {options}")
    for name, parameter in accepted.items():
        if parameter.default is inspect.Parameter.empty and name not in kwargs:
            raise UsageError(f"{where}: {spec.name} needs {name!r}, e.g. {spec.name}({name}=...)")
    hints, ordered = _hints(cls), {}
    for name in [n for n in accepted if n in kwargs]:
        value, hint = kwargs[name], hints.get(name)
        if isinstance(value, Spec):
            value = normalise(value, _role_of(value, hint, where), where)
        else:
            _check(value, hint, f"{where}: {spec.name}({name}={text_of(value)})")
        ordered[name] = value
    return replace(spec, args=(), kwargs=ordered)


def build(spec: Spec, role: str, where: str, *leading: Any) -> Any:
    """Construct the component; `leading` is what the engine hands over first (the data)."""
    spec = normalise(spec, role, where)
    cls = find(spec, role, where)
    hints = _hints(cls)
    kwargs = {}
    for name, value in spec.kwargs.items():
        if isinstance(value, Spec):
            value = build(value, _role_of(value, hints.get(name), where), where)
        kwargs[name] = _check(value, hints.get(name), f"{where}: {spec.name}({name}={value!r})")
    try:
        return cls(*leading, **kwargs)
    except UsageError:
        raise
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise UsageError(f"{where}: {spec.name}: {error}") from None


def _role_of(spec: Spec, hint: Any, where: str) -> str:
    """Return the role an argument with this type hint has room for."""
    accepted, queue = set(), [hint]
    while queue:  # through Annotated, unions and None
        one = queue.pop()
        accepted.add(one) if isinstance(one, type) else queue.extend(get_args(one))
    for role in HOMES:
        if any(issubclass(one, base_classes(role)) for one in accepted):
            return role
    raise UsageError(f"{where}: {spec} stands where a plain value is expected; write a literal")


def _check(value: Any, hint: Any, where: str) -> Any:
    if hint is None:
        return value
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
            value
        )
    except ValidationError as error:
        raise UsageError(f"{where}: {error.errors()[0]['msg'].lower()}") from None


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return get_type_hints(cls.__init__, include_extras=True)
    except NameError:  # names imported for type checkers only: the class checks for itself
        return {}


def override(expression: Expression, path: str, value: Any, role: str, where: str) -> Expression:
    """Set one argument and return the new expression.

    ``num`` serves when one stage has it, ``Uniform.num`` says which stage, and
    ``similarity.temperature`` reaches into an argument that is itself a component.
    """
    stages = [normalise(stage, role, where) for stage in expression]
    hits = [i for i, s in enumerate(stages) if _local(s, path, role, where) is not None]
    if len(hits) != 1:
        named = [(short(s), p) for s in stages for p in parameters(find(s, role, where))]
        options = [f"{stage}.{name}" for stage, name in named]
        if not hits and "." not in path:
            options += [name for _, name in named]
        trouble = "stands for several stages" if hits else "is not an argument here"
        raise UsageError(f"{where}.{path} {trouble}; {closest(path, options)}")
    stage = stages[hits[0]]
    name, _, rest = (_local(stage, path, role, where) or "").partition(".")
    if rest:
        inner = stage.kwargs.get(name)
        if not isinstance(inner, Spec):
            raise UsageError(
                f"{where}.{path}: {stage.name} has no {name} written out to change; "
                f"write {stage.name}({name}=...) first"
            )
        inner_role = _role_of(inner, _hints(find(stage, role, where)).get(name), where)
        [value] = override((inner,), rest, value, inner_role, f"{where}.{name}")
    stages[hits[0]] = replace(stage, kwargs={**stage.kwargs, name: value})
    return tuple(stages)


def _local(stage: Spec, path: str, role: str, where: str) -> str | None:
    """Return the path without the stage's own name, or None when it does not fit the stage."""
    accepted = parameters(find(stage, role, where))
    for local in (path.removeprefix(f"{n}.") for n in (short(stage), stage.name, "")):
        if local.partition(".")[0] in accepted:
            return local
    return None


def short(spec: Spec) -> str:
    """Return the name of the class without its module."""
    return spec.name.rpartition(".")[2]


def tunable(expression: Expression, role: str, where: str) -> dict[str, Any]:
    """Return the search range of every argument that declares one, by path."""
    found: dict[str, Any] = {}
    for stage in expression:
        stage = normalise(stage, role, where)
        cls = find(stage, role, where)
        hints = _hints(cls)
        for name in parameters(cls):
            for extra in getattr(hints.get(name), "__metadata__", ()):
                if hasattr(extra, "to_internal_repr"):  # an optuna distribution
                    found[f"{short(stage)}.{name}"] = extra
            inner = stage.kwargs.get(name)
            if isinstance(inner, Spec):
                deeper = tunable((inner,), _role_of(inner, hints.get(name), where), where)
                found |= {
                    f"{short(stage)}.{name}.{k.partition('.')[2]}": v for k, v in deeper.items()
                }
    return found
