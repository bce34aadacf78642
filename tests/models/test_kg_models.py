"""Knowledge-graph encoders: formulas, sides, patterns of relations, starts, penalties."""

import cmath
import math

import numpy as np
import pytest
import torch

from hardneg.datasets.batch import TripleQuery
from hardneg.datasets.errors import HardnegError, UsageError
from hardneg.models.complex import ComplEx
from hardneg.models.distmult import DistMult
from hardneg.models.rotate import RotatE
from hardneg.models.similarity import ComplexDistance
from hardneg.models.transe import TransE

D = 6
MAKERS = {
    "RotatE": lambda data: RotatE(data, dim=D, gamma=5.0),
    "TransE-1": lambda data: TransE(data, dim=D, gamma=5.0),
    "TransE-2": lambda data: TransE(data, dim=D, gamma=5.0, p=2),
    "DistMult": lambda data: DistMult(data, dim=D, spread=1.0),
    "ComplEx": lambda data: ComplEx(data, dim=D, spread=1.0),
}


def complex_row(row):
    half = len(row) // 2
    return [complex(row[j], row[j + half]) for j in range(half)]


def formula(model, h, r, t):
    """The score of one triple as its paper writes it, in plain numbers."""
    head, tail = model.entities[h].tolist(), model.entities[t].tolist()
    relation = model.relations[r].tolist()
    if isinstance(model, RotatE):
        rho = (model.similarity.gamma + 2) / len(relation)
        total = sum(
            abs(a * cmath.exp(1j * raw * math.pi / rho) - b)
            for a, raw, b in zip(complex_row(head), relation, complex_row(tail), strict=True)
        )
        return model.similarity.gamma - total
    if isinstance(model, ComplEx):
        rows = zip(complex_row(head), complex_row(relation), complex_row(tail), strict=True)
        return sum(a * b * c.conjugate() for a, b, c in rows).real
    rows = zip(head, relation, tail, strict=True)
    if isinstance(model, DistMult):
        return sum(a * b * c for a, b, c in rows)
    gaps = [abs(a + b - c) for a, b, c in rows]
    p = model.similarity.p
    return model.similarity.gamma - sum(x**p for x in gaps) ** (1 / p)


def scores(model, known, relation, side):
    """(M,), (M,) -> (M, E): every entity as the missing side."""
    nodes = model.nodes()
    q = model.encode(TripleQuery(known, relation, side), nodes)
    return model.similarity.full(q, model.table(nodes))


@pytest.fixture(params=MAKERS)
def model(request, triples):
    torch.manual_seed(0)
    return MAKERS[request.param](triples).double()


def test_both_sides_are_the_formula(model, triples):
    """Tail queries and head queries give a triple one and the same score: the paper's."""
    h, r, t = (triples.columns()[k][:8] for k in ("head", "relation", "tail"))
    tails = scores(model, h, r, 0).gather(1, t[:, None]).squeeze(1)
    heads = scores(model, t, r, 1).gather(1, h[:, None]).squeeze(1)
    want = [formula(model, *map(int, triple)) for triple in zip(h, r, t, strict=True)]
    torch.testing.assert_close(tails.tolist(), want)
    torch.testing.assert_close(heads.tolist(), want)


def test_candidates_score_like_the_whole_table(model):
    known, relation = torch.arange(5), torch.arange(5) % 3
    nodes = model.nodes()
    ids = torch.randint(14, (2, 9), generator=torch.Generator().manual_seed(0))
    for side in (0, 1):
        q = model.encode(TripleQuery(known, relation, side), nodes)
        per_row = ids[torch.tensor([0, 0, 0, 1, 1])]
        want = scores(model, known, relation, side).gather(1, per_row)
        torch.testing.assert_close(model.score(q, nodes, ids), want)


def test_a_step_touches_only_the_rows_of_the_batch(model):
    nodes = model.nodes()
    known, relation = torch.tensor([1, 4]), torch.tensor([2, 2])
    q = model.encode(TripleQuery(known, relation, 1), nodes)
    model.score(q, nodes, torch.tensor([[7, 9, 7]])).sum().backward()
    assert model.entities.grad.is_sparse
    assert set(model.entities.grad.coalesce().indices()[0].tolist()) == {1, 4, 7, 9}
    assert set(model.relations.grad.coalesce().indices()[0].tolist()) == {2}


def test_training_raises_facts_over_corruptions(model, triples):
    """Ten plain gradient steps on one batch of each side."""
    ids = torch.arange(14)[None]

    def gap(step):
        batch = triples.batch(torch.arange(40), step)
        nodes = model.nodes()
        q = model.encode(batch.query, nodes)
        positive = model.score(q, nodes, batch.positive[:, None]).squeeze(1)
        return (positive - model.score(q, nodes, ids).mean(1)).mean()

    before = gap(0).item() + gap(1).item()
    for step in range(10):
        model.zero_grad()
        gap(step).backward()
        with torch.no_grad():
            for table in (model.entities, model.relations):
                table -= -0.3 * table.grad.to_dense()
    assert gap(0).item() + gap(1).item() > before


@pytest.fixture
def rotate(triples):
    torch.manual_seed(1)
    return RotatE(triples, dim=D, gamma=5.0).double()


