"""SASRec: what it reads, what it must not read, and that it learns."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hardneg.datasets.batch import SequenceQuery
from hardneg.datasets.errors import UsageError
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.sequences import prefix_of
from hardneg.models.sasrec import SASRec
from hardneg.models.similarity import Cosine, Dot

N, L = 30, 12


def log(seed: int = 0, num_users: int = 10) -> Interactions:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(2, L + 2, (num_users,), generator=generator)
    user = torch.repeat_interleave(torch.arange(num_users), sizes)
    # Each user starts with another item, so that no two prefixes agree and zero loss is possible.
    first = torch.arange(num_users).split(1)
    rest = [torch.randperm(N, generator=generator)[: size - 1] for size in sizes.tolist()]
    item = torch.cat([part for pair in zip(first, rest, strict=True) for part in pair])
    return Interactions(user, item, num_users, N)


def model(seed: int = 0, **options) -> SASRec:
    torch.manual_seed(seed)
    settings = {"dim": 16, "max_length": L} | options
    return SASRec(log(), **settings).eval()


def every_position(items: torch.Tensor, lengths: torch.Tensor) -> SequenceQuery:
    real = torch.arange(items.shape[1]) < lengths[:, None]
    return SequenceQuery(items, lengths, torch.nonzero(real.flatten()).squeeze(1))


def encode(m: SASRec, *histories: list[int]) -> list[torch.Tensor]:
    """Each history alone in its batch: a list of (len, D)."""
    nodes = m.nodes()
    return [
        m.encode(every_position(torch.tensor([h]), torch.tensor([len(h)])), nodes)
        for h in histories
    ]


# 1. The formula, slowly.


def naive(m: SASRec, history: list[int]) -> torch.Tensor:
    D = m.items.shape[1]
    table = m.items if m.inputs is None else m.inputs
    stream = [table[i] * math.sqrt(D) + m.positions[t] for t, i in enumerate(history)]
    for block in m.blocks:
        heads, attention = block.attention.heads, block.attention
        width = D // heads
        normed = [block.attention_norm(x) for x in stream]
        q, k, v = zip(*(attention.qkv(x).split(D) for x in normed), strict=True)
        mixed = []
        for t in range(len(history)):
            parts = []
            for h in range(heads):
                cut = slice(h * width, (h + 1) * width)
                logits = [q[t][cut] @ k[s][cut] / math.sqrt(width) for s in range(t + 1)]
                share = torch.stack(logits).softmax(0)
                parts.append(sum(share[s] * v[s][cut] for s in range(t + 1)))
            mixed.append(attention.out(torch.cat(parts)))
        stream = [x + y for x, y in zip(stream, mixed, strict=True)]
        stream = [x + block.narrow(F.gelu(block.widen(block.forward_norm(x)))) for x in stream]
    return torch.stack([m.norm(x) for x in stream])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("blocks", "heads", "expansion"), [(1, 1, 1), (2, 4, 2)])
def test_equals_a_naive_loop(tied, blocks, heads, expansion):
    m = model(tied=tied, blocks=blocks, heads=heads, expansion=expansion).double()
    history = [3, 1, 4, 15, 9, 2, 6]
    torch.testing.assert_close(encode(m, history)[0], naive(m, history), rtol=1e-9, atol=1e-9)


# 2. One way equals the other.


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=L), min_size=1, max_size=5))
def test_padding_changes_nothing(histories):
    m = model().double()
    width = max(map(len, histories))
    items = torch.full((len(histories), width), 7)
    for b, history in enumerate(histories):
        items[b, : len(history)] = torch.tensor(history)
    query = every_position(items, torch.tensor([len(h) for h in histories]))
    together = m.encode(query, m.nodes())
    torch.testing.assert_close(together, torch.cat(encode(m, *histories)), rtol=1e-9, atol=1e-9)


def test_what_stands_in_the_padding_changes_no_bit():
    m = model()
    lengths = torch.tensor([2, 5])
    items = torch.randint(0, N, (2, 9))
    other = torch.where(torch.arange(9) < lengths[:, None], items, (items + 1) % N)
    a, b = (m.encode(every_position(x, lengths), m.nodes()) for x in (items, other))
    assert torch.equal(a, b)


def test_a_prediction_does_not_depend_on_which_others_are_asked():
    m = model()
    whole = every_position(torch.randint(0, N, (3, 6)), torch.tensor([6, 4, 5]))
    some = whole._replace(index=whole.index[[2, 7, 13]])
    everything = m.encode(whole, m.nodes())
    torch.testing.assert_close(m.encode(some, m.nodes()), everything[[2, 7, 13]])


def test_fold_in_is_the_encoding_of_the_same_history():
    m = model()
    history = torch.tensor([5, 2, 20, 11])
    assert torch.equal(m.fold_in(history, m.nodes()), encode(m, history.tolist())[0][-1:])
    long = torch.arange(L + 5) % N
    assert torch.equal(m.fold_in(long, m.nodes()), m.fold_in(long[-L:], m.nodes()))


def test_fold_in_equals_a_trained_user_with_that_history():
    data, m = log(), model()
    user = torch.tensor([3])
    history = data.item[data.user == 3]
    known = m.encode(m.view(data).prefix(user), m.nodes())
    torch.testing.assert_close(m.fold_in(history, m.nodes()), known)


# 3. Properties.


@pytest.mark.parametrize("at", range(1, 8))
def test_the_future_changes_no_bit_of_the_past(at):
    m = model()
    items = torch.randint(0, N, (4, 8))
    other = items.clone()
    other[:, at:] = (other[:, at:] + 1) % N
    lengths = torch.full((4,), 8)
    a, b = (m.encode(every_position(x, lengths), m.nodes()).view(4, 8, -1) for x in (items, other))
    assert torch.equal(a[:, :at], b[:, :at])
    assert not torch.allclose(a[:, at:], b[:, at:])


def test_a_prefix_means_the_same_inside_a_longer_history():
    m = model().double()
    short, long = encode(m, [4, 8, 1], [4, 8, 1, 22, 3])
    torch.testing.assert_close(short, long[:3], rtol=1e-9, atol=1e-9)


def test_order_of_the_history_matters():
    m = model()
    one, two = encode(m, [1, 2, 3, 4], [3, 2, 1, 4])
    assert not torch.allclose(one[-1], two[-1], atol=1e-3)


def test_dropout_acts_in_training_only():
    m = model()
    history = torch.tensor([1, 2, 3])
    assert torch.equal(m.fold_in(history, m.nodes()), m.fold_in(history, m.nodes()))
    m.train()
    assert not torch.equal(m.fold_in(history, m.nodes()), m.fold_in(history, m.nodes()))


def test_a_batch_touches_the_rows_of_its_items_only():
    m = model(tied=False)
    query = every_position(torch.tensor([[3, 5, 0, 0], [9, 2, 5, 8]]), torch.tensor([2, 4]))
    m.encode(query, m.nodes()).sum().backward()
    assert m.items.grad is None
    assert m.inputs.grad.is_sparse
    assert set(m.inputs.grad.coalesce().indices()[0].tolist()) == {2, 3, 5, 8, 9}


def test_sparse_and_dense_gradients_of_a_tied_table_add_up():
    m = model().double()
    query = every_position(torch.tensor([[3, 5, 6]]), torch.tensor([3]))

    def gradient(nodes: torch.Tensor) -> torch.Tensor:
        q = m.encode(query, nodes)
        ids = torch.tensor([[4, 3]])
        (m.score(q, nodes, ids).sum() + m.similarity.full(q, nodes).square().sum()).backward()
        return nodes.grad if nodes.grad is not None else m.items.grad

    got = gradient(m.nodes())
    copy = m.items.detach().clone().requires_grad_()
    dense = copy + 0  # not a leaf: no row-sparse gradient anywhere
    dense.retain_grad()
    torch.testing.assert_close(got.to_dense() if got.is_sparse else got, gradient(dense))


# 4. Starts and edges.


@pytest.mark.parametrize("start", ["spectral", "cooccurrence"])
def test_a_start_from_the_data_has_rows_of_length_one(start):
    data = Interactions(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2]), 2, N)
    table = SASRec(data, dim=16, start=start).items
    torch.testing.assert_close(table[:3].norm(dim=1), torch.ones(3))
    assert (table[3:].norm(dim=1) > 0.3).all()  # never seen in training, so a random direction


def test_neighbours_in_time_start_alike():
    """Two halves of the items that never meet; the log is given newest first."""
    generator = torch.Generator().manual_seed(0)
    user = torch.repeat_interleave(torch.arange(200), 6)
    half = user % 2 * (N // 2)
    item = half + torch.randint(0, N // 2, (1200,), generator=generator)
    data = Interactions(user, item, 200, N, timestamp=-torch.arange(1200))
    unit = SASRec(data, dim=2, start="cooccurrence").items.detach()
    cosine = unit @ unit.T
    within = torch.arange(N)[:, None] // (N // 2) == torch.arange(N) // (N // 2)
    assert cosine[within].min() > 0.9
    assert cosine[~within].max() < 0.5


def test_given_vectors_are_copied():
    given_vectors = torch.randn(N, 16)
    m = model(start=given_vectors, tied=False)
    assert torch.equal(m.items, given_vectors)
    assert torch.equal(m.inputs, given_vectors)
    with torch.no_grad():
        m.items.zero_()
    assert given_vectors.abs().sum() > 0


def test_a_history_of_one_item():
    m = model()
    query = prefix_of(torch.tensor([4]), L)
    assert torch.isfinite(m.encode(query, m.nodes())).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dim": 15}, "dim=15 in SASRec is no multiple of heads=2"),
        ({"heads": 0}, "heads=0"),
        ({"blocks": 0}, "blocks=0"),
        ({"start": "spectrall"}, "did you mean 'spectral'"),
        ({"start": torch.zeros(3, 16)}, r"start has shape \(3, 16\)"),
    ],
)
def test_bad_options_are_named(options, match):
    with pytest.raises(UsageError, match=match):
        model(**options)


def test_an_empty_history_is_refused():
    m = model()
    with pytest.raises(UsageError, match="history is empty"):
        m.fold_in(torch.tensor([], dtype=torch.int64), m.nodes())


# 5. Direction.


@pytest.mark.parametrize("similarity", [Cosine(0.05), Dot()], ids=["cosine", "dot"])
@pytest.mark.parametrize("tied", [True, False])
def test_overfits_ten_sequences(similarity, tied):
    data = log()
    torch.manual_seed(1)
    m = SASRec(data, dim=32, max_length=L, dropout=0.0, tied=tied, similarity=similarity)
    batch = m.view(data).batch(torch.arange(10))
    optimizer = torch.optim.Adam(m.parameters(), lr=1e-2)
    for _ in range(100):
        nodes = m.nodes()
        q = m.encode(batch.query, nodes)
        loss = F.cross_entropy(m.similarity.full(q, m.table(nodes)), batch.positive)
        optimizer.zero_grad()
        loss.backward()
        for p in m.parameters():
            if p.grad is not None and p.grad.is_sparse:
                p.grad = p.grad.to_dense()
        optimizer.step()
    assert loss < 0.01
