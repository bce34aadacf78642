"""Small data that several folders test on, and a question for proposals."""

import os
from random import Random

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


@pytest.fixture(scope="session")
def log_rows():
    """40 users with 5 to 9 of 30 items each, in three camps of ten items; times are mixed."""
    random = Random(0)
    pairs = [
        (f"u{user}", f"i{10 * (user % 3) + item}")
        for user in range(40)
        for item in random.sample(range(10), 5 + user % 5)
    ]
    random.shuffle(pairs)
    return [(*pair, 1_600_000_000 + 60 * n) for n, pair in enumerate(pairs)]


@pytest.fixture(scope="session")
def facts():
    """220 facts or so among 30 entities and 4 relations, as train, valid and test."""
    random = Random(1)
    found = {
        (f"e{random.randrange(30)}", f"r{n % 4}", f"e{random.randrange(30)}") for n in range(220)
    }
    rows = sorted(found)
    random.shuffle(rows)
    cut = len(rows) - 40
    return {"train": rows[:cut], "valid": rows[cut : cut + 20], "test": rows[cut + 20 :]}


@pytest.fixture(scope="session")
def small(tmp_path_factory, log_rows, facts):
    """Write both to disk: a folder with log.csv and kg/{train,valid,test}.txt."""
    folder = tmp_path_factory.mktemp("small")
    lines = ["user,item,timestamp", *(",".join(map(str, row)) for row in log_rows)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    (folder / "kg").mkdir()
    for part, rows in facts.items():
        (folder / "kg" / f"{part}.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def private_cache(tmp_path_factory):
    """Keep encoded data of the whole session in a folder of its own."""
    before = os.environ.get("HARDNEG_CACHE")
    os.environ["HARDNEG_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HARDNEG_CACHE")
    if before is not None:
        os.environ["HARDNEG_CACHE"] = before
