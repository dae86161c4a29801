import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import orthoviz as ov
from orthoviz.measures.quantities import QUANTITIES, Sizes
from tests.test_polar import gaussian, orthonormal, with_condition

M = ov.measures


def diagonal(*values):
    return torch.diag(torch.tensor(values))


O, G = diagonal(1.0, 0.5, -0.25), diagonal(4.0, 2.0, 1.0)
FOUR, STEP, W = diagonal(4.0, 2.0, 2.0, 0.0), diagonal(1.0, 1.0), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
DEAD = torch.tensor([[1e-4, -1e-4, 2e-4, 0.0], [0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("found", "right"),
    [
        (lambda: M.direction_gain(O, G), [1.0, 0.5, -0.25]),
        (lambda: M.alignment(O, G), (4 + 1 - 0.25) / 7),
        (lambda: M.orthogonality_residual(O), math.sqrt((0.75**2 + 0.9375**2) / 3)),
        (lambda: M.stable_rank(FOUR), 24 / 16),
        (lambda: M.participation_ratio(FOUR), 24**2 / (256 + 16 + 16)),
        (lambda: M.nuclear_rank(FOUR), 64 / 24),
        (lambda: M.effective_rank(FOUR), math.exp(0.5 * math.log(2) + 0.5 * math.log(4))),
        (lambda: M.condition_number(FOUR), 2.0),
        (lambda: M.condition_number(diagonal(1.0, 1e-3), tol=0.01), 1.0),
        (lambda: M.update_ratio(0.1 * W.flip(0), W), 0.1),
        (lambda: M.update_ratio(W, 0 * W), math.nan),
        (lambda: M.step_cosine(STEP, 5 * STEP), 1.0),
        (lambda: M.step_cosine(STEP, STEP.flip(0)), 0.0),
        (lambda: M.step_cosine(STEP, -STEP), -1.0),
        (lambda: M.step_cosine(STEP, 0 * STEP), math.nan),
        (lambda: M.dead_parameters(DEAD).share, 7 / 8),
        (lambda: M.dead_parameters(100 * DEAD).share, 5 / 8),  # the threshold is absolute
        (lambda: M.dead_parameters(torch.stack([DEAD, DEAD + 1])).zero_rows, [1, 0]),
    ],
)
def test_values_by_hand(found, right):
    torch.testing.assert_close(found(), torch.tensor(right), equal_nan=True)


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
    G[1, 0, 0], O[1, 0, 0] = math.inf, math.nan
    pairs = M.direction_gain(O, G), M.alignment(O, G)
    for value in (*pairs, M.orthogonality_residual(O), M.singular_values(G)):
        assert value[0].isfinite().all()
        assert value[1].isnan().all()


def test_the_residual_is_the_distance_from_the_projector():
    O = gaussian(6, 3, dtype=torch.float64) @ gaussian(3, 8, seed=1, dtype=torch.float64)
    left = np.linalg.svd(O.numpy())[0][:, :3]
    right = np.linalg.norm(O.numpy() @ O.numpy().T - left @ left.T) / math.sqrt(3)
    assert M.orthogonality_residual(O).item() == pytest.approx(right)


def test_cosines_are_numpys_whatever_the_length_and_a_row_without_direction_has_none():
    rows = gaussian(2, 5, 30) * torch.logspace(-4, 4, 5)[:, None]
    rows[0, 3] = 0
    for W, C in zip(rows.double().numpy(), M.cosine_matrix(rows), strict=True):
        with np.errstate(invalid="ignore"):
            unit = W / np.linalg.norm(W, axis=1, keepdims=True)
        np.testing.assert_allclose(C.numpy(), unit @ unit.T, atol=1e-6)
    assert M.cosine_matrix(torch.zeros(3, 4)).isnan().all()


def test_a_step_is_longer_than_its_gradient_by_root_rank_over_length():
    G = torch.diag(torch.tensor([0.03, 0.04]))
    tiny = torch.full((2, 2), 1e-30)
    assert M.step_inflation(ov.polar_factor(tiny), tiny).isfinite()
    stack = torch.stack([G, 10 * G, 0 * G])
    found = M.step_inflation(ov.polar_factor(stack), stack)
    torch.testing.assert_close(found, torch.tensor([28.2843, 2.82843, math.nan]), equal_nan=True)


# Ranks

RANKS = [M.stable_rank, M.effective_rank, M.participation_ratio, M.nuclear_rank]
PAIRS = [M.alignment, M.step_inflation, M.update_ratio, M.step_cosine]


@pytest.mark.parametrize("measure", RANKS)
def test_every_rank_counts_equal_directions_whatever_their_size(measure):
    Q = orthonormal(9, 3)[:5].float()
    stack = torch.stack([Q, 1e-25 * Q, 1e25 * Q, torch.zeros_like(Q), torch.full_like(Q, math.nan)])
    right = torch.tensor([5.0, 5.0, 5.0, math.nan, math.nan])
    torch.testing.assert_close(measure(stack), right, equal_nan=True)
    torch.testing.assert_close(measure(stack.mT), right, equal_nan=True)
    assert measure(torch.outer(Q[0], Q[1])).item() == pytest.approx(1, abs=1e-5)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 5), st.integers(0, 2**31))
