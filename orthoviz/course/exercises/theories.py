"""The exercises of the last lessons: free weights, why it works, and one's own model."""

import math

import torch
from torch.nn.functional import normalize

from orthoviz.course.check import Exercise, Slip
from orthoviz.course.exercises.tools import Function, call, close, random, yes_or_no
from orthoviz.measures import nuclear_rank, stable_rank
from orthoviz.polar import polar_factor
from orthoviz.verdicts import decision

# 09_free_weights


def _judge_two_steps(answer: Function) -> str:
    for angle in (40.0, 90.0, 0.0, 180.0, 270.0):
        result = call(answer, angle, shape=()).item()
        half = math.radians(angle) / 2
        right = 2 * abs(math.cos(half))
        if math.isclose(result, right, rel_tol=1e-6, abs_tol=1e-6):
            continue
        named = {
            2 * math.cos(half): "a singular value is not negative: abs",
            2 * math.cos(angle / 2): "the angle is given in degrees: math.radians",
            abs(2 * math.cos(angle / 2)): "the angle is given in degrees: math.radians",
            math.sqrt(max(0.0, 2 + 2 * math.cos(angle))): "the angle is given in degrees: math.radians",
            2.0: "that is when they agree: turned steps do not add up to their whole length",
            math.sqrt(2): "that is at 90 degrees; what at others?",
            1.0: "a sum of orthogonal matrices is not orthogonal",
            2 * math.cos(2 * half): "half the angle: the sum of two sides of a rhombus is its diagonal",
            2 + 2 * math.cos(2 * half): "that is the square of the length: take the root",
            math.cos(half): "there are two steps, each of length 1",
            2 * math.sin(half): "that is the length of the difference, not of the sum",
        }
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-6, abs_tol=1e-6):
                raise Slip(slip)
        raise Slip(f"at {angle:g} degrees this gives {result:.4g}, not {right:.4g}")
    return "2 cos(angle / 2): a sum of two orthogonal matrices can have any length from 0 to 2."


def _judge_floor(answer: Function) -> str:
    for modes, size in (([10.0, 3.0, 1.0, 0.3], 16), ([2.0, 0.5], 3), ([4.0, 4.0], 2)):
        result = call(answer, list(modes), size, shape=()).item()
        empty = size - len(modes)
        squares = sum((s - 1) ** 2 for s in modes)
        right = (squares + empty) / 2
        if math.isclose(result, right, rel_tol=1e-6):
            continue
        named = {
            squares / 2: "the directions in which the target is zero count too: there Q has length 1",
            squares + empty: "the loss is HALF the squared distance",
            squares / 2 + empty: "half of the squares in ALL directions, those of zero as well",
            squares / 2 + size / 2: "the modes are among the directions: size - len(modes) are left",
            sum(s * s for s in modes) / 2: "that is the loss of a network that has learnt nothing",
            (sum(s * s for s in modes) + size)
            / 2: "that is an orthogonal matrix that has nothing to do with "
            "the target: let Q share its singular vectors",
            (sum(max(s - 1, 0) ** 2 for s in modes)) / 2: "orthogonal weights cannot shrink either: a mode "
            "below 1, and a zero, cost as well",
            (sum(abs(s - 1) for s in modes) + empty) / 2: "square the differences",
            (sum(s - 1 for s in modes)) ** 2 / 2: "square each difference, then add",
        }
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-6):
                raise Slip(slip)
        raise Slip(f"for modes {modes} and size {size} this gives {result:.6g}, not {right:.6g}")
    return "half the sum of (s - 1)^2 over ALL directions: each mode comes out with length one."


