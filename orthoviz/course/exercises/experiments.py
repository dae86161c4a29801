"""The exercises of the lessons on experiments: the fair fight, Barlow Twins, and full-size runs."""

import math

import torch

from orthoviz.course.check import Exercise, Slip
from orthoviz.course.exercises.tools import Function, call, close, random, yes_or_no
from orthoviz.measures import rank_me
from orthoviz.training.barlow import barlow_loss, cross_correlation

# 06_cifar10


def _judge_separated(answer: Function) -> str:
    cases = (
        ([0.71, 0.74, 0.73], [0.70, 0.69, 0.68], True, ""),
        ([0.71, 0.74, 0.73], [0.72, 0.69, 0.68], False, "a better mean is not enough: one seed of the second "
         "reaches into the first's range"),
        ([0.60, 0.61], [0.70, 0.72], False, "here the second is the better one: is the FIRST better?"),
        ([0.71, 0.72], [0.71, 0.60], False, "as good as is not worse: at equality nothing is separated"),
        ([0.71, 0.75], [0.70, 0.73], False, "0.71 of the first is behind 0.73 of the second: do not pair the "
         "runs, compare every one with every other"),
    )  # fmt: skip
    for first, second, right, slip in cases:
        result = yes_or_no(answer, first, second)
        if result != right:
            says = slip or "every seed of the first beats every seed of the second: that is separated"
            raise Slip(f"for {first} and {second} this says {result}: {says}")
    return (
        "min of one above max of the other: a simple rule, and with two or three seeds not even a strict one."
    )


def _judge_equal_step(answer: Function) -> str:
    for rate, ours, theirs in ((0.1, 3.0, 0.5), (0.02, 0.4, 1.6)):
        result = call(answer, rate, ours, theirs, shape=()).item()
        right = rate * theirs / ours
        if math.isclose(result, right, rel_tol=1e-6):
            continue
        if math.isclose(result, rate * ours / theirs, rel_tol=1e-6):
            raise Slip("upside down: a longer step at rate 1 needs a smaller rate")
        if math.isclose(result, theirs / ours, rel_tol=1e-6):
            raise Slip("that is the ratio of the rates: multiply by the other's rate")
        if math.isclose(result, rate, rel_tol=1e-6):
            raise Slip("that is an equal rate, not an equal step")
        raise Slip(f"at rate {rate} and lengths {ours}, {theirs} this gives {result:.4g}, not {right:.4g}")
    return "so an equal step is only a matter of the unit; what is left after it is the shape."


def _judge_speedup(answer: Function) -> str:
    slow, fast = [0.1, 0.3, 0.45, 0.52, 0.6, 0.58, 0.66, 0.7], [0.1, 0.5, 0.62, 0.59, 0.71, 0.69, 0.72]
    for target, right in ((0.6, 2.0), (0.7, 1.75), (0.5, 3.0)):
        result = call(answer, slow, fast, target, shape=()).item()
        if math.isclose(result, right, rel_tol=1e-6):
            continue
        named = {
            1 / right: "upside down: how many times fewer epochs does the second take?",
            (right * _first(fast, target) + 1)
            / (_first(fast, target) + 1): "entry 0 is before training: its "
            "index is the number of epochs, so add nothing",
            fast[_first(fast, target)]
            / slow[_first(slow, target)]: "a ratio of accuracies: epochs are asked for",
            fast[-1] / slow[-1]: "a ratio of accuracies: epochs are asked for",
            right * _first(fast, target)
            - _first(fast, target): "a difference of epochs: how many TIMES fewer?",
            _last_crossing(slow, target) / _last_crossing(fast, target): "curves may dip below the target "
            "again: what counts is when it is first reached",
        }
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-6):
                raise Slip(slip)
        raise Slip(
            f"for target {target} this gives {result:.4g}, not {right:.4g}: the first epoch at it counts"
        )
    return "a speed-up has a target in it. Another target, another speed-up."


def _first(accuracies: list[float], target: float) -> int:
    return next(i for i, accuracy in enumerate(accuracies) if accuracy >= target)


def _last_crossing(accuracies: list[float], target: float) -> int:
    return 1 + max(i for i, accuracy in enumerate(accuracies) if accuracy < target)


# 07_barlow_twins


def _views() -> tuple[torch.Tensor, torch.Tensor]:
    first = 3 * random(50, 4, seed=1) + 2
    return first, 0.7 * first + random(50, 4, seed=2)