@settings(deadline=None, max_examples=300)
def test_the_chain_of_ranks(m, n, decades, seed):
    G = gaussian(m, n, seed=seed) * torch.logspace(0, -decades, n)
    s = np.linalg.svd(G.double().numpy(), compute_uv=False)
    s = s[s > 1.2e-6 * s[0]]
    q = s**2 / (s**2).sum()
    chain = [
        M.stable_rank(G).item(),
        M.participation_ratio(G).item(),
        math.exp(-(q * np.log(q)).sum()),
        M.effective_rank(G).item(),
        len(s),
    ]
    for lower, upper in itertools.pairwise(chain):
        assert lower <= upper * (1 + 1e-4), chain


def test_values_agree_with_float64():
    """To 1e-5, and to 1e-3 for a spectrum's smallest values."""
    for condition in (1e1, 1e3, 1e5):
        G = with_condition(24, 40, condition).float()
        right = np.linalg.svd(G.double().numpy(), compute_uv=False)
        np.testing.assert_allclose(M.singular_values(G.double()), right, rtol=1e-9)
        found = M.singular_values(G).double().numpy()
        np.testing.assert_allclose(found, right, rtol=1e-3)
        strong = right > 1e-4 * right[0]
        np.testing.assert_allclose(found[strong], right[strong], rtol=1e-5)
        for measure in RANKS:
            assert measure(G).item() == pytest.approx(measure(G.double()).item(), rel=1e-5)


def test_participation_of_activations_is_that_of_their_covariance():
    X = gaussian(50, 6) @ torch.diag(torch.tensor([3.0, 2, 1, 1, 0.5, 0.1])) + 100
    values = np.linalg.eigvalsh(np.cov(X.double().numpy().T))
    right = values.sum() ** 2 / (values**2).sum()
    assert M.participation_ratio(X, centred=True).item() == pytest.approx(right, rel=1e-5)
    assert M.participation_ratio(X).item() < 1.01  # the mean alone


def test_rank_me_is_an_effective_rank_that_never_exceeds_its_maximum():
    Z = torch.eye(1200, 1000)
    assert M.rank_me(Z).item() == 1000
    X = gaussian(60, 8)
    s = np.linalg.svd(X.double().numpy(), compute_uv=False)
    p = s / s.sum() + 1e-7
    assert M.rank_me(X).item() == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert M.rank_me(torch.outer(gaussian(20), gaussian(8))).item() == pytest.approx(1, abs=1e-3)
    assert M.rank_me(torch.zeros(4, 3)).isnan()


@pytest.mark.parametrize("measure", [*RANKS, M.mean_abs_cosine, M.rms_cosine, M.singular_values])
def test_measures_have_the_right_slope(measure):
    G = gaussian(4, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(measure, G)
    single = G.detach().float().requires_grad_()
    measure(single).sum().backward()
    assert single.grad.isfinite().all()


def test_a_row_without_direction_does_not_spoil_the_slope_of_others():
    W = gaussian(4, 6)
    W[2] = 0
    W.requires_grad_()
    M.mean_abs_cosine(W).backward()
    assert W.grad.isfinite().all()
    assert W.grad[0].norm() > 0


# Likeness


def test_mean_and_rms_cosine_by_hand():
    W = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 3.0], [0.0, 0.0]])
    r = math.sqrt(0.5)
    assert M.mean_abs_cosine(W).item() == pytest.approx(2 * r / 3)
    assert M.rms_cosine(W).item() == pytest.approx(math.sqrt(1 / 3))
    assert M.mean_abs_cosine(W[:1]).isnan()
    both = M.mean_abs_cosine(torch.stack([W, torch.zeros_like(W)]))
    torch.testing.assert_close(both, torch.tensor([2 * r / 3, math.nan]), equal_nan=True)


