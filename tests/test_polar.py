import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import orthoviz as ov
from tests import reference

METHODS = ov.polar.METHODS
SHAPES = [(2, 2), (5, 9), (9, 5), (1, 7), (7, 1), (32, 27), (10, 512)]


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def orthonormal(n, seed):
    return torch.linalg.qr(gaussian(n, n, seed=seed, dtype=torch.float64)).Q


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_agrees_with_numpys_svd_in_float64(method, shape):
    G = gaussian(*shape)
    error = np.linalg.norm(ov.polar_factor(G, method).numpy() - reference.polar(G))
    assert error <= 1e-6 * math.sqrt(min(shape))


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e5])
def test_float32_input_is_exact_at_any_condition_number(condition):
    values = torch.logspace(0, -math.log10(condition), 16, dtype=torch.float64)
    wide = torch.zeros(16, 40, dtype=torch.float64)
    wide[range(16), range(16)] = values
    G = (orthonormal(16, 1) @ wide @ orthonormal(40, 2)).float()
    right = reference.polar(G)
    assert np.linalg.norm(ov.polar_factor(G).double().numpy() - right) <= 1e-6 * np.linalg.norm(right)


def test_two_by_two_by_hand():
    # For 2 x 2 with positive determinant: O is (a+d, b-c; c-b, a+d) at unit length.
    a, b, c, d = 1.6, 0.3, 1.2, 0.9
    length = math.hypot(a + d, b - c)
    right = torch.tensor([[a + d, b - c], [c - b, a + d]], dtype=torch.float64) / length
    G = torch.tensor([[a, b], [c, d]], dtype=torch.float64)
    torch.testing.assert_close(ov.polar_factor(G), right)
    assert (G - right).norm().item() == pytest.approx(1.259, abs=5e-4)


def test_a_diagonal_keeps_its_signs_and_loses_its_sizes():
    G = torch.diag(torch.tensor([3.0, -0.5, 1e-3]))
    torch.testing.assert_close(ov.polar_factor(G), torch.diag(torch.tensor([1.0, -1.0, 1.0])))


def test_a_zero_matrix_gives_zero():
    assert not ov.polar_factor(torch.zeros(4, 6)).any()


def test_a_dead_filter_gets_no_step():
    G = gaussian(16, 60)
    G[3] = 0
    assert ov.polar_factor(G)[3].abs().max() < 1e-6


def test_a_dead_weight_gets_no_step():
    G = gaussian(60, 16)
    G[:, 3] = 0
    assert ov.polar_factor(G)[:, 3].abs().max() < 1e-6


def test_rank_one_gives_one_direction_and_keep_gives_all():
    G = torch.outer(gaussian(6), gaussian(9, seed=1))
    assert ov.polar_factor(G).norm().item() == pytest.approx(1, abs=1e-6)
    assert ov.polar_factor(G, null="keep").norm().item() == pytest.approx(math.sqrt(6), abs=1e-5)


@pytest.mark.parametrize(("ratio", "rank"), [(2e-6, 2), (0.9e-6, 1)])
def test_directions_are_cut_below_ten_float32_epsilons(ratio, rank):
    G = torch.diag(torch.tensor([1.0, ratio], dtype=torch.float64)).float()
    assert ov.polar_factor(G).norm().square().item() == pytest.approx(rank, abs=1e-5)


def test_float64_keeps_what_float32_would_cut_and_tol_moves_the_cut():
    G = torch.diag(torch.tensor([1.0, 1e-10], dtype=torch.float64))
    assert ov.polar_factor(G).norm().square().item() == pytest.approx(2)
    assert ov.polar_factor(G, tol=1e-6).norm().square().item() == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-30, 1e30, 2.0**-120])
def test_scale_never_matters(scale):
    G = gaussian(8, 20)
    torch.testing.assert_close(ov.polar_factor(G * scale), ov.polar_factor(G), rtol=0, atol=1e-6)


def test_powers_of_two_change_no_bit():
    G = gaussian(8, 20)
    assert torch.equal(ov.polar_factor(G * 2**-60), ov.polar_factor(G))


@pytest.mark.parametrize("scale", [1e-300, 1e300, 5e-324])
def test_float64_at_the_ends_of_its_range(scale):
    G = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64) * scale
    torch.testing.assert_close(ov.polar_factor(G).abs(), torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_matrix_that_is_not_finite_gives_nan_for_itself_alone(bad):
    G = gaussian(3, 5, 8)
    G[1, 2, 3] = bad
    O = ov.polar_factor(G)
    assert O[1].isnan().all()
    assert torch.equal(O[0], ov.polar_factor(G[0]))
    assert torch.equal(O[2], ov.polar_factor(G[2]))
    with pytest.raises(RuntimeError, match="NaN or infinity"):
        ov.polar_factor(G, error_if_nonfinite=True)


def test_the_matrices_of_a_batch_are_orthogonalised_one_by_one():
    G = gaussian(2, 3, 6, 10)
    O = ov.polar_factor(G)
    assert O.shape == G.shape
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(O[i, j], ov.polar_factor(G[i, j]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_shape_and_input_come_back_as_they_were(dtype):
    G = gaussian(4, 6).to(dtype)
    before = G.clone()
    O = ov.polar_factor(G)
    assert (O.dtype, O.shape) == (dtype, G.shape)
    assert torch.equal(G, before)
    right = reference.polar(G.double().numpy())
    assert np.abs(O.double().numpy() - right).max() <= 2 * torch.finfo(dtype).eps + 1e-6


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 3, 4)])
def test_empty_matrices_come_back(shape):
    assert ov.polar_factor(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize(
    ("G", "error", "words"),
    [
        (torch.randn(3, 4).to(torch.complex64), TypeError, "complex64"),
        (torch.ones(3, 4, dtype=torch.int32), TypeError, "int32"),
        (torch.eye(3).to_sparse(), TypeError, "sparse"),
        (torch.randn(3), ValueError, r"\(3,\)"),
        ([[1.0]], TypeError, "list"),
    ],
)
def test_what_is_no_matrix_is_refused(G, error, words):
    with pytest.raises(error, match=words):
        ov.polar_factor(G)


@pytest.mark.parametrize(
    "arguments", [{"method": "qr"}, {"null": "maybe"}, {"tol": -1.0}, {"tol": 1.0}, {"tol": math.nan}]
)
def test_arguments_that_do_not_exist_are_refused(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        ov.polar_factor(torch.eye(2), **arguments)


matrices = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_turning_the_gradient_turns_the_factor(shape):
    m, n, seed = shape
    G = gaussian(m, n, seed=seed, dtype=torch.float64)
    Q, R = orthonormal(m, seed + 1), orthonormal(n, seed + 2)
    torch.testing.assert_close(ov.polar_factor(Q @ G @ R), Q @ ov.polar_factor(G) @ R, rtol=0, atol=1e-8)
    torch.testing.assert_close(ov.polar_factor(G.T), ov.polar_factor(G).T, rtol=0, atol=1e-8)
    torch.testing.assert_close(ov.polar_factor(-G), -ov.polar_factor(G), rtol=0, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_singular_values_are_one_and_the_gain_is_the_nuclear_norm(shape):
    m, n, seed = shape
    G = gaussian(m, n, seed=seed, dtype=torch.float64)
    O = ov.polar_factor(G)
    np.testing.assert_allclose(np.linalg.svd(O.numpy(), compute_uv=False), 1, atol=1e-12)
    assert (O * G).sum().item() == pytest.approx(np.linalg.norm(G.numpy(), "nuc"))
    torch.testing.assert_close(ov.polar_factor(O), O, rtol=0, atol=1e-12)
