"""What came out after the paper, each as an experiment of a few lines on matrices of a few rows.

Every experiment takes a rule, which makes a step of rate 1 of a gradient, and returns the numbers that its
source speaks of. All are in float64, and take seconds on a CPU.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from orthoviz.measures import effective_rank
from orthoviz.polar import polar_factor
from orthoviz.seeds import seeded

Rule = Callable[[Tensor], Tensor]


def _adam() -> Rule:
    """Adam with its usual constants, but a second moment of 100 steps, for runs of hundreds."""
    first = second = torch.zeros(())
    count = 0

    def step(G: Tensor) -> Tensor:
        nonlocal first, second, count
        count += 1
        first, second = 0.9 * first + 0.1 * G, 0.99 * second + 0.01 * G * G
        return (first / (1 - 0.9**count)) / ((second / (1 - 0.99**count)).sqrt() + 1e-10)

    return step


# What makes a rule for one matrix, by name.
RULES: dict[str, Callable[[], Rule]] = {
    "descent": lambda: lambda G: G,
    "normalised": lambda: lambda G: G / G.norm(),
    "sign": lambda: torch.sign,
    "adam": _adam,
    "orthogonal": lambda: partial(polar_factor, method="svd"),  # of a few rows it is the fastest
}


def unseen_pairs(rule: str, lr: float, *, seed: int = 0, steps: int = 1500) -> dict[str, Any]:
    """Perfect and clueless: 18 of 36 pairs of domains that share one map are learnt, the others are asked.

    At small rates the orthogonal step fits the pairs and misses the map; at rates around 1 it finds it.

    A two-layer linear network maps six inputs of four to six outputs of four; every pair shares the identity.
    The rate falls in equal parts to zero.

    Returns:
        ``train`` and ``unseen``, mean squared errors; ``rank``, the effective rank of the map; ``map``, 24 x
        24, and ``seen``, of the same shape: 1 where a pair is learnt, 0 where it is asked.

    Source: after arXiv 2603.00742.
    """
    domains, size, hidden = 6, 4, 48
    draw = seeded(seed)
    shapes = (hidden, domains * size), (domains * size, hidden)
    first, second = (0.01 * torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in shapes)
    places = torch.arange(domains)
    seen = ((places[:, None] - places) % domains < 3).to(torch.float64)
    seen = seen.repeat_interleave(size, 0).repeat_interleave(size, 1)
    target = torch.eye(size, dtype=torch.float64).repeat(domains, domains)
    rules = RULES[rule](), RULES[rule]()
    for i in range(steps):
        error = (second @ first - target) * seen * size / seen.sum()
        moved = rules[0](second.T @ error), rules[1](error @ first.T)
        rate = lr * (1 - i / steps)
        first, second = first - rate * moved[0], second - rate * moved[1]
    squares, others = (second @ first - target).square(), 1 - seen
    parts = {"train": (squares * seen).sum() / seen.sum(), "unseen": (squares * others).sum() / others.sum()}
    parts["rank"] = effective_rank(second @ first)
    return {name: value.item() for name, value in parts.items()} | {"map": second @ first, "seen": seen}


def never_arrives(rule: str, *, lr: float = 0.05, falling: bool = False, steps: int = 3000) -> float:
    """A convex function of a 2 x 2 matrix, |a - d| + 0.3 |a + d| of its diagonal, from (1, pi / 5).

    The polar factor of its gradient never changes the trace a + d, at a constant rate or one that falls.

    Returns:
        The trace after so many steps; the least value is at 0.

    Source: arXiv 2605.08980.
    """
    W, make = torch.tensor([[1.0, 0.0], [0.0, math.pi / 5]], dtype=torch.float64), RULES[rule]()
    for i in range(steps):
        difference, trace = (W[0, 0] - W[1, 1]).sign(), (W[0, 0] + W[1, 1]).sign()
        gradient = torch.diag(torch.stack([difference + 0.3 * trace, -difference + 0.3 * trace]))
        W = W - lr * (1 - i / steps if falling else 1) * make(gradient)
    return W.trace().item()


def half_square(rule: Rule, lr: float, *, falling: bool = False, seed: int = 0, steps: int = 200) -> float:
    """Half the squared Frobenius norm of a random 32 x 32 matrix, which is its own gradient.

    At a constant rate an exactly orthogonal step cannot become shorter near the minimum; one of an iteration
    that stops early can.

    Args:
        rule: from a gradient to a step, such as ``ov.polar_factor`` with its arguments.
        falling: whether the rate falls in equal parts to zero.

    Returns:
        What is left after so many steps.

    Source: arXiv 2602.11948, 2606.00371.
    """
    W = torch.randn(32, 32, generator=seeded(seed), dtype=torch.float64) / math.sqrt(32)
    for i in range(steps):
        W = W - lr * (1 - i / steps if falling else 1) * rule(W)
    return (W.square().sum() / 2).item()


def margins(rule: str, lr: float, *, seed: int = 0, steps: int = 12_000) -> dict[str, float]:
    """Separable classes: each rule makes the margin large in a norm of its own, in the long run.

    Forty points of four classes in eight dimensions, a linear layer, cross-entropy, rate ``lr / sqrt(step)``.

    Returns:
        The smallest margin over the weight's ``frobenius`` norm, its largest ``entry``, and its ``spectral``
        norm.

    Source: arXiv 2502.04664.
    """
    draw = seeded(seed)
    centres = 3 * torch.randn(4, 8, generator=draw, dtype=torch.float64)
    labels = torch.arange(40) % 4
    points = centres[labels] + 0.7 * torch.randn(40, 8, generator=draw, dtype=torch.float64)
    W, make = torch.zeros(4, 8, dtype=torch.float64), RULES[rule]()
    for i in range(steps):
        errors = (points @ W.T).softmax(1)
        errors[torch.arange(40), labels] -= 1
        W = W - lr / math.sqrt(i + 1) * make(errors.T @ points / 40)
    scores = points @ W.T
    own = scores.gather(1, labels[:, None])
    others = scores.scatter(1, labels[:, None], -math.inf)
    margin = (own - others.max(1, keepdim=True).values).min()
    norms = {"frobenius": W.norm(), "entry": W.abs().max(), "spectral": torch.linalg.matrix_norm(W, 2)}
    return {name: (margin / norm).item() for name, norm in norms.items()}


def decayed_norm(decay: float, *, lr: float = 0.02, seed: int = 0, steps: int = 4000) -> float:
    """Weight decay is a ruler: the spectral norm of a weight whose target is far away, 1 / decay.

    The step is the polar factor; the decay is decoupled.

    Source: arXiv 2506.15054.
    """
    target = 100 / decay * torch.randn(16, 16, generator=seeded(seed), dtype=torch.float64)
    W = torch.zeros_like(target)
    for _ in range(steps):
        W = (1 - lr * decay) * W - lr * polar_factor(W - target)
    return float(torch.linalg.matrix_norm(W, 2))


def clipped_step(width: int, *, before: float = math.inf, after: float = math.inf, seed: int = 0) -> float:
    """Clipping, nothing or everything: the length of an orthogonal step for a random gradient.

    Args:
        width: of the square gradient.
        before: the gradient is clipped to this length; the step does not notice.
        after: the step is clipped to this length; its own is the root of the width.

    Source: the issues Muon#56, DeepSpeed#8439 and Megatron-LM#5394.
    """

    def clip(G: Tensor, most: float) -> Tensor:
        return G * min(1.0, most / float(G.norm()))

    G = torch.randn(width, width, generator=seeded(seed), dtype=torch.float64)
    return float(clip(polar_factor(clip(G, before)), after).norm())


def rare_facts(rule: str, lr: float, *, steps: int = 5, facts: int = 64) -> int:
    """A linear memory of facts, the k-th of which occurs 1 / k as often as the first: how many it knows.

    Known: its answer has probability above one half.

    Source: arXiv 2509.26030, 2510.22980.
    """
    often = 1 / torch.arange(1, facts + 1, dtype=torch.float64)
    often, W, make = often / often.sum(), torch.zeros(facts, facts, dtype=torch.float64), RULES[rule]()
    for _ in range(steps):
        errors = W.softmax(0) - torch.eye(facts, dtype=torch.float64)
        W = W - lr * make(errors * often)
    return int((W.softmax(0).diagonal() > 0.5).sum())