def _judge_correlation(answer: Function) -> str:
    first, second = _views()
    result = call(answer, first, second, shape=(4, 4))
    if close(result, cross_correlation(first, second), 1e-3):
        return "the correlation of every feature of one view with every feature of the other."
    centred = [z - z.mean(0) for z in (first, second)]
    unbiased = centred[0].T @ centred[1] / 50 / (first.std(0)[:, None] * second.std(0))
    by_image = [torch.nn.functional.normalize(z - z.mean(1, keepdim=True), dim=1) for z in (first, second)]
    raw = [z / z.norm(dim=0) for z in (first, second)]
    named = (
        (cross_correlation(second, first), "the views have changed places: rows belong to the first"),
        (centred[0].T @ centred[1] / 50, "this is the covariance: divide by both standard deviations"),
        (raw[0].T @ raw[1], "subtract each feature's mean over the batch first"),
        (
            by_image[0].T @ by_image[1],
            "mean and length run over the batch, dim 0, not over an image's features",
        ),
        (50 * cross_correlation(first, second), "a sum over the batch: divide by the number of images"),
        (cross_correlation(first, first), "the first view twice: where is the second?"),
        (
            first.T @ second / 50,
            "these are raw products: standardise each column first, mean 0 and deviation 1",
        ),
        (
            (first / first.std(0, correction=0)).T @ (second / second.std(0, correction=0)) / 50,
            "subtract each feature's mean over the batch first",
        ),
        (unbiased, "the mean divides by N but the standard deviation by N - 1: use std(0, correction=0)"),
    )
    for value, slip in named:
        if close(result, value, 1e-3):
            raise Slip(slip)
    raise Slip(f"C[0, 0] is {result[0, 0]:.3f} here, not {cross_correlation(first, second)[0, 0]:.3f}")


def _judge_loss(answer: Function) -> str:
    C, lam = 0.4 * random(5, 5, seed=3) + 0.5 * torch.eye(5, dtype=torch.float64), 0.1
    diagonal = C.diagonal()
    first, second = (1 - diagonal).square().sum(), C.square().sum() - diagonal.square().sum()
    result = call(answer, C, lam, shape=()).item()
    right = (first + lam * second).item()
    if math.isclose(result, right, rel_tol=1e-6):
        return "alike in both views, and unlike one another: the second term is what keeps features apart."
    named = {
        (first + second).item(): "lambda is missing: it weighs the second term",
        (lam * first + second).item(): "lambda stands at the wrong term: it weighs what is off the diagonal",
        (
            first + lam * C.square().sum()
        ).item(): "the diagonal counts in the second term too: leave i = j out",
        (diagonal.square().sum() + lam * second).item(): "the diagonal should become 1, not 0: (1 - C_ii)^2",
        ((1 - diagonal).sum() + lam * second).item(): "square 1 - C_ii: as it is, negative parts cancel",
        first.item(): "where is the second term?",
        ((1 - diagonal).square().mean() + lam * second / 20).item(): "sums, not means, over both terms",
        ((1 - diagonal).square().mean() + lam * (second / 25)).item(): "sums, not means, over both terms",
        (first + lam * C.triu(1).square().sum()).item(): "both triangles count: i after j, and i before j",
        (first + lam * (C.sum() - diagonal.sum())).item(): "square what is off the diagonal: signs cancel",
    }
    for value, slip in named.items():
        if math.isclose(result, value, rel_tol=1e-6):
            raise Slip(slip)
    raise Slip(f"this gives {result:.4g}, not {right:.4g}")


def _judge_collapse(answer: Function) -> str:
    Z = call(answer, 40, 6, shape=(40, 6))
    if not Z.isfinite().all():
        raise Slip("all numbers must be finite")
    if Z.std(0).min() < 1e-3:
        raise Slip("a feature that is the same for every image has correlation 0 with itself, and costs 1")
    at_zero = barlow_loss(Z, Z, lam=0).item()
    if at_zero > 0.01:
        raise Slip(
            f"the first term is {at_zero:.3g} with both views equal: let features differ between images more"
        )
    dimensions = rank_me(Z).item()
    if dimensions > 1.05:
        raise Slip(f"these embeddings span {dimensions:.2f} dimensions (RankMe): more than one is left")
    return "the first term is satisfied, and one dimension is left. Nothing in it asks for more."


# 08_imagenet


def _judge_hours(answer: Function) -> str:
    for images, epochs, rate in ((1_281_167, 100, 2_500.0), (50_000, 30, 4_000.0)):
        result = call(answer, images, epochs, rate, shape=()).item()
        right = images * epochs / rate / 3600
        if math.isclose(result, right, rel_tol=1e-6):
            continue
        named = {
            3600 * right: "these are seconds: an hour has 3,600",
            60 * right: "these are minutes: an hour has 3,600 seconds",
            right / epochs: "this is one epoch",
            rate * 3600 / images / epochs: "upside down: more images a second take fewer hours",
            right / 24: "hours are asked for, not days",
            images * epochs * rate / 3600: "divide by the rate: more images a second take fewer hours",
        }
        for value, slip in named.items():
            if math.isclose(result, value, rel_tol=1e-6):
                raise Slip(slip)
        raise Slip(
            f"{images:,} images, {epochs} epochs, {rate:g} a second take {right:.4g} hours, not {result:.4g}"
        )
    return "count the images, divide by the rate: estimate before you start, and write it down."


