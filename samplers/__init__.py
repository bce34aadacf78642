"""Who may be a negative, which of them, and with what weight."""

from .adaptive import Adaptive
from .ambiguous_window import AmbiguousWindow
from .base import Ask, Negatives, NegativeSampler, Pipeline, Proposal, Refiner
from .batches import BatchSampler, LengthBuckets, Shuffle, default_batches
from .cache import Cache
from .centroid import Centroid
from .cluster_batch import ClusterBatch
from .cluster_weight import ClusterWeight
from .cross_batch import CrossBatch
from .debias import Debias
from .false_negatives import FalseNegatives
from .generator import Generator
from .given import Given
from .guard import Guard
from .gumbel_top_k import GumbelTopK
from .hardest import Hardest
from .high_variance import HighVariance
from .in_batch import InBatch
from .margin_guard import MarginGuard
from .mix import Mix
from .mixture import Mixture
from .near_cluster import NearCluster
from .nearby_time import NearbyTime
from .neighbour_band import NeighbourBand
from .observed_type import ObservedType
from .owner_similarity import OwnerSimilarity
from .popularity import Popularity
from .propensity import Propensity
from .same_cluster import SameCluster
from .same_group import SameDomain, SameRelation
from .self_adversarial import SelfAdversarial
from .sinkhorn import Sinkhorn
from .skip_top import SkipTop
from .subgraph import Subgraph
from .tilt import Tilt
from .top_k import TopK
from .two_condition import TwoCondition
from .uniform import Uniform

__all__ = [
    "Adaptive",
    "AmbiguousWindow",
    "Ask",
    "BatchSampler",
    "Cache",
    "Centroid",
    "ClusterBatch",
    "ClusterWeight",
    "CrossBatch",
    "Debias",
    "FalseNegatives",
    "Generator",
    "Given",
    "Guard",
    "GumbelTopK",
    "Hardest",
    "HighVariance",
    "InBatch",
    "LengthBuckets",
    "MarginGuard",
    "Mix",
    "Mixture",
    "NearCluster",
    "NearbyTime",
    "NegativeSampler",
    "Negatives",
    "NeighbourBand",
    "ObservedType",
    "OwnerSimilarity",
    "Pipeline",
    "Popularity",
    "Propensity",
    "Proposal",
    "Refiner",
    "SameCluster",
    "SameDomain",
    "SameRelation",
    "SelfAdversarial",
    "Shuffle",
    "Sinkhorn",
    "SkipTop",
    "Subgraph",
    "Tilt",
    "TopK",
    "TwoCondition",
    "Uniform",
    "default_batches",
]
