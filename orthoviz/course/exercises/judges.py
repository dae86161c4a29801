"""Judges of the exercises that have many right answers; each raises Slip for a wrong one."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from orthoviz.course.exercises.formulas import (
    U_Vh,
    as_it_is,
    centre,
    move,
    own,
    polar_of_matrices,
    random,
    train_digits,
)
from orthoviz.course.judge import Function, Slip, number
from orthoviz.matrices import param_groups
from orthoviz.measures import cosine_matrix, rank_me
from orthoviz.models import digits_mlp
from orthoviz.optim import OrthogonalSGD
from orthoviz.training.barlow import barlow_loss


def network_step(answer: Function) -> None:
    """Lesson 00: a step that changes all parameters in place, matrices along their polar factor."""
    model, lr = digits_mlp(seed=0), 0.1
    gradients = [random(*p.shape, seed=seed).float() for seed, p in enumerate(model.parameters())]
    weights = [p.detach().clone() for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    try:
        answer(model, lr)
    except RuntimeError as error:
        if "leaf Variable" in str(error):
            words = "torch records what you do to the weights: work under `with torch.no_grad():`"
        elif "at least 2 dimensions" in str(error):
            words = "a bias is a vector and has no polar factor: it moves along its gradient"
        else:
            raise
        raise Slip(words) from None
    for (name, parameter), weight, gradient in zip(model.named_parameters(), weights, gradients, strict=True):
        moved = (weight - parameter.detach()) / lr
        step = U_Vh(gradient) if gradient.ndim == 2 else gradient
        known = {
            "has not moved: change it in place, `p -= ...` (`p = p - ...` is a new tensor)": 0 * step,
            "moves uphill: subtract the step": -step,
            "moves as if lr were 1: multiply the step by lr": step / lr,
            "is a matrix and moves along its gradient: use polar(gradient)": gradient,
            "is a bias: you orthogonalised it; it moves along its gradient": normalize(gradient, dim=0),
        }
        if torch.allclose(moved, step, atol=1e-3):
            continue
        for words, slip in known.items():
            if torch.allclose(moved, slip, atol=1e-3):
                raise Slip(f"{name} {words}")
        raise Slip(f"the step of {name} is off by {(moved - step).norm() / step.norm():.2g} (relative)")


def tuple_of(model: Any) -> tuple[Tensor, ...]:
    """Its parameters, in a tuple: a judge copies the tensors of a list."""
    return tuple(model.parameters())


def own_optimizer(answer: Function) -> None:
    """Lesson 02: a class that makes the same twenty steps as OrthogonalSGD."""

    def walk(make: Function, steps: int = 3, of: Function = tuple_of) -> Iterator[tuple[int, str, Tensor]]:
        """Each parameter after each step, along gradients that are the same for all."""
        model = digits_mlp(seed=0)
        optimizer = make(of(model), 0.02, 0.9)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise Slip("this is no optimiser: write a class Mine(torch.optim.Optimizer)")
        for step in range(1, 1 + steps):
            for i, p in enumerate(model.parameters()):
                p.grad = random(*p.shape, seed=100 * step + i).float()
            optimizer.step()
            yield from ((step, name, p.detach().clone()) for name, p in model.named_parameters())

    def same(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a, b, atol=1e-4)

    found, right = list(walk(answer, 20)), walk(OrthogonalSGD, 20, param_groups)
    parts = ((step, name) for (step, name, p), (*_, q) in zip(found, right, strict=True) if not same(p, q))
    if (first := next(parts, None)) is None:
        return
    known: dict[str, dict[str, Any]] = {
        "is the buffer kept in self.state[p]?": {"keeps": False},
        "momentum before the polar factor is Muon's order": {"first": as_it_is, "then": polar_of_matrices},
        "the new direction goes into the buffer in full": {"new": 0.1},
        "the buffer itself is the step, without Nesterov's look ahead": {"nesterov": True},
    }
    likely = (
        f": {words}"
        for words, options in known.items()
        if all(same(p, q) for (*_, p), (*_, q) in zip(found, walk(partial(own, **options)), strict=False))
    )
    raise Slip(f"it parts from ov.OrthogonalSGD at step {first[0]} in {first[1]}{next(likely, '')}")


def training(answer: Function) -> None:
    """Lesson 00: five epochs on digits, with a step that is given."""

    def step(model: Any, lr: float) -> None:
        if any(parameter.grad is None for parameter in model.parameters()):
            raise Slip("the step finds no gradient: backward() comes before, zero_grad() before that")
        move(model, lr, matrix=as_it_is)

    def curve(train: Function, step: Function = step) -> Tensor:
        return number(train(digits_mlp(seed=0), step, 0.3)).double()

    found, right = curve(answer), curve(train_digits)
    if found.shape != right.shape:
        raise Slip(f"the function returns {found.numel()} accuracies, not one before and five after epochs")
    known = {
        "gradients add up: zero_grad() is missing": curve(partial(train_digits, zero_grad=False)),
        "nothing is learnt: is step(model, lr) called for each batch?": right[0].expand(6),
    }
    if not torch.allclose(found, right, atol=0.006):
        for words, slip in known.items():
            if torch.allclose(found, slip, atol=0.006):
                raise Slip(words)
        raise Slip(
            f"after five epochs of descent at 0.3 it is {found[-1]:.3f}, not {right[-1]:.3f}: is lr used?"
        )


def parallel_rows(answer: Function) -> None:
    """Lesson 04: two orthogonal 2 x 2 matrices whose sum has parallel rows."""
    steps = answer()
    if isinstance(steps, Tensor) and steps.shape == (2, 2, 2):
        steps = tuple(steps)
    if not isinstance(steps, tuple | list) or len(steps) != 2:
        raise Slip(f"your function returns a {type(steps).__name__}, not two tensors?")
    A, B = (number(step, shape=(2, 2)).double() for step in steps)
    for name, step in (("first", A), ("second", B)):
        if not torch.allclose(step @ step.T, torch.eye(2, dtype=torch.float64), atol=1e-3):
            raise Slip(f"the {name} matrix has no orthonormal rows: its rows must have length 1 and cosine 0")
    total = A + B
    if total.norm(dim=1).min() < 1e-6:
        raise Slip("a row of the sum is zero, and has no direction: let the steps cancel one another less")
    if torch.allclose(A, B):
        raise Slip("two times the same step: the rows of the sum are as orthogonal as its own")
    cosine = cosine_matrix(total)[0, 1].abs().item()
    if cosine < 1 - 1e-3:
        raise Slip(f"the rows of the sum have a cosine of {cosine:.2g}, not 1 or -1")


def collapse(answer: Function) -> None:
    """Lesson 07: embeddings that satisfy the loss's first term, and have one dimension."""
    Z = number(answer(40, 6), shape=(40, 6)).double()
    if not Z.isfinite().all():
        raise Slip("all numbers must be finite")
    if Z.std(0).min() <= 1e-6 * Z.abs().max():
        raise Slip("a feature that is the same for every image has correlation 0 with itself, and costs 1")
    Z = Z / Z.std(0).min()  # the loss divides by deviations a little too large
    at_zero = barlow_loss(Z, Z, lam=0).item()
    if at_zero > 0.01:
        raise Slip(
            f"the first term is {at_zero:.3g} with both views equal: let features differ between images more"
        )
    as_it_is, centred = rank_me(Z).item(), rank_me(centre(Z)).item()
    if max(as_it_is, centred) > 1.05:
        if centred < 1.05:
            raise Slip("one number for each image, but shifted: RankMe counts the shift as a dimension too")
        raise Slip(
            f"these embeddings span {max(as_it_is, centred):.2f} dimensions (RankMe): more than one is left"
        )


def louder(answer: Function) -> None:
    """Lesson 08: other logits with the same answers and at least twice the loss."""
    logits = 2 * random(200, 5, seed=4)
    labels = torch.where(random(200, seed=5) > 0, logits.argmax(1), random(200, 5, seed=6).argmax(1))
    result = number(answer(logits), shape=(200, 5)).double()
    if not result.isfinite().all():
        raise Slip("some logits are too large for floating point: ten times is enough")
    if not torch.equal(result.argmax(1), logits.argmax(1)):
        raise Slip("some answers are others now: the largest logit of each image must stay the largest")
    before, after = (torch.nn.functional.cross_entropy(z, labels).item() for z in (logits, result))
    if torch.equal(result, logits):
        raise Slip("these are the same logits")
    if abs(after - before) < 1e-6 * before:
        raise Slip("the loss is the same: adding one number to all logits of an image changes nothing")
    if after < before:
        raise Slip(f"the loss fell, from {before:.3f} to {after:.3f}: make the wrong answers cost more")
    if after < 2 * before:
        raise Slip(f"the loss rose from {before:.3f} to {after:.3f} only: make it at least twice as large")