def _judge_louder(answer: Function) -> str:
    logits = 2 * random(200, 5, seed=4)
    labels = torch.where(random(200, seed=5) > 0, logits.argmax(1), random(200, 5, seed=6).argmax(1))
    result = call(answer, logits, shape=(200, 5))
    if not result.isfinite().all():
        raise Slip("some logits are too large for floating point: ten times is enough")
    if not torch.equal(result.argmax(1), logits.argmax(1)):
        raise Slip("some answers are others now: the largest logit of each image must stay the largest")
    before, after = (torch.nn.functional.cross_entropy(z, labels).item() for z in (logits, result))
    if torch.equal(result, logits.double()):
        raise Slip("these are the same logits")
    if math.isclose(before, after, rel_tol=1e-6):
        raise Slip("the loss is the same: adding one number to all logits of an image changes nothing")
    if after < before:
        raise Slip(f"the loss fell, from {before:.3f} to {after:.3f}: make the wrong answers cost more")
    if after < 2 * before:
        raise Slip(f"the loss rose from {before:.3f} to {after:.3f} only: make it at least twice as large")
    return "not one answer changed, and the loss is a multiple: accuracy does not see how sure a network is."


def _judge_mean(answer: Function) -> str:
    sums, counts = torch.tensor([30.0, 12.0, 7.0]).double(), torch.tensor([40.0, 40.0, 10.0]).double()
    result = call(answer, sums, counts, shape=()).item()
    right = (sums.sum() / counts.sum()).item()
    if math.isclose(result, right, rel_tol=1e-6):
        return "sums and counts travel, the division comes last: exact for parts of any size."
    named = {
        (sums / counts).mean().item(): "the mean of means: the small part counts as much as the large ones",
        (sums.mean() / 40): "all parts are taken to be as large as the first",
        sums.sum().item(): "divide by the number of images",
        (sums.sum() / 3).item(): "divide by the number of images, not by the number of processes",
        100 * right: "a fraction is asked for, not per cent",
    }
    for value, slip in named.items():
        if math.isclose(result, value, rel_tol=1e-6):
            raise Slip(slip)
    raise Slip(f"this gives {result:.4g}, not {right:.4g}")


EXERCISES = {
    "06.separated": Exercise(
        4,
        _judge_separated,
        (
            "Which seed of the first is its worst, and which of the second its best?",
            "min and max take lists.",
            "min(first) > max(second)",
        ),
    ),
    "06.equal_step": Exercise(
        4,
        _judge_equal_step,
        (
            "A step's length is rate * length at rate 1, for both.",
            "mine * ours = rate * theirs",
            "rate * theirs / ours",
        ),
    ),
    "06.speedup": Exercise(
        6,
        _judge_speedup,
        (
            "Walk through a list until an entry reaches the target; its index is the number of epochs.",
            "next(i for i, a in enumerate(accuracies) if a >= target)",
            "epochs of the first divided by epochs of the second",
        ),
    ),
    "08.hours": Exercise(
        4,
        _judge_hours,
        (
            "How many images pass in all? images * epochs.",
            "Divided by images a second that is seconds.",
            "images * epochs / rate / 3600",
        ),
    ),
    "08.louder": Exercise(
        6,
        _judge_louder,
        (
            "The answer is the largest logit. What leaves the order of logits alone?",
            "A wrong answer costs more the surer it is given.",
            "10 * logits",
        ),
    ),
    "08.mean": Exercise(
        4,
        _judge_mean,
        (
            "What would one process with all images compute?",
            "All right answers over all images.",
            "sums.sum() / counts.sum()",
        ),
    ),
    "07.correlation": Exercise(
        8,
        _judge_correlation,
        (
            "Make each feature's mean over the batch 0 and its standard deviation 1, in each view by itself.",
            "z = (z - z.mean(0)) / z.std(0, correction=0), with N in the denominator of the variance too.",
            "Then first.T @ second / len(first).",
        ),
    ),
    "07.loss": Exercise(
        5,
        _judge_loss,
        (
            "C.diagonal() are the C_ii. The first term: (1 - C.diagonal()).square().sum().",
            "All squares minus those on the diagonal are the squares off it.",
            "lam * (C.square().sum() - C.diagonal().square().sum()) is the second term.",
        ),
    ),
    "07.collapse": Exercise(
        6,
        _judge_collapse,
        (
            "Both views are equal, so the diagonal is 1 for any feature that is not constant.",
            "One dimension: every feature is a multiple of the same numbers, one for each image.",
            "torch.randn(count, 1).repeat(1, size)",
        ),
    ),
}
