"""Contrast of views: the formula in a plain loop, its limits, and what each term learns from."""

import math

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.engine.losses import SampledSoftmax
from hardneg.engine.step import batch_loss
from hardneg.engine.terms import SGL, SRACL, CL4SRec, Look, MCLRec, SimGCL
from hardneg.engine.terms.contrast import dhel, info_nce
from hardneg.engine.terms.mclrec import too_easy
from hardneg.models.lightgcn import LightGCN
from hardneg.models.rotate import RotatE
from hardneg.models.sasrec import SASRec
from hardneg.samplers import Uniform

pytestmark = pytest.mark.usefixtures("one_thread")

TERMS = {
    "SGL": lambda: SGL(drop=0.2),
    "SimGCL": lambda: SimGCL(),
    "CL4SRec": lambda: CL4SRec(substitute=0.3),
    "SRACL": lambda: SRACL(width=5),
    "MCLRec": lambda: MCLRec(),
    "SGL of four": lambda: SGL(drop=0.2, views=4, form="dhel"),
    "SimGCL of three": lambda: SimGCL(views=3, form="dhel"),
    "CL4SRec of three": lambda: CL4SRec(temperature=0.2, views=3, form="dhel"),
}


@pytest.mark.parametrize("within", [False, True])
def test_naive_loop(within):
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 3, generator=g), torch.randn(4, 3, generator=g)
    owner = torch.tensor([0, 1, 0, 2])
    total = 0.0
    for i in range(4):
        cos = [F.cosine_similarity(a[i], b[j], dim=0).item() / 0.5 for j in range(4)]
        own = [F.cosine_similarity(a[i], a[j], dim=0).item() / 0.5 for j in range(4)]
        low = math.exp(cos[i])
        for j in range(4):
            if owner[j] != owner[i]:
                low += math.exp(cos[j]) + (math.exp(own[j]) if within else 0)
        total -= cos[i] - math.log(low)
    got = info_nce(a, b, 0.5, owner=owner, within=within)
    assert got.item() == pytest.approx(total / 4, rel=1e-5)


@pytest.mark.parametrize("num", [2, 4])
def test_several_views_in_a_naive_loop(num):
    """Views of a row agree; rows of a view repel each other, but for those of one owner."""
    views = torch.randn(num, 4, 3, generator=torch.Generator().manual_seed(0))
    owner, tau, total = [0, 1, 0, 2], 0.5, 0.0

    def cos(x, y):
        return F.cosine_similarity(x, y, dim=0).item() / tau

    for i in range(4):
        pairs = [cos(views[a, i], views[b, i]) for a in range(num) for b in range(a)]
        total -= math.log(sum(math.exp(c) for c in pairs))
        for v in range(num):
            others = [j for j in range(4) if owner[j] != owner[i]]
            total += math.log(sum(math.exp(cos(views[v, i], views[v, j])) for j in others))
    assert dhel(views, tau, torch.tensor(owner)).item() == pytest.approx(total / 4, rel=1e-5)


@pytest.mark.parametrize("kind", [SGL, SimGCL, CL4SRec])
def test_every_view_is_another(kind, interactions):
    """As many views as asked for, all different, and the order of them says nothing."""
    model, training, batch = setting(kind.__name__, interactions)
    term, seen = kind(views=4, form="dhel"), []
    term.prepare(training, model)
    look = look_of(model, batch)
    if kind is CL4SRec:
        seen, owner = term.copies(look, 4)
    else:
        seen, owner = [term.view(model, which, look) for which in range(4)], torch.arange(27)
    assert len({tuple(view.detach().flatten().tolist()) for view in seen}) == 4
    torch.testing.assert_close(dhel(seen, 0.2, owner), dhel(seen[::-1], 0.2, owner))


def test_limits():
    same = torch.ones(5, 3)
    assert info_nce(same, same, 0.3).item() == pytest.approx(math.log(5), rel=1e-6)
    one = torch.randn(1, 3)
    assert info_nce(one, -one, 0.3).item() == pytest.approx(0, abs=1e-6)
    far = torch.eye(4)
    assert info_nce(far, far, 1e-2).item() == pytest.approx(0, abs=1e-6)


