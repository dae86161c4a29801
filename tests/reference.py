"""Independent references in NumPy float64: written from the papers, sharing no code with the package."""

import numpy as np
import torch


def polar(G, tol=1.2e-6):
    """U V^T over the directions with s > tol * s1, from NumPy's SVD; zero for a zero matrix."""
    G = np.asarray(G, dtype=np.float64)
    U, s, Vh = np.linalg.svd(G, full_matrices=False)
    keep = s > tol * s[0]
    return (U * keep) @ Vh


def gaussian(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def error(O, G):
    """Relative Frobenius distance from NumPy's factor in float64, of one matrix or a stack."""
    tol = 1e-14 if G.dtype == torch.float64 else 1.2e-6
    O, G = (tensor.detach().cpu().double().flatten(0, -3).numpy() for tensor in (O[None], G[None]))
    right = np.stack([polar(matrix, tol) for matrix in G])
    return np.linalg.norm(O - right) / np.linalg.norm(right)


def newton_schulz(X, table):
    """X <- a X + b (X X^T) X + c (X X^T)^2 X + ..., a tuple (a, b, c, ...) a step."""
    for step in table:
        power, total = X, 0
        for c in step:
            total = total + c * power
            power = X @ (X.T @ power)
        X = total
    return X


class PapersRule:
    """SGD along polar factors as the paper states it, for one weight of two or more dimensions.

    v <- momentum * v + (UV^T + weight_decay * w); w <- w - lr * v, with the gradient as (N, P).
    """

    def __init__(self, weight, lr, momentum, weight_decay):
        self.weight = np.asarray(weight, dtype=np.float64).copy()
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.velocity = np.zeros_like(self.weight)

    def step(self, gradient):
        rows = np.asarray(gradient, dtype=np.float64).reshape(len(gradient), -1)
        step = polar(rows).reshape(self.weight.shape) + self.weight_decay * self.weight
        self.velocity = self.momentum * self.velocity + step
        self.weight = self.weight - self.lr * self.velocity


class MuonsRule:
    """Muon as Jordan and others state it, for one matrix: momentum, Newton-Schulz, decoupled decay.

    b <- mu b + g; u <- g + mu b with Nesterov, else b; w <- (1 - lr wd) w - lr sqrt(max(1, m/n)) NS5(u).
    """

    def __init__(self, weight, lr, momentum, weight_decay, nesterov, table):
        self.weight = np.asarray(weight, dtype=np.float64).copy()
        self.buffer = np.zeros_like(self.weight)
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.nesterov, self.table = nesterov, table

    def step(self, gradient):
        g = np.asarray(gradient, dtype=np.float64)
        self.buffer = self.momentum * self.buffer + g
        u = g + self.momentum * self.buffer if self.nesterov else self.buffer
        m, n = u.shape
        X = newton_schulz((u if m <= n else u.T) / np.linalg.norm(u), self.table)
        X = X if m <= n else X.T
        self.weight = (1 - self.lr * self.weight_decay) * self.weight
        self.weight = self.weight - self.lr * np.sqrt(max(1, m / n)) * X


def lars(weight, gradients, lr, momentum, weight_decay, trust):
    """You et al. 2017 as Barlow Twins runs it; one-dimensional weights are neither decayed nor scaled."""
    w = np.asarray(weight, dtype=np.float64).copy()
    v = np.zeros_like(w)
    for g in gradients:
        d = np.asarray(g, dtype=np.float64)
        if w.ndim > 1:
            d = d + weight_decay * w
            if np.linalg.norm(w) > 0 and np.linalg.norm(d) > 0:
                d = d * trust * np.linalg.norm(w) / np.linalg.norm(d)
        v = momentum * v + d
        w = w - lr * v
    return w


def swan(G):
    """Ma et al. 2024, GradNorm then GradWhitening by an eigendecomposition, at GradNorm's length."""
    G = np.asarray(G, dtype=np.float64)
    normed = (G - G.mean(1, keepdims=True)) / G.std(1, keepdims=True)
    values, vectors = np.linalg.eigh(normed @ normed.T)
    white = vectors @ np.diag(values**-0.5) @ vectors.T @ normed
    return white * np.linalg.norm(normed) / np.linalg.norm(white)
