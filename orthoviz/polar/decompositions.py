r"""The polar factor by decomposition: the one place where the rank of a matrix is decided.

**SVD.** :math:`X = U S V^\top`, :math:`O = U V^\top` over the directions that count. As accurate as the
precision times the condition number.

**Gram matrix.** :math:`K = X X^\top = U S^2 U^\top` is small and symmetric, and
:math:`O = K^{-1/2} X = U S^{-1} U^\top X`. Squaring squares the condition number, so K is formed and
decomposed in float64, where a float32 X has digits to spare: it still tells apart directions
down to 1e-7 of the largest.

The derivative. With :math:`O = U V^\top` over the kept directions and :math:`A = U^\top dX\, V`,

.. math:: dO = U \frac{A - A^\top}{s_i + s_j} V^\top + U S^{-1} U^\top dX\, (I - V V^\top)
               + (I - U U^\top)\, dX\, V S^{-1} V^\top

which has no :math:`1/(s_i - s_j)`: equal singular values do no harm. The map is its own adjoint.

Source: Higham 2008, *Functions of Matrices*, chapter 8; the derivative is Daleckii & Krein's formula for
the generalised matrix function with f(s) = 1.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthoviz.polar.products import Cost, product_as, symmetric_product

# Smallest s/s1 that the float64 Gram matrix tells well enough, by the input's dtype.
GRAM_LIMITS = {torch.float32: 1.5e-7, torch.float64: 3e-3}

# Up to here the last product is as good in float32 (4e-7, measured).
_WELL_CONDITIONED = 20.0


def default_tol(dtype: torch.dtype) -> float:
    """Ten epsilons of float32 and float64; of half precision half an epsilon (2^-8 for bfloat16).

    What such numbers carry beyond a matrix's rank, as rounding, is up to an eighth of an epsilon.
    """
    eps = torch.finfo(dtype).eps
    return eps / 2 if dtype in (torch.float16, torch.bfloat16) else 10 * eps


# What tol takes for numbers that were computed in half precision, whatever holds them now.
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def counts(s: Tensor, tol: float) -> Tensor:
    """The rank rule: which singular values count, ``s > tol * s1``. None of a zero matrix does.

    Args:
        s: ``(..., k)``, not negative, in any order.
        tol: relative to the largest.
    """
    return s > tol * s.amax(-1, keepdim=True)


@dataclass(frozen=True)
class Decomposing:
    """The settings of methods that decompose: only these see a direction's size, and can cut it off.

    Args:
        tol: singular values up to ``tol * s1`` count as noise. None: ten epsilons of the input's dtype.
        null: "drop" maps noise directions to zero, "keep" gives the plain U V^T.
    """

    tol: float | None = None
    null: str = "drop"


@dataclass(frozen=True)
class SVD(Decomposing):
    """``torch.linalg.svd``, the paper's way: the error is the precision times the condition number.

    Args:
        tol, null: as for :class:`Decomposing`.
        precision: dtype to compute in. None: the input's, at least float32.
        driver: on CUDA, "gesvd", "gesvdj" or "gesvda", see ``torch.linalg.svd``.
    """

    precision: torch.dtype | None = None
    driver: str | None = None

    def __call__(self, X: Tensor) -> Tensor:
        return _factor(X, self)

    def decompose(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """O, U, and the singular values with zero for what does not count."""
        U, s, Vh = torch.linalg.svd(X.to(self.precision or X.dtype), full_matrices=False, driver=self.driver)
        if self.null == "drop":
            s = torch.where(counts(s, _tol_or_default(self.tol, X)), s, 0.0)
            U = U * (s > 0).to(U.dtype).unsqueeze(-2)
        return (U @ Vh).to(X.dtype), U, s

    def cost(self, m: int, n: int) -> Cost:
        # Golub & Van Loan, R-SVD with both factors
        return Cost(6 * m * m * n + 20 * m**3, words=3 * m * n + 4 * m * m)


@dataclass(frozen=True)
class Eigh(Decomposing):
    """Eigendecomposition of the Gram matrix, in float64 whatever the input is.

    A float32 input gets errors of about 1e-7 up to condition number 1e5. A float64 input with a condition
    number above 333, a ``tol`` under 1.5e-7 and ``null="keep"`` are beyond what the Gram matrix can tell:
    such matrices take the SVD in float64, each by itself.

    Args:
        tol, null: as for :class:`Decomposing`.
    """

    def __call__(self, X: Tensor) -> Tensor:
        return _factor(X, self)

    def decompose(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """O, U, and the singular values with zero for what does not count."""
        tol = _tol_or_default(self.tol, X)
        values, U = torch.linalg.eigh(_gram64(X))
        s = values.clamp(min=0).sqrt()
        kept = counts(s, tol)
        largest, limit = s[..., -1], GRAM_LIMITS[X.dtype]
        # The Gram matrix cannot say what lies below its limit, and has no right null vectors to keep
        lost = ~kept.all(-1) if self.null == "keep" else torch.zeros_like(kept[..., 0])
        if tol < limit:
            lost = lost | (s[..., 0] <= limit * largest)
        smallest = torch.where(kept, s, torch.inf).amin(-1)
        s = torch.where(kept, s, 0.0)
        W = symmetric_product(U * torch.where(kept, 1 / s, 0.0).unsqueeze(-2), U.mT)
        rough = (smallest * _WELL_CONDITIONED >= largest) & (X.dtype != torch.float64)
        if bool(rough.all()):
            O = product_as(X, W.to(X.dtype))
        elif not bool(rough.any()):
            O = _product64(X, W)
        else:
            O = torch.empty_like(X)
            O[rough] = product_as(X[rough], W[rough].to(X.dtype))
            O[~rough] = _product64(X[~rough], W[~rough])
        if bool(lost.any()):
            O[lost], U[lost], s[lost] = SVD(tol, self.null, torch.float64).decompose(X[lost])
        return O, U, s

    def cost(self, m: int, n: int) -> Cost:
        operations = 4 * m * m * n + 9 * m**3 + 2 * m**3  # two products, QL with vectors, K^(-1/2)
        return Cost(operations, words=m * n + 4 * m * min(n, _width(m)) + 14 * m * m)


def _factor(X: Tensor, solver: SVD | Eigh) -> Tensor:
    """Polar factor of X ``(..., m, n)``, m <= n, differentiable."""
    O: Tensor = _Decomposed.apply(X, solver)[0]  # type: ignore[no-untyped-call]
    return O


def _tol_or_default(tol: float | None, X: Tensor) -> float:
    return default_tol(X.dtype) if tol is None else tol


class _Decomposed(torch.autograd.Function):
    """Forward by a decomposition, backward by the formula above."""

    @staticmethod
    def forward(X: Tensor, solver: SVD | Eigh) -> Any:  # type: ignore[override]
        finite = X[..., 0, 0].isfinite()  # a matrix that is not finite has been made NaN as a whole
        if bool(finite.all()):
            return solver.decompose(X)
        # LAPACK neither takes NaN nor gives it back
        O, U, s = solver.decompose(torch.where(finite[..., None, None], X, 0.0))
        return torch.where(finite[..., None, None], O, torch.nan), U, s

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, U, s = output
        ctx.mark_non_differentiable(U, s)
        ctx.save_for_backward(inputs[0], U, s)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        X, U, s = ctx.saved_tensors
        X, g = X.to(U.dtype), g.to(U.dtype)
        kept = (s > 0).to(s.dtype)
        U = U * kept.unsqueeze(-2)
        inverse = torch.where(s > 0, 1 / s, 0.0).unsqueeze(-2)
        Vt = (U * inverse).mT @ X
        Ug = U.mT @ g
        B = Ug @ Vt.mT
        total = s.unsqueeze(-1) + s.unsqueeze(-2)
        within = torch.where(total > 0, (B - B.mT) / total, 0.0)
        left = (Ug - B @ Vt) * inverse.mT
        right = ((g @ Vt.mT) - U @ B) * inverse
        result = U @ (within @ Vt + left) + right @ Vt
        return result.to(ctx.saved_tensors[0].dtype), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, X: Tensor, solver: SVD | Eigh) -> Any:
        return _Decomposed.apply(X.movedim(in_dims[0], 0), solver), (0, 0, 0)  # type: ignore[no-untyped-call]


def _gram64(X: Tensor) -> Tensor:
    """X X^T in float64, a few columns at a time, so that no float64 copy of X is needed."""
    parts = (part.to(torch.float64) for part in X.split(_width(X.shape[-2]), dim=-1))
    K: Tensor = sum(symmetric_product(part, part.mT) for part in parts)  # type: ignore[assignment]
    return K


def _product64(X: Tensor, W: Tensor) -> Tensor:
    """W X in float64 and back, a few columns at a time."""
    O = torch.empty_like(X)
    width = _width(X.shape[-2])
    for part, result in zip(X.split(width, dim=-1), O.split(width, dim=-1), strict=True):
        result.copy_(product_as(part.to(torch.float64), W))
    return O


def _width(m: int) -> int:
    return max(2 * m, 512)
