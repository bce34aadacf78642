"""hardneg: recommenders and knowledge-graph embeddings trained with well-chosen negatives.

Names are imported on first use (PEP 562): ``import hardneg`` costs nothing, and a second import of
this file under another name (as test runners do) makes no second copy of any class.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "train": "engine.api",
    "resume": "engine.api",
    "load": "engine.api",
    "Run": "engine.run",
    "Recipe": "engine.recipe",
    "tune": "tuning.study",
    "load_dataset": "datasets.load",
}

__all__ = sorted(["__version__", *_HOMES])


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"hardneg.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hardneg' has no attribute {name!r}; it offers {__all__}")


def __dir__() -> list[str]:
    return __all__
