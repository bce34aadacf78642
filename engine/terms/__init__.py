"""Extra loss terms: contrast between views of the same data, beside the main loss."""

from .base import Look, Term

__all__ = ["Look", "Term"]
