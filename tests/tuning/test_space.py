"""What is searched: read off constructors, narrowed, replaced, fixed; families; bad ranges."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hardneg.datasets.errors import UsageError
from hardneg.engine.recipe import resolve
from hardneg.tuning.families import families
from hardneg.tuning.ranges import read_range, split_entries, text_of_range
from hardneg.tuning.space import apply, default_of, plan

FIELDS = {
    "model": "LightGCN(dim=8, similarity=Cosine())",
    "dataset": "ml-100k",
    "negatives": "Uniform(64, pools=2) | TopK(8)",
}


@pytest.fixture
def base():
    return resolve(FIELDS)


def test_ratio_hardness_temperature_and_rate_are_searched_together(base):
    assert set(plan(base, {}).ranges) == {
        "model.LightGCN.similarity.temperature",
        "negatives.Uniform.num",
        "negatives.TopK.num",
        "optimizer.Adam.lr",
    }


def test_narrowed_replaced_and_fixed(base):
    table = {
        "negatives": {"Uniform": {"num": "16..64:log"}},
        "negatives.TopK.share": "0.01..0.5:log",
        "batch_size": [64, 128],
        "loss.correct": False,
    }
    space = plan(base, table)
    assert space.ranges == {
        "negatives.Uniform.num": IntDistribution(16, 64, log=True),
        "negatives.TopK.share": FloatDistribution(0.01, 0.5, log=True),
        "batch_size": CategoricalDistribution([64, 128]),
    }
    assert space.fixed == {"loss.SampledSoftmax.correct": False} or space.fixed == {
        "loss.correct": False
    }
    found = apply(base, {"negatives.TopK.share": 0.25, "batch_size": 64, **space.fixed})
    assert found.negatives == "Uniform(num=64, pools=2) | TopK(num=8, share=0.25)"
    assert (found.batch_size, found.loss) == (64, "SampledSoftmax(correct=False)")


def test_only_fixing_leaves_the_rest_to_be_searched(base):
    space = plan(base, ["negatives.TopK.num=16"])
    assert "negatives.TopK.num" not in space.ranges
    assert "negatives.Uniform.num" in space.ranges
    assert space.fixed == {"negatives.TopK.num": 16}


def test_a_share_that_is_written_out_takes_the_place_of_the_number():
    base = resolve({**FIELDS, "negatives": "Uniform(64) | TopK(share=0.1)"})
    assert "negatives.TopK.share" in plan(base, {}).ranges
    assert "negatives.TopK.num" not in plan(base, {}).ranges


def test_a_share_that_is_not_written_out_may_be_asked_for_by_name(base):
    for name in ("negatives.TopK.share", "negatives.share"):
        [first, _] = families(base, [name])
        assert first.ranges == {"negatives.TopK.share": FloatDistribution(0.002, 1.0, log=True)}
        assert first.defaults() == {"negatives.TopK.share": 0.125}


def test_a_schedule_is_a_choice_like_any_other(base):
    base = resolve({**FIELDS, "negatives": "Uniform(64) | SelfAdversarial(1.0)"})
    name = "negatives.SelfAdversarial.alpha"
    space = plan(base, {name: [1.0, "Linear(0.0, 1.0, 5.0)"]}).ranges[name]
    found = apply(base, {name: space.choices[1]}).negatives
    assert found.endswith("SelfAdversarial(alpha=Linear(start=0.0, end=1.0, epochs=5.0))")


def test_defaults_are_those_of_the_recipe_and_of_the_constructors(base):
    assert default_of(base, "negatives.TopK.num") == 8
    assert default_of(base, "model.LightGCN.similarity.temperature") == 0.1
    assert default_of(base, "batch_size") == base.batch_size


def test_families_have_knobs_of_their_own_and_uniform_is_one(base):
    texts = ["Uniform(32) | TopK(4)", "Popularity(16) | SelfAdversarial(1.0)"]
    found = families(base, {}, texts)
    assert [f.baseline for f in found] == [False, False, True]
    assert found[2].name == "Uniform(num=32)"
    assert "negatives.SelfAdversarial.alpha" in found[1].ranges
    assert "negatives.TopK.num" not in found[1].ranges
    assert found[0].defaults()["negatives.TopK.num"] == 4
    [first, plain] = families(base, ["negatives.TopK.num"])
    assert set(first.ranges) == {"negatives.TopK.num"}
    assert plain.ranges == {}, "nothing to tune: one trial"
    assert len(families(base, {}, baseline=False)) == 1
    same = families(resolve({**FIELDS, "negatives": "Uniform(8)"}), {})
    assert [f.baseline for f in same] == [True]


def test_defaults_are_moved_into_narrower_ranges(base):
    [family, _] = families(base, ["negatives.Uniform.num=128..512", "optimizer.lr=0.1..1"])
    assert family.defaults() == {"negatives.Uniform.num": 128, "optimizer.Adam.lr": 0.1}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("negatives.nope=1..3", "nope is not an argument here; choose from"),
        ("loss.t=0..1", "t is not an argument here; choose from"),
        ("epochs=1..4", "'epochs' has no declared range"),
        ("negatives.num=1..4", "'negatives.num' is ambiguous; did you mean"),
        ("negatives.TopK.num=5..2", r"is inverted; write negatives.TopK.num=2..5"),
        ("negatives.TopK.num=3..3", r"is empty; write negatives.TopK.num=3 to fix it"),
        ("negatives.TopK.num=", r"is empty; write low\.\.high"),
        ("negatives.TopK.num=1.5..4", "needs whole numbers; write them without a point"),
        ("negatives.TopK.num=a..b", r"cannot be read; write low\.\.high"),
        ("negatives.TopK.num=1..4:lg", "'lg' is no option; write"),
        ("negatives.TopK.num=1..8:log:step=2", "is log and has a step; leave one out"),
        ("negatives.Uniform.num=0..4", "at 0: num=0 in Uniform must be a whole number"),
        ("optimizer.Adam.lr=0..1:log", "a log range starts above 0"),
        ("negatives.TopK.num=4|4", "names a choice twice"),
    ],
)
def test_bad_ranges_are_one_sentence_with_the_remedy(entry, message, base):
    with pytest.raises(UsageError, match=message) as trouble:
        families(base, [entry])
    assert "\n" not in str(trouble.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("negatives.nope=1..3", "nope is not an argument here"),
        ("negatives.alpha=5..1", r"is inverted; write .*alpha=1..5"),
        ("negatives.within=0..2", "at 2"),
    ],
)
def test_of_several_families_the_one_with_the_argument_says_what_is_wrong(entry, message, base):
    texts = ["Uniform(32) | TopK(4)", "Uniform(16) | SelfAdversarial(1.0)", "SameCluster(8)"]
    good = ["negatives.TopK.num", "negatives.alpha=0.5..2"][: 1 + ("alpha" not in entry)]
    with pytest.raises(UsageError, match=message):
        families(base, [*good, entry], texts)


def test_a_family_named_twice_is_refused(base):
    with pytest.raises(UsageError, match=r"names .* twice; leave one out"):
        families(base, {}, ["Uniform(8) | TopK(2)", "Uniform(num=8) | TopK(num=2)"])


@pytest.mark.parametrize("text", ["1..64:log", "0.1..0.5", "8..64:step=8", "a|b|3", "0.5..2:log"])
def test_ranges_are_written_as_they_are_read(text):
    assert text_of_range(read_range("x", text, None)) == text


def test_commas_in_brackets_do_not_split():
    assert split_entries("a, b=[1, 2],c=Linear(0, 1)") == ["a", "b=[1, 2]", "c=Linear(0, 1)"]
