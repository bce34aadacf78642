"""Every model meets every sampler and every loss; a component in no list here fails a test."""

import inspect
from collections import Counter
from contextlib import nullcontext
from importlib import import_module
from itertools import product
from pkgutil import walk_packages
from typing import get_type_hints

import pytest
import torch
from optuna.distributions import CategoricalDistribution
from torch.autograd.profiler import profile

import hardneg.engine.losses
import hardneg.engine.terms
import hardneg.models
import hardneg.samplers
from hardneg.datasets.errors import UsageError
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.training import Training
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.engine.concatenated import Concatenated, ConcatenatedSequences, ConcatenatedTriples
from hardneg.engine.losses import (
    BCE,
    BPR,
    CACR,
    GBCE,
    MECO,
    MVDHEL,
    WARP,
    AdaptiveMargin,
    BatchLoss,
    BlockContrast,
    BPRMax,
    Clip,
    CosineContrastive,
    DecoupledUniformity,
    DirectAU,
    FullSoftmax,
    KernelConditional,
    KvsAll,
    LambdaRank,
    Logistic,
    Loss,
    MannWhitney,
    Margin,
    MultiSimilarity,
    SampledSoftmax,
    ScalableCE,
    TableLoss,
    ZLoss,
)
from hardneg.engine.optim import Adagrad
from hardneg.engine.step import batch_loss
from hardneg.engine.terms import SGL, SRACL, CL4SRec, MCLRec, SimGCL, Term
from hardneg.models.base import Model
from hardneg.models.complex import ComplEx
from hardneg.models.distmult import DistMult
from hardneg.models.lightgcn import LightGCN
from hardneg.models.rotate import RotatE
from hardneg.models.sasrec import SASRec
from hardneg.models.similarity import Cosine, Dot
from hardneg.models.transe import TransE
from hardneg.samplers import (
    Adaptive,
    AmbiguousWindow,
    Cache,
    Centroid,
    ClusterWeight,
    CrossBatch,
    Debias,
    FalseNegatives,
    Generator,
    Given,
    GumbelTopK,
    Hardest,
    HighVariance,
    InBatch,
    MarginGuard,
    Mix,
    Mixture,
    NearbyTime,
    NearCluster,
    NegativeSampler,
    NeighbourBand,
    ObservedType,
    OwnerSimilarity,
    Pipeline,
    Popularity,
    Propensity,
    Proposal,
    Refiner,
    SameCluster,
    SelfAdversarial,
    Sinkhorn,
    SkipTop,
    Tilt,
    TopK,
    TwoCondition,
    Uniform,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* clusters of one candidate each"),  # few candidates here
]

