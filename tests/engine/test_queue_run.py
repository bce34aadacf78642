"""Runs with a queue: the rehearsal leaves nothing in it, sides are a field, data need a choice."""

import pytest
import torch

from hardneg.datasets.dataset import Dataset
from hardneg.datasets.errors import UsageError
from hardneg.datasets.load import load_dataset
from hardneg.datasets.positives import Positives
from hardneg.engine.job import Job, check_choice
from hardneg.engine.recipe import resolve

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")


def job(source, **fields):
    data = load_dataset(str(source))
    assert isinstance(data, Dataset)
    return Job(resolve({"dataset": str(source), "device": "cpu", **fields}), data)


def test_rehearsal_leaves_the_queue_empty(small):
    text = "Mixture(InBatch(), CrossBatch(64, 0))"
    made = job(small / "log.csv", model="LightGCN(dim=4, layers=1)", negatives=text)
    queue = made.sampler.proposals()[1]
    assert queue.step == queue.filled == queue.next_slot == 0
    assert queue.log_frequency.exp().sum().item() == pytest.approx(1)


def test_sides_are_a_field_of_the_recipe(small):
    made = job(small / "kg", model="DistMult(dim=4)", sides="bernoulli")
    assert made.view.sides == "bernoulli"
    share, _ = made.view._bernoulli
    asked = [made.view.batch(torch.arange(2), step).query.side for step in range(200)]
    assert sum(asked) == pytest.approx(200 * share, abs=1)


def test_data_without_a_choice_are_refused():
    rows, candidates = torch.arange(2).repeat_interleave(3), torch.arange(3).repeat(2)
    with pytest.raises(UsageError, match=r"each of the 2 queries in 'log.csv' has all 3 candid"):
        check_choice(Positives(rows, candidates, 5, 3), "log.csv")
    check_choice(Positives(rows[1:], candidates[1:], 5, 3), "log.csv")
    check_choice(Positives(rows[:0], candidates[:0], 5, 3), "log.csv")