def test_the_regulariser_is_zero_where_positive_and_best_negative_meet():
    assert too_easy(torch.ones(3, 2), torch.ones(3, 2), 1.0).item() == pytest.approx(0, abs=1e-6)
    apart = too_easy(torch.eye(3), torch.eye(3), 1.0)  # p = 1, h = 0: 1 above, negatives 1 below
    assert apart.item() == pytest.approx(2.0)
    assert too_easy(torch.randn(1, 3), torch.randn(1, 3), 1.0).item() == 0


def setting(name, interactions):
    torch.manual_seed(0)
    if name.split()[0] in ("SGL", "SimGCL"):
        model = LightGCN(interactions, dim=8, layers=2)
    else:
        model = SASRec(interactions, dim=16, max_length=6, dropout=0.0)
    training = Training(interactions.counts(), interactions, interactions.known())
    batch = model.view(interactions).batch(torch.arange(9), step=1)
    return model, training, batch


def look_of(model, batch, seed=0):
    nodes = model.nodes()
    generator = torch.Generator().manual_seed(seed)
    return Look(model, batch, nodes, model.encode(batch.query, nodes), None, generator)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_finite_learns_and_repeats(name, interactions):
    model, training, batch = setting(name, interactions)
    term = TERMS[name]()
    term.prepare(training, model)
    first = term(look_of(model, batch))
    assert first.ndim == 0
    assert torch.isfinite(first)
    again = TERMS[name]()
    again.prepare(training, model)
    again.load_state_dict(term.state_dict())
    torch.testing.assert_close(again(look_of(model, batch)), first)
    optimizer = torch.optim.Adam([*model.parameters(), *term.parameters()], 0.01)
    for _ in range(25):
        for p in model.parameters():
            p.grad = None
        total = term(look_of(model, batch))
        total.backward()
        for p in model.parameters():
            if p.grad is not None and p.grad.is_sparse:
                p.grad = p.grad.to_dense()
        optimizer.step()
    assert term(look_of(model, batch)).item() < first.item()


@pytest.mark.parametrize("name", TERMS)
def test_a_term_joins_the_step(name, interactions):
    model, training, batch = setting(name, interactions)
    term = TERMS[name]()
    term.prepare(training, model)
    plain = batch_loss(model, Uniform(8), SampledSoftmax(), batch, None, fixed())
    with_it = batch_loss(model, Uniform(8), SampledSoftmax(), batch, None, fixed(), [term])
    assert with_it.total.item() != pytest.approx(plain.total.item())
    term.weight = 0.0
    without = batch_loss(model, Uniform(8), SampledSoftmax(), batch, None, fixed(), [term])
    assert without.total.item() == pytest.approx(plain.total.item())


def fixed():
    return torch.Generator().manual_seed(3)


def test_no_noise_and_no_dropped_edge_are_the_model_itself(interactions):
    model, training, batch = setting("SGL", interactions)
    term = SGL(drop=0.0)
    term.prepare(training, model)
    torch.testing.assert_close(term.view(model, 0, look_of(model, batch)), model.nodes())
    hops = model.hops()
    quiet = SimGCL(eps=0.0)
    torch.testing.assert_close(quiet.view(model, 0, look_of(model, batch)), (hops[1] + hops[2]) / 2)


def test_graphs_last_an_epoch_and_come_back_after_a_stop(interactions):
    model, training, batch = setting("SGL", interactions)
    term = SGL(drop=0.5)
    term.prepare(training, model)
    generator = torch.Generator().manual_seed(0)
    look = look_of(model, batch)._replace(generator=generator)
    term.advance(0.0)
    first = term.view(model, 0, look)
    term.advance(0.9)
    assert torch.equal(term.view(model, 0, look), first)
    stopped = SGL(drop=0.5)
    stopped.prepare(training, model)
    stopped.advance(0.95)  # whatever the generator has drawn since: a rehearsal draws from another
    assert torch.equal(stopped.view(model, 0, look_of(model, batch)), first)
    term.advance(1.0)
    assert not torch.equal(term.view(model, 0, look), first)
    stopped.advance(1.0)
    assert torch.equal(stopped.view(model, 1, look), term.view(model, 1, look))
    torch.manual_seed(1)
    other = SGL(drop=0.5)
    other.prepare(training, model)
    assert not torch.equal(other.view(model, 0, look), first)