def turn(model, relation, angles):
    with torch.no_grad():
        model.relations[relation] = torch.as_tensor(angles, dtype=torch.float64) / model.phase


def everything(model, relation, side=0):
    E = model.num_candidates
    return scores(model, torch.arange(E), torch.full((E,), relation), side)


def test_no_angle_is_a_distance(rotate):
    turn(rotate, 0, torch.zeros(D))
    want = ComplexDistance(5.0).full(rotate.entities, rotate.entities)
    torch.testing.assert_close(everything(rotate, 0), want)


def test_half_turns_are_symmetric(rotate):
    turn(rotate, 0, torch.tensor([0, math.pi, math.pi, 0, math.pi, 0], dtype=torch.float64))
    table = everything(rotate, 0)
    torch.testing.assert_close(table, table.T)
    turn(rotate, 0, torch.full((D,), 1.0))
    table = everything(rotate, 0)
    assert not torch.allclose(table, table.T)


def test_the_opposite_angle_is_the_inverse_relation(rotate):
    angles = torch.linspace(-3, 3, D)
    turn(rotate, 0, angles)
    turn(rotate, 1, -angles)
    torch.testing.assert_close(everything(rotate, 0), everything(rotate, 1).T)
    torch.testing.assert_close(everything(rotate, 0), everything(rotate, 0, side=1).T)


def test_angles_compose(rotate):
    first, second = torch.linspace(-1, 1, D), torch.linspace(0, 2, D)
    turn(rotate, 0, first)
    turn(rotate, 1, second)
    turn(rotate, 2, first + second)
    E = rotate.num_candidates
    zeros = torch.zeros(E, dtype=torch.long)
    halfway = rotate.encode(TripleQuery(torch.arange(E), zeros, 0), rotate.nodes())
    there = rotate.encode(TripleQuery(torch.arange(E), zeros + 1, 0), halfway)
    want = rotate.encode(TripleQuery(torch.arange(E), zeros + 2, 0), rotate.nodes())
    torch.testing.assert_close(there, want)


def test_distmult_cannot_tell_head_from_tail_and_complex_can(triples):
    torch.manual_seed(0)
    table = everything(DistMult(triples, dim=D, spread=1.0).double(), 0)
    torch.testing.assert_close(table, table.T)
    table = everything(ComplEx(triples, dim=D, spread=1.0).double(), 0)
    assert not torch.allclose(table, table.T)


@pytest.mark.parametrize("norm", [2, 3])
def test_penalty_is_the_norm_of_the_positives(triples, norm):
    batch = triples.batch(torch.arange(4), 1)
    for maker in (DistMult, ComplEx):
        model = maker(triples, dim=D, spread=1.0, regulariser=0.25, norm=norm).double()
        total = 0.0
        for i in range(4):
            for table, row in (
                (model.entities, triples.head[i]),
                (model.entities, triples.tail[i]),
                (model.relations, triples.relation[i]),
            ):
                row = table[row].tolist()
                numbers = complex_row(row) if maker is ComplEx else row
                total += sum(abs(x) ** norm for x in numbers)
        got = model.penalty(batch, torch.zeros(1, 1))
        assert got.item() == pytest.approx(0.25 * total / 4)
        got.backward()
        assert model.entities.grad.is_sparse
    assert DistMult(triples, dim=D).penalty(batch, torch.zeros(1, 1)) == 0


def test_random_starts_have_the_authors_spread(triples):
    model = RotatE(triples, dim=50, gamma=9.0)
    assert model.entities.abs().max() <= 11 / 50
    assert model.entities.std().item() == pytest.approx(11 / 50 / 3**0.5, rel=0.05)
    angles = model.relations * model.phase
    assert angles.abs().max() <= math.pi + 1e-5
    assert angles.std().item() == pytest.approx(math.pi / 3**0.5, rel=0.2)


@pytest.mark.parametrize("maker", [RotatE, TransE, DistMult, ComplEx])
def test_starts(maker, triples, tmp_path):
    width = 16 if maker in (RotatE, ComplEx) else 8
    random, spectral = maker(triples, dim=8), maker(triples, dim=8, start="spectral")
    assert spectral.entities.shape == (14, width)
    used = torch.unique(torch.cat([triples.head, triples.tail]))
    ratio = spectral.entities[used].std() / random.entities.std()
    assert 0.3 < ratio < 3
    vectors = torch.randn(14, width)
    assert torch.equal(maker(triples, dim=8, start=vectors).entities, vectors)
    np.save(tmp_path / "start.npy", vectors.numpy())
    assert torch.equal(maker(triples, dim=8, start=str(tmp_path / "start.npy")).entities, vectors)
    with pytest.raises(HardnegError, match="rand"):
        maker(triples, dim=8, start="randm")
    with pytest.raises(HardnegError, match=str(width)):
        maker(triples, dim=8, start=torch.randn(14, 3))


def test_wrong_arguments_name_themselves(triples):
    for maker in (RotatE, TransE, DistMult, ComplEx):
        with pytest.raises(UsageError, match=f"dim=0 in {maker.__name__}"):
            maker(triples, dim=0)
    with pytest.raises(UsageError, match="norm=4 in ComplEx"):
        ComplEx(triples, dim=4, norm=4)
