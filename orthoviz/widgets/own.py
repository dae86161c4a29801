"""The caller's own tensors: refused where a view could not show them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def own_tensor(name: str, value: Any, wanted: str, fits: Callable[[Tensor], bool]) -> Tensor:
    """The tensor, detached and on the CPU.

    Args:
        name: of the view's argument.
        value: what was given for it.
        wanted: the shape that the view needs, in words.
        fits: whether a tensor has it.

    Raises:
        ValueError: it has another shape, is not real floating point, is zero, or holds NaN or infinity.
    """
    tensor = torch.as_tensor(value).detach().cpu()
    if 0 in tensor.shape or not fits(tensor):
        raise ValueError(f"{name} must be {wanted}, got shape {tuple(tensor.shape)}")
    if not tensor.dtype.is_floating_point:
        raise ValueError(f"{name} must be real floating point, got {tensor.dtype}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} holds NaN or infinity")
    if not bool(tensor.any()):
        raise ValueError(f"{name} is zero: it has no directions")
    return tensor