@pytest.mark.parametrize(("m", "n"), [(32, 27), (8, 200), (5, 1), (3, 2)])
def test_chance_is_what_random_rows_do(m, n):
    found = M.mean_abs_cosine(gaussian(2000, m, n, dtype=torch.float64))
    mean, deviation = M.random_cosine(m, n)
    assert found.mean().item() == pytest.approx(mean, abs=4 * deviation / math.sqrt(2000) + 1e-12)
    assert found.std().item() == pytest.approx(deviation, rel=0.1, abs=1e-7)
    assert mean == pytest.approx(math.sqrt(2 / (math.pi * n)), rel=0.3 / n)


def test_no_matrix_gets_below_welchs_floor_but_its_mean_may():
    assert M.welch_floor(32, 27) == pytest.approx(0.0773, abs=1e-4)
    O = ov.polar_factor(gaussian(32, 27))
    assert M.rms_cosine(O).item() >= M.welch_floor(32, 27)
    assert M.mean_abs_cosine(O).item() < M.welch_floor(32, 27)
    angles = torch.arange(3) * math.pi / 3
    star = torch.stack([angles.cos(), angles.sin()], 1)  # three lines at 60 degrees attain it
    assert M.rms_cosine(star).item() == pytest.approx(M.welch_floor(3, 2))
    assert M.welch_floor(3, 5) == 0


def test_unrelated_maps_after_relu_have_a_cosine_of_one_over_pi():
    maps = gaussian(20, 16, 40, 40).relu()
    assert M.feature_cosine(maps).item() == pytest.approx(1 / math.pi, abs=0.003)
    mean, deviation = M.random_cosine(16, 1600)
    assert M.feature_cosine(maps, centred=True).item() == pytest.approx(mean, abs=4 * deviation)


def test_the_cosine_of_maps_is_taken_within_an_input_then_averaged():
    maps = gaussian(3, 4, 5, 5)
    maps[1, 2] = 0
    maps[2] = 0
    each = []
    for one in maps[:2].double().numpy():
        flat = one.reshape(4, 25)
        flat = flat[np.linalg.norm(flat, axis=1) > 0]
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        each.append(np.abs((unit @ unit.T)[np.triu_indices(len(unit), 1)]).mean())
    assert M.feature_cosine(maps).item() == pytest.approx(np.mean(each), rel=1e-6)
    constant = torch.full((1, 3, 4, 4), 0.1)
    assert M.feature_cosine(constant).item() == pytest.approx(1)
    assert M.feature_cosine(constant, centred=True).isnan()


def test_cka_against_its_definition_in_features():
    X, Y = gaussian(30, 7), gaussian(30, 12, seed=1)
    x, y = (Z.double().numpy() - Z.double().numpy().mean(0) for Z in (X, Y))
    right = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert M.linear_cka(X, Y).item() == pytest.approx(right, rel=1e-5)
    Q = orthonormal(7, 5).float()
    assert M.linear_cka(X, 3 * X @ Q + 1).item() == pytest.approx(1, rel=1e-5)
    stacked = M.linear_cka(torch.stack([X, X]), torch.stack([X, torch.ones_like(X)]))
    torch.testing.assert_close(stacked, torch.tensor([1.0, math.nan]), equal_nan=True)


def unbiased_cka(batches):
    """Song's estimator as a sum over all different indices, by brute force."""

    def hsic(K, L):
        n, total = len(K), 0.0
        pairs = itertools.permutations(range(n), 2)
        total += sum(K[i, j] * L[i, j] for i, j in pairs) / (n * (n - 1))
        triples = itertools.permutations(range(n), 3)
        total -= 2 * sum(K[i, j] * L[i, k] for i, j, k in triples) / (n * (n - 1) * (n - 2))
        four = itertools.permutations(range(n), 4)
        count = n * (n - 1) * (n - 2) * (n - 3)
        return total + sum(K[i, j] * L[k, m] for i, j, k, m in four) / count

    grams = [(X @ X.T, Y @ Y.T) for X, Y in batches]
    KL, KK, LL = (
        sum(hsic(a(g), b(g)) for g in grams)
        for a, b in (
            (lambda g: g[0], lambda g: g[1]),
            (lambda g: g[0], lambda g: g[0]),
            (lambda g: g[1], lambda g: g[1]),
        )
    )
    return KL / math.sqrt(KK * LL)


def test_minibatch_cka_against_the_sum_over_all_indices():
    batches = [
        (gaussian(7, 3, seed=s), gaussian(7, 3, seed=s) + gaussian(7, 3, seed=s + 10)) for s in range(3)
    ]
    right = unbiased_cka([(X.double().numpy(), Y.double().numpy()) for X, Y in batches])
    assert M.minibatch_cka(batches).item() == pytest.approx(right, rel=1e-6)


