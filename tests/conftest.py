"""Small data that several folders test on, and a question for proposals."""

import numba
import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.positives import Positives
from hardneg.datasets.triples import Triples
from hardneg.samplers import Ask


@pytest.fixture(scope="module")
def one_thread():
    """Keep tiny tensors on one thread: waking others costs more than the work, most when busy."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.fixture
def interactions():
    """12 users, 15 items, 5 or 6 distinct items each, in time order."""
    g = torch.Generator().manual_seed(0)
    items = [torch.randperm(15, generator=g)[: 5 + u % 2] for u in range(12)]
    user = torch.repeat_interleave(torch.arange(12), torch.tensor([len(i) for i in items]))
    item = torch.cat(items)
    return Interactions(user, item, 12, 15, timestamp=torch.arange(len(item)))


@pytest.fixture
def triples():
    """40 distinct facts among 14 entities and 3 relations."""
    g = torch.Generator().manual_seed(0)
    key = torch.randperm(14 * 3 * 14, generator=g)[:40]
    return Triples(key // 42, key // 14 % 3, key % 14, num_entities=14, num_relations=3)


@pytest.fixture
def make_ask():
    """Build an Ask over dot products: M rows, N candidates, some of them known to each row."""

    def make(M=6, N=20, D=4, known=3, seed=0):
        g = torch.Generator().manual_seed(seed)
        q = torch.randn(M, D, generator=g)
        table = torch.randn(N, D, generator=g)
        positive = torch.randint(N, (M,), generator=g)
        row = torch.arange(M)
        pairs = None
        if known:
            candidate = torch.stack([torch.randperm(N, generator=g)[:known] for _ in range(M)])
            pairs = Positives(row.repeat_interleave(known), candidate.flatten(), M, N)

        def score(ids):
            return (q @ table.T).gather(1, ungroup(ids, M))

        return Ask(positive, row, q, table, score, pairs, g)

    return make
