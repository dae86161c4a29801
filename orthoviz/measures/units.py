"""What has stopped working: units that never fire, parameters that get no gradient."""

from typing import NamedTuple

from torch import Tensor

from orthoviz.polar.factor import check_matrix


class Dead(NamedTuple):
    """What :func:`dead_parameters` counts.

    Attributes:
        share: of the entries, those up to the threshold: 0 to 1.
        zero_rows: how many rows are exactly zero.
    """

    share: Tensor
    zero_rows: Tensor


def dead_units(activations: Tensor) -> Tensor:
    r"""Which units never fire on a probe set.

    .. math:: \max_{x} h_i(x) = 0

    Args:
        activations: after the non-linearity, ``(samples, units)`` or ``(samples, channels, pixels...)``, real
            floating point. The answer is about these samples: keep them fixed when runs are compared.

    Returns:
        ``(units,)``, bool. ``.float().mean()`` is their share. A unit that is NaN somewhere is not dead.

    Raises:
        TypeError, ValueError: they are no real activations.

    Source: Lu et al. 2019.
    """
    return _by_unit(activations).amax(-1) == 0


def dormant_units(activations: Tensor, *, tau: float = 0.025) -> Tensor:
    r"""Which units are far more silent than their layer.

    .. math:: \frac{E_x |h_i(x)|}{\frac1K \sum_k E_x |h_k(x)|} \le \tau

    Args:
        activations: ``(samples, units)`` or ``(samples, channels, pixels...)``, real floating point; the
            mean of a channel is over samples and pixels.
        tau: how silent, relative to the layer's mean. At 0 only units that are always zero are dormant.

    Returns:
        ``(units,)``, bool. All of a layer that is all zero.

    Raises:
        TypeError, ValueError: they are no real activations.

    Source: Sokar et al. 2023 (arXiv 2302.12902), definition 3.1.
    """
    size = _by_unit(activations).double().abs().mean(-1)
    return size <= tau * size.mean()


def dead_parameters(gradient: Tensor, *, threshold: float = 1e-4) -> Dead:
    r"""How much of a gradient is (nearly) nothing.

    .. math:: |G_{ij}| \le \text{threshold}

    The threshold is an absolute one: a loss that is multiplied by ten has fewer "dead" parameters, and a
    network that is about to converge has many. The rows that are exactly zero do not depend on it.

    Args:
        gradient: ``(..., m, n)``, real floating point. Rows are components (filters).
        threshold: 1e-4 is the one of the paper's published code.

    Returns:
        A pair ``share, zero_rows`` of ``(...)``: share of the entries, in the gradient's dtype, and
        number of rows.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 3.3, and its published code.
    """
    small = check_matrix(gradient, "gradient").abs() <= threshold
    share = small.double().mean((-2, -1)).to(gradient.dtype)
    return Dead(share, (gradient == 0).all(-1).sum(-1))


def _by_unit(activations: Tensor) -> Tensor:
    """``(units, everything else)``."""
    return check_matrix(activations, "activations").transpose(0, 1).flatten(1)
