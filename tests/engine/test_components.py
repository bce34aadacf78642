"""Expressions: read and written back alike, checked, changed, searched, and anybody's classes."""

import re
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from hardneg.datasets.errors import UsageError
from hardneg.engine import api, components
from hardneg.engine.components import Spec, parse, show
from hardneg.models.lightgcn import LightGCN
from hardneg.models.similarity import Cosine

pytestmark = pytest.mark.usefixtures("one_thread")

names = st.from_regex(r"[A-Z][A-Za-z0-9]{0,8}(\.[A-Z][a-z]{1,4})?", fullmatch=True).filter(
    lambda name: name not in ("None", "True", "False")
)
keys = st.from_regex(r"k[a-z_0-9]{0,6}", fullmatch=True)
literals = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
specs = st.deferred(
    lambda: st.builds(
        Spec,
        names,
        st.lists(literals | specs, max_size=2).map(tuple),
        st.dictionaries(keys, literals | specs, max_size=2),
    )
)


@given(st.lists(specs, min_size=1, max_size=3).map(tuple))
def test_what_is_shown_is_read_back(expression):
    assert parse(show(expression), "here") == expression
    assert show(parse(show(expression), "here")) == show(expression)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_one_sentence(text):
    said = ""
    try:
        expression = parse(text, "negatives")
    except UsageError as error:
        said = str(error)
    assert re.fullmatch(r"(?s)negatives = .*; write it like .*", said) or (
        parse(show(expression), "negatives") == expression
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("TopK", ["TopK"]),
        ("a.b.C(1) | D()", ["a.b.C", "D"]),
        (" A(x=B(y=-1.5)) |C( [1, (2,)], z={'q': None}) ", ["A", "C"]),
    ],
)
def test_forms_of_expressions(text, names):
    assert [spec.name for spec in parse(text, "here")] == names


@pytest.mark.parametrize(
    "text",
    ["", "1", "A() + B()", "A()()", "A[0]", "f'{x}'", "A(**k)", "A(*k)", "A(x:=1)", "A(1)|2"],
)
def test_what_is_no_expression(text):
    with pytest.raises(UsageError, match=r"loss = .*write it like 'SampledSoftmax\(\)'"):
        parse(text, "loss")


def test_deep_nesting_is_refused_not_crashed():
    with pytest.raises(UsageError):
        parse("A(" * 5000 + ")" * 5000, "loss")


@pytest.mark.parametrize("role", components.HOMES)
def test_every_component_of_ours_is_found_and_names_are_unambiguous(role):
    found = components.catalogue(role)
    assert found
    for name, cls in found.items():
        assert cls.__name__ == name
        dotted = Spec(f"{cls.__module__}.{cls.__qualname__}")
        assert components.find(dotted, role, role) is cls, "short and dotted names agree"


def test_normalise_names_arguments_in_the_order_of_the_constructor():
    [spec] = parse("SameCluster(8, within=0.5, clusters=4)", "negatives")
    assert show((components.normalise(spec, "negatives", "negatives"),)) == (
        "SameCluster(num=8, clusters=4, within=0.5)"
    )


def test_build_converts_and_nests(interactions):
    [spec] = parse("LightGCN(dim=8, similarity=Cosine(1))", "model")
    model = components.build(spec, "model", "model", interactions)
    assert isinstance(model, LightGCN)
    assert isinstance(model.similarity, Cosine)
    [spec] = parse("TopK(4.0)", "negatives")
    assert components.build(spec, "negatives", "negatives").num == 4


@pytest.mark.parametrize(
    ("text", "role", "message"),
    [
        ("TopK('x')", "negatives", r"TopK\(num='x'\): .*integer"),
        ("TopK(None)", "negatives", r"TopK\(num=None\): .*integer"),
        ("TopK([1])", "negatives", r"TopK\(num=\[1\]\): .*integer"),
        ("Uniform(TopK(1))", "negatives", r"TopK\(1\) stands where a plain value"),
        ("Uniform(Uniform(1) | TopK(1))", "negatives", r"num=.*integer"),
        ("SampledSoftmax(correct='maybe')", "loss", r"correct='maybe'"),
        ("LightGCN(similarity=Cosine(temperature='warm'))", "model", r"temperature='warm'"),
        ("hardneg.samplers.TopK", "loss", r"not a Loss or TableLoss or BatchLoss; derive"),
        ("hardneg.samplers.Nope", "negatives", r"cannot import 'hardneg.samplers.Nope'"),
        ("math.pi", "negatives", r"'math.pi' is not a NegativeSampler"),
    ],
)
def test_types_are_checked_before_anything_is_built(text, role, message):
    [spec] = parse(text, role)
    with pytest.raises(UsageError, match=message):
        components.normalise(spec, role, role)


