"""Stages compose from left to right and refuse orders that mean nothing."""

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.samplers import Pipeline, SameCluster, SelfAdversarial, TopK, Uniform

pytestmark = pytest.mark.usefixtures("one_thread")


def test_stages_are_flat_and_in_order():
    left = (Uniform(8) | TopK(4)) | SelfAdversarial(1.0)
    right = Uniform(8) | (TopK(4) | SelfAdversarial(1.0))
    for pipeline in (left, right):
        assert isinstance(pipeline, Pipeline)
        assert [type(s).__name__ for s in pipeline] == ["Uniform", "TopK", "SelfAdversarial"]


def test_a_pipeline_is_its_stages_by_hand(make_ask):
    ask = make_ask()
    cluster, top, belief = SameCluster(12, clusters=3), TopK(4), SelfAdversarial(0.5)
    pipeline = cluster | top | belief
    assert pipeline.due(0)
    assert not pipeline.due(1)
    pipeline.prepare(Training(torch.ones(20)))
    pipeline.refresh(ask.table, ask.generator)
    negatives = pipeline.propose(ask)
    scores = ask.score(negatives.ids)
    got, s = pipeline.refine(negatives, scores, ask)
    want, t = belief.refine(*top.refine(negatives, scores, ask), ask)
    assert torch.equal(s, t)
    for name in ("ids", "valid", "weight"):
        assert torch.equal(getattr(got, name), getattr(want, name))
    total = got.probabilities(s).sum(1)
    torch.testing.assert_close(total, got.valid.any(1).float())


def test_wrong_orders_are_refused(make_ask):
    with pytest.raises(UsageError, match="Uniform is a proposal and must come first"):
        TopK(4) | Uniform(8)
    with pytest.raises(UsageError, match=r"only refines; put a proposal first, e.g. Uniform"):
        TopK(4).propose(make_ask())
