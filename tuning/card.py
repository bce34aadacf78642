"""What a study is about, kept beside it: it must not change while the study goes on."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..datasets.atomic import write_text
from ..datasets.errors import DataError, UsageError
from ..engine.api import load, new_folder
from ..engine.recipe import Recipe, read, resolve
from .setting import SHARED
from .shares import WHOLE
from .storage import DATABASE, hide_password

CARD = "study.json"
FIXED = (
    "search", "families", "baseline", "objectives", "limits", "storage", "subsample", "warm_start",
)  # fmt: skip
FREE = ("log",)  # where figures go besides may change
LOCK = ".open.lock"
OURS = (*SHARED, "recipe.toml")


def open_folder(base: Recipe, out: str | Path | None, card: dict[str, Any]) -> Path:
    """Create the study folder with its data, or check that it holds this very study.

    Without `out` a study that is the same goes on, and another gets the next number.

    Raises:
        UsageError: it holds another study, or something else.
    """
    folder = Path(out) if out is not None else _unnamed(base, card)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):  # several workers may begin a study at once
        if is_study(folder):
            if other := _difference(folder, base, card):
                raise UsageError(other)
            return folder
        if any(_foreign(path.name) for path in folder.iterdir()):
            (folder / LOCK).unlink()
            raise UsageError(f"{folder} holds something else than a study; choose another --out")
        load(base).save(folder)
        write_text(folder / "recipe.toml", base.to_toml())
        write_text(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return folder


def forget(folder: Path, card: dict[str, Any]) -> None:
    """Let a folder that this start made be begun anew, where its storage turned out to be bad."""
    if identity(folder) == card["id"]:
        (folder / CARD).unlink()


def _unnamed(base: Recipe, card: dict[str, Any]) -> Path:
    """Choose a folder below studies/ where none is named."""
    stem = new_folder(None, base).name.rpartition("-")[0]
    for number in itertools.count(1):
        folder = Path("studies") / f"{stem}-{number}"
        if is_study(folder):
            if not _difference(folder, base, card):
                break
        elif not folder.exists() or not any(_foreign(path.name) for path in folder.iterdir()):
            break  # perhaps another worker is just beginning it
    return folder


def _foreign(name: str) -> bool:
    """Say whether a file is none that opening a study leaves, even when it was killed."""
    return name not in (*OURS, LOCK) and not name.startswith(tuple(f".{n}." for n in (*OURS, CARD)))


def is_study(folder: Path) -> bool:
    """Say whether a folder holds a study."""
    return (folder / CARD).exists() or (folder / DATABASE).exists()


def read_card(folder: Path | None) -> dict[str, Any]:
    """Return the card of a study folder; empty where there is none."""
    if folder is None or not (folder / CARD).exists():
        return {}
    try:
        found = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / CARD}: damaged ({error}); restore it") from None
    if not isinstance(found, dict):
        raise DataError(f"{folder / CARD}: damaged (no table); restore it")
    return found


def identity(folder: Path) -> str:
    """Return what tells a study from others of its name in a storage; nothing in older ones."""
    return str(read_card(folder).get("id", ""))


def make_card(
    search: dict[str, Any], families: Sequence[str], baseline: bool, objectives: Sequence[str],
    limits: Sequence[str], storage: str, subsample: Sequence[float], warm_start: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Return the card of a study; a password in the storage is left out."""
    return {
        "search": search,
        "families": list(families),
        "baseline": baseline,
        "objectives": list(objectives),
        "limits": list(limits),
        "storage": hide_password(storage),
        "subsample": [share for share in subsample if tuple(subsample) != WHOLE],
        "warm_start": list(warm_start),
        "id": uuid.uuid4().hex,
    }


def _difference(folder: Path, base: Recipe, card: dict[str, Any]) -> str:
    """Say in what a folder's study is another one; nothing where it is this one."""
    before = resolve(read(folder / "recipe.toml"))
    fields = [n for n in Recipe.model_fields if n not in FREE]
    names = [n for n in fields if getattr(before, n) != getattr(base, n)]
    if names:
        return (
            f"{folder} holds a study of another recipe ({', '.join(names)} differ); "
            "choose another --out"
        )
    kept = read_card(folder)
    changed = [n for n in FIXED if kept and kept.get(n, []) != card[n]]
    if changed:
        name = changed[0]
        return (
            f"{folder} holds a study with {name} = {kept.get(name)!r}, not {card[name]!r}; leave "
            f"{name} out to go on with it, or choose another --out"
        )
    return ""
