"""PyKEEN: training step, filtered test, negatives. Its RotatE takes the 2-norm over coordinates."""

from __future__ import annotations

from typing import Any

import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.losses import NSSALoss
from pykeen.models import RotatE
from pykeen.sampling import BasicNegativeSampler
from pykeen.triples import CoreTriplesFactory

from .. import formulas
from ..work import Work
from .formulas import opened, repeated


def _model(options: dict[str, Any], meta: dict[str, Any], train: torch.Tensor) -> RotatE:
    factory = CoreTriplesFactory(
        train, num_entities=meta["entities"], num_relations=meta["relations"]
    )
    loss = NSSALoss(margin=formulas.GAMMA, adversarial_temperature=1.0)
    model = RotatE(triples_factory=factory, embedding_dim=options["D"], loss=loss, random_seed=0)
    given = formulas.fixed(meta["entities"], meta["relations"], options["D"])
    halves = torch.stack(given.entities.chunk(2, -1), -1)
    turns = torch.stack([given.angles.cos(), given.angles.sin()], -1)
    with torch.no_grad():
        for module, value in (
            (model.entity_representations[0], halves),
            (model.relation_representations[0], turns),
        ):
            weight = module._embeddings.weight
            weight.copy_(value.reshape(weight.shape))
    return model.to(options["device"])


@torch.no_grad()
def _check(model: RotatE, loss: NSSALoss, meta: dict[str, Any], dim: int) -> tuple[float, float]:
    """Return its loss on the fixed input, and that of the formula it states."""
    sizes = meta["entities"], meta["relations"], dim
    given = formulas.fixed(*sizes)
    B, K = given.negatives.shape
    positive = torch.stack([given.head, given.relation, given.tail], 1)
    negative = positive[:, None].repeat(1, K, 1)
    negative[..., 2] = given.negatives
    device = model.device
    scores = model.score_hrt(positive.to(device))
    value = loss.process_slcwa_scores(
        scores, model.score_hrt(negative.view(-1, 3).to(device)).view(B, K)
    )
    return float(value), formulas.rotate_loss(*sizes, two_norm=True)


def rotate(options: dict[str, Any]) -> Work:
    """One step of its sLCWA loop: unfiltered own negatives, dense Adam.

    With `slice` rows at a time, gradients added up, as its `sub_batch_size` does.
    """
    meta, (train,) = opened(options, "train")
    device, B, K = options["device"], options["B"], options["K"]
    model = _model(options, meta, train)
    loss, size = model.loss, options.get("slice", B)
    check, expected = _check(model, loss, meta, options["D"])
    sampler = BasicNegativeSampler(mapped_triples=train, num_negs_per_pos=K)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        rows = train[torch.randint(len(train), (B,))]
        optimizer.zero_grad()
        for part in rows.split(size):
            batch, _ = sampler.sample(part)
            scores = model.score_hrt(batch.view(-1, 3).to(device)).view(len(part), K)
            value = loss.process_slcwa_scores(model.score_hrt(part.to(device)), scores)
            (value * (len(part) / B)).backward()
        optimizer.step()
        model.post_parameter_update()

    return repeated(step, options, check=check, expected=expected)


def ranking(options: dict[str, Any]) -> Work:
    """Filtered test of the first triples, both sides, its evaluator with a given batch size."""
    meta, (train, valid, test) = opened(options, "train", "valid", "test")
    model = _model(options, meta, train).eval()
    chosen = test[: options["sample"]]
    evaluator = RankBasedEvaluator(filtered=True, clear_on_finalize=True)
    work = Work(lambda: None, len(chosen), len(test))
    work.note = "first triples of the test part; batch size given"

    def run() -> None:
        found = evaluator.evaluate(
            model, chosen, batch_size=options["batch"], use_tqdm=False,
            additional_filter_triples=[train, valid, test],
        )  # fmt: skip
        work.check = float(found.get_metric("both.realistic.inverse_harmonic_mean_rank"))

    work.run = run
    work.expected = _expected(meta, options, (train, valid, test), chosen)
    return work


@torch.no_grad()
def _expected(
    meta: dict[str, Any], options: dict[str, Any], parts: tuple[Any, ...], chosen: torch.Tensor
) -> float:
    """Return the filtered MRR of the formula PyKEEN states, one question at a time."""
    given = formulas.fixed(meta["entities"], meta["relations"], options["D"])
    known = torch.cat(parts)
    total = 0.0
    for h, r, t in chosen.tolist():
        angle = given.angles[r][None]
        for side, target in ((0, t), (1, h)):
            fixed = given.entities[t if side else h][None]
            asked = (given.entities, angle, fixed) if side else (fixed, angle, given.entities)
            score = -formulas.rotate(*asked, conjugate=bool(side)).square().sum(1)
            columns = (1, 2, 0) if side else (0, 1, 2)
            values = (r, t) if side else (h, r)
            match = (known[:, columns[0]] == values[0]) & (known[:, columns[1]] == values[1])
            own = score[target].clone()
            score[known[match][:, columns[2]]] = -torch.inf
            higher, same = int((score > own).sum()), int((score == own).sum())
            total += 1 / (1 + higher + same / 2)
    return total / (2 * len(chosen))


def negatives(options: dict[str, Any]) -> Work:
    """Draw K negatives for each of B facts, its exact filter a Python set; valid ones count."""
    _, (train,) = opened(options, "train")
    sampler = BasicNegativeSampler(
        mapped_triples=train, num_negs_per_pos=options["K"], filtered=True, filterer="python-set"
    )
    rows = train[torch.randint(len(train), (options["B"],))]
    _, mask = sampler.sample(rows)
    return Work(
        lambda: sampler.sample(rows), int(mask.sum()), 1e6, note="facts of FB15k-237's size"
    )
