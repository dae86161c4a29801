"""The methods by name, and the two that choose among them.

A method is a small frozen object: its settings, and a call that turns a matrix into its polar factor.
It sees ``X`` as ``(..., m, n)`` with m <= n, real, float32 or float64, its largest entry in [1/2, 1) (or
zero, or a matrix of NaN): :func:`~orthoviz.polar.polar_factor` sees to that.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from orthoviz.polar.crossovers import CROSSOVERS
from orthoviz.polar.decompositions import decomposed_factor, default_tol
from orthoviz.polar.iterations import gram_newton_schulz, newton_schulz
from orthoviz.polar.polynomials import DEGREE_NINE, GRAM, JORDAN, POLAR_EXPRESS, Coefficients
from orthoviz.polar.rational import Zolotarev, rational_factor, zolotarev


def _products(step: tuple[float, ...]) -> int:
    """Products of m x m matrices that a step's polynomial in K takes: K^2, then one for two more powers."""
    return max(0, math.ceil((len(step) - 1) / 2))


def _check_table(table: Coefficients, precision: torch.dtype | None) -> None:
    if not table or any(len(step) < 2 for step in table):
        raise ValueError(
            "coefficients must be a tuple of (a, b, ...) for every step, such as ov.polar.JORDAN, "
            f"got {table!r}"
        )
    if precision is not None and not precision.is_floating_point:
        raise ValueError(f"precision must be a floating-point dtype, got {precision}")


@dataclass(frozen=True)
class SVD:
    """``torch.linalg.svd``, the paper's way: the error is the precision times the condition number.

    Args:
        tol: singular values up to ``tol * s1`` count as noise. None: ten epsilons of the input's dtype.
        null: "drop" maps noise directions to zero, "keep" gives the plain U V^T.
        precision: dtype to compute in. None: the input's, at least float32.
        driver: on CUDA, "gesvd", "gesvdj" or "gesvda", see ``torch.linalg.svd``.
    """

    cuts: ClassVar[bool] = True
    tol: float | None = None
    null: str = "drop"
    precision: torch.dtype | None = None
    driver: str | None = None

    def __call__(self, X: Tensor) -> Tensor:
        tol = default_tol(X.dtype) if self.tol is None else self.tol
        return decomposed_factor(X, "svd", tol, self.null, precision=self.precision, driver=self.driver)

    def operations(self, m: int, n: int) -> float:
        return 6 * m * m * n + 20 * m**3  # Golub & Van Loan, R-SVD with both factors

    def words(self, m: int, n: int) -> int:
        return 3 * m * n + 4 * m * m


@dataclass(frozen=True)
class Eigh:
    """Eigendecomposition of the Gram matrix, in float64 whatever the input is.

    A float32 input gets errors of about 1e-7 up to condition number 1e5. A float64 input with a condition
    number above 333, a ``tol`` under 1.5e-7 and ``null="keep"`` are beyond what the Gram matrix can tell:
    such matrices take the SVD in float64, each by itself.

    Args:
        tol, null: as for :class:`SVD`.
    """

    cuts: ClassVar[bool] = True
    tol: float | None = None
    null: str = "drop"

    def __call__(self, X: Tensor) -> Tensor:
        return decomposed_factor(X, "eigh", default_tol(X.dtype) if self.tol is None else self.tol, self.null)

    def operations(self, m: int, n: int) -> float:
        return 4 * m * m * n + 9 * m**3 + 2 * m**3  # two products, tridiagonal QL with vectors, K^(-1/2)

    def words(self, m: int, n: int) -> int:
        return m * n + 4 * m * min(n, max(2 * m, 512)) + 14 * m * m


@dataclass(frozen=True)
class NewtonSchulz:
    """The iteration on the matrix itself, see :mod:`orthoviz.polar.iterations`.

    Args:
        coefficients: a tuple of (a, b, c, ...) a step, such as ``ov.polar.JORDAN``.
        precision: dtype to iterate in, such as ``torch.bfloat16``. None: the input's, at least float32.
        headroom: the start is G / (headroom * ||G||_F); a table's ``safety``.
    """

    cuts: ClassVar[bool] = False
    coefficients: Coefficients = JORDAN
    precision: torch.dtype | None = None
    headroom: float = 1.0

    def __post_init__(self) -> None:
        _check_table(self.coefficients, self.precision)

    def __call__(self, X: Tensor) -> Tensor:
        return newton_schulz(X, self.coefficients, headroom=self.headroom, precision=self.precision)

    def operations(self, m: int, n: int) -> float:
        return sum(4 * m * m * n + _products(step) * 2 * m**3 for step in self.coefficients)

    def words(self, m: int, n: int) -> int:
        return 3 * m * n + 4 * m * m