MODELS = {
    LightGCN: lambda log, kg: LightGCN(log, dim=8, layers=2),
    SASRec: lambda log, kg: SASRec(log, dim=16, max_length=6, similarity=Cosine(0.2)),
    RotatE: lambda log, kg: RotatE(kg, dim=8),
    TransE: lambda log, kg: TransE(kg, dim=8),
    DistMult: lambda log, kg: DistMult(kg, dim=8),
    ComplEx: lambda log, kg: ComplEx(kg, dim=8),
}
PROPOSALS = {
    Uniform: [
        lambda: Uniform(8),
        lambda: Uniform(8, pools=3),
        lambda: Uniform(8, pools="own"),
    ],
    Popularity: [lambda: Popularity(8)],
    InBatch: [lambda: InBatch()],
    SameCluster: [
        lambda: SameCluster(8, clusters=3, within=0.5),
        lambda: SameCluster(8, clusters=3, by="graph", balanced=True),
    ],
    NearCluster: [lambda: NearCluster(8, clusters=3, within=0.5)],
    Centroid: [lambda: Centroid(5, nearest=2)],
    NeighbourBand: [lambda: NeighbourBand(8, low=2, high=6)],
    Hardest: [lambda: Hardest(8), lambda: Hardest(8, refresh_every=3, skip=1)],
    Cache: [lambda: Cache(8, cache=6, candidates=4)],
    HighVariance: [lambda: HighVariance(8, cache=8, candidates=4)],
    Generator: [
        lambda: Generator(8, candidates=10, dim=3),
        lambda: Generator(8, candidates=10, dim=3, exact=True),
    ],
    Mixture: [
        lambda: Mixture(InBatch(), Uniform(8), SameCluster(4, clusters=3)),
        lambda: Mixture(Uniform(8), CrossBatch(12, 1)),
    ],
    CrossBatch: [lambda: CrossBatch(12, warmup_steps=0, keep=0.75)],
    NearbyTime: [lambda: NearbyTime(8, 5)],
    ObservedType: [lambda: ObservedType(8, 0.8)],
    Given: [lambda: Given("negatives.csv", 8)],
}
REFINERS = {
    TopK: [lambda: TopK(4)],
    SelfAdversarial: [lambda: SelfAdversarial(0.5)],
    Tilt: [lambda: Tilt(1.0)],
    Debias: [lambda: Debias(0.1)],
    AmbiguousWindow: [
        lambda: AmbiguousWindow(0.5, -1.0, 4),
        lambda: AmbiguousWindow(0.0, num=4, bins=3),
    ],
    GumbelTopK: [lambda: GumbelTopK(4)],
    Sinkhorn: [lambda: Sinkhorn(1.0, 5, "counts")],
    FalseNegatives: [lambda: FalseNegatives(0.95)],
    MarginGuard: [lambda: MarginGuard(0.1)],
    SkipTop: [lambda: SkipTop(2)],
    OwnerSimilarity: [lambda: OwnerSimilarity(0.5), lambda: OwnerSimilarity(0.5, "known")],
    TwoCondition: [lambda: TwoCondition()],
    ClusterWeight: [lambda: ClusterWeight((3, 5))],
    Propensity: [lambda: Propensity(0.5)],
    Mix: [lambda: Mix(2), lambda: Mix(2, "pairs", keep=True)],
    Adaptive: [lambda: Adaptive(4)],
}
LOSSES = {
    BPR: BPR(),
    BCE: BCE(),
    GBCE: GBCE(0.75),
    Logistic: Logistic(),
    Margin: Margin(1.0),
    CosineContrastive: CosineContrastive(0.5, 10.0),
    SampledSoftmax: SampledSoftmax(form="dcl", sigma=1.0, kappa=1.1),
    BPRMax: BPRMax(),
    MannWhitney: MannWhitney(),
    LambdaRank: LambdaRank(),
    MultiSimilarity: MultiSimilarity(beta=5.0, margin=1.0),
}
NEED_LOG_Q = [SampledSoftmax(True), SampledSoftmax(form="corrected"), MECO(), WARP(5.0)]
TERMS = {
    SGL: lambda: SGL(),
    SimGCL: lambda: SimGCL(),
    CL4SRec: lambda: CL4SRec(substitute=0.2),
    SRACL: lambda: SRACL(width=4),
    MCLRec: lambda: MCLRec(),
}  # what they do is tested in tests/terms
SEVERAL_VIEWS = {
    SimGCL: lambda: SimGCL(views=3, form="dhel"),
    CL4SRec: lambda: CL4SRec(views=3, form="dhel"),
}
BATCH_LOSSES = {
    Clip: Clip(),
    AdaptiveMargin: AdaptiveMargin(),
    DirectAU: DirectAU(),
    DecoupledUniformity: DecoupledUniformity(),
    MVDHEL: MVDHEL(),
    CACR: CACR(),
    KernelConditional: KernelConditional(),
    BlockContrast: BlockContrast(4),
}
MADE_OF_RUNS = [Concatenated, ConcatenatedSequences, ConcatenatedTriples]  # in test_stages
TABLE_LOSSES = {
    FullSoftmax: FullSoftmax(0.1, mask_known=True),
    KvsAll: KvsAll("kl", 0.1),
    ZLoss: ZLoss(),
    ScalableCE: ScalableCE(6),
}

BY_DISTANCE = (RotatE, TransE)

CHAINS = [
    (),
    *((refiner,) for makes in REFINERS.values() for refiner in makes),
    (REFINERS[TopK][0], REFINERS[SelfAdversarial][0]),
    (REFINERS[SelfAdversarial][0], REFINERS[TopK][0]),
    (REFINERS[Tilt][0], REFINERS[Debias][0]),
]


def composes(stages):
    """Say whether the stages may stand in one line: mixing with the positive needs table rows."""
    first, *others = [make() for make in stages]
    mixes = any(isinstance(stage, Mix) and stage.of == "positive" for stage in others)
    return not (mixes and first.loose)