@pytest.mark.parametrize(
    ("text", "path", "value", "expected"),
    [
        ("Uniform(8) | TopK(4)", "TopK.num", 2, "Uniform(num=8) | TopK(num=2)"),
        ("Uniform(8) | SelfAdversarial()", "num", 3, "Uniform(num=3) | SelfAdversarial()"),
        ("Uniform() | TopK()", "pools", "own", "Uniform(pools='own') | TopK()"),
    ],
)
def test_override(text, path, value, expected):
    changed = components.override(parse(text, "n"), path, value, "negatives", "negatives")
    assert show(changed) == expected


def test_override_reaches_into_inner_components():
    expression = parse("LightGCN(dim=8, similarity=Cosine(0.2))", "model")
    changed = components.override(expression, "similarity.temperature", 0.5, "model", "model")
    assert show(changed) == "LightGCN(dim=8, similarity=Cosine(temperature=0.5))"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("num", r"negatives\.num stands for several stages; .*Uniform\.num|TopK\.num"),
        ("nums", r"negatives\.nums is not an argument here; did you mean"),
        ("Uniform.nope", r"is not an argument here"),
    ],
)
def test_override_refuses(path, message):
    expression = parse("Uniform(8) | TopK(4)", "negatives")
    with pytest.raises(UsageError, match=message):
        components.override(expression, path, 1, "negatives", "negatives")


def test_tunable_names_every_declared_range():
    space = components.tunable(parse("Uniform(8) | TopK(4)", "n"), "negatives", "negatives")
    assert space == {
        "Uniform.num": IntDistribution(1, 4096, log=True),
        "TopK.num": IntDistribution(1, 256, log=True),
        "TopK.share": FloatDistribution(0.002, 1.0, log=True),
    }
    inner = components.tunable(parse("LightGCN(similarity=Cosine(0.2))", "model"), "model", "model")
    assert isinstance(inner["LightGCN.similarity.temperature"], FloatDistribution)


@pytest.mark.parametrize("role", components.HOMES)
def test_what_is_tunable_can_be_set(role):
    """Every range of every component, set to its lower end, is accepted again."""
    for name, cls in components.catalogue(role).items():
        needed = [p for p in components.parameters(cls).values() if p.default is p.empty]
        if needed:
            continue
        expression = (Spec(name),)
        for path, space in components.tunable(expression, role, role).items():
            value = getattr(space, "low", None)
            value = space.choices[0] if value is None else value
            changed = components.override(expression, path, value, role, role)
            [spec] = parse(show(changed), role)
            components.normalise(spec, role, role)


MINE = '''
"""A user's own components."""
from typing import Annotated
import torch
from optuna.distributions import IntDistribution
from hardneg.engine.losses.base import Loss
from hardneg.models.lightgcn import LightGCN
from hardneg.samplers.base import Negatives, Proposal


class First(Proposal):
    """Always the first candidates."""

    def __init__(self, num: Annotated[int, IntDistribution(1, 9)] = 4) -> None:
        super().__init__()
        self.num = num
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def draw(self, ask):
        self.drawn += 1
        return Negatives(torch.arange(self.num)[None])


class Gap(Loss):
    """How far the mean negative stands above the positive."""

    def forward(self, positive, scores, negatives, row=None):
        return ((scores - positive[:, None]) * negatives.probabilities(scores)).sum(1).exp()


class Wide(LightGCN):
    """Twice as wide as asked."""

    def __init__(self, data, *, half: int = 3) -> None:
        super().__init__(data, dim=2 * half, layers=1)
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_for_tests.py").write_text(textwrap.dedent(MINE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine_for_tests"
    sys.modules.pop("mine_for_tests", None)


def test_a_users_own_classes_work_on_day_one(mine, small, tmp_path, private_cache):
    run = api.train(
        f"{mine}.Wide(half=2)",
        small / "log.csv",
        out=tmp_path / "run",
        quiet=True,
        epochs=2,
        negatives=f"{mine}.First(6) | TopK(2)",
        loss=f"{mine}.Gap",
    )
    assert run.model.ego.shape[1] == 4
    assert run.recipe.negatives == f"{mine}.First(num=6) | TopK(num=2)"
    assert api.resume(run.folder, quiet=True, epochs=3).metrics["epoch"] <= 3
    assert len(run.recommend("u1", k=3)) == 3
    space = components.tunable(parse(run.recipe.negatives, "n"), "negatives", "negatives")
    assert space["First.num"] == IntDistribution(1, 9)
    fields = run.recipe.model_dump(exclude_none=True)
    for path in ("negatives.First.num", f"negatives.{mine}.First.num"):
        changed = api.resolve(fields, {path: 5})
        assert changed.negatives == f"{mine}.First(num=5) | TopK(num=2)"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no licence')", r"RuntimeError: no licence"),
        ("def f(:", r"SyntaxError"),
        ("First = 3", r"is not a NegativeSampler; derive the class from it"),
    ],
)
def test_a_users_broken_module_is_named(code, message, tmp_path, monkeypatch):
    (tmp_path / "broken_for_tests.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=message):
        components.find(Spec("broken_for_tests.First"), "negatives", "negatives")
    sys.modules.pop("broken_for_tests", None)
