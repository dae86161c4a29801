"""Exercises as data: the right answer, the cases to try it on, and the slips that are known."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

Function = Callable[..., Any]
Judge = Callable[[Function], None]


class Slip(Exception):  # noqa: N818
    """A wrong answer; the message says what is wrong, and why if that is known."""


class Exercise(NamedTuple):
    """What an exercise asks for, and how an answer is judged."""

    minutes: int
    right: tuple[Function, ...]
    """The right answer first, then others that are right too."""
    cases: tuple[tuple[Any, ...], ...]
    """The arguments on which an answer is tried; their tensors are float64."""
    slips: tuple[tuple[Function, str], ...]
    """Pairs of a wrong answer and what is said of it; with a judge of its own, a part of what is said."""
    says: str
    """What a right answer shows."""
    hints: tuple[str, str, str]
    """From a nudge to nearly the answer."""
    near: str = ""
    """What is said of an answer that is within a tenth of the right one."""
    tolerance: float = 1e-5
    in_place: bool = False
    """Whether an answer changes what it is given, and returns nothing."""
    judge: Judge | None = None
    """Raises :class:`Slip` for a wrong answer. Default: compare it with ``right`` and ``slips``."""


def judge(exercise: Exercise, answer: Function) -> str:
    """Try an answer on float64, and on float32 if it mixes that with float64.

    Args:
        exercise: the exercise.
        answer: the learner's function.

    Returns:
        What a right answer shows.

    Raises:
        Slip: the answer is wrong.
        Exception: what the learner's function raised.
    """
    for dtype in (torch.float64, torch.float32):
        try:
            (exercise.judge or partial(judge_cases, exercise))(partial(ask, answer, dtype, exercise.in_place))
            return exercise.says
        except RuntimeError as error:
            if not is_of_dtype(error):
                raise
            message = str(error)
    raise Slip(
        f"your function mixes {dtypes(message)}: give all tensors the dtype of the given one ({message})"
    )


def judge_cases(exercise: Exercise, answer: Function) -> None:
    """Compare an answer with the right one; if it differs, with every slip. Raises :class:`Slip`."""

    def is_like(results: list[Any], function: Function, tolerance: float = exercise.tolerance) -> bool:
        # on all cases: on one of them two slips can give the same
        wanted = (outcome(function, case) for case in exercise.cases)
        return all(alike(a, b, tolerance) for a, b in zip(results, wanted, strict=True))

    results = [outcome(answer, case) for case in exercise.cases]
    if any(is_like(results, right) for right in exercise.right):
        return
    for wrong, words in exercise.slips:
        if is_like(results, wrong):
            raise Slip(words)
    for case, result in zip(exercise.cases, results, strict=True):
        right = number(exercise.right[0](*case))
        if not alike(result, right, exercise.tolerance):
            is_near = exercise.near and is_like(results, exercise.right[0], tolerance=0.1)
            raise Slip(difference(case, result, right) + (f": {exercise.near}" if is_near else ""))


def judge_choices(right: Function, cases: Mapping[str, tuple[Any, ...]], choices: tuple[Any, ...]) -> Judge:
    """A judge of answers that are one of a few choices.

    Args:
        right: the right answer.
        cases: the arguments on which an answer is tried, by what is said where the choice is wrong.
        choices: what an answer can be.
    """

    def judge(answer: Function) -> None:
        for words, case in cases.items():
            result = answer(*case)
            if result not in choices:
                what = repr(result) if isinstance(result, str) else ""
                raise Slip(
                    f"your function returns a {type(result).__name__} {what}, one of {choices} was expected"
                )
            if result != right(*case):
                raise Slip(f"for {show(case)} this says {result}, not {right(*case)}: {words}")

    return judge


def ask(answer: Function, dtype: torch.dtype, in_place: bool, *case: Any) -> Any:
    """What the learner's function returns for a copy of the case with its tensors in this dtype."""
    before, arguments = (copy(list(case), dtype) for _ in range(2))
    result = answer(*arguments)
    if not same(before, arguments):
        raise Slip("your function changes the tensor that it is given: work on a copy")
    if result is None and not in_place:
        raise Slip("your function returns nothing: is there a return?")
    return result


def copy(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype, copy=True)
    return [copy(one, dtype) for one in value] if isinstance(value, list) else value


def same(a: Any, b: Any) -> bool:
    """Whether all tensors are the same."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return all(map(same, a, b)) if isinstance(a, list) else True


def number(result: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    """A result as a tensor. Raises :class:`Slip` where it is none, or has another shape."""
    try:
        tensor = result if isinstance(result, Tensor) else torch.as_tensor(result, dtype=torch.float64)
        if torch.as_tensor(result).is_complex():
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        what = type(result).__name__
        raise Slip(f"your function returns a {what}, a tensor or number was expected") from None
    if shape is not None and tensor.shape != shape:
        if tensor.shape == shape[::-1]:
            raise Slip("rows and columns are swapped: the result has the shape of the transpose")
        raise Slip(f"the result has shape {tuple(tensor.shape)}, expected {shape}")
    return tensor.detach()


def is_of_dtype(error: Exception) -> bool:
    return re.search(r"dtype|scalar type|not implemented for '", str(error)) is not None


def dtypes(message: str) -> str:
    """The dtypes that torch's message names, as they are written in Python."""
    names = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "bool": "bool"}
    found = re.findall(rf"\b({'|'.join(names)})\b", message.lower())
    return " and ".join(dict.fromkeys(names[name] for name in found)) or "dtypes"


def outcome(function: Function, case: tuple[Any, ...]) -> Tensor | Exception:
    """What a function returns, or the error that it raises."""
    try:
        return number(function(*case))
    except (Slip, NotImplementedError):
        raise
    except Exception as error:  # the learner's code can raise anything
        if is_of_dtype(error):
            raise
        return error


def alike(a: Tensor | Exception, b: Tensor | Exception, tolerance: float) -> bool:
    """Whether two outcomes are the same numbers, within the tolerance, or the same kind of error."""
    if isinstance(a, Exception) or isinstance(b, Exception):
        return type(a) is type(b)
    if a.is_floating_point() and a.dtype != torch.float64:
        tolerance = max(tolerance, 1e-3)
    a, b = a.double(), b.double()
    size = b.nan_to_num(0, 0, 0).norm().item()
    return a.shape == b.shape and torch.allclose(a, b, 0, tolerance * size + 1e-6, equal_nan=True)


def difference(case: tuple[Any, ...], result: Tensor | Exception, right: Tensor) -> str:
    """How a wrong result differs from the right one. Raises the learner's own error."""
    if isinstance(result, Exception):
        if isinstance(result, RuntimeError) and re.search("shape|size", str(result)):
            return f"the shapes do not fit ({result})"
        raise result
    number(result, tuple(right.shape))
    if not result.isfinite().all():
        return f"for {show(case)} this gives nan or inf: is something divided by zero?"
    if right.numel() > 6:
        return f"for {show(case)} this is off by {(result - right).norm() / right.norm():.2g} (relative)"
    result = result.bool() if right.dtype == torch.bool else result
    return f"for {show(case)} this gives {show([result])}, not {show([right])}"


def show(values: Any) -> str:
    """Values in words: numbers with five digits, large tensors by their shape."""
    return ", ".join(map(_one, values))


def _one(value: Any) -> str:
    if isinstance(value, Tensor):
        return _one(value.tolist()) if value.numel() <= 6 else f"a {tuple(value.shape)} tensor"
    if isinstance(value, list | tuple):
        return f"[{show(value)}]"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
