"""Training steps beside peers, interleaved in one process: ours, theirs, ours, theirs, ...

RotatE against PyKEEN (self-adversarial, K own negatives a positive) on a graph of FB15k-237's size,
and LightGCN against torch_geometric on a log of Gowalla's size. Both sides get the same sizes and
random data; what is reported is the median of the pairwise ratios, because machines drift.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from hardneg.datasets.interactions import Interactions
from hardneg.datasets.triples import Triples
from hardneg.engine.losses.bpr import BPR
from hardneg.engine.losses.logistic import Logistic
from hardneg.engine.optim import Adam
from hardneg.engine.step import batch_loss
from hardneg.models.lightgcn import LightGCN
from hardneg.models.rotate import RotatE
from hardneg.samplers.self_adversarial import SelfAdversarial
from hardneg.samplers.uniform import Uniform


def timed(step: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], n: int) -> str:
    """Warm both up, run them in turn and describe the medians."""
    for step in (ours, theirs):
        step()
    pairs = [(timed(ours), timed(theirs)) for _ in range(n)]
    mine, other = (1e3 * statistics.median(p[i] for p in pairs) for i in (0, 1))
    ratio = statistics.median(b / a for a, b in pairs)
    return f"{name:<58} ours {mine:8.1f} ms   peer {other:8.1f} ms   {ratio:6.1f}x"


def our_step(model, view, sampler, loss, batch_size: int) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    """Return one step of our loop."""
    optimizer = Adam(lr=1e-3).build(model.parameters())
    known, generator = view.known(), torch.Generator().manual_seed(0)
    number = 0

    def step() -> None:
        nonlocal number
        index = torch.randint(len(view), (batch_size,), generator=generator)
        batch = view.batch(index, number)
        number += 1
        total, _ = batch_loss(model, sampler, loss, batch, known, generator)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return step


def rotate(n: int) -> str:
    """RotatE, 200 complex dimensions, B=512, K=128."""
    from pykeen.losses import NSSALoss
    from pykeen.models import RotatE as TheirRotatE
    from pykeen.sampling import BasicNegativeSampler
    from pykeen.triples import CoreTriplesFactory

    E, R, B, K, D = 14541, 237, 512, 128, 200
    triples = torch.stack([torch.randint(size, (272_115,)) for size in (E, R, E)], dim=1)
    data = Triples(*triples.T.contiguous(), num_entities=E, num_relations=R)
    sampler = Uniform(K, pools=4) | SelfAdversarial(1.0)
    ours = our_step(RotatE(data, dim=D), data, sampler, Logistic(), B)
    factory = CoreTriplesFactory(triples, num_entities=E, num_relations=R)
    loss = NSSALoss(margin=9.0, adversarial_temperature=1.0)
    model = TheirRotatE(triples_factory=factory, embedding_dim=D, loss=loss)
    negatives = BasicNegativeSampler(mapped_triples=triples, num_negs_per_pos=K)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def theirs() -> None:
        positive = triples[torch.randint(len(triples), (B,))]
        batch, _ = negatives.sample(positive)
        value = loss.process_slcwa_scores(
            model.score_hrt(positive), model.score_hrt(batch.view(-1, 3)).view(B, K)
        )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return compare("RotatE step, B=512 K=128 d=200, PyKEEN unfiltered", ours, theirs, n)


def lightgcn(n: int) -> str:
    """LightGCN, 3 layers, 64 dimensions, BPR with one negative, batch 2048."""
    from torch_geometric.nn import LightGCN as TheirLightGCN

    U, N, n_rows, B = 29_858, 40_981, 810_128, 2048
    user, item = torch.randint(U, (n_rows,)), torch.randint(N, (n_rows,))
    data = Interactions(user, item, U, N)
    model = LightGCN(data, dim=64, layers=3, l2=1e-4)
    ours = our_step(model, data, Uniform(1, pools="own"), BPR(), B)
    edges = torch.stack([user, item + U])
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    peer = TheirLightGCN(U + N, 64, 3)
    optimizer = torch.optim.Adam(peer.parameters(), lr=1e-3)

    def theirs() -> None:
        index = torch.randint(n_rows, (B,))
        pos = torch.stack([user[index], item[index] + U])
        neg = torch.stack([user[index], torch.randint(N, (B,)) + U])
        ranks = peer(edges, torch.cat([pos, neg], dim=1))
        value = peer.recommendation_loss(ranks[:B], ranks[B:], node_id=pos.unique())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return compare("LightGCN step, BPR, batch 2048, 64 dims, 3 layers, PyG", ours, theirs, n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5, help="pairs of each comparison")
    n = parser.parse_args().n
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(rotate(n))
    print(lightgcn(n))


if __name__ == "__main__":
    main()
