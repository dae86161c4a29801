"""The exercises of lessons 04 and 05: likeness and spectra."""

import math

import torch

from orthoviz.course.check import Exercise, Slip
from orthoviz.course.exercises.tools import Function, call, close, random
from orthoviz.measures import cosine_matrix, feature_cosine
from orthoviz.polar import polar_factor

# 04_do_filters_learn_the_same


def _judge_chance(answer: Function) -> str:
    for n in (27, 288):
        result = call(answer, n, shape=()).item()
        right = math.sqrt(2 / (math.pi * n))
        if math.isclose(result, right, rel_tol=0.02):  # the exact mean is within a hundredth of it
            continue
        if math.isclose(result, n**-0.5, rel_tol=0.02):
            raise Slip("1/sqrt(n) is the standard deviation of the cosine; asked for is the mean of its size")
        if math.isclose(result, math.sqrt(2 / math.pi) / n, rel_tol=0.02):
            raise Slip("the standard deviation is 1/sqrt(n), not 1/n: put n under the root")
        if math.isclose(result, math.sqrt(math.pi / 2 / n), rel_tol=0.02):
            raise Slip("upside down: the factor is sqrt(2/pi), about 0.8")
        if result == 0:
            raise Slip("0 is the mean of the cosine itself; its size is never negative, so its mean is not 0")
        raise Slip(f"for {n} numbers this gives {result:.3g}, not {right:.3g}")
    return "sqrt(2 / (pi n)): 0.154 for 27 numbers. Read no cosine without it."


def _judge_two_steps(answer: Function) -> str:
    steps = answer()
    if not isinstance(steps, tuple | list) or len(steps) != 2:
        what = "nothing: is there a return" if steps is None else f"a {type(steps).__name__}, not two tensors"
        raise Slip(f"your function returns {what}?")
    A, B = (call(lambda step=step: step, shape=(2, 2)) for step in steps)
    for name, step in (("first", A), ("second", B)):
        if not torch.allclose(step @ step.T, torch.eye(2, dtype=torch.float64), atol=1e-3):
            raise Slip(f"the {name} matrix has no orthonormal rows: its rows must have length 1 and cosine 0")
    total = A + B
    if total.norm(dim=1).min() < 1e-6:
        raise Slip("a row of the sum is zero, and has no direction: let the steps cancel one another less")
    cosine = cosine_matrix(total)[0, 1].abs().item()
    if close(A, B):
        raise Slip("two times the same step: the rows of the sum are as orthogonal as its own")
    if cosine < 1 - 1e-3:
        raise Slip(f"the rows of the sum have a cosine of {cosine:.2g}, not 1 or -1")
    return "two orthogonal steps, and both filters lie on one line: the weights stay free."


def _judge_maps(answer: Function) -> str:
    maps = random(5, 4, 6, 3).float()
    maps[1] *= 20
    result = call(answer, maps, shape=()).item()
    right = feature_cosine(maps).item()
    flat = torch.nn.functional.normalize(maps.flatten(2), dim=2)
    cosine = flat @ flat.mT
    together = torch.nn.functional.normalize(maps.transpose(0, 1).flatten(1), dim=1)
    across = torch.nn.functional.normalize(maps.flatten(1), dim=1)
    centred = feature_cosine(maps, centred=True).item()
    named = {
        cosine.abs()
        .mean()
        .item(): "the diagonal counts too: a map's cosine with itself is 1. Leave i = j out",
        (cosine.sum() - 20).item()
        / 60: "signs cancel: take the absolute value of each cosine before the mean",
        _pairs(
            together @ together.T
        ): "maps of all inputs are compared as one: compare within an input first",
        _pairs(
            across @ across.T
        ): "this compares inputs with one another: the channels of one input are asked for",
        centred: "these maps are centred; the paper's are not",
        feature_cosine(maps.mean(0, keepdim=True)).item(): "this is the cosine of mean maps: compare within "
        "each input, and average the cosines",
        _pairs_of_inputs(maps.flatten(2) @ maps.flatten(2).mT): "products are no cosines: divide by the "
        "lengths of both maps",
    }
    if math.isclose(result, right, rel_tol=1e-4):
        return "within an input first, then the mean over inputs: this is ov.measures.feature_cosine."
    for value, slip in named.items():
        if math.isclose(result, value, rel_tol=1e-4):
            raise Slip(slip)
    raise Slip(f"this gives {result:.4g}, not {right:.4g}")


def _pairs_of_inputs(products: torch.Tensor) -> float:
    return sum(map(_pairs, products)) / len(products)


def _pairs(cosine: torch.Tensor) -> float:
    count = len(cosine) * (len(cosine) - 1)
    return (cosine.abs().sum() - cosine.diagonal().abs().sum()).item() / count


# 05_gradient_spectra


def _judge_half(answer: Function) -> str:
    for values in (
        [4.0, 3.0, 2.0, 1.0],
        [1.0, 1.0, 1.0, 1.0],
        [10.0, 3.0, 1.0, 0.3],
        [5.0, 4.0, 4.0, 4.0, 4.0],
    ):
        s = torch.tensor(values, dtype=torch.float64)
        result = call(answer, s, shape=()).item()
        energy = s.square().cumsum(0) / s.square().sum()
        right = int((energy < 0.5 - 1e-9).sum()) + 1
        if result == right:
            continue
        sums = s.cumsum(0) / s.sum()
        if result == int((sums < 0.5 - 1e-9).sum()) + 1:
            raise Slip("energy is the sum of the squares: square the singular values first")
        if result == right - 1:
            raise Slip("one too few: count the direction with which half is reached")
        if result == int((energy <= 0.5 + 1e-9).sum()) + 1:
            raise Slip("exactly half is enough: one direction too many")
        raise Slip(f"for {values} this gives {result:g}, not {right}")
    return "few directions carry most of a gradient; the polar factor makes all of them equal."


