"""Interaction logs as PyTorch Geometric graphs, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..datasets.errors import DataError
from ..datasets.interactions import Interactions

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

EDGE = ("user", "chose", "item")


def to_pyg(data: Interactions) -> HeteroData:
    """Return the log as a graph with one edge for each row, user to item.

    Timestamps and weights travel as ``time`` and ``edge_weight`` of the edge type.
    """
    from torch_geometric.data import HeteroData  # costs seconds; only who asks for it pays

    graph = HeteroData()
    graph["user"].num_nodes = data.num_users
    graph["item"].num_nodes = data.num_items
    graph[EDGE].edge_index = torch.stack([data.user.long(), data.item.long()])
    if data.timestamp is not None:
        graph[EDGE].time = data.timestamp
    if data.weight is not None:
        graph[EDGE].edge_weight = data.weight
    return graph


def from_pyg(graph: HeteroData, edge_type: tuple[str, str, str] | None = None) -> Interactions:
    """Return the edges of one type as a log: sources are users, targets are items.

    Args:
        graph: any heterogeneous graph, e.g. of `torch_geometric.datasets`.
        edge_type: which edges; may be left out when there is only one type.
    """
    types = list(graph.edge_types)
    if edge_type is None:
        if len(types) != 1:
            raise DataError(
                f"the graph has {len(types)} edge types; pass one of {types} as edge_type"
            )
        edge_type = types[0]
    if edge_type not in types:
        raise DataError(f"the graph has no edges {edge_type}; choose from {types}")
    store = graph[edge_type]
    user, item = store.edge_index
    return Interactions(
        user,
        item,
        int(graph[edge_type[0]].num_nodes),
        int(graph[edge_type[2]].num_nodes),
        timestamp=store.get("time"),
        weight=store.get("edge_weight"),
    )
