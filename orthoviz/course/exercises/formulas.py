"""What the tables of exercises use in their formulas: matrices to try, and what is too long for a line."""

# ruff: noqa: F401
# mypy: disable-error-code="no-any-return"
import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor
from torch.linalg import matrix_norm, matrix_rank, qr, svdvals
from torch.nn.functional import cross_entropy, normalize

from orthoviz.datasets import load
from orthoviz.measures import nuclear_rank, stable_rank
from orthoviz.models import digits_mlp
from orthoviz.polar import polar_factor
from orthoviz.training import evaluate
from orthoviz.training.barlow import cross_correlation
from orthoviz.verdicts import decision

svd = partial(torch.linalg.svd, full_matrices=False)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# 00 to 03

WIDE, TALL, SQUARE = random(4, 6), random(6, 4, seed=1), random(4, 4, seed=2)
LACKING = random(6, 6, seed=1) - random(6, 6, seed=1).mean(0)  # a softmax head's rows add up to zero
RANK_ONE = torch.outer(random(4), random(6, seed=1))
TABLE = ((3.0, -3.0, 1.0), (2.0, -1.5, 0.5))
LONGER = ((1.5, -0.5), (2.0, -1.0, 0.3, -0.1))


def reweigh(G: Tensor, weigh: Any) -> Tensor:
    """G with other singular values."""
    U, s, Vh = svd(G)
    return (U * weigh(s)) @ Vh


def U_Vh(G: Tensor) -> Tensor:  # noqa: N802
    return reweigh(G, torch.ones_like)


def as_it_is(G: Tensor) -> Tensor:
    return G


@torch.no_grad()
def move(model: Any, lr: float, matrix: Any = U_Vh, vector: Any = as_it_is) -> None:
    """A step in place: matrices along one function of their gradient, vectors along another."""
    for p in model.parameters():
        p -= lr * (matrix if p.ndim > 1 else vector)(p.grad)


def replace(model: Any, lr: float) -> None:
    """A step that changes nothing: each new weight is a tensor of its own."""
    for p in model.parameters():
        p = p - lr * p.grad


def polar_of_matrices(G: Tensor) -> Tensor:
    return U_Vh(G) if G.ndim == 2 else G


