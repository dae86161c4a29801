"""Judges of the exercises that have many right answers; each raises Slip for a wrong one."""

import torch
from torch import Tensor

from orthoviz.course.exercises.formulas import centre, random
from orthoviz.course.judge import Function, Slip, number
from orthoviz.measures import cosine_matrix, rank_me
from orthoviz.training.barlow import barlow_loss


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
