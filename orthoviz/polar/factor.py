"""The polar factor of a matrix, and the rule that decides which directions it has."""

import torch
from torch import Tensor

METHODS = ("exact", "svd")


def polar_factor(
    G: Tensor,
    method: str = "exact",
    *,
    tol: float | None = None,
    null: str = "drop",
    error_if_nonfinite: bool = False,
) -> Tensor:
    r"""The nearest matrix with orthonormal rows (or columns): same directions, equal lengths.

    .. math:: G = U S V^\top \quad\longmapsto\quad O = \sum_{s_i > \mathrm{tol}\, s_1} u_i v_i^\top

    Every direction that G has is kept and gets length 1; the sizes :math:`s_i` are forgotten.
    Where m <= n the rows of O are orthonormal, where m > n the columns; where G lacks directions
    (a dead filter, a softmax head's rows, which sum to zero) O lacks them too. O is the matrix that
    maximises :math:`\langle O, G\rangle` over all with spectral norm at most 1.

    Args:
        G: ``(..., m, n)``, real floating point, any scale. Each matrix of a batch is on its own.
        method: ``"exact"`` or ``"svd"``, both a singular value decomposition in float64.
        tol: directions with ``s_i <= tol * s_1`` count as noise. Default: 10 times float32's epsilon
            (1.2e-6), for float64 inputs 10 times float64's.
        null: ``"drop"`` maps noise directions to zero; ``"keep"`` gives the plain SVD's
            :math:`UV^\top`, as in the paper's code, where a zero matrix becomes an arbitrary
            orthonormal one.
        error_if_nonfinite: raise when G holds NaN or infinity. Otherwise such a matrix gives NaN,
            for itself alone.

    Returns:
        ``(..., m, n)``, dimensionless, in G's dtype and on its device. G is not changed.

    Raises:
        TypeError: G is not a real, dense, floating-point tensor.
        ValueError: G has fewer than two dimensions; an argument has a value that does not exist.
        RuntimeError: G is not finite and ``error_if_nonfinite`` is set.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 2; Higham 2008,
    *Functions of Matrices*, theorem 8.4 (nearest matrix).
    """
    check_arguments(method, tol, null)
    _check_matrix(G)
    if G.numel() == 0:
        return G.clone()
    work = G.to(torch.float64)
    largest = work.detach().abs().amax(dim=(-2, -1), keepdim=True)
    finite = largest.isfinite()
    if error_if_nonfinite and not bool(finite.all()):
        raise RuntimeError(f"the matrix of shape {tuple(G.shape)} holds NaN or infinity")

    work = torch.where(finite, work * _power_of_two(largest), 0.0)
    if tol is None:
        tol = 10 * torch.finfo(torch.float64 if G.dtype == torch.float64 else torch.float32).eps
    O = _svd_factor(work, tol, null)
    return torch.where(finite, O, torch.nan).to(G.dtype)


def check_arguments(method: str, tol: float | None, null: str) -> None:
    """Raise ValueError for a method, tolerance or null policy that does not exist."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if tol is not None and not 0 <= tol < 1:
        raise ValueError(f"tol must be in [0, 1), relative to the largest singular value, got {tol}")
    if null not in ("drop", "keep"):
        raise ValueError(f"null must be 'drop' or 'keep', got {null!r}")


def _check_matrix(G: Tensor) -> None:
    if not isinstance(G, Tensor):
        raise TypeError(f"G must be a tensor, got {type(G).__name__}")
    if G.layout != torch.strided:
        raise TypeError(f"G must be dense, got layout {G.layout}: call .to_dense() first")
    if not G.dtype.is_floating_point:
        raise TypeError(f"G must be real floating point, got {G.dtype}")
    if G.ndim < 2:
        raise ValueError(f"G must be (..., m, n), got shape {tuple(G.shape)}")


def _power_of_two(largest: Tensor) -> Tensor:
    """A power of two that brings the largest entry into [1/2, 1): multiplying by it rounds nothing."""
    mantissa = torch.frexp(largest).mantissa
    usable = (largest > 0) & largest.isfinite()
    scale: Tensor = torch.where(usable, mantissa / largest, 1.0).clamp(max=2.0**1023)
    return scale  # the reciprocal of a subnormal number is infinite


def _svd_factor(G: Tensor, tol: float, null: str) -> Tensor:
    """U V^T of float64 matrices, over the directions that count."""
    U: Tensor
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    if null == "drop":
        U = U * (s > tol * s[..., :1]).to(s.dtype).unsqueeze(-2)
    return torch.matmul(U, Vh)