def _judge_meter(answer: Function) -> str:
    for gamma in (0.9, 0.5, 0.99):
        result = call(answer, gamma, shape=()).item()
        right = (1 - gamma**2) ** -0.5
        if math.isclose(result, right, rel_tol=1e-4):
            continue
        named = {
            1
            / (
                1 - gamma
            ): "that is the buffer of steps that agree: lengths add up. Of unrelated ones squares do",
            (1 - gamma)
            ** -0.5: "each step's weight is gamma^k, its square gamma^(2k): the sum is 1/(1 - gamma^2)",
            1 / (1 - gamma**2): "that is the square of the length: take the root",
            (1 - gamma**2) ** 0.5: "upside down: the buffer is longer than one step",
            sum(gamma ** (2 * k) for k in range(60)) ** 0.5: "sixty steps are not the long run at momentum "
            "0.99: what does the sum 1 + gamma^2 + gamma^4 + ... come to?",
        }
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-4):
                raise Slip(slip)
        raise Slip(f"for momentum {gamma} this gives {result:.4g}, not {right:.4g}")
    return "2.3 at momentum 0.9, between 1 and 10: the middle around which noise spreads."


def _factor_inside(gradients: list[torch.Tensor], momentum: float) -> torch.Tensor:
    buffer = torch.zeros_like(gradients[0])
    for G in gradients:
        buffer = polar_factor(momentum * buffer + G)
    return buffer


def _judge_muon(answer: Function) -> str:
    gradients = [random(4, 6, seed=seed) for seed in range(3)]
    gamma, factors = 0.8, [polar_factor(G) for G in gradients]

    def buffer(steps: list[torch.Tensor]) -> torch.Tensor:
        return steps[0] * gamma**2 + steps[1] * gamma + steps[2]

    given = [G.clone() for G in gradients]
    result = call(answer, given, gamma, shape=(4, 6))
    if not all(map(torch.equal, given, gradients)):
        raise Slip("this changes the gradients that it is given: start from zeros, or work on a copy")
    if close(result, polar_factor(buffer(gradients))):
        return "momentum first, then the factor. This is Muon, but for how it computes the factor."
    named = (
        (buffer(factors), "this is the paper's order: factor first, then momentum"),
        (polar_factor(buffer(factors)), "factors twice: the buffer collects gradients, not polar factors"),
        (buffer(gradients), "this is the momentum buffer: take its polar factor"),
        (polar_factor(gradients[-1]), "only the last gradient counts here: where is the momentum?"),
        (
            polar_factor(torch.stack(gradients).sum(0)),
            "all gradients count alike: earlier ones fade by momentum at every step",
        ),  # type: ignore[arg-type]
        (polar_factor(buffer(gradients[::-1])), "the oldest gradient counts most: it must fade instead"),
        (
            -polar_factor(buffer(gradients)),
            "the sign: the step is the factor itself, the optimiser subtracts it",
        ),
        (_factor_inside(gradients, gamma), "the factor replaces the buffer at every step here: take it once"),
        (
            polar_factor(buffer([2 * gradients[0], *gradients[1:]])),
            "the first gradient counts twice: start from zero, or go on with the second",
        ),
    )
    for value, slip in named:
        if close(result, value) or close(result, (1 - gamma) * value):
            raise Slip(slip)
    raise Slip("this is not the polar factor of the buffer: buffer = momentum * buffer + gradient, from zero")


EXERCISES = {
    "04.chance": Exercise(
        4,
        _judge_chance,
        (
            "The cosine is like a normal number. What is its standard deviation for n numbers?",
            "1/sqrt(n); and the mean size of a normal number is sqrt(2/pi) of that.",
            "math.sqrt(2 / (math.pi * n))",
        ),
    ),
    "04.two_steps": Exercise(
        6,
        _judge_two_steps,
        (
            "Parallel rows: try to make the sum a matrix of ones, or of two equal rows.",
            "The identity is one. Which matrix is missing to ones everywhere?",
            "torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])",
        ),
    ),
    "04.maps": Exercise(
        8,
        _judge_maps,
        (
            "maps.flatten(2) makes a matrix of each input, a row a channel.",
            "ov.measures.cosine_matrix takes a batch. Its diagonal is 1; average what is off it.",
            "ov.measures.mean_abs_cosine(maps.flatten(2)).mean()",
        ),
    ),
    "05.half": Exercise(
        5,
        _judge_half,
        (
            "Energy is the square of a singular value.",
            "Add the squares up with cumsum, and compare with half of the last sum.",
            "(energy.cumsum(0) < 0.5 * energy.sum()).sum() + 1, with energy = s.square()",
        ),
    ),
    "05.meter": Exercise(
        6,
        _judge_meter,
        (
            "The buffer is g0 + gamma g1 + gamma^2 g2 + ... Unrelated means at right angles.",
            "At right angles squares add up: 1 + gamma^2 + gamma^4 + ...",
            "The sum of that series is 1 / (1 - gamma^2); take its root.",
        ),
    ),
    "05.muon": Exercise(
        5,
        _judge_muon,
        (
            "Keep a buffer: each step multiply it by the momentum and add the gradient.",
            "Start it at zero. When all gradients are in, orthogonalise once.",
            "for gradient in gradients: buffer = momentum * buffer + gradient; ov.polar_factor(buffer)",
        ),
    ),
}