def _judge_wall(answer: Function) -> str:
    for lr, decay in ((0.01, 0.2), (0.03, 1.0), (0.1, 5e-4)):
        result = call(answer, lr, decay, shape=()).item()
        right = 1 / decay
        if math.isclose(result, right, rel_tol=1e-6):
            continue
        named = {
            1 / (lr * decay): "the push is lr as well: w = (1 - lr decay) w + lr, and lr cancels",
            lr / decay: "the rate stands on both sides of the balance, and cancels: lr = lr * decay * w",
            1 / (1 - lr * decay): "set w = (1 - lr decay) w + lr and solve for w",
            lr / (1 - lr * decay): "set w = (1 - lr decay) w + lr and solve for w",
            decay: "upside down: more decay, a nearer wall",
            1 - lr * decay: "that is what is left of w after one step",
            1 / decay - lr: "first multiplied, then raised: this is the other order",
            -1 / decay: "the balance is at a positive value: (1 - lr decay) w + lr = w",
        }
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-6):
                raise Slip(slip)
        if 0.9 * right < result < right:
            raise Slip(f"at lr {lr:g} and decay {decay:g} this is not there yet: where does it end?")
        raise Slip(f"at lr {lr:g} and decay {decay:g} this gives {result:.4g}, not {right:.4g}")
    return "1 / decay, whatever the learning rate: the rate says how soon, the decay says where."


# 10_why_it_works


def _judge_rows(answer: Function) -> str:
    G = random(4, 6, seed=1) * torch.tensor([[1.0], [3.0], [0.2], [1.5]], dtype=torch.float64)
    result = call(answer, G, shape=(4, 6))
    right = normalize(G, dim=1)
    if close(result, right):
        tall = torch.cat([G, random(8, 6, seed=2), torch.zeros(1, 6, dtype=torch.float64)])
        found = call(answer, tall, shape=(13, 6))
        if not found.isfinite().all():
            raise Slip("a row of zeros becomes NaN: it has no direction, and its step should be zero")
        if not close(found, normalize(tall, dim=1)):
            raise Slip("this is right for a wide matrix; rows of a tall one may have length 1 as well")
        return "each row by itself: no row asks where the others point. That is what the polar factor adds."
    named = (
        (-right, "that points downhill: <O, G> should be large, the minus comes with the step"),
        (G / G.norm(), "that is the whole at length 1: each row may have length 1"),
        (normalize(G, dim=0), "those are the columns: a row is a filter, dim=1"),
        (G.sign(), "that is the ruler of entries: a row of signs is longer than 1"),
        (polar_factor(G), "that is the ruler of directions: rows need not be orthogonal here"),
        (G / G.norm(dim=1).max(), "only the longest row has length 1: stretch each by itself"),
        (0.5 * right, "the rows are shorter than they may be"),
        (right / right.norm(), "the rows are shorter than they may be"),
        (
            G / G.abs().amax(1, keepdim=True),
            "that makes the largest entry 1; a row's length is the root of the sum of squares",
        ),
        (G, "this is the gradient: its rows are not of length 1"),
        (G / G.norm(dim=1, keepdim=True).square(), "divide by the length, not by its square"),
        (
            G / G.abs().sum(1, keepdim=True),
            "the length is the root of the sum of squares, not a sum of sizes",
        ),
    )
    for value, slip in named:
        if close(result, value):
            raise Slip(slip)
    raise Slip(f"<O, G> is {(result * G).sum():.3f} and the longest row {result.norm(dim=1).max():.3f}; "
               f"with rows of length 1 it can be {(right * G).sum():.3f}")  # fmt: skip


