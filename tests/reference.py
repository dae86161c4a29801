"""Independent references in NumPy float64: written from the papers, sharing no code with the package."""

import numpy as np


def polar(G, tol=1.2e-6):
    """U V^T over the directions with s > tol * s1, from NumPy's SVD; zero for a zero matrix."""
    G = np.asarray(G, dtype=np.float64)
    U, s, Vh = np.linalg.svd(G, full_matrices=False)
    keep = s > tol * s[0]
    return (U * keep) @ Vh


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
