"""What every judge needs: the learner's function called with care, and matrices to try it on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from orthoviz.course.check import Slip

Function = Callable[..., Any]


def call(function: Function, *arguments: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    """What the learner's function returns, as float64; its arguments must come back unchanged."""
    before = [a.clone() for a in arguments if isinstance(a, Tensor)]
    result = function(*arguments)
    for old, new in zip(before, (a for a in arguments if isinstance(a, Tensor)), strict=True):
        if not torch.equal(old, new):
            raise Slip("your function changes the tensor that it is given: work on a copy")
    if result is None:
        raise Slip("your function returns nothing: is there a return?")
    try:
        result = torch.as_tensor(result).double()
    except (TypeError, ValueError, RuntimeError):
        raise Slip(
            f"your function returns a {type(result).__name__}, a tensor or number was expected"
        ) from None
    if shape is not None and result.shape != shape:
        if result.shape == shape[::-1]:
            raise Slip("rows and columns are swapped: the result has the shape of the transpose")
        raise Slip(f"the result has shape {tuple(result.shape)}, expected {shape}")
    return result


def yes_or_no(function: Function, *arguments: Any) -> bool:
    """What the learner's function answers."""
    result = function(*arguments)
    if result is None:
        raise Slip("your function returns nothing: is there a return?")
    if isinstance(result, str) or result not in (True, False):
        raise Slip(f"your function returns a {type(result).__name__}, True or False was expected")
    return bool(result)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return a.shape == b.shape and bool((a - b).norm() <= tolerance * (1 + b.norm()))