PAIRS = [(make, *chain) for makes in PROPOSALS.values() for make, chain in product(makes, CHAINS)]
STAGES = [stages for stages in PAIRS if composes(stages)]
REFUSED = [stages for stages in PAIRS if not composes(stages)]


# What chooses or learns by score has no closed-form probability.
NO_LOG_Q = (AmbiguousWindow, Cache, Centroid, Generator, GumbelTopK, Hardest, TopK)
NO_LOG_Q += (CrossBatch, Given)  # the queue is filtered here
NO_LOG_Q += (Adaptive, HighVariance, Mix)
OTHER_DATA = {NearbyTime: "no times at all", ObservedType: "needs relations"}


def fits(model, sampler, batch, known):
    """Say whether the stages go together: a coupling needs one pool for the whole batch."""
    if not any(isinstance(stage, Sinkhorn) for stage in sampler):
        return True
    generator = torch.Generator().manual_seed(0)
    alone = batch_loss(model, next(iter(sampler)), BPR(), batch, known, generator)
    return len(alone.negatives.ids) == 1


def build(stages):
    return Pipeline(*(make() for make in stages))


def name_of(stages):
    sampler = build(stages)
    pools = getattr(next(iter(sampler)), "pools", "")
    return " | ".join(type(stage).__name__ for stage in sampler) + f" {pools}"


@pytest.fixture
def setting(interactions, triples, tmp_path, monkeypatch):
    """Return what a step needs for a model class: model, batch, known positives, counts."""

    unseen = min(set(range(15)) - set(interactions.item[interactions.user == 0].tolist()))

    def make(kind):
        torch.manual_seed(0)
        data = triples if kind.task == "triples" else interactions
        model = MODELS[kind](interactions, triples)
        view = model.view(data)
        width = model.nodes().shape[1]
        items, users = (Vocabulary("item", map(str, range(n))) for n in (data.counts().numel(), 12))
        asked = view.asked() if kind.task == "sequences" else None
        training = Training(
            data.counts(), data, data.known(), items, users, width, items, asked, asked is not None
        )
        monkeypatch.chdir(tmp_path)
        rows = "head,relation,tail\n13,2,13" if data is triples else f"user,item\n0,{unseen}"
        (tmp_path / "negatives.csv").write_text(rows)
        return model, view.batch(torch.arange(10), step=1), data.known(), training

    return make


def check_step(model, sampler, loss, batch, known, training):
    model.zero_grad()
    loss.prepare(training)
    generator = torch.Generator().manual_seed(0)
    value, scored, *_ = batch_loss(model, sampler, loss, batch, known, generator)
    value.backward()
    assert torch.isfinite(value), loss
    assert scored > 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients, loss
    total = torch.tensor(0.0)
    for gradient in gradients:
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        assert torch.isfinite(dense).all(), loss
        total = total + dense.abs().sum()
    assert total > 0, loss


@pytest.mark.parametrize("stages", STAGES, ids=name_of)
@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_one_step_of_every_loss(kind, stages, setting):
    model, batch, known, training = setting(kind)
    sampler = build(stages)
    first = next(iter(sampler))
    if type(first) in OTHER_DATA and (kind.task == "triples") is isinstance(first, NearbyTime):
        with pytest.raises(UsageError, match=OTHER_DATA[type(first)]):
            sampler.prepare(training)
        return
    sampler.prepare(training)
    if isinstance(first, CrossBatch | Mixture):  # a queue holds what earlier steps left
        batch_loss(model, first, BPR(), batch, known, torch.Generator().manual_seed(0))
    if sampler.due(0):
        sampler.refresh(model.table(model.nodes()).detach(), torch.Generator().manual_seed(0))
    if not fits(model, sampler, batch, known):
        with pytest.raises(UsageError, match=r"Sinkhorn needs one pool .* use pools=1"):
            check_step(model, sampler, SampledSoftmax(), batch, known, training)
        return
    for loss in LOSSES.values():
        check_step(model, sampler, loss, batch, known, training)
    check_step(model, sampler, SampledSoftmax(), batch, known, training)
    for loss in NEED_LOG_Q:
        if isinstance(loss, MECO) and kind.task == "sequences":
            with pytest.raises(UsageError, match=r"MECO remembers .* use SampledSoftmax"):
                check_step(model, sampler, loss, batch, known, training)
        elif any(isinstance(stage, NO_LOG_Q) for stage in sampler):
            with pytest.raises(UsageError, match="needs log_q"):
                check_step(model, sampler, loss, batch, known, training)
        else:
            check_step(model, sampler, loss, batch, known, training)


