"""The exercises of lessons 00 to 03: the step itself, toy problems, and doing without the SVD."""

import math
from typing import Any

import torch
from torch import Tensor

from orthoviz.course.check import Exercise, Slip
from orthoviz.course.exercises.tools import Function, call, close, random
from orthoviz.polar import polar_factor

# 00_start_here


def _judge_matched(answer: Function) -> str:
    lacking = random(6, 10, seed=1)
    lacking = lacking - lacking.mean(0)  # a softmax head's rows add up to zero
    for gradient in (random(4, 9), 50 * random(10, 6, seed=1), lacking):
        factor = polar_factor(gradient)
        result = call(answer, gradient, shape=tuple(gradient.shape))
        right = factor * gradient.norm() / factor.norm()
        if close(result, right):
            continue
        if close(result, factor):
            raise Slip("the result has length sqrt(rank): multiply by ||gradient||_F / ||polar factor||_F")
        if close(result, gradient):
            raise Slip("this is the gradient itself: orthogonalise it first")
        if close(result, factor * gradient.norm()):
            raise Slip("too long: divide by the polar factor's own length, sqrt(rank), too")
        if close(result, factor * torch.linalg.matrix_norm(gradient, 2)):
            raise Slip("this has the gradient's largest singular value; its length is the Frobenius norm")
        if close(result, factor * gradient.norm() / min(gradient.shape) ** 0.5):
            raise Slip("the rank can be less than min(m, n): divide by the length that the factor has")
        U, _, Vh = torch.linalg.svd(gradient, full_matrices=False)
        if close(result, U @ Vh * (gradient.norm() / min(gradient.shape) ** 0.5)):
            raise Slip("the plain SVD also steps along directions that the gradient lacks: ov.polar_factor")
        if close(result.norm(), gradient.norm()):
            raise Slip("the length is right, the direction is not: scale the whole factor by one number")
        raise Slip(f"the result has length {result.norm():.3g}, the gradient {gradient.norm():.3g}")
    return "the polar factor's direction, the gradient's length: only the shape of the step differs now."


def _judge_longer(answer: Function) -> str:
    for rank, norm in ((10, 0.5), (32, 0.1), (9, 8.0)):
        result = call(answer, rank, norm, shape=())
        right = torch.tensor(rank**0.5 / norm, dtype=torch.float64)
        if close(result, 1 / right):
            raise Slip("upside down: how many times longer is the orthogonal step, not SGD's")
        if close(result, torch.tensor(rank / norm, dtype=torch.float64)):
            raise Slip("the length is the root of the sum of the squares: sqrt(rank), not rank")
        if close(result, torch.tensor(rank / 2 / norm, dtype=torch.float64)):
            raise Slip("`rank**1/2` is half of rank: write `rank ** 0.5`")
        if close(result, torch.tensor((rank / norm) ** 0.5, dtype=torch.float64)):
            raise Slip("the root is that of the rank alone: the gradient's norm is a length already")
        if close(result, torch.tensor(rank**0.5, dtype=torch.float64)):
            raise Slip("that is the length of the orthogonal step: now compare it with the gradient's")
        if not close(result, right):
            raise Slip(
                f"for rank {rank} and a gradient of length {norm} this gives {result:.3g}, not {right:.3g}"
            )
    return (
        "sqrt(rank) / ||gradient||: the smaller the gradient, the longer the orthogonal step in comparison."
    )


# 01_polar_factor


