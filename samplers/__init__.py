"""Who may be a negative, which of them, and with what weight."""

from .base import Ask, Negatives, NegativeSampler, Pipeline, Proposal, Refiner
from .batches import LengthBuckets, Shuffle, epoch_batches
from .hardest import Hardest
from .in_batch import InBatch
from .popularity import Popularity
from .same_cluster import SameCluster
from .self_adversarial import SelfAdversarial
from .top_k import TopK
from .uniform import Uniform

__all__ = [
    "Ask",
    "Hardest",
    "InBatch",
    "LengthBuckets",
    "NegativeSampler",
    "Negatives",
    "Pipeline",
    "Popularity",
    "Proposal",
    "Refiner",
    "SameCluster",
    "SelfAdversarial",
    "Shuffle",
    "TopK",
    "Uniform",
    "epoch_batches",
]