@dataclass(frozen=True)
class GramNewtonSchulz:
    """The same iteration on the m x m Gram matrix, see :mod:`orthoviz.polar.iterations`.

    Args:
        coefficients: a tuple of (a, b, c, ...) a step.
        restarts: steps (0 is the first) before which the Gram matrix is formed anew.
        precision: dtype to iterate in. None: the input's, at least float32.
        triton: on a GPU, compute one triangle of each product (never run on a GPU so far).

    Raises:
        ValueError: rounding in the Gram matrix would grow to a tenth of the result before it is formed
            anew, as with 30 cubic steps: set restarts.
    """

    cuts: ClassVar[bool] = False
    coefficients: Coefficients = GRAM
    restarts: tuple[int, ...] = ()
    precision: torch.dtype | None = None
    triton: bool = False

    def __post_init__(self) -> None:
        _check_table(self.coefficients, self.precision)
        growth = 1.0
        for t, step in enumerate(self.coefficients):
            growth = 1.0 if t in self.restarts else growth
            noise = growth * torch.finfo(self.precision or torch.float32).eps
            if noise > 0.1:
                raise ValueError(
                    f"the Gram form multiplies rounding by {growth:.0e} before step {t}, to {noise:.1g}: "
                    f"put a restart at step {t} or earlier, got restarts {self.restarts}"
                )
            growth *= step[0] ** 2

    def __call__(self, X: Tensor) -> Tensor:
        return gram_newton_schulz(
            X, self.coefficients, restarts=self.restarts, precision=self.precision, triton=self.triton
        )

    def operations(self, m: int, n: int) -> float:
        count = 0
        for t, step in enumerate(self.coefficients):
            first, last = t == 0 or t in self.restarts, t + 1 == len(self.coefficients)
            count += _products(step) + (not first) + (0 if last or t + 1 in self.restarts else 2)
        return 4 * m * m * n * (1 + len(self.restarts)) + count * 2 * m**3

    def words(self, m: int, n: int) -> int:
        return 2 * m * n + 8 * m * m


@dataclass(frozen=True)
class Rational:
    """Zolotarev's rational function: a few shifted inverses, see :mod:`orthoviz.polar.rational`.

    Args:
        lower: smallest singular value to be brought to 1, relative to a bound on the largest.
        poles: number of inverses.

    Raises:
        ValueError: an argument outside its range, or a shift so small that float32 rounding would make
            the shifted matrix indefinite.
    """

    cuts: ClassVar[bool] = False
    lower: float = 0.003
    poles: int = 4
    function: Zolotarev = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", zolotarev(self.lower, self.poles))
        smallest = self.function.shifts[0]
        if smallest < 5e-6:
            raise ValueError(
                f"lower = {self.lower:g} with {self.poles} poles needs a shift of {smallest:.1e}; one under "
                "5e-6 can drown in float32's rounding: take a larger lower or fewer poles"
            )

    def __call__(self, X: Tensor) -> Tensor:
        return rational_factor(X, self.function)

    def operations(self, m: int, n: int) -> float:
        return 4 * m * m * n + self.poles * m**3

    def words(self, m: int, n: int) -> int:
        return 2 * m * n + 6 * m * m