def _judge_test(answer: Function) -> str:
    def spectrum(values: list[float], rows: int, columns: int, seed: int) -> torch.Tensor:
        left, right = (torch.linalg.qr(random(k, len(values), seed=seed + k)).Q for k in (rows, columns))
        matrix: torch.Tensor = (left * torch.tensor(values, dtype=torch.float64)) @ right.T
        return matrix

    flat, steep, middle, three = [1.0] * 6, [1.0] + 5 * [0.1], [1.0, 0.7, 0.5, 0.3, 0.2, 0.1], [1.0] * 3
    pixels = random(30, 10, seed=5)
    cases = [
        (spectrum(g, 8, 10, 1), spectrum(x, 30, 10, 2))
        for g, x in (
            (flat, steep),
            (steep, flat),
            (middle, three),
            (steep, three),
            (middle, flat),
            (steep, steep),
        )
    ]
    cases.append((spectrum(middle, 8, 10, 1), pixels + 3))  # a mean, as after a ReLU
    results = [yes_or_no(answer, gradient, inputs) for gradient, inputs in cases]

    def verdicts(test: Function) -> list[bool]:
        return [bool(test(gradient, inputs)) for gradient, inputs in cases]

    rank = torch.linalg.matrix_rank
    right = verdicts(lambda G, X: nuclear_rank(G) > stable_rank(X))
    if results == right:
        return "many directions in the gradient, few in the inputs: then the orthogonal step promises more."
    named: tuple[tuple[Function, str], ...] = (
        (lambda G, X: nuclear_rank(G) < stable_rank(X), "the comparison is the wrong way round"),
        (lambda G, X: nuclear_rank(G).sqrt() > stable_rank(X), "square the ratio of the gradient's norms"),
        (lambda G, X: nuclear_rank(G) > stable_rank(X).sqrt(), "square the ratio of the inputs' norms"),
        (
            lambda G, X: stable_rank(G) > stable_rank(X),
            "of the gradient the nuclear norm is asked for, the sum of all singular values, not the largest",
        ),
        (
            lambda G, X: nuclear_rank(G) > nuclear_rank(X),
            "of the inputs the largest singular value is asked for, not their sum",
        ),
        (lambda G, X: nuclear_rank(X) > stable_rank(G), "gradient and inputs have changed places"),
        (
            lambda G, X: nuclear_rank(G) > stable_rank(X - X.mean(0)),
            "the inputs count as they are, with their mean: do not centre them",
        ),
        (lambda G, X: nuclear_rank(G) > stable_rank(X.T @ X), "of the inputs themselves, not of X^T X"),
        (
            lambda G, X: nuclear_rank(G) > 1,
            "X.norm(2) is the Frobenius norm again: the largest singular value is matrix_norm(X, 2)",
        ),
        (lambda G, X: rank(G) > rank(X), "ranks count every direction, however weak: take ratios of norms"),
        (lambda G, X: nuclear_rank(G) > rank(X), "of the inputs the stable rank, not the rank"),
    )
    for test, slip in named:
        if results == verdicts(test):
            raise Slip(slip)
    wrong = next(i for i, result in enumerate(results) if result != right[i])
    gradient, inputs = cases[wrong]
    raise Slip(
        f"nuclear rank {nuclear_rank(gradient):.2f}, stable rank of the inputs {stable_rank(inputs):.2f}: "
        f"this says {results[wrong]}"
    )


def _judge_scale(answer: Function) -> str:
    shapes = ((32, 288), (64, 16), (10, 10))
    results = [call(answer, m, n, shape=()).item() for m, n in shapes]

    def gives(right: Function) -> bool:
        pairs = zip(results, shapes, strict=True)
        return all(math.isclose(result, right(m, n), rel_tol=1e-6) for result, (m, n) in pairs)

    if gives(lambda m, n: 0.2 * math.sqrt(max(m, n))):
        return "0.2 sqrt(max(m, n)), Moonlight's scale: scale='rms' in this package."
    named: tuple[tuple[Function, str], ...] = (
        (
            lambda m, n: 0.2 * math.sqrt(min(m, n)),
            "the squares add up to the rank, min(m, n), over m n entries: which of the two is left?",
        ),
        (
            lambda m, n: 0.2 * math.sqrt(m * n),
            "the polar factor has length sqrt(min(m, n)) already, not 1",
        ),
        (
            lambda m, n: 0.2 / math.sqrt(max(m, n)),
            "upside down: entries are SMALL, 1 / sqrt(max(m, n)), and must grow",
        ),
        (lambda m, n: 0.2 * max(m, n), "a root is missing: the mean of squares is 1 / max(m, n)"),
        (lambda m, n: math.sqrt(max(m, n)), "that makes the root mean square 1, not 0.2"),
        (lambda m, n: 0.2, "the entries of a polar factor are no ones: how large are they?"),
        (lambda m, n: 0.2 * math.sqrt(n), "a matrix can be taller than wide: then the columns have length 1"),
        (lambda m, n: 0.2 * math.sqrt(m), "a matrix can be wider than tall: then the rows have length 1"),
        (
            lambda m, n: math.sqrt(max(1.0, m / n)),
            "that is Muon's own scale, which looks at the ratio of the sides",
        ),
    )
    for value, slip in named:
        if gives(value):
            raise Slip(slip)
    wanted = [0.2 * math.sqrt(max(shape)) for shape in shapes]
    wrong = next(i for i in range(3) if not math.isclose(results[i], wanted[i], rel_tol=1e-6))
    m, n = shapes[wrong]
    raise Slip(f"for {m} x {n} this gives {results[wrong]:.4g}, not {wanted[wrong]:.4g}")


