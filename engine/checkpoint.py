"""Weights and exact state on disk: safetensors with a JSON skeleton, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..datasets.atomic import atomic_path
from ..datasets.errors import DataError, ResourceError

FORMAT = "hardneg-1"


def flatten(tree: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Move every tensor of a nested dict or list into `tensors`; return the JSON skeleton."""
    if isinstance(tree, Tensor):
        while path in tensors:  # {"a": {"b": 1}, "a.b": 2}
            path += "'"
        tensors[path] = tree
        return {"$tensor": path}
    if isinstance(tree, dict):
        items = [[k, flatten(v, tensors, f"{path}.{k}")] for k, v in tree.items()]
        return {"$dict": items}  # pairs, because JSON would turn integer keys into text
    if isinstance(tree, (list, tuple)):
        return [flatten(v, tensors, f"{path}.{i}") for i, v in enumerate(tree)]
    return tree


def unflatten(skeleton: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `flatten`; tuples come back as lists."""
    if isinstance(skeleton, dict):
        if "$tensor" in skeleton:
            return tensors[skeleton["$tensor"]]
        return {k: unflatten(v, tensors) for k, v in skeleton["$dict"]}
    if isinstance(skeleton, list):
        return [unflatten(v, tensors) for v in skeleton]
    return skeleton


def save(path: Path, tree: dict[str, Any]) -> None:
    """Write a nested dict of tensors and plain values to one safetensors file."""
    tensors: dict[str, Tensor] = {}
    skeleton = flatten(tree, tensors)
    # Clones, because safetensors refuses tensors that share memory (tied tables do).
    ready = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(ready, str(temporary), {"format": FORMAT, "tree": json.dumps(skeleton)})
        except SafetensorError as error:
            raise ResourceError(f"cannot write {path}: {error}; free some space") from None


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save` wrote; anything else is a `DataError` that names the file."""
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            meta = file.metadata() or {}
            if meta.get("format") != FORMAT:
                raise DataError(f"{path}: not a hardneg file (format {meta.get('format')!r})")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return unflatten(json.loads(meta["tree"]), tensors)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; the run folder is incomplete") from None
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: truncated or damaged ({error}); restore it or retrain") from None


def values(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name, the non-persistent ones too."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def restore_values(module: nn.Module, saved: dict[str, Tensor]) -> None:
    """Put parameters and buffers back; buffers in whatever shape they have grown to."""
    learnt = dict(module.named_parameters())
    device = next((b.device for b in module.buffers()), torch.device("cpu"))
    for name, value in saved.items():
        if name in learnt:
            learnt[name].data.copy_(value)  # the same object: the optimizer holds it
            continue
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, value.to(device))


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights; a file of another model is a `DataError` that names the first difference."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        mine = tuple(expected[name].shape) if name in expected else "absent"
        theirs = tuple(weights[name].shape) if name in weights else "absent"
        if mine != theirs:
            raise DataError(f"{path}: weight {name!r} is {theirs} in the file, {mine} in the model")
    model.load_state_dict(weights)
