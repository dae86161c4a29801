"""Problems of a few lines, on which every step can be understood.

Each is a module whose ``loss()`` is what a step descends (on a fresh batch, where there are batches), and
whose ``error()`` is exact. ``readings()`` adds more, such as how much of each mode is learnt.
"""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from orthoviz.seeds import seeded

# Singular values of the course's target.
MODES = (10.0, 3.0, 1.0, 0.3)


class Problem(nn.Module):
    """What :func:`descend` needs of a problem."""

    def loss(self) -> Tensor:
        """What a step descends."""
        raise NotImplementedError

    def error(self) -> Tensor:
        """How far the problem is from solved, without noise."""
        return self.loss()

    def readings(self) -> dict[Any, float]:
        """Other numbers that describe the state, by name."""
        return {}


def _gaussian(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


class MatrixQuadratic(Problem):
    r"""One matrix between two ill-conditioned ones: :math:`\tfrac12 \|A W B - A W^* B\|_F^2`, from W = 0.

    A and B are diagonal, from 1 down to 1/condition, so the curvature along entry (i, j) of W is
    :math:`(a_i b_j)^2`.

    Args:
        size: W is size x size.
        condition: condition number of A and of B.
        aligned: W* is the identity, whose modes are those of A and B. Otherwise it is a random matrix of
            the same length.
        seed: of the random W*.
    """

    def __init__(
        self, size: int = 10, condition: float = 10, *, aligned: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.scales = torch.logspace(0, -math.log10(condition), size, dtype=torch.float64)
        dense = _gaussian(seeded(seed), size, size)
        self.target: Tensor = dense * math.sqrt(size) / dense.norm()
        if aligned:
            self.target = torch.eye(size, dtype=torch.float64)
        self.weight = nn.Parameter(torch.zeros(size, size, dtype=torch.float64))

    def loss(self) -> Tensor:
        """The quadratic itself."""
        difference = self.scales[:, None] * (self.weight - self.target) * self.scales
        return difference.square().sum() / 2

    def readings(self) -> dict[Any, float]:
        """The diagonal of W, which for an aligned target should be 1, by the curvature along it."""
        return dict(zip(self.scales.pow(4).tolist(), self.weight.diagonal().tolist(), strict=True))


class DeepLinear(Problem):
    r"""A product of square layers that should become one matrix: :math:`\tfrac12 \|W_L \cdots W_1 - T\|_F^2`.

    The target has the singular values 10, 3, 1 and 0.3 (and zeros) and random singular vectors; the layers
    start as Gaussians of standard deviation ``start / sqrt(size)``.

    Args:
        layers, size, start: as above.
        seed: of the target's vectors and the layers.
        modes: the target's singular values.

    Source: Saxe, McClelland & Ganguli 2014 (arXiv 1312.6120).
    """

    def __init__(
        self,
        layers: int = 3,
        size: int = 16,
        start: float = 0.1,
        *,
        seed: int = 0,
        modes: Iterable[float] = MODES,
    ) -> None:
        super().__init__()
        draw = seeded(seed)
        self.values = torch.tensor(list(modes), dtype=torch.float64)
        vectors = (torch.linalg.qr(_gaussian(draw, size, size)).Q for _ in range(2))
        self.left, self.right = (Q[:, : len(self.values)] for Q in vectors)
        self.target = (self.left * self.values) @ self.right.T
        drawn = (_gaussian(draw, size, size) * start / math.sqrt(size) for _ in range(layers))
        self.layers = nn.ParameterList(map(nn.Parameter, drawn))

    def product(self) -> Tensor:
        """W_L ... W_1, ``(size, size)``."""
        result: Tensor = self.layers[0]
        for layer in list(self.layers)[1:]:
            result = layer @ result
        return result

    def loss(self) -> Tensor:
        """Half the squared distance from the target."""
        difference: Tensor = self.product() - self.target
        return difference.square().sum() / 2

    @torch.no_grad()
    def readings(self) -> dict[Any, float]:
        r"""Learnt part of each mode, :math:`u_i^\top W v_i / s_i`, by its s_i: 0 nothing, 1 all."""
        learnt = ((self.left.T @ self.product()) * self.right.T).sum(1) / self.values
        return dict(zip(self.values.tolist(), learnt.tolist(), strict=True))


class RankOne(Problem):
    r"""One linear layer, noisy data: y = 3 u v^T x + noise, x Gaussian. Well-conditioned: its curvature is 1.

    Args:
        size: inputs and outputs.
        noise: standard deviation of each output's noise.
        batch: fresh examples a step.
        seed: of u, v, x and the noise.
    """

    def __init__(self, size: int = 64, noise: float = 1.0, batch: int = 64, *, seed: int = 0) -> None:
        super().__init__()
        self.noise, self.batch = noise, batch
        self.draw = seeded(seed)
        u, v = (nn.functional.normalize(_gaussian(self.draw, size), dim=0) for _ in range(2))
        self.target = 3 * torch.outer(u, v)
        self.weight = nn.Parameter(torch.zeros(size, size, dtype=torch.float64))

    def sample(self) -> tuple[Tensor, Tensor]:
        """A fresh batch: inputs and noisy outputs, an example a row."""
        x = _gaussian(self.draw, self.batch, len(self.target))
        return x, x @ self.target.T + self.noise * _gaussian(self.draw, self.batch, len(self.target))

    def loss(self) -> Tensor:
        """Half the squared error of a fresh batch, its mean over examples."""
        x, y = self.sample()
        return (x @ self.weight.T - y).square().sum(1).mean() / 2

    def error(self) -> Tensor:
        r"""What the loss on fresh data exceeds the noise by: :math:`\tfrac12 \|W - T\|_F^2`."""
        return (self.weight - self.target).square().sum() / 2


class TeacherStudent(Problem):
    r"""A student of two units learns from a teacher of two: sums of :math:`\operatorname{erf}(w x / \sqrt2)`.

    Fresh Gaussian examples in every step. The teacher's weights are orthonormal; the student's start so small
    and alike (overlap ``start`` with either teacher unit, up to randomness of a tenth of that) that its units
    first learn the same thing: the plateau. To leave it, each must choose a teacher unit of its own.

    Args:
        size: inputs N.
        batch: fresh examples a step.
        start: overlap of the student's units with the teacher's.
        seed: of the weights and the examples.

    Source: Biehl, Riegler & Wöhler 1996; Saad & Solla 1995 (the exact error).
    """

    def __init__(self, size: int = 100, batch: int = 32, start: float = 0.1, *, seed: int = 0) -> None:
        super().__init__()
        self.batch = batch
        self.draw = seeded(seed)
        self.teacher = torch.linalg.qr(_gaussian(self.draw, size, 2)).Q.T
        # of the student's units, and of the teacher's
        self.signs = torch.tensor([1, 1, -1, -1], dtype=torch.float64)
        alike = start * self.teacher.sum(0)
        self.student = nn.Parameter(alike + 0.1 * start * _gaussian(self.draw, 2, size))

    def loss(self) -> Tensor:
        """Half the squared error on a fresh batch."""
        x = _gaussian(self.draw, self.batch, self.teacher.shape[1])
        units = torch.erf(x @ torch.cat([self.student, self.teacher]).T / math.sqrt(2))
        return (units @ self.signs).square().mean() / 2

    @torch.no_grad()
    def error(self) -> Tensor:
        r"""The generalisation error: the mean of the loss over all inputs, exactly.

        Of units :math:`w_i` with signs :math:`c_i`, 1 the student's and -1 the teacher's, it is
        :math:`\tfrac1\pi \sum_{ij} c_i c_j \arcsin \frac{w_i w_j}{\sqrt{(1 + w_i^2)(1 + w_j^2)}}`.
        """
        units = torch.cat([self.student, self.teacher])
        overlaps = units @ units.T
        size = (1 + overlaps.diagonal()).sqrt()
        return self.signs @ torch.asin(overlaps / torch.outer(size, size)) @ self.signs / math.pi

    @torch.no_grad()
    def readings(self) -> dict[Any, float]:
        """How ``alike`` the student's units are: the cosine between their weights."""
        return {"alike": torch.cosine_similarity(self.student[0], self.student[1], dim=0).item()}


def descend(problem: Problem, optimizer: torch.optim.Optimizer, steps: int) -> pd.DataFrame:
    """Take so many steps and look at the problem before each and after the last.

    Returns:
        A row a step, the first before any: ``step``, the exact ``error``, and what ``readings()`` gives.
        Ends early when the error is no longer finite.
    """
    rows: list[dict[Any, float]] = []
    for step in range(steps + 1):
        error = problem.error().item()
        rows.append({"step": step, "error": error, **problem.readings()})
        if step == steps or not math.isfinite(error):
            break
        optimizer.zero_grad()
        problem.loss().backward()
        optimizer.step()
    return pd.DataFrame(rows)


def steps_until(values: Iterable[float], low: float = -math.inf, high: float = math.inf) -> float:
    """The first step from which on all values stay between ``low`` and ``high``; NaN if the last does not."""
    values = list(values)
    outside = [step for step, value in enumerate(values) if not low <= value <= high]
    first = outside[-1] + 1 if outside else 0
    return first if first < len(values) else math.nan
