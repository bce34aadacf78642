"""Who may be a negative, which of them, and with what weight."""

from .base import Ask, Negatives, NegativeSampler, Pipeline, Proposal, Refiner
from .self_adversarial import SelfAdversarial
from .top_k import TopK
from .uniform import Uniform

__all__ = [
    "Ask",
    "NegativeSampler",
    "Negatives",
    "Pipeline",
    "Proposal",
    "Refiner",
    "SelfAdversarial",
    "TopK",
    "Uniform",
]