@pytest.mark.parametrize("stages", REFUSED, ids=lambda stages: type(stages[0]()).__name__)
def test_vectors_without_a_row_are_not_mixed_with_the_positive(stages):
    with pytest.raises(UsageError, match=r"are vectors without a row; use of='pairs'"):
        build(stages)


@pytest.mark.parametrize("loss", TABLE_LOSSES.values(), ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_one_step_over_the_table(kind, loss, setting):
    model, batch, known, training = setting(kind)
    if isinstance(loss, ZLoss) and not isinstance(model.similarity, Dot):
        with pytest.raises(UsageError, match="take a model with Dot or Cosine"):
            check_step(model, Uniform(1), loss, batch, known, training)
    else:
        check_step(model, Uniform(1), loss, batch, known, training)


@pytest.mark.parametrize("loss", BATCH_LOSSES.values(), ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_one_step_within_the_batch(kind, loss, setting):
    """Every step is finite, but a model that ranks by distance is refused before it is made."""
    model, batch, known, training = setting(kind)
    check_step(model, NegativeSampler(), loss, batch, known, training)
    if kind is LightGCN:
        one = model.view(training.data).batch(torch.arange(1))
        value = batch_loss(model, NegativeSampler(), loss, one, known, None).total
        assert torch.isfinite(value)
    if kind in BY_DISTANCE:
        with pytest.raises(UsageError, match="compares directions"):
            loss.check(model.similarity)
    else:
        loss.check(model.similarity)


# What a GPU's host stands still for, by the names the profiler gives.
WAITS = ["item", "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal"]
WAITS += ["_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "_coalesce"]
WAITS = {f"aten::{name}" for name in WAITS}


def waits(model, sampler, loss, batch, known, terms=()):
    """Return how often a whole step, with backward pass and optimizer, would wait for a GPU."""
    learns = torch.nn.ModuleList([model, sampler, loss, *terms])
    # Not Adam: the fused one of the CPU reads the number of the step, that of a GPU does not.
    optimizer = Adagrad().build(p for p in learns.parameters() if p.requires_grad)
    generator = torch.Generator().manual_seed(0)
    # The first step may make what stays: graphs, state of the optimizer.
    for watch in (nullcontext(), profile(use_kineto=False)):
        with watch as seen:
            optimizer.zero_grad()
            outcome = batch_loss(model, sampler, loss, batch, known, generator, terms)
            outcome.total.backward()
            optimizer.step()
    names = (event.name() for event in seen.kineto_results.events())  # parsed, they take seconds
    return Counter(name for name in names if name in WAITS)


def steps_of(kind):
    """Return every proposal, refiner, loss and term in a step that a model can make."""
    uniform = [REFINERS[TopK][0], REFINERS[SelfAdversarial][0]]
    for make in (make for makes in PROPOSALS.values() for make in makes):
        other = OTHER_DATA.get(type(make()))
        if other is None or (kind.task == "triples") is (type(make()) is ObservedType):
            yield make, uniform, BPR(), None
    for make in (make for makes in REFINERS.values() for make in makes):
        yield PROPOSALS[Uniform][0], [make], SampledSoftmax(), None
    for loss in [*LOSSES.values(), *NEED_LOG_Q, *BATCH_LOSSES.values(), *TABLE_LOSSES.values()]:
        sequences = kind.task == "sequences" and isinstance(loss, MECO)
        if not (sequences or (kind is RotatE and isinstance(loss, ZLoss))):
            yield PROPOSALS[Uniform][0], [], loss, None
    for term, make in [*TERMS.items(), *SEVERAL_VIEWS.items()]:
        if (term in (SGL, SimGCL), kind) in ((True, LightGCN), (False, SASRec)):
            yield PROPOSALS[Uniform][0], [], SampledSoftmax(), make


@pytest.mark.parametrize("kind", [LightGCN, SASRec, RotatE], ids=lambda kind: kind.__name__)
def test_no_step_waits_for_the_device(kind, setting, monkeypatch):
    """Compiled code is off, so that the CPU runs what a GPU would."""
    monkeypatch.setattr("hardneg.datasets.compiled.available", lambda: False)
    for proposal, refiners, loss, term in steps_of(kind):
        model, batch, known, training = setting(kind)
        sampler = build([proposal, *refiners])
        loss.prepare(training)
        sampler.prepare(training)
        if sampler.due(0):
            table = model.table(model.nodes()).detach()
            sampler.refresh(table, torch.Generator().manual_seed(0))
        terms = [] if term is None else [term()]
        for one in (sampler, *terms):
            one.advance(1.0)
        for one in terms:
            one.prepare(training, model)
        assert waits(model, sampler, loss, batch, known, terms) == {}, (sampler, loss, terms)


def test_the_profiler_would_notice():
    class Waiting(BPR):
        def forward(self, positive, scores, negatives, row=None):
            return super().forward(positive, scores / scores.abs().max().item(), negatives)

    class Picking(BPR):
        def forward(self, positive, scores, negatives, row=None):
            return scores[negatives.valid].sum() + 0 * positive

    data = Interactions(torch.arange(10), torch.arange(10), 10, 10)
    model, batch = LightGCN(data, dim=4, layers=0), data.batch(torch.arange(10))
    assert waits(model, Uniform(4), BPR(), batch, None) == {}
    assert waits(model, Uniform(4), Waiting(), batch, None)["aten::item"] == 1
    assert waits(model, Uniform(4), Picking(), batch, None)["aten::nonzero"] > 0


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_the_batch_size_one_and_everything_known(kind, setting, interactions, triples):
    """A row whose every candidate is a known positive leaves a finite step behind."""
    model, _, known, training = setting(kind)
    view = model.view(triples if kind.task == "triples" else interactions)
    batch = view.batch(torch.arange(1))
    rows = torch.arange(known.num_rows).repeat_interleave(known.num_candidates)
    all_known = type(known)(
        rows,
        torch.arange(known.num_candidates).repeat(known.num_rows),
        known.num_rows,
        known.num_candidates,
    )
    for make in (Uniform, InBatch, SameCluster, lambda: Hardest(4)):
        sampler = make() | SelfAdversarial() | TopK(1)
        sampler.prepare(training)
        for loss in LOSSES.values():
            loss.prepare(training)
            value = batch_loss(model, sampler, loss, batch, all_known, None).total
            value.backward()
            assert torch.isfinite(value), loss


def components(package, base):
    """Return every concrete subclass of `base` that the package defines."""
    for module in walk_packages(package.__path__, package.__name__ + "."):
        try:
            import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "triton":  # a GPU's compiler; no component needs it to be imported
                raise
    found, queue = set(), [base]
    while queue:
        for kind in queue.pop().__subclasses__():
            queue.append(kind)
            ours = kind.__module__.startswith("hardneg.")
            if ours and not inspect.isabstract(kind) and not kind.__name__.startswith("_"):
                found.add(kind)
    return found


@pytest.mark.parametrize(
    "kind",
    [*PROPOSALS, *REFINERS, *LOSSES, MECO, WARP, *TABLE_LOSSES, *MODELS, *TERMS],
    ids=lambda kind: kind.__name__,
)
def test_defaults_lie_in_the_ranges_a_study_searches(kind):
    parameters = inspect.signature(kind.__init__).parameters
    for name, hint in get_type_hints(kind.__init__, include_extras=True).items():
        for distribution in getattr(hint, "__metadata__", ()):
            default = parameters[name].default
            if not isinstance(distribution, CategoricalDistribution):
                # 0 may switch a term off that a study then searches the size of.
                # None leaves an argument out until a recipe gives it (TopK's share).
                if default not in (0, None):
                    assert distribution.low <= default <= distribution.high, name
            else:
                assert default in distribution.choices, name


@pytest.mark.parametrize(
    ("package", "base", "listed"),
    [
        (hardneg.samplers, Proposal, PROPOSALS),
        (hardneg.samplers, Refiner, REFINERS),
        (hardneg.engine.losses, Loss, [*LOSSES, MECO, WARP]),
        (hardneg.engine.losses, TableLoss, TABLE_LOSSES),
        (hardneg.engine.losses, BatchLoss, BATCH_LOSSES),
        (hardneg.models, Model, [*MODELS, *MADE_OF_RUNS]),
        (hardneg.engine.terms, Term, TERMS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_component_is_in_a_list(package, base, listed):
    missing = {kind.__name__ for kind in components(package, base)} - {k.__name__ for k in listed}
    assert not missing, f"add {', '.join(sorted(missing))} to the lists of this file"
    assert components(package, base) == set(listed)
