"""The methods by name, and the two that choose among them.

A method is a small frozen object. :class:`Exact` and :class:`Fast` choose one of the others for a matrix.
Those are solvers: settings, a call that turns a matrix into its polar factor, and ``cost(m, n)``, what that
takes (:class:`~orthoviz.polar.products.Cost`). A solver sees ``X`` as ``(..., m, n)`` with m <= n, real,
float32 or float64, its largest entry in [1/2, 1) (or zero, or a matrix of NaN):
:func:`~orthoviz.polar.polar_factor` prepares it.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import torch
from torch import Tensor

from orthoviz.polar.crossovers import GRAM_FLOAT64_FROM, RATIONAL_FROM
from orthoviz.polar.decompositions import PRECISIONS, SVD, Decomposing, Eigh, default_tol
from orthoviz.polar.iterations import GramNewtonSchulz, NewtonSchulz
from orthoviz.polar.polynomials import DEGREE_NINE, GRAM, POLAR_EXPRESS
from orthoviz.polar.rational import Rational


@dataclass(frozen=True)
class Exact(Decomposing):
    """The cheapest method that is right to rounding, whatever the condition number.

    :class:`Eigh` for float32 and half-precision inputs, and for float64 ones at least twice as wide as
    tall; :class:`SVD` in float64 for other float64 inputs, for a tiny ``tol`` and for ``null="keep"``.

    Args:
        tol, null: as for :class:`SVD`.
    """

    def choose(self, m: int, n: int, dtype: torch.dtype, device: str) -> "tuple[Solver, str]":
        """The method for this kind of matrix, and why."""
        svd = SVD(self.tol, self.null, precision=torch.float64)
        if self.null == "keep":
            return svd, "null='keep' needs the null vectors, which the Gram matrix does not have"
        if dtype == torch.float64 and n < GRAM_FLOAT64_FROM * m:
            return svd, "float64 and nearly square: squaring the condition number would cost accuracy"
        return Eigh(self.tol, self.null), "the Gram matrix is small, and in float64 tells all above tol"


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

    def choose(self, m: int, n: int, dtype: torch.dtype, device: str) -> "tuple[Solver, str]":
        """The method for this kind of matrix, and why."""
        if device == "cuda" and dtype != torch.float64:
            why = "CUDA has fast float16 products; two restarts keep the weak directions (speed not measured)"
            return _CUDA, why
        if m >= RATIONAL_FROM:
            return _LARGE, f"{m} rows or columns: Cholesky's inverses are cheaper than 12 products"
        return _SMALL, f"{m} rows or columns: 12 small products are cheapest"


Solver = SVD | Eigh | NewtonSchulz | GramNewtonSchulz | Rational
Method = Solver | Exact | Fast


def choose(method: Method, G: Tensor) -> tuple[Solver, str]:
    """What a method comes down to for a tensor ``(..., m, n)`` like G, and why. Reads no values."""
    if not isinstance(method, (Exact, Fast)):
        return method, "it was asked for"
    m, n = min(G.shape[-2:]), max(G.shape[-2:])
    return method.choose(m, n, G.dtype, G.device.type)


# What a name stands for.
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

_CLASSES = {kind.__name__: kind for kind in get_args(Method)}


def as_method(
    method: str | tuple[Any, ...] | Method, tol: float | str | None = None, null: str = "drop"
) -> Method:
    """The method object of a name, or of a name and settings (:func:`to_plain`), with ``tol`` and ``null``.

    Raises:
        TypeError: it is neither a name nor a method.
        ValueError: such a method, ``tol`` or ``null`` does not exist, or the method cannot cut.
    """
    if isinstance(method, tuple) and method[0] in _CLASSES:
        kind = _CLASSES[method[0]]
        known = {f.name for f in fields(kind)}  # an old checkpoint may have one more
        values = {key: getattr(torch, v) if key == "precision" and v else v for key, v in method[1:]}
        method = kind(**{key: value for key, value in values.items() if key in known})
    elif isinstance(method, str) and method in METHODS:
        method = METHODS[method]
    if not isinstance(method, Method):
        kind = ValueError if isinstance(method, (str, tuple)) else TypeError
        raise kind(f"method must be one of {', '.join(METHODS)}, or a method of ov.polar, got {method!r}")
    if isinstance(tol, str):
        tol = default_tol(PRECISIONS[tol]) if tol in PRECISIONS else math.nan
    if tol is not None and not 0 <= tol < 1:
        raise ValueError(
            f"tol must be in [0, 1), relative to the largest singular value, or 'bf16' or 'fp16', got {tol}"
        )
    if null not in ("drop", "keep"):
        raise ValueError(f"null must be 'drop' or 'keep', got {null!r}")
    changes = ({} if tol is None else {"tol": tol}) | ({} if null == "drop" else {"null": null})
    if changes and not isinstance(method, Decomposing):
        raise ValueError(
            f"{type(method).__name__} cannot cut directions, it only scales small ones down: leave out "
            f"{' and '.join(changes)}, or take a method that decomposes (exact, svd, eigh)"
        )
    return replace(method, **changes) if changes else method  # type: ignore[arg-type]


def to_plain(method: "str | tuple[Any, ...] | Method") -> "str | tuple[Any, ...]":
    """A method as its name and settings: strings, numbers and tuples, which a checkpoint can hold."""
    if isinstance(method, (str, tuple)):
        return method
    settings = {f.name: getattr(method, f.name) for f in fields(method)}
    if settings.get("precision"):
        settings["precision"] = str(settings["precision"]).removeprefix("torch.")
    return type(method).__name__, *settings.items()
