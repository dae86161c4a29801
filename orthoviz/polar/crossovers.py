"""Where one way becomes faster than another: measured numbers, in one place.

``python -m benchmarks.crossovers`` measures them anew and writes what it finds to
``results/polar/crossovers.json``, for review; nothing is changed by itself. No number here depends on a
timing at run time, so that a run can be repeated and resumed bit for bit. There are none for GPUs yet:
nothing was measured on one.
"""

from typing import Final, TypedDict

VERSION = 1


class _Crossovers(TypedDict):
    symmetric_blocks_from: int
    stack_up_to: int
    fill_up_to: int
    rational_from: int
    gram_float64_from: float


CROSSOVERS: Final[_Crossovers] = {
    # CPU, float32 and float64: rows from which a symmetric product is computed by blocks
    "symmetric_blocks_from": 384,
    # CPU: matrices of equal shape are stacked up to this many rows (or columns, if fewer)
    "stack_up_to": 192,
    # matrices of up to this many entries share a stack whatever their shape (iterations only)
    "fill_up_to": 10_000,
    # CPU: rows from which shifted inverses are faster than polynomials
    "rational_from": 384,
    # columns over rows from which a float64 matrix is first tried through its Gram matrix
    "gram_float64_from": 2.0,
}
