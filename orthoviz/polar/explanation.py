"""What would be computed, why, and what it costs, without computing it."""

from typing import NamedTuple

from torch import Tensor

from orthoviz.polar.factor import check_matrix
from orthoviz.polar.methods import Method, Solver, as_method, choose


class Explanation(NamedTuple):
    """How :func:`polar_factor` would treat a tensor; ``print`` it."""

    asked: str
    chosen: Solver
    why: str
    matrices: int
    shape: tuple[int, int]
    operations: float
    """Floating-point operations in all, multiplications and additions counted apart."""
    floor: float
    """Operations of one pair of products, 4 m^2 n a matrix: what touching G twice costs."""

    def __str__(self) -> str:
        m, n = self.shape
        return (
            f"{self.asked}: {self.chosen}\n"
            f"  because: {self.why}\n"
            f"  for {self.matrices} x ({m} x {n}): {self.operations / 1e9:.3g} GFLOP, "
            f"{self.operations / self.floor:.3g} times the floor 4 m^2 n"
        )


def explain(
    G: Tensor, method: str | Method = "exact", *, tol: float | None = None, null: str = "drop"
) -> Explanation:
    """Say which method :func:`polar_factor` would use for G on its device, why, and how much work it is.

    Nothing is computed: the choice depends on shape, dtype and kind of device. (``eigh`` may still hand
    single matrices over to the SVD when it sees their values.)

    Args:
        G: ``(..., m, n)``, as for :func:`polar_factor`; may be on the meta device.
        method, tol, null: as for :func:`polar_factor`.

    Raises:
        TypeError, ValueError: as :func:`polar_factor` would.
    """
    found = as_method(method, tol, null)
    check_matrix(G)
    m, n = min(G.shape[-2:]), max(G.shape[-2:])
    solver, why = choose(found, G)
    count = G.shape[:-2].numel()
    name = method if isinstance(method, str) else type(method).__name__
    shape = (G.shape[-2], G.shape[-1])
    return Explanation(
        name, solver, why, count, shape, count * solver.operations(m, n), count * 4.0 * m * m * n
    )
