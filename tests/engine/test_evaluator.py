"""The evaluator against PyKEEN's and by hand; its answer depends on no block size."""

import pytest
import torch

from hardneg.datasets.batch import SequenceQuery, TripleQuery
from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.sequences import Sequences
from hardneg.datasets.triples import Triples
from hardneg.engine import product_ranks
from hardneg.engine.evaluator import Evaluator

REC = ["Recall@5", "NDCG@5", "HitRate@5", "Precision@5", "MAP@5", "MRR@5", "MR", "Coverage@2"]
KG = ["MRR", "MR", "Hits@1", "Hits@3", "Hits@10"]


class Product:
    """q @ table.T with vectors of small whole numbers: exact, and full of ties."""

    training = False

    def __init__(self, view, num_candidates, num_relations=1, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.num_candidates = num_candidates
        self.table_ = torch.randint(-2, 3, (num_candidates, 6), generator=generator).float()
        self.users = torch.randint(-2, 3, (60, 6), generator=generator).float()
        self.relation = torch.randint(-2, 3, (num_relations, 6), generator=generator).float()
        self.similarity = self
        self.blocks = []

    def frozen_nodes(self):
        return self.table_

    def table(self, nodes):
        return nodes

    def encode(self, query, nodes):
        if isinstance(query, TripleQuery):
            return nodes[query.known] * self.relation[query.relation]
        if isinstance(query, SequenceQuery):
            return nodes[query.items.flatten()[query.index]]
        return self.users[query.user]

    def full(self, q, table):
        self.blocks.append(len(q))
        return q @ table.T

    def product(self, q, table):
        return None  # so that whole rows of scores are made


class Tiled(Product):
    """The same, counted in tiles."""

    def product(self, q, table):
        return q, table

    def full(self, q, table):
        raise AssertionError("no row of scores is made")


class Scores:
    """A baseline: scores of its own, no vectors."""

    def __init__(self, num_candidates, score):
        self.num_candidates, self.score = num_candidates, score

    def scores(self, question):
        return self.score(question)


@pytest.fixture
def log():
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randperm(60 * 40, generator=generator)[:900]
    whole = Interactions(pairs // 40, pairs % 40, 60, 40)
    return whole.take(torch.arange(600)), whole.take(torch.arange(600, 900))


@pytest.fixture
def facts():
    generator = torch.Generator().manual_seed(2)
    keys = torch.randperm(30 * 4 * 30, generator=generator)[:500]
    whole = Triples(keys // 120, keys // 30 % 4, keys % 30, 30, 4)
    return whole.take(torch.arange(400)), whole.take(torch.arange(400, 500)), whole


def test_by_hand():
    train = Interactions(torch.tensor([0, 1]), torch.tensor([3, 0]), 2, 4)
    test = Interactions(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 3]), 2, 4)
    # user 0: item 3 is masked; order 1 > 0 > 2. user 1: item 0 is masked; 3 ties with 1, above 2.
    table = torch.tensor([[2.0, 3.0, 1.0, 9.0], [9.0, 5.0, 4.0, 5.0]])
    model = Scores(4, lambda question: table[question.query.user])
    names = ["recall@2", "hr@1", "MRR", "MR", "precision@2", "coverage@1"]
    found = Evaluator(names).run(model, train, test, train.known())
    assert found == pytest.approx({
        "Recall@2": (1 / 2 + 1) / 2, "HitRate@1": 0.0, "MRR": (1 / 2 + 1 / 1.5) / 2,
        "MR": ((2 + 3) / 2 + 1.5) / 2, "Precision@2": 1 / 2, "Coverage@1": 1 / 4,
    })  # fmt: skip
    assert list(found) == ["Recall@2", "HitRate@1", "MRR", "MR", "Precision@2", "Coverage@1"]


def test_a_target_that_is_known_is_ranked_all_the_same():
    train = Interactions(torch.tensor([0, 0]), torch.tensor([1, 2]), 1, 4)
    test = Interactions(torch.tensor([0]), torch.tensor([2]), 1, 4)
    model = Scores(4, lambda question: torch.tensor([[1.0, 9.0, 5.0, 7.0]]))
    assert Evaluator(["MR"]).run(model, train, test, train.known()) == {"MR": 2.0}


def test_a_constant_model_is_at_chance(log, facts):
    train, test = log
    model = Scores(40, lambda question: torch.zeros(len(question.row), 40))
    found = Evaluator(["MR"]).run(model, train, test, None)
    assert found["MR"] == pytest.approx(20.5)
    train, test, whole = facts
    model = Scores(30, lambda question: torch.zeros(len(question.row), 30))
    assert Evaluator(["MR"]).run(model, train, test, None)["MR"] == pytest.approx(15.5)
    filtered = Evaluator(["MR", "Hits@1"]).run(model, train, test, whole.known())
    assert 12 < filtered["MR"] < 15.5
    assert filtered["Hits@1"] == 0


@pytest.mark.parametrize("task", ["users", "sequences", "triples"])
def test_the_byte_budget_changes_nothing(task, log, facts):
    if task == "triples":
        view, test, whole = facts
        known, names = whole.known(), KG
        model = Product(view, 30, 4)
    else:
        train, test = log
        view = train if task == "users" else Sequences(train, 10)
        known, names, model = train.known(), REC, Product(train, 40)
    whole_run = Evaluator(names).run(model, view, test, known)
    assert len(model.blocks) <= 2
    model.blocks.clear()
    small = Evaluator(names, budget_bytes=4 * 1000).run(model, view, test, known)
    assert len(model.blocks) > 5
    assert small == pytest.approx(whole_run, rel=1e-12)


@pytest.mark.parametrize("task", ["users", "histories", "triples"])
def test_tiles_and_whole_rows_of_scores_give_the_same(log, facts, task, monkeypatch):
    monkeypatch.setattr(product_ranks, "TILE", 16)
    if task == "triples":
        view, test, whole = facts
        known, names, sizes = whole.known(), KG, (30, 4)
    else:
        train, test = log
        view = train if task == "users" else Sequences(train, 10)
        known, sizes = train.known(), (40,)
        names = [name for name in REC if "Coverage" not in name]
    for seen in (known, None):
        rows, each = Evaluator(names).run_each(Product(view, *sizes), view, test, seen)
        tiles, every = Evaluator(names).run_each(Tiled(view, *sizes), view, test, seen)
        assert tiles == rows
        assert torch.equal(every["rank"], each["rank"])


def test_a_query_that_is_not_finite_is_an_error(log):
    train, test = log
    model = Tiled(train, 40)
    model.users[int(test.user[0])] = torch.nan
    model.full = lambda q, table: q @ table.T
    with pytest.raises(ResourceError, match="NaN"):
        Evaluator(["MRR"]).run(model, train, test, None)


def test_sides_and_categories_add_up(facts):
    train, test, whole = facts
    model = Product(train, 30, 4)
    evaluator = Evaluator(["MRR", "Hits@3"])
    found = evaluator.run(model, train, test, whole.known())
    assert found["MRR"] == pytest.approx((found["MRR/head"] + found["MRR/tail"]) / 2)
    category = train.categories()[test.relation]
    names = ("1-1", "1-N", "N-1", "N-N")
    share = [(category == c).double().mean().item() for c in range(4)]
    total = sum(s * found[f"Hits@3/{n}"] for s, n in zip(share, names, strict=True) if s)
    assert found["Hits@3"] == pytest.approx(total)
    assert {f"MRR/{n}" in found for s, n in zip(share, names, strict=True) if not s} <= {False}
    assert evaluator.queries_per_second > 0


@pytest.mark.filterwarnings("ignore")  # PyKEEN's imports and loops warn on current releases
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_pykeen(facts, ties):
    pytest.importorskip("pykeen")
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.models import DistMult
    from pykeen.triples import CoreTriplesFactory

    train, test, whole = facts
    stack = lambda t: torch.stack([t.head, t.relation, t.tail], 1)  # noqa: E731
    factory = CoreTriplesFactory(stack(train), num_entities=30, num_relations=4)
    theirs = DistMult(triples_factory=factory, embedding_dim=6, random_seed=0)
    ours = Product(train, 30, 4)
    if not ties:
        ours.table_ += torch.rand(30, 6)
    with torch.no_grad():
        theirs.entity_representations[0]._embeddings.weight.copy_(ours.table_)
        theirs.relation_representations[0]._embeddings.weight.copy_(ours.relation)
    expected = RankBasedEvaluator().evaluate(
        theirs, stack(test), batch_size=32, use_tqdm=False, additional_filter_triples=stack(whole)
    )
    found = Evaluator(KG).run(ours, train, test, whole.known())
    names = {"MRR": "inverse_harmonic_mean_rank", "MR": "arithmetic_mean_rank"}
    for name in KG:
        for suffix, side in (("", "both"), ("/head", "head"), ("/tail", "tail")):
            theirs_name = names.get(name, name.replace("Hits@", "hits_at_"))
            value = expected.get_metric(f"{side}.realistic.{theirs_name}")
            assert found[name + suffix] == pytest.approx(value, rel=1e-5), name + suffix


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_block_that_does_not_fit_is_halved(log, error):
    train, test = log

    class Small(Product):
        def full(self, q, table):
            if len(q) > 7:
                raise error
            return super().full(q, table)

    expected = Evaluator(REC).run(Product(train, 40), train, test, train.known())
    assert Evaluator(REC).run(Small(train, 40), train, test, train.known()) == pytest.approx(
        expected
    )


def test_what_never_fits_is_said_so_and_other_errors_pass(log):
    train, test = log

    def fail(error):
        def score(question):
            raise error

        return Scores(40, score)

    with pytest.raises(ResourceError, match="one query against 40 candidates"):
        Evaluator(["MRR"]).run(fail(MemoryError()), train, test, None)
    with pytest.raises(RuntimeError, match="shapes"):
        Evaluator(["MRR"]).run(fail(RuntimeError("shapes")), train, test, None)


def test_evaluation_leaves_the_model_as_it_was(log):
    train, test = log
    seen = []

    class Dropping(torch.nn.Module):
        num_candidates = 40

        def scores(self, question):
            seen.append((self.training, torch.is_grad_enabled()))
            raise ResourceError("stop")

    model = Dropping().train()
    with pytest.raises(ResourceError, match="stop"):
        Evaluator(["MRR"]).run(model, train, test, None)
    assert seen == [(False, False)]
    assert model.training


def test_coverage_counts_what_is_shown_without_the_history(log):
    train, test = log
    scores = torch.arange(40.0).flip(0)  # everybody is shown the lowest ids not yet seen
    model = Scores(40, lambda question: scores.expand(len(question.row), 40))
    found = Evaluator(["Coverage@3", "Coverage@40"]).run(model, train, test, train.known())
    shown = set()
    for user in test.user.unique().tolist():
        seen = set(train.item[train.user == user].tolist())
        shown |= set([i for i in range(40) if i not in seen][:3])
    assert found["Coverage@3"] == pytest.approx(len(shown) / 40)
    assert found["Coverage@40"] == 1.0


def test_nothing_to_do_is_an_error(log):
    train, test = log
    with pytest.raises(UsageError, match="no metric is named"):
        Evaluator([])
    with pytest.raises(UsageError, match="nothing held out"):
        Evaluator(["MRR"]).run(Product(train, 40), train, test.take(torch.arange(0)), None)
