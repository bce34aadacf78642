"""Which side a batch of triples asks for: in turn, or by TransH's Bernoulli rule, exactly."""

from dataclasses import replace

import pytest
import torch

from hardneg.datasets.triples import Triples


@pytest.fixture
def facts():
    """Relation 0 has 3 tails for each head and 1 head for each tail; relation 1 is the reverse."""
    head = torch.tensor([0, 0, 0, 1, 1, 1, 8])
    tail = torch.tensor([2, 3, 4, 5, 6, 7, 0])
    relation = torch.tensor([0, 0, 0, 0, 0, 0, 1])
    return Triples(head, relation, tail, 9, 2, subsampling=False, sides="bernoulli")


def test_three_tails_a_head_ask_for_heads_three_times_in_four(facts):
    assert facts.head_probability().tolist() == pytest.approx([0.75, 0.5])
    flipped = replace(facts, head=facts.tail, tail=facts.head)
    assert flipped.head_probability().tolist() == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize("subsampling", [False, True])
def test_over_many_steps_each_fact_is_asked_as_the_rule_says(facts, subsampling):
    facts = replace(facts, subsampling=subsampling)
    base = replace(facts, sides="alternate").batch(torch.arange(7)).weight
    total, whole, steps = torch.zeros(2, 7), torch.zeros(2), 10_000
    for step in range(steps):
        batch = facts.batch(torch.arange(7), step)
        total[batch.query.side] += batch.weight / steps
        whole[batch.query.side] = batch.weight.sum()
    p = facts.head_probability().float()[facts.relation]
    torch.testing.assert_close(total[1], base * p, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(total[0], base * (1 - p), rtol=2e-3, atol=1e-4)
    # The engine divides by the weight of a batch: alike on both sides, so nothing is undone.
    torch.testing.assert_close(whole, base.sum().expand(2))


def test_balanced_relations_alternate(triples):
    both = replace(
        triples,
        head=torch.cat([triples.head, triples.tail]),
        relation=triples.relation.repeat(2),
        tail=torch.cat([triples.tail, triples.head]),
    )
    for step in range(6):
        turn = both.batch(torch.arange(9), step)
        drawn = replace(both, sides="bernoulli").batch(torch.arange(9), step)
        assert turn.query.side == drawn.query.side == step % 2
        torch.testing.assert_close(turn.weight, drawn.weight)


def test_questions_ask_both_sides_whatever_training_does(facts):
    sides = [q.query.side for q in facts.questions(facts, 4)]
    assert sides == [0, 0, 1, 1]