def _judge_polar(answer: Function) -> str:
    for gradient in (random(4, 4), random(3, 5), random(5, 3, seed=1)):
        U, _, Vh = torch.linalg.svd(gradient, full_matrices=False)
        try:
            result = call(answer, gradient, shape=tuple(gradient.shape))
        except NotImplementedError:  # a RuntimeError too
            raise
        except RuntimeError as error:
            raise Slip(f"the shapes do not fit; did you pass full_matrices=False? ({error})") from None
        if close(result, U @ Vh):
            continue
        if close(result, gradient):
            raise Slip("this is the gradient: U diag(s) Vh multiplies it back together. Leave s out")
        if close(result, (U @ Vh).T):
            raise Slip("rows and columns are swapped: this is the transpose")
        if gradient.shape[0] == gradient.shape[1] and close(result, U @ Vh.T):
            raise Slip("torch's third result is V transposed already: use Vh as it is")
        if close(result, gradient / gradient.norm()):
            raise Slip(
                "this makes the matrix short, not its rows orthogonal: divide s by itself, not by the norm"
            )
        if close(result, gradient / gradient.norm(dim=1, keepdim=True)):
            raise Slip("this gives every row length 1, and leaves the angles between them as they were")
        distance = (result - U @ Vh).norm() / (U @ Vh).norm()
        raise Slip(f"off by {distance:.2g} (relative) from U Vh for a {tuple(gradient.shape)} matrix")
    return "rows orthonormal where they can be, columns otherwise. That is all of the paper's step."


def _judge_zero_safe(answer: Function) -> str:
    rank_one = torch.outer(random(4), random(6, seed=1))
    for gradient in (random(4, 6), 1e-20 * random(4, 6), rank_one, torch.zeros(4, 6).double()):
        divided = Slip("a zero matrix breaks it: compare s with tol * s[0], and do not divide by a size")
        try:
            result = call(answer, gradient, shape=tuple(gradient.shape))
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            raise divided from None
        right = polar_factor(gradient)
        if not bool(result.isfinite().all()):
            raise divided
        if gradient.norm() == 0 and result.norm() > 0.1:
            raise Slip("a zero gradient takes a full-size step: no direction of it counts")
        if gradient is rank_one and result.norm() > 1.5:
            raise Slip("a gradient with one direction gets four: directions at the level of rounding must go")
        if close(result, torch.zeros(4, 6).double()) and right.norm() > 0:
            raise Slip(
                "a small gradient lost its directions: compare s with tol times its largest, not with tol"
            )
        if not close(result, right):
            raise Slip(f"off by {(result - right).norm():.2g} for a matrix with norm {gradient.norm():.2g}")
    coarse = call(lambda G: answer(G, tol=0.5), random(4, 6), shape=(4, 6))
    if not close(coarse, polar_factor(random(4, 6), tol=0.5)):
        raise Slip("tol is not used: with tol=0.5 every direction under half of the largest must go")
    return "directions are kept by their size relative to the largest, so scale never matters."


def _judge_nearest(answer: Function) -> str:
    for gradient in (random(3, 5), random(4, 4, seed=2)):
        s = torch.linalg.svdvals(gradient)
        result = call(answer, gradient, shape=())
        right = (s - 1).norm()
        if close(result, right**2):
            raise Slip("this is the squared distance: take the root")
        if close(result, s.norm()):
            raise Slip("this is the distance from zero: the polar factor has singular values 1, not 0")
        if close(result, (s - 1).sum()) or close(result, (s - 1).abs().sum()):
            raise Slip("the Frobenius norm adds squares: root of the sum of (s - 1)^2")
        if not close(result, right):
            raise Slip(f"this gives {result:.4g}, the distance is {right:.4g}")
    return "U and V turn without changing lengths, so only the singular values' distance from 1 is left."


# 02_toy_problems


def _judge_law(answer: Function) -> str:
    for s, lr in ((0.3, 0.03), (10.0, 0.03), (1.0, 0.003)):
        result = call(answer, s, lr, shape=())
        right = torch.tensor((0.9 * s) ** (1 / 3) / lr, dtype=torch.float64)
        if close(result, right) or close(result, right.ceil()):
            continue
        for value, words in (
            (0.9 * s / 3 / lr, "`** 1/3` is a third of it: write `** (1 / 3)`"),
            ((0.9 * s) ** 0.5 / lr, "three layers share the work: the cube root, not the square root"),
            ((0.9 * s) ** 3 / lr, "the cube ROOT: ** (1 / 3)"),
            (s ** (1 / 3) / lr, "this is when the mode is learnt in full; at nine tenths of s it counts"),
            (0.9 * s ** (1 / 3) / lr, "nine tenths of s, not of the time: 0.9 belongs under the root"),
            (0.9 * s / lr, "that is one layer; three layers share the work, each needs the cube root"),
            ((0.9 * s) ** (1 / 3), "that is how far each layer must come: divide by lr, what a step adds"),
            ((0.9 * s / lr) ** (1 / 3), "lr stands outside of the root: each layer grows by lr a step"),
            ((0.9 * s) ** (1 / 3) * lr, "divide by lr: smaller steps take longer"),
        ):
            if close(result, torch.tensor(value, dtype=torch.float64)):
                raise Slip(words)
        raise Slip(f"for s = {s:g} at lr {lr:g} this gives {result:.4g} steps, the law {right:.4g}")
    return "the cube root: a mode a thousand times weaker is learnt only ten times sooner."


