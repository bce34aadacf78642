"""What can be read off a table of vectors and off shares of a gradient: pure functions.

n rows of a table · D width · C classes · R rows of a batch · K negatives.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_ROWS = 25_600  # rows after which RankMe no longer moves in the second digit
FEWEST_ROWS = 1_024  # a wide table is still read this far
MULTIPLICATIONS = 10**9  # what one spectrum may cost: n D² in float64, about a tenth of a second
MOST_CLASSES = 256  # above it the within-class spread costs more than a spectrum


def sample_rows(table: Tensor) -> Tensor:
    """(N, D) -> row numbers (n,), evenly spread and always the same: no draw, so no seed moves."""
    N, D = table.shape
    n = min(N, MOST_ROWS, max(FEWEST_ROWS, MULTIPLICATIONS // (D * D)))
    return torch.arange(n, device=table.device) * N // max(n, 1)


def rank_me(vectors: Tensor) -> Tensor:
    r"""Count the directions a table really uses: (n, D) -> scalar in [1, min(n, D)].

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \quad p_k = \sigma_k / \sum_i \sigma_i

    The singular values are square roots of the eigenvalues of the smaller Gram matrix, in float64.
    The published form adds 1e-7 to each p against log 0; here 0 log 0 = 0, which moves the result
    by less than 0.01%.

    Cost: n D min(n, D) + min(n, D)³ multiplications. Source: Garrido et al. 2023, RankMe,
    arXiv:2210.02885.
    """
    x = vectors.double()
    gram = x.T @ x if len(x) >= x.shape[1] else x @ x.T
    square = torch.linalg.eigvalsh(gram)
    # Rounding leaves eigenvalues of about 1e-16 of the largest where there should be none.
    floor = square[-1] * len(square) * torch.finfo(square.dtype).eps
    sigma = torch.where(square > floor, square, 0).sqrt()
    share = sigma / sigma.sum().clamp_min(torch.finfo(sigma.dtype).tiny)
    return torch.special.entr(share).sum().exp()


def effective_number(share: Tensor) -> Tensor:
    r"""(R, K) shares that sum to 1 -> (R,): :math:`1 / \sum_j w_j^2`, K when all are alike.

    Source: Kish's effective sample size, of the gradient of Wang and Liu 2021, arXiv:2012.09740.
    """
    return 1 / share.square().sum(1).clamp_min(torch.finfo(share.dtype).tiny)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """(n,), (n,) -> Pearson's r; NaN where one of them does not vary."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    return (x @ y) / (x.square().sum() * y.square().sum()).sqrt()


def neural_collapse(vectors: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""(n, D), (n,) classes -> how far the classes have collapsed to a simplex; 0 is all the way.

    With the class means (about their own mean) in the columns of B,

    .. math:: NC_1 = \mathrm{tr}(S_W S_B^+) / C, \quad
        NC_2 = \Big(\frac{\mathrm{std}_c |b_c|}{\mathrm{mean}_c |b_c|},\;
        \mathrm{mean}_{c \ne d} \big|\cos(b_c, b_d) + \tfrac{1}{C - 1}\big|\Big)

    S_B has rank C - 1 at most, so its inverse is taken on that side: no (D, D) eigenvectors.
    Classes without a row are left out; NaN where fewer than two are left.

    Cost: n D C multiplications. Source: Papyan, Han and Donoho 2020, arXiv:2008.08186.
    """
    x = vectors.double()
    _, label = label.unique(return_inverse=True)
    count = torch.bincount(label)
    C = len(count)
    nan = x.new_tensor(torch.nan)
    if C < 2:
        return nan, nan, nan
    mean = x.new_zeros(C, x.shape[1]).index_add_(0, label, x) / count[:, None]
    about = mean - mean.mean(0)  # (C, D)
    square, basis = torch.linalg.eigh(about @ about.T / C)  # of S_B, on the side of the classes
    real = square > square[-1] * C * torch.finfo(square.dtype).eps * 100
    square, basis = square[real], basis[:, real]
    direction = about.T @ basis / (C * square).sqrt()  # (D, C'), eigenvectors of S_B
    within = ((x - mean[label]) @ direction).square().mean(0)  # u' S_W u
    norm = about.norm(dim=1)
    unit = about / norm.clamp_min(torch.finfo(norm.dtype).tiny)[:, None]
    angle = (unit @ unit.T + 1 / (C - 1)).abs()
    angle = (angle.sum() - angle.diagonal().sum()) / (C * (C - 1))
    return (within / square).sum() / C, norm.std(correction=0) / norm.mean(), angle
