import math

import numpy as np
import pytest
import torch

import orthoviz as ov
from tests.test_polar import gaussian, orthonormal, with_condition

M = ov.measures


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_values_are_numpys(dtype):
    G = with_condition(5, 9, 1e4).to(dtype)
    right = np.linalg.svd(G.double().numpy(), compute_uv=False)
    found = M.singular_values(torch.stack([G, 3 * G]))
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found[0].double().numpy(), right, rtol=1e-6 if dtype == torch.float32 else 1e-12
    )
    np.testing.assert_allclose(found[1] / found[0], 3, rtol=1e-5)


def test_singular_values_of_a_matrix_with_nan_are_nan_for_it_alone():
    G = gaussian(3, 4, 5)
    G[1, 0, 0] = math.inf
    values = M.singular_values(G)
    assert values[1].isnan().all()
    assert values[[0, 2]].isfinite().all()


def test_the_gain_of_a_direction_by_hand():
    G = torch.diag(torch.tensor([4.0, 2.0, 1.0]))
    O = torch.diag(torch.tensor([1.0, 0.5, -0.25]))
    assert M.direction_gain(O, G).tolist() == [1.0, 0.5, -0.25]
    assert M.alignment(O, G).item() == pytest.approx((4 + 1 - 0.25) / 7)
    assert M.orthogonality_residual(O).item() == pytest.approx(math.sqrt((0.75**2 + 0.9375**2) / 3))


@pytest.mark.parametrize("method", ["exact", "svd", "eigh"])
def test_the_exact_factor_has_gain_and_alignment_one_and_no_residual(method):
    G = gaussian(2, 7, 12, dtype=torch.float64)
    O = ov.polar_factor(G, method)
    torch.testing.assert_close(M.direction_gain(O, G), torch.ones(2, 7, dtype=torch.float64))
    torch.testing.assert_close(M.alignment(O, G), torch.ones(2, dtype=torch.float64))
    assert M.orthogonality_residual(O).max() < 1e-12


def test_a_gain_is_not_fooled_where_residual_and_alignment_are():
    """A weak direction turned by 180 degrees: orthonormal still, aligned still, wrong."""
    U, V = orthonormal(4, 1), orthonormal(4, 2)
    s = torch.tensor([1.0, 1.0, 1.0, 1e-4], dtype=torch.float64)
    O = (U * torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)) @ V.T
    G = (U * s) @ V.T
    assert M.orthogonality_residual(O).item() < 1e-12
    assert M.alignment(O, G).item() > 0.9999
    assert M.direction_gain(O, G)[-1].item() == pytest.approx(-1)


def test_directions_that_do_not_count_have_no_gain():
    G = torch.outer(gaussian(3), gaussian(4, seed=1))
    gain = M.direction_gain(ov.polar_factor(G), G)
    assert gain[0].item() == pytest.approx(1, abs=1e-5)
    assert gain[1:].isnan().all()
    zero = torch.zeros(3, 4)
    assert M.direction_gain(zero, zero).isnan().all()
    assert M.alignment(zero, zero).isnan()
    assert M.orthogonality_residual(zero).isnan()


def test_a_matrix_that_is_not_finite_gives_nan_for_itself_alone():
    G = gaussian(2, 3, 5)
    O = ov.polar_factor(G)
    G[1, 0, 0], O[1, 0, 0] = math.nan, math.nan
    for value in (M.direction_gain(O, G), M.alignment(O, G), M.orthogonality_residual(O)):
        assert value[0].isfinite().all()
        assert value[1].isnan().all()


def test_the_residual_is_the_distance_from_the_projector():
    O = gaussian(6, 3, dtype=torch.float64) @ gaussian(3, 8, seed=1, dtype=torch.float64)
    left = np.linalg.svd(O.numpy())[0][:, :3]
    right = np.linalg.norm(O.numpy() @ O.numpy().T - left @ left.T) / math.sqrt(3)
    assert M.orthogonality_residual(O).item() == pytest.approx(right)


def test_cosines_by_hand_and_rows_without_direction_left_out():
    C = M.cosine_matrix(torch.tensor([[2.0, 0.0], [0.0, 3.0], [5.0, 5.0], [0.0, 0.0], [-1.0, 0.0]]))
    r = 1 / math.sqrt(2)
    right = torch.tensor([[1, 0, r, -1], [0, 1, r, 0], [r, r, 1, -r], [-1, 0, -r, 1]])
    there = [0, 1, 2, 4]
    torch.testing.assert_close(C[there][:, there], right)
    assert C[3].isnan().all()
    assert C[:, 3].isnan().all()
    assert C.diagonal().isnan().sum() == 1


def test_cosines_are_numpys_and_do_not_depend_on_length():
    rows = gaussian(2, 5, 30) * torch.logspace(-4, 4, 5)[:, None]
    for W, C in zip(rows.double().numpy(), M.cosine_matrix(rows), strict=True):
        unit = W / np.linalg.norm(W, axis=1, keepdims=True)
        np.testing.assert_allclose(C.numpy(), unit @ unit.T, atol=1e-6)
    assert M.cosine_matrix(torch.zeros(3, 4)).isnan().all()


def test_random_rows_have_the_stated_mean_cosine():
    C = M.cosine_matrix(gaussian(200, 50))
    upper = C[torch.ones_like(C).triu(1).bool()].abs().mean().item()
    assert upper == pytest.approx(math.sqrt(2 / (math.pi * 50)), rel=0.02)


@pytest.mark.parametrize(
    "call",
    [M.singular_values, M.orthogonality_residual, M.cosine_matrix, lambda G: M.direction_gain(G, G)],
)
def test_what_is_no_matrix_is_refused(call):
    with pytest.raises(TypeError, match="int64"):
        call(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="complex64"):
        call(torch.ones(2, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        call(torch.ones(4))


def test_a_factor_of_another_matrix_is_refused():
    with pytest.raises(ValueError, match=r"factor is \(2, 3\), matrix \(3, 2\)"):
        M.alignment(torch.ones(2, 3), torch.ones(3, 2))


def test_a_step_is_longer_than_its_gradient_by_root_rank_over_length():
    G = torch.diag(torch.tensor([0.03, 0.04]))
    inflation = ov.measures.step_inflation(ov.polar_factor(G), G)
    assert inflation.item() == pytest.approx(math.sqrt(2) / 0.05, rel=1e-6)
    stack = torch.stack([G, 10 * G, 0 * G])
    found = ov.measures.step_inflation(ov.polar_factor(stack), stack)
    torch.testing.assert_close(found, torch.tensor([28.2843, 2.82843, math.nan]), equal_nan=True)


def test_the_inflation_of_a_gradient_of_any_size_is_finite():
    G = torch.full((2, 3), 1e-30)
    assert ov.measures.step_inflation(ov.polar_factor(G), G).isfinite()


def test_an_update_relative_to_its_weight_by_hand():
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert ov.measures.update_ratio(0.1 * weight.flip(0), weight).item() == pytest.approx(0.1)
    assert ov.measures.update_ratio(weight, torch.zeros(2, 2)).isnan()


@pytest.mark.parametrize("measure", [ov.measures.step_inflation, ov.measures.update_ratio])
def test_steps_of_another_shape_are_refused(measure):
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3, 2\)"):
        measure(torch.ones(2, 3), torch.ones(3, 2))
    with pytest.raises(TypeError):
        measure(torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64))