def _judge_descent(answer: Function) -> str:
    for curvature, lr in ((1.0, 0.5), (1e-2, 1.9), (1e-4, 1.9), (1.0, 1.9)):
        result = call(answer, curvature, lr, shape=())
        factor = math.log(abs(1 - lr * curvature))
        right = torch.tensor(math.log(0.1) / factor, dtype=torch.float64)
        if close(result, right, 1e-3) or close(result, right.ceil()):  # float32 knows 1 - 1e-4 to 1e-3
            continue
        for value, words in (
            (-right, "the sign: both logarithms are negative, their quotient is not"),
            (math.log(10) / (lr * curvature), "nearly: log(1 - x) is -x only for small x"),
            (1 / right, "upside down: log 0.1 over the logarithm of what one step leaves"),
            (right / 2, "that is the loss, a square: a tenth of the error is asked for"),
            (math.log(0.9) / factor, "a tenth is left, not nine tenths"),
            (0.9 / (lr * curvature), "the step shrinks with what is left: it is geometric, not linear"),
            (0.9 / lr, "that is the orthogonal step, which does not know the curvature"),
        ):
            if close(result, torch.as_tensor(value, dtype=torch.float64)):
                raise Slip(words)
        raise Slip(f"for curvature {curvature:g} at lr {lr:g} this gives {result:.4g}, not {right:.4g}")
    return "the curvature stands below: where it is small, ten times flatter takes ten times longer."


def _judge_rate(answer: Function) -> str:
    for steps, lr in ((100, 0.03), (7, 1.0)):
        found = [call(answer, step, steps, lr, shape=()).item() for step in range(steps)]
        right = [lr * (1 - step / steps) for step in range(steps)]
        if all(abs(a - b) < 1e-6 for a, b in zip(found, right, strict=True)):
            continue
        if all(abs(a - b / lr) < 1e-6 for a, b in zip(found, right, strict=True)):
            raise Slip("the shape is right: multiply by lr")
        if all(abs(a - (lr - step / steps)) < 1e-6 for step, a in enumerate(found)):
            raise Slip("lr - step / steps falls by 1 in all, whatever lr is: multiply by lr instead")
        if all(abs(a - lr) < 1e-6 for a in found):
            raise Slip("the rate does not change: it should fall with the step")
        if abs(found[0] - lr) > 1e-6:
            raise Slip(f"step 0 should still have the whole rate {lr:g}, this gives {found[0]:.3g}")
        if min(found) < -1e-6:
            raise Slip("negative rates climb: it reaches 0 only after the last step")
        if abs(found[-1]) < 1e-6:
            raise Slip("the last step has rate 0 and is wasted: divide by steps, not by steps - 1")
        worst = max(range(steps), key=lambda step: abs(found[step] - right[step]))
        raise Slip(f"at step {worst} of {steps} this gives {found[worst]:.4g}, not {right[worst]:.4g}")
    return "from lr down to nearly 0 in a straight line: the step's length follows, as nothing else makes it."


# 03_without_the_svd


