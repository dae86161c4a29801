"""Normalise, whiten, step: an optimiser without momentum."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from orthoviz.matrices import Layout, as_matrix, from_matrix
from orthoviz.optim.base import MatrixOptimizer, move
from orthoviz.optim.directions import Entry, normalise
from orthoviz.polar.methods import Method


class SWAN(MatrixOptimizer):
    r"""SGD with whitening and normalisation: two maps of the gradient in place of all state.

    .. math::
        \tilde G_{ij} &= \frac{G_{ij} - \bar g_i}{\sigma_i}, \qquad
        \bar g_i = \tfrac1n \sum_j G_{ij}, \quad \sigma_i^2 = \tfrac1n \sum_j (G_{ij} - \bar g_i)^2 \\
        O &= (\tilde G \tilde G^\top)^{-1/2}\, \tilde G \\
        \theta_t &= (1 - \eta\lambda)\, \theta_{t-1} - \eta \frac{\|\tilde G\|}{\|O\|}\, O

    Whitening is the polar factor, so this is the paper's step on rows that were first given mean 0 and
    variance 1, at their length. What is no matrix follows AdamW.

    Args:
        params: ``ov.param_groups(model)``.
        lr: learning rate of the matrices, at least 0. Their step has length ``lr * sqrt(m n)``.
        weight_decay: at least 0, decoupled.
        method: how the polar factor is computed.
        rest_lr: learning rate of the rest; None: ``lr``.
        betas, eps: AdamW's.

    Raises:
        ValueError: an argument outside its range.

    Source: Ma, Gong, Scetbon & Meeds 2024 (arXiv 2412.13148), algorithms 1 to 3 (GradNorm, GradWhitening),
    with its rescaling of the update; whitened exactly, where the paper takes Newton-Schulz steps.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        weight_decay: float = 0.0,
        *,
        method: str | Method = "exact",
        rest_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        direction = dict(method=method, tol=None, null="drop", scale="match")
        others = dict(lr=lr, weight_decay=weight_decay, rest_lr=rest_lr, betas=betas, eps=eps)
        super().__init__(params, direction | others)

    def _update(self, entries: list[Entry]) -> None:
        self._adamw([entry for entry in entries if entry.layout is None])
        matrices = [entry for entry in entries if entry.layout is not None]
        for entry in matrices:
            entry.step = _standardise(entry.step, entry.layout)  # type: ignore[arg-type]
        self._take_directions(matrices)
        move(matrices)


def _standardise(gradient: Tensor, layout: Layout) -> Tensor:
    """The gradient with rows of mean 0 and variance 1; constant rows become zero."""
    G = as_matrix(gradient, layout)
    rest = G - G.mean(-1, keepdim=True)
    noise = 4 * torch.finfo(G.dtype).eps * G.abs().amax(-1, keepdim=True)  # the mean's rounding
    rest = torch.where(rest.abs().amax(-1, keepdim=True) <= noise, 0, rest)
    rows = normalise(rest, (-1,)) * math.sqrt(G.shape[-1])
    return from_matrix(rows, layout, like=gradient)
