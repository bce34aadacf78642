"""Parts of the training graph by METIS, through DGL. V nodes · C parts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .communities import compact, edges_of


def metis(training: Training, num: int, owner: str) -> Tensor:
    """Return the METIS part of each candidate, (N,) int64, of a cut into `num` balanced parts.

    Source: Karypis and Kumar 1998; the code is METIS itself, which DGL brings along.
    """
    try:
        import dgl
    except ImportError:
        raise UsageError(
            f"by='metis' in {owner} needs DGL: pip install 'hardneg[dgl]', or use by='graph'"
        ) from None
    source, target, num_nodes = edges_of(training, owner)
    source, target = source.cpu(), target.cpu()
    graph = dgl.graph(
        (torch.cat([source, target]), torch.cat([target, source])), num_nodes=num_nodes
    )
    part = dgl.metis_partition_assignment(graph, min(num, num_nodes))
    return compact(torch.as_tensor(part).long()[: training.num_candidates])