def _judge_step(answer: Function) -> str:
    for X in (random(3, 5) / 4, random(5, 3, seed=1) / 4, random(4, 4, seed=2) / 4):
        try:
            result = call(answer, X, shape=tuple(X.shape))
        except NotImplementedError:
            raise
        except RuntimeError as error:
            raise Slip(
                f"the shapes do not fit for a {tuple(X.shape)} matrix: the product is X @ X.T @ X ({error})"
            ) from None
        right = 1.5 * X - 0.5 * X @ X.T @ X
        if close(result, right):
            continue
        if close(result, 1.5 * X - 0.5 * X**3):
            raise Slip("X**3 cubes every entry; the matrix product X @ X.T @ X cubes the singular values")
        if close(result, 1.5 * X - X @ X.T @ X):
            raise Slip("the second term needs its factor 0.5: without it, 1 does not stay at 1")
        if close(result, 1.5 * X + 0.5 * X @ X.T @ X):
            raise Slip("the sign: the cubic term is subtracted, or large values grow for ever")
        if X.shape[0] == X.shape[1] and close(result, 1.5 * X - 0.5 * X @ X @ X):
            raise Slip(
                "X @ X @ X mixes the directions: the middle X must be transposed, so that U and V cancel"
            )
        raise Slip(
            f"off by {(result - right).norm() / right.norm():.2g} (relative) for a {tuple(X.shape)} matrix"
        )
    return "every singular value went through 1.5 s - 0.5 s^3, and no direction was touched."


def _judge_gain_after(answer: Function) -> str:
    table = ((3.0, -3.0, 1.0), (2.0, -1.5, 0.5))
    longer = ((1.5, -0.5), (2.0, -1.0, 0.3, -0.1))
    x = torch.tensor([0.02, 0.1, 0.5, 0.9], dtype=torch.float64)

    def evaluated(p: Any, y: Tensor) -> Tensor:
        return torch.stack([c * y ** (2 * i + 1) for i, c in enumerate(p)]).sum(0)

    right = evaluated(table[1], evaluated(table[0], x))
    result = call(answer, table, x, shape=(4,))
    if close(result, x):
        raise Slip("x comes back unchanged: is the new value put back into x at each step?")
    if close(result, evaluated(table[0], x)):
        raise Slip("only the first step was taken: return after the loop, not inside it")
    if close(result, evaluated(table[1], x)):
        raise Slip("each step starts from the first x: feed it with what the step before made")
    if close(result, evaluated(table[0], x) + evaluated(table[1], x)):
        raise Slip("the steps follow one another, they are not added")
    even = x
    for p in table:
        even = torch.stack([c * even**i for i, c in enumerate(p, 1)]).sum(0)
    if close(result, even):
        raise Slip("the powers are odd: x, x^3, x^5, not x, x^2, x^3")
    if close(result, evaluated(table[0], evaluated(table[1], x))):
        raise Slip("the steps run backwards: the table's first comes first")
    if not close(result, right):
        raise Slip(f"for x = 0.5 this gives {result[2]:.4g}, the two steps make {right[2]:.4g}")
    try:
        general = call(answer, longer, x, shape=(4,))
    except ValueError:  # for a, b, c in table
        general = x
    if not close(general, evaluated(longer[1], evaluated(longer[0], x))):
        raise Slip("a step may have two coefficients, or four: go through them with enumerate")
    return "the picture's curve: read where it is 1 before you trust a table."


def _judge_gains(answer: Function) -> str:
    for G in (random(4, 6), random(6, 4, seed=1), random(4, 4, seed=2)):
        U, s, Vh = torch.linalg.svd(G, full_matrices=False)
        flips = torch.tensor([1.0, -0.5, 0.9, 0.1], dtype=torch.float64)
        O = (U * flips) @ Vh + 0.1 * random(*G.shape, seed=3)
        try:
            result = call(answer, O, G)
        except NotImplementedError:
            raise
        except RuntimeError as error:
            raise Slip(
                "the shapes do not fit. torch's third output Vh is V transposed already: its transpose Vh.T "
                f"has the v_i as columns. And full_matrices=False keeps U and Vh small ({error})"
            ) from None
        right = (U.T @ O @ Vh.T).diagonal()
        if close(result, U.T @ O @ Vh.T):
            raise Slip("this is the whole matrix u_i^T O v_j: the gains are its diagonal")
        if close(result, right):
            continue
        if close(result, right.abs()):
            raise Slip("without the absolute value: a direction that was turned round has gain -1")
        if close(result, (U.T @ O).norm(dim=1)):
            raise Slip("this is the length of u_i^T O: multiply with v_i, which also sees the direction")
        if close(result, torch.linalg.svdvals(O)):
            raise Slip(
                "these are O's own singular values: they ask nothing about G, and are 1 for the suspect"
            )
        if close(result, torch.linalg.svdvals(O) / s):
            raise Slip("dividing singular values compares sizes, not directions: use G's u_i and v_i")
        if close(result, (U.T @ G @ Vh.T).diagonal()):
            raise Slip("these are G's singular values: put O between u_i and v_i")
        if close(result, right * s):
            raise Slip("leave the sizes s out: only the directions of G are asked")
        raise Slip(
            f"this gives {[round(x, 3) for x in result.flatten().tolist()][:4]}, expected {right.tolist()}"
        )
    return "one number for each direction: nothing can hide in a mean."