@dataclass(frozen=True)
class Exact:
    """The cheapest method that is right to rounding, whatever the condition number.

    :class:`Eigh` for float32 and half-precision inputs, and for float64 ones at least twice as wide as
    tall; :class:`SVD` in float64 for other float64 inputs, for a tiny ``tol`` and for ``null="keep"``.

    Args:
        tol, null: as for :class:`SVD`.
    """

    cuts: ClassVar[bool] = True
    tol: float | None = None
    null: str = "drop"

    def choose(self, m: int, n: int, dtype: torch.dtype, device: str) -> "tuple[Solver, str]":
        """The method for this kind of matrix, and why."""
        svd = SVD(self.tol, self.null, precision=torch.float64)
        if self.null == "keep":
            return svd, "null='keep' needs the null vectors, which the Gram matrix does not have"
        if dtype == torch.float64 and n < CROSSOVERS["gram_float64_from"] * m:
            return svd, "float64 and nearly square: squaring the condition number would cost accuracy"
        return Eigh(self.tol, self.null), "the Gram matrix is small, and in float64 tells all above tol"

    def __call__(self, X: Tensor) -> Tensor:
        return chosen(self, X)[0](X)


_LARGE = Rational()
_SMALL = GramNewtonSchulz(DEGREE_NINE)
_CUDA = GramNewtonSchulz(GRAM, restarts=(2, 4), precision=torch.float16)


@dataclass(frozen=True)
class Fast:
    """The cheapest approximation with an error of at most 0.01 on Gaussian matrices twice as wide as tall.

    Chooses by shape, dtype and kind of device only, never by values, so it needs no synchronisation. On
    CPUs and Apple's GPUs: for small matrices the Gram form with three steps of degree 9, for large ones
    four shifted inverses. On CUDA: the Gram form with five steps of degree 5 in float16 and two restarts,
    whose accuracy was tested (on a CPU) and whose speed was not.

    Directions under about a hundredth of s1 are not brought to 1 but fade in proportion to their size, so
    on a gradient of condition number 1000 and more it can be as far off as Muon's quintic.
    """

    cuts: ClassVar[bool] = False

    def choose(self, m: int, n: int, dtype: torch.dtype, device: str) -> "tuple[Solver, str]":
        """The method for this kind of matrix, and why."""
        if device == "cuda" and dtype != torch.float64:
            return (
                _CUDA,
                "CUDA has fast float16 products; two restarts keep the weak directions (speed not measured)",
            )
        if m >= CROSSOVERS["rational_from"]:
            return _LARGE, f"{m} rows or columns: Cholesky's inverses are cheaper than 12 products"
        return _SMALL, f"{m} rows or columns: 12 small products are cheapest"

    def __call__(self, X: Tensor) -> Tensor:
        return chosen(self, X)[0](X)


Solver = SVD | Eigh | NewtonSchulz | GramNewtonSchulz | Rational
Method = Solver | Exact | Fast


def chosen(method: Method, G: Tensor) -> tuple[Solver, str]:
    """What a method comes down to for a tensor ``(..., m, n)`` like G, and why. Reads no values."""
    if not isinstance(method, (Exact, Fast)):
        return method, "it was asked for"
    m, n = min(G.shape[-2:]), max(G.shape[-2:])
    return method.choose(m, n, G.dtype, G.device.type)


METHODS: dict[str, Method] = {
    "exact": Exact(),
    "fast": Fast(),
    "svd": SVD(),
    "eigh": Eigh(),
    "newton_schulz": NewtonSchulz(),
    "polar_express": NewtonSchulz(POLAR_EXPRESS, headroom=1.01),
    "gram_newton_schulz": GramNewtonSchulz(),
    "rational": Rational(),
}
"""What a name stands for."""

_CLASSES = {cls.__name__: cls for cls in (SVD, Eigh, NewtonSchulz, GramNewtonSchulz, Rational, Exact, Fast)}


def to_plain(method: "str | tuple[Any, ...] | Method") -> "str | tuple[Any, ...]":
    """A method as its name and arguments: strings, numbers and tuples, which a checkpoint can hold."""
    if isinstance(method, (str, tuple)):
        return method
    settings = ((f.name, getattr(method, f.name)) for f in fields(method) if f.init)
    return (
        type(method).__name__,
        *((name, str(v).removeprefix("torch.") if name == "precision" and v else v) for name, v in settings),
    )


def from_plain(plain: tuple[Any, ...]) -> Method:
    """The inverse of :func:`to_plain`, for tuples."""
    name, *settings = plain
    if name not in _CLASSES:
        raise ValueError(f"method must be one of {', '.join(_CLASSES)} with its settings, got {plain!r}")
    values = {key: getattr(torch, v) if key == "precision" and v else v for key, v in settings}
    return _CLASSES[name](**values)