# 11_your_own_model


def _judge_decide(answer: Function) -> str:
    cases = (
        ([0.95, 0.96], [0.90, 0.91], 0.01, ""),
        ([0.95, 0.96], [0.945, 0.93], 0.01, "0.95 is ahead of 0.945 by less than it is worth, 0.96 of "
         "0.93 by more"),
        ([0.955, 0.96], [0.95, 0.952], 0.02, "ahead in every pair, and in none by as much as it is worth"),
        ([0.90, 0.97], [0.91, 0.92], 0.01, "a run far behind, a run far ahead: means do not decide"),
        ([0.92, 0.96], [0.90, 0.94], 0.01, "0.92 is behind 0.94: do not pair run with run, every one counts "
         "against every other"),
        ([0.80, 0.81], [0.90, 0.91], 0.01, "behind in every pair"),
        ([0.75, 0.75], [0.5, 0.5], 0.25, "ahead by exactly what it is worth is not MORE than it is worth"),
        ([0.95], [0.80, 0.81], 0.01, "a single run tells nothing, however far ahead it is"),
    )  # fmt: skip
    for ours, theirs, worth, slip in cases:
        result, right = answer(ours, theirs, worth), decision(ours, theirs, worth)
        if result is None:
            raise Slip("your function returns nothing: is there a return?")
        if result not in ("adopt", "stay", "cannot tell"):
            named = type(result).__name__ if not isinstance(result, str) else f"str, {result!r}"
            raise Slip(f'your function returns a {named}; "adopt", "stay" or "cannot tell" was expected')
        if result != right:
            why = f" ({slip})" if slip else ""
            raise Slip(f'{ours} against {theirs}, worth {worth}: this says "{result}", not "{right}"{why}')
    return "three answers, and the honest one is in the middle."


def _judge_chance(answer: Function) -> str:
    for seeds in (3, 2, 5):
        result = call(answer, seeds, shape=()).item()
        right = 1 / math.comb(2 * seeds, seeds)
        if math.isclose(result, right, rel_tol=1e-6):
            continue
        named = {
            2 * right: "that is one OR the other beating all: ours alone is asked for",
            0.5**seeds: "that is ours ahead in each of so many pairs; here every run must beat every other",
            0.5 ** (seeds * seeds): "pairs are not independent: a run that beats one is likely to beat more",
            1 / math.factorial(2 * seeds): "that is ONE order of all runs: ours may stand in any order among "
            "themselves, and so may theirs",
            math.factorial(seeds) / math.factorial(2 * seeds): "theirs may stand in any order too",
            100 * right: "a probability is asked for, not a percentage",
            1 / right: "upside down: this is the number of ways to choose which runs are ours",
            1 - right: "that is the probability that it does NOT happen",
            0.5: "equally good does not make all-beat-all even",
        }  # fmt: skip
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-6):
                raise Slip(slip)
        if math.isclose(result, right, rel_tol=0.1):
            raise Slip(f"with {seeds} seeds each about {result:.4g}: near, but count, do not sample")
        raise Slip(f"with {seeds} seeds each this gives {result:.4g}, not {right:.4g}")
    return "1 / C(2n, n): one in six with two seeds, in twenty with three, in 252 with five."