EXERCISES = {
    "00.longer": Exercise(
        3,
        _judge_longer,
        (
            "An orthogonal matrix of rank r has r singular values. What are they?",
            "The Frobenius norm is the root of the sum of the squared singular values.",
            "So the orthogonal step has length sqrt(rank) at lr 1. Divide by the length of SGD's.",
        ),
    ),
    "00.matched": Exercise(
        5,
        _judge_matched,
        (
            "ov.polar_factor(gradient) has the right direction. What is its length, what should it be?",
            "Lengths are Frobenius norms: tensor.norm().",
            "factor * gradient.norm() / factor.norm()",
        ),
    ),
    "01.polar": Exercise(
        5,
        _judge_polar,
        (
            "torch.linalg.svd(gradient, full_matrices=False) returns three tensors.",
            "They are U, s and V transposed; U @ diag(s) @ Vh is the gradient again.",
            "All singular values become 1: leave diag(s) out of the product.",
        ),
    ),
    "01.distance": Exercise(
        4,
        _judge_nearest,
        (
            "G - O = U diag(s - 1) Vh. What do U and Vh do to lengths?",
            "Nothing: the norm of the difference is the norm of s - 1.",
            "(torch.linalg.svdvals(gradient) - 1).norm()",
        ),
    ),
    "01.null": Exercise(
        8,
        _judge_zero_safe,
        (
            "Which columns of U belong to directions that the gradient really has?",
            "Those with s > tol * s[0]. Multiply the others by zero.",
            "keep = (s > tol * s[0]).to(s.dtype), then (U * keep) @ Vh",
        ),
    ),
    "02.law": Exercise(
        5,
        _judge_law,
        (
            "Every singular value of every layer grows by lr a step. What is each after t steps?",
            "lr t, so the product of three has (lr t)^3. When is that nine tenths of s?",
            "(0.9 * s) ** (1 / 3) / lr",
        ),
    ),
    "02.descent": Exercise(
        6,
        _judge_descent,
        (
            "The error of one entry is multiplied by the same number in every step. By which?",
            "By |1 - lr * curvature|. After t steps a tenth shall be left: |1 - lr * curvature|^t = 0.1.",
            "math.log(0.1) / math.log(abs(1 - lr * curvature))",
        ),
    ),
    "02.rate": Exercise(
        4,
        _judge_rate,
        (
            "A straight line in step. Where does it start, where would it end?",
            "At step 0 it is lr; at step steps, which is never taken, it would be 0.",
            "lr * (1 - step / steps)",
        ),
    ),
    "03.step": Exercise(
        4,
        _judge_step,
        (
            "Which product of X, X^T and X has the singular values s^3 and the directions of X?",
            "X @ X.T @ X: the inner U and V cancel.",
            "1.5 * X - 0.5 * X @ X.T @ X",
        ),
    ),
    "03.gain": Exercise(
        6,
        _judge_gain_after,
        (
            "Two loops: over the steps, and in each step over its coefficients.",
            "Coefficient number i (from 0) belongs to the power 2 i + 1.",
            "for p in table: x = sum(c * x ** (2 * i + 1) for i, c in enumerate(p))",
        ),
    ),
    "03.gains": Exercise(
        7,
        _judge_gains,
        (
            "Whose singular vectors? Those of G, the matrix that O should be the factor of.",
            "U.T @ O @ Vh.T holds u_i^T O v_j for all pairs.",
            "U, s, Vh = torch.linalg.svd(G, full_matrices=False); (U.T @ O @ Vh.T).diagonal()",
        ),
    ),
}
