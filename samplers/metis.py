"""Parts of the training graph by METIS, through DGL. V nodes · C parts."""

from __future__ import annotations

import os
import warnings
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .communities import compact, edges_of


def metis(training: Training, num: int, owner: str) -> Tensor:
    """Return the METIS part of each candidate, (N,) int64, of a cut into `num` parts.

    Parts have nearly equally many nodes; users are nodes too, so that some parts may have few
    candidates, or none.

    Source: Karypis and Kumar 1998; the code is METIS itself, which DGL brings along.
    """
    dgl = _dgl(owner)
    source, target, num_nodes = edges_of(training, owner)
    num = min(num, num_nodes)
    if num < 2:  # METIS divides by zero, which ends the process
        return torch.zeros(training.num_candidates, dtype=torch.int64)
    graph = dgl.graph(simple(source.cpu(), target.cpu(), num_nodes), num_nodes=num_nodes)
    with redirect_stdout(StringIO()), warnings.catch_warnings():  # it prints its memory and time
        warnings.simplefilter("ignore", ResourceWarning)  # ... and leaves a file open for that
        part = dgl.metis_partition_assignment(graph, num)
    if part is None:
        raise UsageError(
            f"METIS found no {num} parts for by='metis' in {owner}; lower clusters or use "
            "by='graph'"
        )
    return compact(torch.as_tensor(part).long()[: training.num_candidates])


def simple(source: Tensor, target: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """(E,), (E,) -> each edge once in both directions, without loops.

    METIS wants no others, and the code that DGL puts before it writes beyond its memory when two
    facts join the same entities: the process then ends, or waits for ever.
    """
    low, high = torch.minimum(source, target), torch.maximum(source, target)
    key = torch.unique((low * num_nodes + high)[low != high])
    low, high = key // num_nodes, key % num_nodes
    return torch.cat([low, high]), torch.cat([high, low])


def _dgl(owner: str) -> Any:
    os.environ.setdefault("DGLBACKEND", "pytorch")  # or it writes a file to the home folder
    try:
        import dgl
    except (ImportError, OSError) as error:  # OSError: built for another PyTorch
        found = "" if isinstance(error, ModuleNotFoundError) else f" (found one: {error})"
        raise UsageError(
            f"by='metis' in {owner} needs DGL 1.1.3{found}: pip install 'hardneg[dgl]' under "
            "Python 3.11, the last it is made for, or use by='graph'"
        ) from None
    return dgl
