"""What a run answers to some test questions, with names. b questions · N candidates."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...datasets.batch import Question, TripleQuery
from ..job import history_and_known
from ..ranks import rank_counts
from ..run import Run
from .html import paragraph

NUM, SHOWN, READ = 6, 5, 6  # questions, answers to each, items of a history
LONGEST = 120  # letters of a name


class Example(NamedTuple):
    """One question: who asks, what was read, the true answer with its rank, the best answers."""

    question: str
    read: list[str]
    truth: list[str]
    rank: float
    answers: list[tuple[str, bool]]  # name, and whether it is a true answer


def examples(run: Run, each: dict[str, np.ndarray]) -> str:
    """Return cards of test questions, evenly spread from the best answered to the worst."""
    found = find_examples(run, each)
    if not found:
        return ""
    told = (
        "Test questions spread evenly from the best answered to the worst: the cards in the middle "
        "are typical. What was known before is left out, as in the test; true answers are marked."
    )
    cards = "".join(_card(example) for example in found)
    return paragraph(told, "note") + f'<div class="cards">{cards}</div>'


def _card(example: Example) -> str:
    items = "".join(
        f'<li class="right">{escape(name)} ✓</li>' if right else f"<li>{escape(name)}</li>"
        for name, right in example.answers
    )
    read = f'<p class="note">after {escape(", ".join(example.read))}</p>' if example.read else ""
    truth = escape(", ".join(example.truth))
    return (
        f'<div class="card"><p><b>{escape(example.question)}</b></p>{read}<ol>{items}</ol>'
        f'<p class="note">true: {truth}, rank {example.rank:,.10g}</p></div>'
    )


@torch.no_grad()
def find_examples(run: Run, each: dict[str, np.ndarray]) -> list[Example]:
    """Choose test questions and answer them."""
    names = [name for name in each if name not in ("tag", "rank")]
    if not names or not len(run.dataset.test):
        return []
    metric = run.recipe.metric if run.recipe.metric in names else names[0]
    badness = each[metric] if metric == "MR" else -each[metric]
    if len(each.get("rank", ())) == len(badness):  # one answer each: its rank tells more
        badness = each["rank"]
    order = np.argsort(badness, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(NUM, len(order))).astype(int)]
    chosen = np.array(list(dict.fromkeys(chosen.tolist())))
    if run.dataset.kind == "interactions":
        return _users(run, chosen)
    return _facts(run, chosen)


def _users(run: Run, chosen: np.ndarray) -> list[Example]:
    dataset, test = run.dataset, run.dataset.test
    users = torch.nonzero(test.chronological()[0].diff()).squeeze(1)
    if len(users) <= int(chosen.max()):
        return []
    history, known = history_and_known(dataset, "test")
    wanted = torch.zeros(test.num_users, dtype=torch.bool)
    wanted[users[torch.from_numpy(chosen)]] = True
    [question] = run.model.view(history).questions(
        test.take(wanted[test.user.long()]), test.num_users
    )
    offsets, rows = history.chronological()
    words = dataset.vocabularies
    found = {}
    for i, user in enumerate(question.row.tolist()):
        read = history.item[rows[offsets[user] : offsets[user + 1]][-READ:]].tolist()
        label = words["user"].label(user)
        past = [_name(words["item"], item) for item in read]
        found[user] = (f"user {label[:LONGEST]}", past, i)
    answers = _answers(run, question, known)
    return [
        Example(found[user][0], found[user][1], *answers[found[user][2]])
        for user in users[torch.from_numpy(chosen)].tolist()
    ]


def _facts(run: Run, chosen: np.ndarray) -> list[Example]:
    dataset, test = run.dataset, run.dataset.test
    if int(chosen.max()) >= 2 * len(test):
        return []
    _, known = history_and_known(dataset, "test")
    entity, relation = dataset.vocabularies["entity"], dataset.vocabularies["relation"]
    found = []
    for number in chosen.tolist():
        side, row = divmod(number, len(test))
        batch = test.ask(torch.tensor([row]), side)
        query: Any = batch.query
        assert isinstance(query, TripleQuery)
        zero = torch.zeros(1, dtype=torch.int64)
        question = Question(query, batch.row, batch.positive, zero, zero)
        given = _name(entity, int(query.known[0]))
        words = ["?", _name(relation, int(query.relation[0])), given]
        text = " — ".join(words if side else words[::-1])
        found.append(Example(text, [], *_answers(run, question, known)[0]))
    return found


def _answers(
    run: Run, question: Question, known: Any
) -> list[tuple[list[str], float, list[tuple[str, bool]]]]:
    """Return for each question its true answers, the best rank of one, and the best answers."""
    model: Any = run.model
    if hasattr(model, "scores"):
        scores = model.scores(question)
    else:
        q = model.encode(question.query, run.nodes)
        scores = model.similarity.full(q, model.table(run.nodes))
    greater, equal = rank_counts(scores, question, known)
    rank = 1 + greater.double() + equal.double() / 2  # (T,)
    shown: Tensor = scores.clone()
    shown[known.of(question.row)] = -torch.inf
    shown[question.owner, question.target] = scores[question.owner, question.target]
    best = shown.topk(min(SHOWN, shown.shape[1]), dim=1)
    kind = "item" if run.dataset.kind == "interactions" else "entity"
    words = run.dataset.vocabularies[kind]
    found = []
    for i in range(len(question.row)):
        mine = question.owner == i
        true = question.target[mine].tolist()
        pairs = zip(best.indices[i].tolist(), best.values[i].tolist(), strict=True)
        answers = [(_name(words, c), c in true) for c, score in pairs if score > float("-inf")]
        found.append(([_name(words, c) for c in true[:READ]], float(rank[mine].min()), answers))
    return found


def _name(words: Any, index: int) -> str:
    text = words.label(index)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
