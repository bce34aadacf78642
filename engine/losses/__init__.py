"""What is minimised: one number for each prediction."""

from .adaptive_margin import AdaptiveMargin
from .base import BatchLoss, Loss, TableLoss
from .bce import BCE
from .block_contrast import BlockContrast
from .bpr import BPR
from .bpr_max import BPRMax
from .cacr import CACR
from .clip import Clip
from .cosine_contrastive import CosineContrastive
from .decoupled_uniformity import DecoupledUniformity
from .direct_au import DirectAU
from .full_softmax import FullSoftmax
from .gbce import GBCE
from .kernel_conditional import KernelConditional
from .kvs_all import KvsAll
from .lambda_rank import LambdaRank
from .logistic import Logistic
from .mann_whitney import MannWhitney
from .margin import Margin
from .meco import MECO
from .multi_similarity import MultiSimilarity
from .mv_dhel import MVDHEL, mv_dhel
from .sampled_softmax import SampledSoftmax
from .scalable_ce import ScalableCE
from .warp import WARP
from .z_loss import ZLoss

__all__ = [
    "BCE",
    "BPR",
    "CACR",
    "GBCE",
    "MECO",
    "MVDHEL",
    "WARP",
    "AdaptiveMargin",
    "BPRMax",
    "BatchLoss",
    "BlockContrast",
    "Clip",
    "CosineContrastive",
    "DecoupledUniformity",
    "DirectAU",
    "FullSoftmax",
    "KernelConditional",
    "KvsAll",
    "LambdaRank",
    "Logistic",
    "Loss",
    "MannWhitney",
    "Margin",
    "MultiSimilarity",
    "SampledSoftmax",
    "ScalableCE",
    "TableLoss",
    "ZLoss",
    "mv_dhel",
]
