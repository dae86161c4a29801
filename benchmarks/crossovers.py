"""Where one way becomes faster than another, for ``orthoviz.polar.crossovers``.

    python -m benchmarks.crossovers

Prints the ratios, and writes the first size from which the second way wins to results/polar/crossovers.json,
for review: the package's table is changed by hand.
"""

import json
from collections.abc import Callable
from typing import Any

import torch

import orthoviz as ov
from benchmarks.common import RESULTS, interleave, medians, provenance
from orthoviz.polar.products import symmetric_product

SIZES = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
ROUNDS = 9
Pair = tuple[Callable[[], Any], Callable[[], Any]]


def main() -> None:
    found = {
        "symmetric_blocks_from": first_win("a product by blocks over a plain one", blocks),
        "rational_from": first_win("shifted inverses over degree 9", rational),
        "stack_up_to": last_loss("one by one over a stack of 8", stacked),
        "gram_float64_from": first_win("float64 Gram over SVD, by n/m at m = 96", float64, (1, 1.5, 2, 3, 4)),
    }
    about = provenance(
        what="crossover points", data="Gaussian matrices", command="python -m benchmarks.crossovers"
    )
    text = json.dumps(found | about, indent=1) + "\n"
    (RESULTS / "polar").mkdir(parents=True, exist_ok=True)
    (RESULTS / "polar" / "crossovers.json").write_text(text, encoding="utf-8")
    print(text)


def first_win(name: str, pair: Callable[[Any], Pair], sizes: tuple[float, ...] = SIZES) -> float:
    """The first size from which the second way is faster at every size; 2000 if it is at none."""
    won = {size: ratio(name, size, *pair(size)) > 1 for size in sizes}
    losses = [size for size in sizes if not won[size]]
    return next((size for size in sizes if not losses or size > losses[-1]), 2000)


def last_loss(name: str, pair: Callable[[Any], Pair]) -> float:
    """The last size before the second way is faster at every size."""
    win = first_win(name, pair)
    return max((size for size in SIZES if size < win), default=0)


def ratio(name: str, size: float, first: Callable[[], Any], second: Callable[[], Any]) -> float:
    """How many times faster the second way is."""
    times = medians(interleave({"first": first, "second": second}, ROUNDS))
    value = times["first"] / times["second"]
    print(f"{name}, {size:g}: {value:.2f}", flush=True)
    return value


def blocks(m: int) -> Pair:
    A = torch.randn(m, m)
    A = A @ A.T
    return lambda: A @ A, lambda: symmetric_product(A, A, blocks_from=m)


def rational(m: int) -> Pair:
    X = torch.rand(m, 2 * m) - 0.5
    return lambda: ov.polar.GramNewtonSchulz(ov.polar.DEGREE_NINE)(X), lambda: ov.polar.Rational()(X)


def stacked(m: int) -> Pair:
    Gs = list(torch.randn(8, m, 2 * m))
    return lambda: ov.polar_factor(torch.stack(Gs), "fast"), lambda: [ov.polar_factor(G, "fast") for G in Gs]


def float64(ratio: float) -> Pair:
    G = torch.randn(96, int(96 * ratio), dtype=torch.float64)
    return lambda: ov.polar_factor(G, ov.polar.SVD()), lambda: ov.polar_factor(G, ov.polar.Eigh())


if __name__ == "__main__":
    main()
