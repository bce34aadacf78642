"""LightGCN against dense matrices, autograd and PyG."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hardneg.datasets.batch import UserQuery
from hardneg.datasets.errors import DataError, UsageError
from hardneg.datasets.features import write_features
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.models.base import rows
from hardneg.models.graph import EDGE, from_pyg, to_pyg
from hardneg.models.kernels import pooled
from hardneg.models.lightgcn import LightGCN
from hardneg.models.propagation import adjacency, smooth, unsmooth
from hardneg.models.spectral import spectral_embeddings

U, N = 30, 20


@pytest.fixture
def log():
    g = torch.Generator().manual_seed(0)
    user = torch.cat([torch.arange(U), torch.randint(U, (150,), generator=g)])
    item = torch.cat([torch.arange(U) % N, torch.randint(N, (150,), generator=g)])
    return Interactions(user, item, U, N)


def dense_adjacency(log):
    A = torch.zeros(N + U, N + U, dtype=torch.float64)
    A[log.item, N + log.user] = 1
    A[N + log.user, log.item] = 1
    d = A.sum(1).clamp_min(1).rsqrt()
    return d[:, None] * A * d


def test_two_nodes_in_closed_form():
    model = LightGCN(Interactions(torch.tensor([0]), torch.tensor([0]), 1, 1), dim=2, layers=3)
    item, user = model.ego.detach()
    got_item, got_user = model.nodes().detach()
    torch.testing.assert_close(got_item, (item + user) / 2)  # (i + u + i + u) / 4
    torch.testing.assert_close(got_user, (item + user) / 2)


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
def test_layers_are_dense_products(log, layers):
    model = LightGCN(log, dim=8, layers=layers)
    A, hop = dense_adjacency(log), model.ego.detach().double()
    total = hop.clone()
    for _ in range(layers):
        hop = A @ hop
        total += hop
    torch.testing.assert_close(model.nodes().detach().double(), total / (layers + 1))


def test_an_isolated_node_keeps_its_share_of_layer_0():
    model = LightGCN(Interactions(torch.tensor([0]), torch.tensor([0]), 2, 3), dim=4, layers=3)
    nodes = model.nodes()
    for node in (1, 2, 4):
        torch.testing.assert_close(nodes[node], model.ego[node] / 4)


def test_hops_may_lag_between_steps_that_propagate(log):
    model = LightGCN(log, dim=8, layers=3, propagate_every=3)
    exact = LightGCN(log, dim=8, layers=3)
    hops = {}
    for step in range(7):
        with torch.no_grad():
            model.ego += torch.randn(model.ego.shape)
            exact.ego.copy_(model.ego)
        want, own = exact.nodes().detach(), model.ego.detach() / 4
        model.advance(step)
        torch.testing.assert_close(model.frozen_nodes(), want)  # rankings always propagate
        nodes = model.train().nodes()
        (pull,) = torch.autograd.grad(nodes.sum(), model.ego)
        if step % 3 == 0:
            hops = want - own
            torch.testing.assert_close(nodes.detach(), want)
            torch.testing.assert_close(pull, *torch.autograd.grad(exact.nodes().sum(), exact.ego))
        else:
            torch.testing.assert_close(nodes.detach(), own + hops)
            torch.testing.assert_close(pull, torch.full_like(pull, 0.25))
    model.freeze_candidates()
    assert "lag" not in model.state_dict()


def test_without_layers_nothing_lags(log):
    assert "lag" not in LightGCN(log, layers=0, propagate_every=4).state_dict()
    with pytest.raises(UsageError, match="propagate_every=0"):
        LightGCN(log, propagate_every=0)


def test_without_layers_the_nodes_are_the_leaf(log):
    model = LightGCN(log, layers=0)
    assert model.nodes() is model.ego
    model.encode(UserQuery(torch.tensor([1, 1])), model.nodes()).sum().backward()
    assert model.ego.grad.is_sparse


@pytest.mark.parametrize("weights", [(0.25,) * 4, (0.1, 0.0, 0.9), (1.0,)])
def test_backward_is_autograd_of_the_dense_matrix(log, weights):
    graph, A = adjacency(log.user, log.item, U, N), dense_adjacency(log)
    x = torch.randn(N + U, 3, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(N + U, 3, dtype=torch.float64)
    [got] = torch.autograd.grad(smooth(x, graph, weights), x, grad)
    dense = sum(w * torch.linalg.matrix_power(A, power) @ x for power, w in enumerate(weights))
    [want] = torch.autograd.grad(dense, x, grad)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)  # degrees are kept in float32


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    "weights", [(1.0,), (0.5, 0.5), (0.25, 0.25, 0.25, 0.25), (0.2, 0, 0.3, 0, 0.5)]
)
def test_gradients_of_rows_are_those_of_a_dense_table(log, weights, dense):
    graph, A = adjacency(log.user, log.item, U, N), dense_adjacency(log)
    V = U + N
    x = torch.randn(V, 8, requires_grad=True)
    ids, own = torch.tensor([3, 0, 3, 3, V - 1]), torch.randint(V, (5, 4))

    def loss(nodes, gather):
        q = gather(nodes, ids)  # rows more than once
        scores = (
            pooled("dot", q, nodes, own) if gather is rows else (q[:, None] * nodes[own]).sum(2)
        )
        total = scores.sin().sum() + gather(nodes, ids.flip(0)).square().sum()
        return total + nodes.cos().sum() if dense else total

    for _ in range(2):  # a second step finds the room of the first
        [got] = torch.autograd.grad(loss(smooth(x, graph, weights), rows), x)
        powers = (torch.linalg.matrix_power(A, power) for power in range(len(weights)))
        nodes = sum(w * (power.float() @ x) for w, power in zip(weights, powers, strict=True))
        [want] = torch.autograd.grad(loss(nodes, lambda table, at: table[at]), x)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_a_later_product_leaves_an_earlier_one_alone(log):
    graph = adjacency(log.user, log.item, U, N)
    x = torch.randn(N + U, 4)
    first = smooth(x, graph, (0.25,) * 4)
    kept = first.clone()
    smooth(x + 1, graph, (0.25,) * 4)
    smooth(x - 1, graph, (0.5, 0.2, 0.3))
    assert first.equal(kept)


def test_gradcheck_to_second_order(log):
    graph = adjacency(log.user, log.item, U, N)
    x = torch.randn(N + U, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: smooth(x, graph, (0.5, 0.3, 0.2)), x, atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda x: smooth(x, graph, (0.5, 0.5)), x, atol=1e-6)


def test_compiled_product_equals_the_portable_one(log):
    graph = adjacency(log.user, log.item, U, N)
    x, base = torch.randn(N + U, 7), torch.randn(N + U, 7)
    want = graph.left[:, None] * (graph.matrix(x) @ (x * graph.right[:, None])) + 0.5 * base
    torch.testing.assert_close(graph.sum(x, base, 0.5), want)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyG, at import
def test_agrees_with_pyg(log):
    from torch_geometric.nn.models import LightGCN as Theirs

    model = LightGCN(log, dim=8, layers=3)
    theirs = Theirs(N + U, 8, num_layers=3)
    with torch.no_grad():
        theirs.embedding.weight.copy_(model.ego)
    pairs = torch.unique(torch.stack([log.item, log.user + N]), dim=1)
    edges = torch.cat([pairs, pairs.flip(0)], 1)
    torch.testing.assert_close(theirs.get_embedding(edges), model.nodes())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_graphs_go_to_pyg_and_back(log):
    full = Interactions(
        log.user, log.item, U, N, timestamp=torch.arange(len(log)), weight=torch.rand(len(log))
    )
    graph = to_pyg(full)
    assert graph.validate()
    back = from_pyg(graph)
    assert (back.num_users, back.num_items) == (U, N)
    for name, column in full.columns().items():
        assert torch.equal(back.columns()[name], column)
    with pytest.raises(DataError, match="choose from"):
        from_pyg(graph, ("item", "of", "user"))
    graph["user", "saw", "item"].edge_index = graph[EDGE].edge_index
    with pytest.raises(DataError, match="2 edge types"):
        from_pyg(graph)


def test_encode_and_candidates(log):
    model = LightGCN(log, dim=4, layers=2)
    nodes = model.nodes()
    assert model.table(nodes).shape == (N, 4)
    torch.testing.assert_close(model.encode(UserQuery(torch.tensor([3])), nodes), nodes[[N + 3]])


def test_penalty_in_closed_form(log):
    model = LightGCN(log, dim=4, layers=2, l2=0.2)
    batch = log.batch(torch.tensor([0, 5, 9, 9]))
    ids = torch.tensor([[1, 2, 2]])
    square = model.ego.detach().square().sum(1)
    parts = square[batch.query.user + N].mean() + square[batch.positive].mean()
    torch.testing.assert_close(model.penalty(batch, ids), 0.1 * (parts + square[ids].mean()))
    (model.nodes().sum() + model.penalty(batch, ids)).backward()  # dense and sparse gradients add
    assert torch.isfinite(model.ego.grad.to_dense()).all()


def test_spectral_start_without_layers(log):
    model = LightGCN(log, dim=8, layers=0, start="spectral")
    users, items = spectral_embeddings(log.user, log.item, U, N, 8)
    torch.testing.assert_close(model.ego.detach(), torch.cat([items, users]))


def test_unsmooth_solves_for_the_table(log):
    graph = adjacency(log.user, log.item, U, N)
    wanted = torch.randn(N + U, 3)
    weights = (1 / 3,) * 3  # 1 + x + x^2 has no zero in [-1, 1]
    x = unsmooth(wanted, graph, weights, iterations=60)
    torch.testing.assert_close(smooth(x, graph, weights), wanted, atol=1e-4, rtol=1e-4)


def test_propagated_spectral_start_is_near_the_spectral_vectors(log):
    model = LightGCN(log, dim=4, layers=2, start="spectral")
    wanted = LightGCN(log, dim=4, layers=0, start="spectral").ego.detach()
    twice = smooth(wanted, model.graph, model.weights)
    error = (model.nodes().detach() - wanted).norm()
    assert error < 0.5 * (twice - wanted).norm()


def test_fold_in_is_exact_for_a_spectral_table(log):
    model = LightGCN(log, dim=6, layers=0, start="spectral")
    nodes = model.frozen_nodes()
    for user in range(5):
        history = torch.unique(log.item[log.user == user])
        got, want = model.fold_in(history, nodes)[0], nodes[N + user]
        assert torch.cosine_similarity(got, want, dim=0) > 0.9999


@pytest.mark.parametrize("layers", [1, 3])
def test_fold_in_points_where_the_user_points(log, layers):
    model = LightGCN(log, dim=6, layers=layers, start="spectral")
    nodes = model.frozen_nodes()
    users = range(U)
    folded = torch.cat([model.fold_in(log.item[log.user == u], nodes) for u in users])
    assert torch.cosine_similarity(folded, nodes[N:]).mean() > 0.8


def test_fold_in_refuses_an_empty_history(log):
    model = LightGCN(log, layers=0)
    with pytest.raises(UsageError, match="history is empty"):
        model.fold_in(torch.zeros(0, dtype=torch.int64), model.nodes())


@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet", "columns", "tensor"])
def test_given_vectors(log, tmp_path, kind):
    table = torch.randn(N + U, 4)
    path = tmp_path / f"vectors.{'parquet' if kind == 'columns' else kind}"
    if kind == "npy":
        np.save(path, table.numpy())
    elif kind == "safetensors":
        save_file({"any": table}, path)
    elif kind == "parquet":
        pl.DataFrame({"vector": table.tolist()}).write_parquet(path)
    elif kind == "columns":
        pl.DataFrame(table.numpy()).write_parquet(path)
    model = LightGCN(log, dim=4, layers=0, start=table if kind == "tensor" else str(path))
    assert isinstance(model.ego, nn.Parameter)
    torch.testing.assert_close(model.ego.detach(), table)


@pytest.mark.parametrize("kind", ["safetensors", "parquet"])
def test_vectors_with_tokens_go_to_the_items_they_name(log, tmp_path, kind):
    table, order = torch.randn(N, 4), torch.randperm(N)
    path = tmp_path / f"vectors.{kind}"
    write_features(path, [f"i{v}" for v in order.tolist()] + ["x"], table[[*order.tolist(), 0]])
    named = replace(log, candidates=Vocabulary("item", [f"i{v}" for v in range(N)]))
    model = LightGCN(named, dim=4, layers=0, start=str(path))
    torch.testing.assert_close(model.nodes().detach()[:N], table)
    with pytest.raises(DataError, match=r"names candidates but these data have no vocabulary"):
        LightGCN(log, dim=4, layers=0, start=str(path))


def test_users_of_given_item_vectors_are_folded_in(log):
    model = LightGCN(log, dim=4, layers=0, start=torch.randn(N, 4))
    nodes = model.nodes().detach()
    want = model.fold_in(torch.unique(log.item[log.user == 3]), nodes)[0]
    assert torch.cosine_similarity(nodes[N + 3], want, dim=0) > 0.9999


def broken(tmp_path, name, array):
    np.save(tmp_path / name, array)
    return str(tmp_path / name)


def test_given_vectors_that_do_not_fit(log, tmp_path):
    for start, error, match in [
        ("spectrl", UsageError, "did you mean 'spectral'"),
        (str(tmp_path / "none.npy"), DataError, "no such file"),
        (broken(tmp_path, "a.npy", np.zeros((N, 5))), DataError, "5 columns; set dim=5, not 4"),
        (broken(tmp_path, "b.npy", np.zeros((7, 4))), DataError, "7 rows where 20 or 50"),
        (broken(tmp_path, "c.npy", np.zeros(4)), DataError, "1 dimensions"),
        (broken(tmp_path, "d.npy", np.full((N, 4), np.nan)), DataError, "row 0 holds a NaN"),
        (broken(tmp_path, "e.npy", np.array(["x"])), DataError, "numbers are needed"),
    ]:
        with pytest.raises(error, match=match):
            LightGCN(log, dim=4, start=start)
    for name in ("x.npy", "x.safetensors", "x.parquet"):
        (tmp_path / name).write_bytes(b"not this format")
        with pytest.raises(DataError, match="no readable"):
            LightGCN(log, dim=4, start=str(tmp_path / name))


@pytest.mark.parametrize(("name", "value"), [("dim", 0), ("layers", -1), ("l2", float("nan"))])
def test_sizes_are_checked(log, name, value):
    with pytest.raises(UsageError, match=f"{name}="):
        LightGCN(log, **{name: value})
