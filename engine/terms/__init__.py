"""Extra loss terms: contrast between views of the same data, beside the main loss."""

from .base import Look, Term, Terms
from .graph_views import SGL, SimGCL
from .mclrec import MCLRec
from .sequence_views import CL4SRec
from .sracl import SRACL

__all__ = ["SGL", "SRACL", "CL4SRec", "Look", "MCLRec", "SimGCL", "Term", "Terms"]
