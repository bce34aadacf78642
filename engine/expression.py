"""Expressions such as ``Uniform(256) | TopK(32)``: text to names and literals, and back.

An expression is parsed, never run: only literals and further expressions can be arguments.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..datasets.errors import UsageError

EXAMPLES = {
    "batches": "ClusterBatch(clusters=64)",
    "model": "LightGCN(dim=64)",
    "loss": "SampledSoftmax()",
    "optimizer": "Adam(lr=0.003)",
    "schedule": "Linear(warmup=0.1)",
    "split": "LeaveOneOut()",
}


@dataclass(frozen=True)
class Spec:
    """A class by name with its arguments; arguments are literals or further specs."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [text_of(value) for value in self.args]
        parts += [f"{key}={text_of(value)}" for key, value in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"


Expression = tuple[Spec, ...]  # stages joined by |; most expressions have one


def text_of(value: Any) -> str:
    """Write a literal or an inner expression the way `parse` reads it."""
    if isinstance(value, tuple) and value and all(isinstance(v, Spec) for v in value):
        return " | ".join(map(str, value))
    return str(value) if isinstance(value, Spec) else repr(value)


def parse(text: str, where: str) -> Expression:
    """Read an expression; `where` is the field it stands in, for messages."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = getattr(error, "msg", None) or "too deep"
        raise UsageError(f"{where} = {text!r} cannot be read ({message}); {_like(where)}") from None
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
        f"{where} = {text!r}: {ast.unparse(node)!r} is not a component; {_like(where)}"
    )


def _like(where: str) -> str:
    example = EXAMPLES.get(where, "Uniform(256) | TopK(32)")
    return f"write it like {example!r}"


def _value(node: ast.expr, text: str, where: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        stages = tuple(_stages(node, text, where))
        return stages[0] if len(stages) == 1 else stages


def show(expression: Expression) -> str:
    """Write an expression the way `parse` reads it."""
    return " | ".join(map(str, expression))