def test_unrelated_noise_is_alike_with_bias_only():
    X, Y = gaussian(64, 512), gaussian(64, 512, seed=1)
    assert M.linear_cka(X, Y).item() > 0.85
    assert abs(M.minibatch_cka([(X, Y)]).item()) < 0.05
    assert M.minibatch_cka([(X, X)]).item() == pytest.approx(1)


def test_a_shuffled_loader_makes_identical_networks_look_unrelated():
    """Why both networks must see the same batches."""
    X = gaussian(64, 32)
    assert abs(M.minibatch_cka([(X, X.roll(1, 0))]).item()) < 0.1


def test_where_nothing_varies_cka_is_nan_and_says_so():
    with pytest.warns(UserWarning, match="must be positive"):
        assert M.minibatch_cka([(torch.zeros(4, 2), torch.zeros(4, 2))]).isnan()


# Units


def test_dead_and_dormant_units_by_hand():
    h = torch.tensor([[0.0, 0.0, 1.0, 3.0], [0.0, 0.02, 0.0, 5.0]])
    assert M.dead_units(h).tolist() == [True, False, False, False]
    assert M.dormant_units(h).tolist() == [True, True, False, False]
    assert M.dormant_units(h, tau=0).tolist() == [True, False, False, False]
    maps = h.mT[None, :, :, None].repeat(2, 1, 1, 3)
    assert M.dead_units(maps).tolist() == M.dead_units(h).tolist()
    assert M.dormant_units(maps).tolist() == M.dormant_units(h).tolist()
    assert M.dormant_units(torch.zeros(3, 2)).all()
    assert not M.dead_units(torch.tensor([[math.nan, 0.0]]))[0]


@pytest.mark.parametrize(
    "call",
    [*RANKS, M.mean_abs_cosine, M.rms_cosine, M.rank_me, M.dead_units, M.dormant_units, M.dead_parameters,
     M.condition_number, M.feature_cosine, M.singular_values, M.orthogonality_residual, M.cosine_matrix,
     *(lambda X, pair=pair: pair(X, X) for pair in (M.linear_cka, M.direction_gain, *PAIRS)),
     lambda X: M.minibatch_cka([(X, X)])],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call):
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(TypeError, match=str(dtype)):
            call(torch.ones(4, 3, 2, dtype=dtype))
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        call(torch.ones(4))


@pytest.mark.parametrize(
    "name",
    ["stable_rank", "effective_rank", "participation_ratio", "nuclear_rank", "mean_abs_cosine", "rms_cosine",
     "feature_cosine", "centred_feature_cosine"],
)  # fmt: skip
def test_chance_is_what_random_matrices_and_maps_give(name):
    quantity = QUANTITIES[name]
    random = gaussian(40, 9, 50).relu() if quantity.takes == "maps" else gaussian(40, 9, 30)
    level = quantity.chance(Sizes(9, 30, 50))[0]
    assert quantity.measure(random).mean().item() == pytest.approx(level.value, rel=0.1)


def test_of_sizes_that_are_not_known_nothing_is_said_by_chance():
    for name in ("mean_abs_cosine", "rms_cosine", "stable_rank", "centred_feature_cosine"):
        assert QUANTITIES[name].chance(Sizes()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_measures_keep_the_dtype(dtype):
    G = gaussian(3, 4, 6).to(dtype)
    for measure in (*RANKS, M.mean_abs_cosine, M.rms_cosine, M.condition_number, M.rank_me):
        value = measure(G)
        assert value.dtype == dtype
        assert value.shape == (3,)
        assert value.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("samples", [10, 50, 64, 100, 333])
def test_equal_samples_do_not_vary_whatever_their_mean_rounds_to(samples, dtype):
    generator = torch.Generator().manual_seed(0)
    equal = torch.randn(1, 16, dtype=dtype, generator=generator).expand(samples, 16)
    others = torch.randn(samples, 7, dtype=dtype, generator=generator)
    assert ov.measures.linear_cka(equal, others).isnan()
    assert ov.measures.participation_ratio(equal, centred=True).isnan()
    with pytest.warns(UserWarning, match="do not vary"):
        assert ov.measures.minibatch_cka([(equal, others)]).isnan()


def test_small_variance_around_a_large_mean_is_measured():
    generator = torch.Generator().manual_seed(0)
    X, Y = (torch.randn(60, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    Y = Y + X
    for measure in (ov.measures.linear_cka, lambda X, Y: ov.measures.minibatch_cka([(X, Y)])):
        right = measure(X, Y)
        assert measure(1e-4 * X + 1, Y).item() == pytest.approx(right.item(), rel=1e-6)
