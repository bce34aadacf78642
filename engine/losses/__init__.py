"""What is minimised: one number for each prediction."""

from .base import Loss, TableLoss
from .bce import BCE
from .bpr import BPR
from .cosine_contrastive import CosineContrastive
from .full_softmax import FullSoftmax
from .gbce import GBCE
from .logistic import Logistic
from .margin import Margin
from .sampled_softmax import SampledSoftmax

__all__ = [
    "BCE",
    "BPR",
    "GBCE",
    "CosineContrastive",
    "FullSoftmax",
    "Logistic",
    "Loss",
    "Margin",
    "SampledSoftmax",
    "TableLoss",
]
