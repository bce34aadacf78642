"""Components by expression: ``Uniform(256) | TopK(32)``, in recipes, commands and studies.

An expression names classes and gives them literals or other expressions; it is parsed, never run.
A short name is one of ours; a dotted path (``mypackage.samplers.Mine``) is anybody's class.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..datasets.errors import UsageError, closest

ROOT = __name__.rsplit(".", 2)[0]
HOMES = {
    "model": ("models", "models.baselines"),
    "similarity": ("models",),
    "negatives": ("samplers",),
    "loss": ("engine.losses",),
    "optimizer": ("engine.optim",),
    "schedule": ("engine.schedule",),
    "split": ("datasets.split",),
}


@dataclass(frozen=True)
class Spec:
    """A class by name with its arguments; arguments are literals or further specs."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [_show(value) for value in self.args]
        parts += [f"{key}={_show(value)}" for key, value in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"


Expression = tuple[Spec, ...]  # stages joined by |; most expressions have one


def _show(value: Any) -> str:
    if isinstance(value, tuple) and value and all(isinstance(v, Spec) for v in value):
        return " | ".join(map(str, value))
    return str(value) if isinstance(value, Spec) else repr(value)


def parse(text: str, where: str) -> Expression:
    """Read an expression; `where` is the field it stands in, for messages."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = getattr(error, "msg", None) or "too deep"
        raise UsageError(
            f"{where} = {text!r} cannot be read ({message}); "
            "write it like 'Uniform(256) | TopK(32)'"
        ) from None
    return tuple(_stages(tree, text, where))


def _stages(node: ast.expr, text: str, where: str) -> Iterator[Spec]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _stages(node.left, text, where)
        yield from _stages(node.right, text, where)
        return
    if isinstance(node, (ast.Name, ast.Attribute)):
        yield Spec(ast.unparse(node))
        return
    if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
        args = tuple(_value(arg, text, where) for arg in node.args)
        kwargs = {k.arg: _value(k.value, text, where) for k in node.keywords if k.arg}
        if len(kwargs) == len(node.keywords):
            yield Spec(ast.unparse(node.func), args, kwargs)
            return
    raise UsageError(
        f"{where} = {text!r}: {ast.unparse(node)!r} is not a component; "
        "write it like 'Uniform(256) | TopK(32)'"
    )


def _value(node: ast.expr, text: str, where: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        stages = tuple(_stages(node, text, where))
        return stages[0] if len(stages) == 1 else stages


def show(expression: Expression) -> str:
    """Write an expression the way `parse` reads it."""
    return " | ".join(map(str, expression))


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
        "loss": [("engine.losses.base", "Loss"), ("engine.losses.base", "TableLoss")],
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
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{where}: cannot import {spec.name!r} ({error})") from None
    if not (inspect.isclass(item) and issubclass(item, base_classes(role))):
        wanted = " or ".join(base.__name__ for base in base_classes(role))
        raise UsageError(f"{where}: {spec.name!r} is not a {wanted}")
    return item


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's tunable and plain arguments; a leading `data` is the engine's."""
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(cls).parameters
    return {n: p for n, p in found.items() if n != "data" and p.kind not in many}


def normalise(spec: Spec, role: str, where: str) -> Spec:
    """Turn positional arguments into named ones; unknown and missing names are errors."""
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
    ordered = {name: kwargs[name] for name in accepted if name in kwargs}
    return replace(spec, args=(), kwargs=ordered)


def build(spec: Spec, role: str, where: str, *leading: Any) -> Any:
    """Construct the component; `leading` is what the engine hands over first (the data)."""
    spec = normalise(spec, role, where)
    cls = find(spec, role, where)
    hints = _hints(cls)
    kwargs = {}
    for name, value in spec.kwargs.items():
        if isinstance(value, Spec):
            value = build(value, _role_of(value, where), where)
        else:
            value = _check(value, hints.get(name), f"{where}: {spec.name}({name}={value!r})")
        kwargs[name] = value
    try:
        return cls(*leading, **kwargs)
    except UsageError:
        raise
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise UsageError(f"{where}: {spec.name}: {error}") from None


def _role_of(spec: Spec, where: str) -> str:
    for role in HOMES:
        if spec.name in catalogue(role):
            return role
    every = [name for role in HOMES for name in catalogue(role)]
    raise UsageError(f"{where}: unknown component {spec.name!r}; {closest(spec.name, every)}")


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
    return get_type_hints(cls.__init__, include_extras=True)


def override(expression: Expression, path: str, value: Any, role: str, where: str) -> Expression:
    """Set one argument and return the new expression.

    ``num`` serves when one stage has it, ``Uniform.num`` says which stage, and
    ``similarity.temperature`` reaches into an argument that is itself a component.
    """
    stages = [normalise(stage, role, where) for stage in expression]
    hits = [i for i, s in enumerate(stages) if _local(s, path, role, where) is not None]
    if len(hits) != 1:
        options = [f"{s.name}.{p}" for s in stages for p in parameters(find(s, role, where))]
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
        [value] = override((inner,), rest, value, _role_of(inner, where), f"{where}.{name}")
    stages[hits[0]] = replace(stage, kwargs={**stage.kwargs, name: value})
    return tuple(stages)


def _local(stage: Spec, path: str, role: str, where: str) -> str | None:
    """Return the path without the stage's own name, or None when it does not fit the stage."""
    accepted = parameters(find(stage, role, where))
    own = f"{stage.name.rpartition('.')[2]}."
    for local in (path.removeprefix(own), path):
        if local.partition(".")[0] in accepted:
            return local
    return None


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
                    found[f"{stage.name}.{name}"] = extra
            inner = stage.kwargs.get(name)
            if isinstance(inner, Spec):
                deeper = tunable((inner,), _role_of(inner, where), where)
                found |= {
                    f"{stage.name}.{name}.{k.partition('.')[2]}": v for k, v in deeper.items()
                }
    return found
