"""The weights of an earlier run as the start of another."""

from __future__ import annotations

from pathlib import Path

from ..datasets.dataset import Dataset
from ..datasets.errors import DataError
from ..datasets.vocabulary import Vocabulary
from ..models.base import Model
from . import checkpoint, components
from .recipe import Recipe
from .run import Run


def load_start(model: Model, recipe: Recipe, dataset: Dataset) -> None:
    """Put the weights of the run folder ``start_from`` into a model of the same kind and data.

    The data must be the same and split alike: weights that have seen what this run holds out would
    make its figures worthless.
    """
    folder = Path(recipe.start_from)
    earlier = Run(folder)
    [mine], [theirs] = recipe.expression("model"), earlier.recipe.expression("model")
    if components.find(mine, "model", "model") is not components.find(theirs, "model", "model"):
        raise DataError(
            f"start_from: {folder} holds a {theirs.name}, but this run trains {mine.name}; train "
            "the same model, or start from another run"
        )
    _check_data(earlier.dataset, dataset, folder)
    if earlier.recipe.freeze and not recipe.freeze:
        raise DataError(
            f"start_from: {folder} was trained with freeze = {earlier.recipe.freeze!r}, and its "
            "weights fit no other run; set the same freeze, or start from the run before it"
        )
    if earlier.recipe.freeze:
        model.freeze_candidates()
    path = folder / "weights.safetensors"
    device = next(model.parameters()).device
    checkpoint.load_weights(model, checkpoint.load(path, device), path)


def _check_data(theirs: Dataset, mine: Dataset, folder: Path) -> None:
    """Refuse other ids, which would give rows to the wrong names, and other splits."""
    for field in mine.vocabularies:
        words, others = mine.vocabularies[field], theirs.vocabularies.get(field, Vocabulary(field))
        if len(words) != len(others) or list(words.tokens) != list(others.tokens):
            raise DataError(
                f"start_from: {folder} knows {len(others)} {field} ids, this run {len(words)}, or "
                "they stand in another order; train both on the same data"
            )
    if theirs.card.hash != mine.card.hash:
        raise DataError(
            f"start_from: {folder} was trained on another split ({theirs.card.split}, this run "
            f"{mine.card.split}) and may have seen what this run holds out; use the same split"
        )