def test_the_augmenters_do_not_move_with_the_encoder_nor_it_with_them(interactions):
    """What reaches the encoder is the gradient with augmenters as constants, and the reverse."""
    model, training, batch = setting("MCLRec", interactions)
    term = MCLRec(margin=0.0)
    term.prepare(training, model)
    term(look_of(model, batch)).backward()
    assert all(p.grad.abs().sum() > 0 for p in term.augmenters.parameters() if p.grad is not None)
    encoder = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert encoder
    frozen = MCLRec(margin=0.0)
    frozen.prepare(training, model)
    frozen.load_state_dict(term.state_dict())
    frozen.augmenters.requires_grad_(False)
    model.zero_grad(set_to_none=True)
    frozen(look_of(model, batch)).backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            mine, theirs = (g.to_dense() if g.is_sparse else g for g in (p.grad, encoder[name]))
            torch.testing.assert_close(mine, theirs)


def test_identity_augmenters_make_the_cross_terms_plain(interactions):
    model, training, batch = setting("MCLRec", interactions)
    term = MCLRec(weight=0.0, meta=1.0, margin=0.0)
    term.prepare(training, model)
    term.augmenters = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    look = look_of(model, batch)
    one, two, owner = term.two(look._replace(generator=torch.Generator().manual_seed(8)))
    want = 2 * info_nce(one, two, 1.0, owner=owner) + info_nce(two, one, 1.0, owner=owner)
    got = term(look._replace(generator=torch.Generator().manual_seed(8)))
    torch.testing.assert_close(got, want)


def test_one_neighbour_is_the_nearest_user(interactions):
    model, training, batch = setting("SRACL", interactions)
    term = SRACL(num_neighbours=1, width=4)
    term.prepare(training, model)
    features = term._histories(batch.query)
    first = term.features_table[batch.query.items[0, : batch.query.lengths[0]]].mean(0)
    torch.testing.assert_close(features[0], first)
    states = torch.randn(len(features), 16)
    unit = F.normalize(features, dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-9).argmax(1)
    torch.testing.assert_close(term._combine(features, states), states[nearest])


def test_a_hidden_item_cannot_be_read(interactions):
    model, _, batch = setting("CL4SRec", interactions)
    hidden = torch.zeros_like(batch.query.items, dtype=torch.bool)
    hidden[:, 1] = True
    other = batch.query.items.clone()
    other[:, 1] = (other[:, 1] + 1) % 15
    nodes = model.nodes()
    one = model.encode(batch.query._replace(hidden=hidden), nodes)
    two = model.encode(batch.query._replace(items=other, hidden=hidden), nodes)
    assert torch.equal(one, two)
    assert not torch.equal(one, model.encode(batch.query, nodes))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SGL(drop=1.0), r"drop=1.0 in SGL is outside \[0, 1\)"),
        (lambda: SimGCL(temperature=0), "temperature=0 in SimGCL must be above 0"),
        (lambda: CL4SRec(weight=-1), "weight=-1 in CL4SRec is negative"),
        (lambda: CL4SRec(crop=0, mask=0, reorder=0), "CL4SRec changes nothing"),
        (lambda: SRACL(num_neighbours=0), "num_neighbours=0 in SRACL must be at least 1"),
        (lambda: SGL(views=1, form="dhel"), "views=1 in SGL must be at least 2; raise it"),
        (lambda: SimGCL(views=3), "views=3 in SimGCL are more than .* use form='dhel' or views=2"),
        (lambda: CL4SRec(form="nce"), "form='nce' in CL4SRec; use 'infonce' or 'dhel'"),
    ],
)
def test_bad_numbers_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()


@pytest.mark.parametrize("name", TERMS)
def test_a_model_without_such_views_is_refused(name, interactions, triples):
    training = Training(triples.counts(), triples, triples.known())
    with pytest.raises(UsageError, match=r"terms: .*use (LightGCN|SASRec)"):
        TERMS[name]().prepare(training, RotatE(triples, dim=4))
    flat = Training(interactions.counts(), interactions, interactions.known())
    if name in ("SGL", "SimGCL"):
        with pytest.raises(UsageError, match="use LightGCN"):
            TERMS[name]().prepare(flat, LightGCN(interactions, dim=4, layers=0))