def _judge_seconds(answer: Function) -> str:
    for epochs, ours, theirs in ((30, 7.0, 4.0), (11, 4.0, 3.0), (10, 3.0, 7.0), (5, 9.0, 1.0)):
        result = call(answer, epochs, ours, theirs, shape=()).item()
        exact = epochs * theirs / ours
        right = math.floor(exact)
        if math.isclose(result, right, rel_tol=1e-6):
            continue
        named = {
            exact: "whole epochs are asked for: math.floor",
            float(math.ceil(exact)): "rounded up it takes longer than theirs: round down",
            float(min(epochs, right)): "ours is faster here: it may train longer than theirs",
            float(max(1, right)): "not even one epoch fits: then it is 0",
            float(math.floor(epochs * ours / theirs)): "upside down: the slower step gets FEWER epochs",
            epochs * ours / theirs: "upside down: the slower step gets FEWER epochs",
            float(round(epochs * ours / theirs)): "upside down: the slower step gets FEWER epochs",
            float(epochs): "that is equal epochs, not equal seconds",
            float(math.floor(theirs / ours)): "multiply by their epochs before you round",
        }
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-6):
                raise Slip(slip)
        raise Slip(f"{epochs} epochs at {theirs:g} ms are {right} at {ours:g} ms, not {result:.4g}")
    return "the price is paid in epochs: whoever steps slower must learn more from each."


EXERCISES = {
    "09.two_steps": Exercise(
        5,
        _judge_two_steps,
        (
            "Follow one vector x of length 1: it becomes x + R x. How long is that?",
            "x and R x are the sides of a rhombus with this angle between them.",
            "2 * abs(math.cos(math.radians(angle) / 2)); or torch.linalg.svdvals of the sum.",
        ),
    ),
    "09.floor": Exercise(
        6,
        _judge_floor,
        (
            "With the same singular vectors, Q - T has the singular values 1 - s.",
            "In how many directions is s = 0? There the difference is 1.",
            "(sum((s - 1) ** 2 for s in modes) + size - len(modes)) / 2",
        ),
    ),
    "09.wall": Exercise(
        4,
        _judge_wall,
        (
            "Where does a step change nothing any more?",
            "w = (1 - lr * decay) * w + lr",
            "lr * decay * w = lr, and lr cancels.",
        ),
    ),
    "10.rows": Exercise(
        5,
        _judge_rows,
        (
            "<O, G> is a sum over rows, and every row has a length of its own to spend.",
            "For one row: which vector of length at most 1 has the largest product with it?",
            "torch.nn.functional.normalize(gradient, dim=1)",
        ),
    ),
    "10.test": Exercise(
        6,
        _judge_test,
        (
            "Both sides are squared ratios of norms of singular values.",
            "ov.measures.nuclear_rank of one, ov.measures.stable_rank of the other.",
            "return ov.measures.nuclear_rank(gradient) > ov.measures.stable_rank(inputs)",
        ),
    ),
    "10.scale": Exercise(
        5,
        _judge_scale,
        (
            "The squares of all singular values add up to the squares of all entries.",
            "Of full rank there are min(m, n) ones, and m n entries.",
            "The root mean square is sqrt(min(m, n) / (m n)) = 1 / sqrt(max(m, n)).",
        ),
    ),
    "11.decide": Exercise(
        8,
        _judge_decide,
        (
            "Which pair is the least lucky for ours? Which is the luckiest?",
            "min(ours) - max(theirs) and max(ours) - min(theirs).",
            "If the least lucky is above worth: adopt. If not even the luckiest is: stay.",
        ),
    ),
    "11.chance": Exercise(
        6,
        _judge_chance,
        (
            "Sort all 2 n runs. All equally good: every choice of which n are ours is equally likely.",
            "One of these choices has ours on the n first places.",
            "1 / math.comb(2 * seeds, seeds)",
        ),
    ),
    "11.seconds": Exercise(
        3,
        _judge_seconds,
        (
            "How long did theirs take, in units of one of our steps?",
            "epochs * theirs / ours, rounded so that it takes no longer.",
            "math.floor(epochs * theirs / ours)",
        ),
    ),
}