class own(torch.optim.Optimizer):  # noqa: N801
    """Lesson 02's optimiser, and with other options its slips."""

    def __init__(
        self, params: Any, lr: float, momentum: float = 0.9, first: Any = polar_of_matrices,
        then: Any = as_it_is, new: float = 1.0, keeps: bool = True, nesterov: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._first, self._then, self._new, self._keeps, self._nesterov = first, then, new, keeps, nesterov

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                direction, old = self._first(p.grad), self.state[p].get("buffer", torch.zeros_like(p))
                buffer = group["momentum"] * old + self._new * direction
                if self._keeps:
                    self.state[p]["buffer"] = buffer
                step = group["momentum"] * buffer + direction if self._nesterov else buffer
                p -= group["lr"] * self._then(step)


def train_digits(
    model: Any, step: Any, lr: float, zero_grad: bool = True, early: bool = False
) -> list[float]:
    """Test accuracies on digits, before and after each of five epochs. ``early``: the step comes first."""
    data = load("digits")
    history = [evaluate(model, data)["test_accuracy"]]
    for epoch in range(1, 6):
        model.train()
        for images, labels in data.batches(128, seed=0, epoch=epoch):
            if zero_grad:
                model.zero_grad()
            if early:
                step(model, lr)
            cross_entropy(model(images), labels).backward()
            if not early:
                step(model, lr)
        history.append(evaluate(model, data)["test_accuracy"])
    return history


def stretch(O: Tensor, length: Tensor) -> Tensor:
    return O * length / O.norm()


def leaves(curvature: float, lr: float) -> float:
    """The logarithm of what one step of descent leaves of the error."""
    return math.log(abs(1 - lr * curvature))


def gain(table: Any, x: Tensor, all_powers: bool = False) -> Tensor:
    for p in table:
        x = torch.stack([c * x ** (i + 1 if all_powers else 2 * i + 1) for i, c in enumerate(p)]).sum(0)
    return x


def only_three(table: Any, x: Tensor) -> Tensor:
    for a, b, c in table:
        x = a * x + b * x**3 + c * x**5
    return x


def pairs(O: Tensor, G: Tensor) -> Tensor:
    """u_i^T O v_j, of the singular vectors of G."""
    U, _, Vh = svd(G)
    return U.T @ O @ Vh.T


def turn(G: Tensor) -> Tensor:
    """Something like a polar factor of G with its second direction turned round."""
    return reweigh(G, lambda s: vector(1.0, -0.5, 0.9, 0.1)) + 0.1 * random(*G.shape, seed=3)


# 04 and 05


def off_diagonal(matrices: Tensor) -> Tensor:
    return matrices[..., ~torch.eye(matrices.shape[-1], dtype=torch.bool)]


def count(values: Tensor, part: float = 0.5 - 1e-9) -> int:
    """How many of the first values reach this part of the sum."""
    return int((values.cumsum(0) < part * values.sum()).sum()) + 1


def finite(gamma: float, terms: int) -> float:
    return sum(gamma ** (2 * k) for k in range(terms)) ** 0.5


def buffer(gradients: Sequence[Tensor], momentum: float, factor_inside: bool = False) -> Tensor:
    total = torch.zeros_like(gradients[0])
    for G in gradients:
        total = momentum * total + G
        total = polar_factor(total) if factor_inside else total
    return total


# 06 to 08

SLOW, FAST = [0.1, 0.3, 0.45, 0.52, 0.6, 0.58, 0.66, 0.7], [0.1, 0.5, 0.62, 0.59, 0.71, 0.69, 0.72]
VIEW = 3 * random(50, 4, seed=1) + 2
C = 0.4 * random(5, 5, seed=3) + 0.5 * torch.eye(5, dtype=torch.float64)


def first_at(accuracies: list[float], target: float) -> int:
    return next(i for i, accuracy in enumerate(accuracies) if accuracy >= target)


def last_crossing(accuracies: list[float], target: float) -> int:
    return 1 + max(i for i, accuracy in enumerate(accuracies) if accuracy < target)


def interpolate(accuracies: list[float], target: float) -> float:
    i, (a, b) = next((i, ab) for i, ab in enumerate(pairwise(accuracies)) if ab[1] >= target)
    return i + (target - a) / (b - a)


def standard_errors(leads: list[float]) -> float:
    """How many the mean is away from zero."""
    return mean(leads) / (stdev(leads) / math.sqrt(len(leads)))


def centre(Z: Tensor) -> Tensor:
    return Z - Z.mean(0)


def off(C: Tensor) -> Tensor:
    """The sum of the squares off the diagonal."""
    return off_diagonal(C).square().sum()


def terms(C: Tensor) -> Tensor:
    """(1 - C_ii)^2"""
    return (1 - C.diagonal()).square()


# 09 to 11

ROWS = random(4, 6, seed=1) * vector(1.0, 3.0, 0.2, 1.5)[:, None]
TALL_ROWS = torch.cat([ROWS, random(8, 6, seed=2), 0 * ROWS[:1]])
FLAT, STEEP, MIDDLE, THREE = [1.0] * 6, [1.0] + 5 * [0.1], [1.0, 0.7, 0.5, 0.3, 0.2, 0.1], [1.0] * 3


def spectrum(values: list[float], rows: int = 30, columns: int = 10, seed: int = 2) -> Tensor:
    """A matrix with these singular values."""
    left, right = (qr(random(k, len(values), seed=seed + k)).Q for k in (rows, columns))
    return (left * vector(*values)) @ right.T


def gradient(values: list[float]) -> Tensor:
    return spectrum(values, rows=8, seed=1)


def half(angle: float) -> float:
    return math.radians(angle) / 2


def squares(modes: list[float], from_what: float = 1.0) -> float:
    return sum((s - from_what) ** 2 for s in modes)
