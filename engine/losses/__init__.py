"""What is minimised: one number for each prediction."""

from .base import Loss, TableLoss
from .bpr import BPR
from .logistic import Logistic
from .sampled_softmax import SampledSoftmax

__all__ = ["BPR", "Logistic", "Loss", "SampledSoftmax", "TableLoss"]
