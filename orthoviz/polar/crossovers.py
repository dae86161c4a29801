"""Where one way becomes faster than another: measured numbers, in one place.

``python -m benchmarks.crossovers`` measures them anew and writes what it finds to
``results/polar/crossovers.json``, for review; nothing is changed by itself. No number here depends on a
timing at run time, so that a run can be repeated and resumed bit for bit. There are none for GPUs yet:
nothing was measured on one.
"""

# CPU, float32 and float64: rows from which a symmetric product is computed by blocks.
SYMMETRIC_BLOCKS_FROM = 384
# CPU: matrices of equal shape are stacked up to this many rows (or columns, if fewer).
STACK_UP_TO = 192
# Matrices of up to this many entries share a stack whatever their shape (iterations only).
FILL_UP_TO = 10_000
# CPU: rows from which shifted inverses are faster than polynomials.
RATIONAL_FROM = 384
# Columns over rows from which a float64 matrix is first tried through its Gram matrix.
GRAM_FLOAT64_FROM = 2.0
