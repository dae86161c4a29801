import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import orthoviz as ov
from orthoviz.polar.methods import as_method, to_plain
from orthoviz.polar.products import symmetric_product
from tests import reference
from tests.reference import error

METHODS = tuple(ov.polar.METHODS)
DECOMPOSING = ("exact", "svd", "eigh")
APPROXIMATE = tuple(name for name in METHODS if name not in DECOMPOSING)


gaussian = partial(reference.gaussian, dtype=torch.float32)


def orthonormal(n, seed):
    return torch.linalg.qr(gaussian(n, n, seed=seed, dtype=torch.float64)).Q


def with_condition(m, n, condition, seed=0):
    """m x n in float64 with singular values evenly spaced on a log scale from 1 to 1/condition."""
    k = min(m, n)
    values = torch.logspace(0, -math.log10(condition), k, dtype=torch.float64)
    left, right = (gaussian(size, k, seed=seed + i, dtype=torch.float64) for i, size in enumerate((m, n)))
    return (torch.linalg.qr(left).Q * values) @ torch.linalg.qr(right).Q.T


@pytest.mark.parametrize("shape", [(16, 40), (96, 32), (64, 64), (600, 700)])
@pytest.mark.parametrize(("condition", "bound"), [(1e1, 1e-6), (1e2, 1e-6), (1e4, 1e-6), (5e5, 1e-5)])
@pytest.mark.parametrize("method", ["exact", "eigh"])
def test_exact_is_right_for_float32_at_any_condition_number(method, condition, bound, shape):
    G = with_condition(*shape, condition).float()
    assert error(ov.polar_factor(G, method), G) <= bound


@pytest.mark.parametrize("shape", [(16, 40), (64, 64), (40, 16)])
@pytest.mark.parametrize("condition", [1e1, 1e3, 1e6])
@pytest.mark.parametrize("method", DECOMPOSING)
def test_exact_is_right_for_float64_to_ten_digits(method, condition, shape):
    G = with_condition(*shape, condition)
    assert error(ov.polar_factor(G, method), G) <= 1e-10


def large(size):
    """A case that takes seconds: in the long part of the tests."""
    return pytest.param(size, marks=pytest.mark.full)


WIDE = [(8, 16), (16, 144), (64, 576), (256, 512), (1024, 256), large((512, 1024)), large((400, 1600))]


@pytest.mark.parametrize("shape", WIDE)
def test_fast_is_within_a_hundredth_where_one_side_is_twice_the_other(shape):
    for seed in range(3):
        G = gaussian(*shape, seed=seed)
        O = ov.polar_factor(G, "fast")
        gain = ov.measures.direction_gain(O, G)
        assert error(O, G) <= 0.01
        assert (gain - 1).abs().max() <= 0.05
        assert error(O, G) <= error(ov.polar_factor(G, "newton_schulz"), G) / 10


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (64, 600), large((512, 512)), (640, 512)])
def test_fast_is_within_three_hundredths_up_to_condition_number_100(shape):
    for condition in (3, 30, 100):
        G = with_condition(*shape, condition).float()
        assert error(ov.polar_factor(G, "fast"), G) <= 0.03


@pytest.mark.parametrize("m", [128, 256, large(512)])
def test_fast_has_a_third_of_the_quintics_error_on_square_gaussians(m):
    ours = theirs = 0.0
    for seed in range(8):
        G = gaussian(m, m, seed=seed)
        ours += error(ov.polar_factor(G, "fast"), G)
        theirs += error(ov.polar_factor(G, "newton_schulz"), G)
    assert ours <= theirs / 3


@pytest.mark.parametrize("m", [96, large(512)])
def test_a_weak_direction_fades_in_fast_and_never_grows(m):
    """Where a direction is too weak to be brought to 1, its gain falls in proportion to its size."""
    for ratio in (1e-3, 1e-4, 1e-5):
        values = torch.ones(m, dtype=torch.float64)
        values[-1] = ratio
        Q, R = orthonormal(m, 1), torch.linalg.qr(gaussian(3 * m, m, seed=2, dtype=torch.float64)).Q
        G = ((Q * values) @ R.T).float()
        gain = ov.measures.direction_gain(ov.polar_factor(G, "fast"), G)[-1]
        assert 0 < gain < 1200 * ratio


@pytest.mark.parametrize("method", APPROXIMATE)
@pytest.mark.parametrize("shape", [(48, 200), (400, 500)])
def test_low_rank_stays_finite_and_gets_no_new_directions(method, shape):
    m, n = shape
    G = gaussian(m, 12) @ gaussian(12, n, seed=1)
    O = ov.polar_factor(G, method)
    assert O.isfinite().all()
    assert np.linalg.norm(O.double().numpy(), 2) <= 1.25
    # the quintics lift what float32's rounding left in the other directions, by up to a thousand
    assert ((O.norm() ** 2).item() - 12) <= 4


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


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_filter_and_a_dead_weight_get_no_step(method):
    G = gaussian(16, 60)
    G[3] = 0
    assert ov.polar_factor(G, method)[3].abs().max() < 1e-6
    assert ov.polar_factor(G.T, method)[:, 3].abs().max() < 1e-6
    assert ov.polar_factor(G.T.contiguous(), method)[:, 3].abs().max() < 1e-6


RANK_ONE = torch.outer(gaussian(6), gaussian(9, seed=1))
WEAK = torch.diag(torch.tensor([1.0, 1e-10], dtype=torch.float64))


@pytest.mark.parametrize(
    ("G", "options", "rank"),
    [
        (RANK_ONE, {}, 1),
        (RANK_ONE, dict(null="keep"), 6),
        (torch.diag(torch.tensor([1.0, 2e-6])), {}, 2),  # the cut is at ten epsilons of float32
        (torch.diag(torch.tensor([1.0, 0.9e-6])), {}, 1),
        (WEAK, {}, 2),
        (WEAK, dict(tol=1e-6), 1),
    ],
)
def test_the_rank_rule_says_which_directions_are_kept(G, options, rank):
    assert ov.polar_factor(G, **options).norm().square().item() == pytest.approx(rank, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-100, -60, 60, 100])
def test_powers_of_two_change_no_bit(method, power):
    """A published Newton-Schulz adds 1e-7 to the norm: a gradient of norm 1e-10 gets a step of .48, not 8."""
    G = gaussian(8, 20)
    assert torch.equal(ov.polar_factor(G * 2.0**power, method), ov.polar_factor(G, method))


@pytest.mark.parametrize(
    ("method", "dtype", "scale"),
    [
        *itertools.product(DECOMPOSING, [torch.float64], [1e-300, 1e300, 5e-324]),
        *itertools.product(METHODS, [torch.float32], [2e-38, 3e37]),
    ],
)
def test_the_ends_of_a_dtypes_range(method, dtype, scale):
    G = torch.tensor([[4.0, 0.0], [0.0, 2.0]], dtype=dtype) * scale
    bound = 1e-7 if dtype == torch.float64 else 0.35
    assert (ov.polar_factor(G, method).abs() - torch.eye(2, dtype=dtype)).abs().max() <= bound


@pytest.mark.parametrize("method", METHODS)
def test_no_matrix_of_a_stack_touches_another(method):
    G = gaussian(3, 6, 10)
    other = G.clone()
    other[1] = with_condition(6, 10, 1e5).float()  # needs another precision than its neighbours
    O, changed = ov.polar_factor(G, method), ov.polar_factor(other, method)
    torch.testing.assert_close(O[::2], changed[::2], rtol=0, atol=1e-6)
    torch.testing.assert_close(O[1], ov.polar_factor(G[1], method), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 3, 4)])
def test_empty_matrices_come_back(shape):
    assert ov.polar_factor(torch.zeros(shape)).shape == shape


matrices = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40, deadline=None)
@given(matrices)
def test_turning_the_gradient_turns_the_factor(method, shape):
    m, n, seed = shape
    G = gaussian(m, n, seed=seed, dtype=torch.float64)
    Q, R = orthonormal(m, seed + 1), orthonormal(n, seed + 2)
    O = ov.polar_factor(G, method)
    close = dict(rtol=0, atol=1e-8 if method in ("exact", "svd") else 1e-7)
    torch.testing.assert_close(ov.polar_factor(Q @ G @ R, method), Q @ O @ R, **close)
    torch.testing.assert_close(ov.polar_factor(G.T, method), O.T, **close)
    torch.testing.assert_close(ov.polar_factor(-G, method), -O, **close)
    torch.testing.assert_close(ov.polar_factor(0.37 * G, method), O, **close)
    order = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(ov.polar_factor(G[order], method), O[order], **close)


@pytest.mark.parametrize("method", DECOMPOSING)
@settings(max_examples=40, deadline=None)
@given(matrices)
def test_singular_values_are_one_and_the_gain_is_the_nuclear_norm(method, shape):
    m, n, seed = shape
    G = gaussian(m, n, seed=seed, dtype=torch.float64)
    O = ov.polar_factor(G, method)
    np.testing.assert_allclose(
        np.linalg.svd(O.numpy(), compute_uv=False), 1, atol=1e-12 if method == "svd" else 1e-10
    )
    assert (O * G).sum().item() == pytest.approx(np.linalg.norm(G.numpy(), "nuc"))
    torch.testing.assert_close(
        ov.polar_factor(O, method), O, rtol=0, atol=1e-12 if method == "svd" else 1e-10
    )


# The polynomials and the rational function


@pytest.mark.parametrize(
    ("table", "arguments", "options"),
    [
        (ov.polar.POLAR_EXPRESS, (1e-3, 8), dict(safety=1.01, cushion=0.02)),
        ([(2.320007, -1.686217, 0.420680)], (1e-3, 5), dict(safety=1.01, cushion=0.02)),  # its last of five
        (ov.polar.GRAM, (4.5e-3, 5), dict(safety=1.001)),
        (ov.polar.DEGREE_NINE, (7.8e-3, 3, 9), dict(safety=1.001)),
    ],
)
def test_the_generator_gives_the_published_polar_express_and_the_packages_own_tables(
    table, arguments, options
):
    made = ov.polar.coefficients(*arguments, **options)[-len(table) :]
    np.testing.assert_allclose(made, table, rtol=0, atol=5e-7)


def turns(errors):
    """Extreme errors of alternating sign, in order."""
    extremes = []
    for value in errors:
        if extremes and np.sign(value) == np.sign(extremes[-1]):
            extremes[-1] = max(extremes[-1], value, key=abs)
        else:
            extremes.append(value)
    return np.array(extremes)


@pytest.mark.parametrize("degree", [3, 5, 7, 9, 13])
@pytest.mark.parametrize("low", [1e-3, 0.1, 0.7])
def test_a_step_has_the_equal_alternating_errors_that_chebyshev_asks_of_the_best(low, degree):
    (p,) = ov.polar.coefficients(low, 1, degree)
    x = torch.linspace(low, 1, 200_001, dtype=torch.float64)
    extremes = turns((1 - ov.polar.gain((p,), x)).numpy())
    assert len(extremes) == len(p) + 1
    np.testing.assert_allclose(np.abs(extremes), np.abs(extremes).max(), rtol=1e-5, atol=1e-14)


def test_the_limit_of_a_short_interval_is_newton_schulz():
    np.testing.assert_allclose(ov.polar.coefficients(1 - 1e-9, 1, 3)[0], (1.5, -0.5), atol=1e-8)
    np.testing.assert_allclose(ov.polar.coefficients(0.5, 8, 5)[-1], (1.875, -1.25, 0.375), atol=1e-8)


@pytest.mark.parametrize("poles", [1, 2, 4, 6])
@pytest.mark.parametrize("lower", [3e-3, 0.1])
def test_zolotarevs_function_has_the_equal_alternating_errors_of_the_best(lower, poles):
    z = ov.polar.zolotarev(lower, poles)
    x = torch.logspace(math.log10(lower), 0, 200_001, dtype=torch.float64)
    extremes = turns((1 - z(x)).numpy())
    assert len(extremes) == 2 * poles + 2
    np.testing.assert_allclose(np.abs(extremes), z.error, rtol=1e-3, atol=1e-12)


def test_zolotarevs_shifts_are_the_elliptic_functions_of_scipy():
    special = pytest.importorskip("scipy.special", reason="scipy comes with scikit-learn")
    lower, poles = 3e-3, 4
    quarter = special.ellipkm1(lower**2)
    sn, cn, _, _ = special.ellipj(np.arange(1, 2 * poles, 2) * quarter / (2 * poles + 1), 1 - lower**2)
    shifts = ov.polar.zolotarev(lower, poles).shifts
    np.testing.assert_allclose(shifts, lower**2 * sn**2 / cn**2, rtol=1e-6)


@pytest.mark.parametrize(
    ("table", "right"),
    [("JORDAN", 0.153), ("YOU", 0.017), ("MODULA", 0.003), ("POLAR_EXPRESS", 0.0), ("CUBIC", 0.0)],
)
def test_each_table_has_its_known_distance_from_the_factor(table, right):
    G = gaussian(256, 1024)
    method = ov.polar.NewtonSchulz(getattr(ov.polar, table), headroom=1.01)
    assert error(ov.polar_factor(G, method), G) == pytest.approx(right, abs=0.002)


# The Gram form


@pytest.mark.parametrize("table", [ov.polar.GRAM, ov.polar.DEGREE_NINE, ov.polar.JORDAN, ov.polar.CUBIC[:12]])
@pytest.mark.parametrize("restarts", [(), (1,), (2, 3)])
def test_the_gram_form_is_the_same_iteration(table, restarts):
    G = gaussian(20, 70, dtype=torch.float64)
    start = G.numpy() / np.sum(np.linalg.svd(G.numpy(), compute_uv=False) ** 8) ** (1 / 8)
    right = reference.newton_schulz(start, table)
    O = ov.polar_factor(G, ov.polar.GramNewtonSchulz(table, restarts=restarts))
    np.testing.assert_allclose(O.numpy(), right, rtol=0, atol=1e-9)


def test_a_restart_mends_what_the_gram_form_loses():
    """The square of 1e-4 is near float32's rounding of K: it is lost there, unless K is formed anew."""
    G = with_condition(64, 256, 1e4).float()
    table = ov.polar.coefficients(1e-4, 8, safety=1.01)
    late, early = (
        error(ov.polar_factor(G, ov.polar.GramNewtonSchulz(table, restarts=restarts)), G)
        for restarts in ((5,), (2, 4))
    )
    assert late > 2e-3
    assert early < 5e-4


def test_the_choice_for_cuda_is_as_accurate_in_float16():
    method = ov.polar.Fast().choose(64, 256, torch.float32, "cuda")[0]
    assert method.precision == torch.float16
    for shape in ((64, 576), (256, 512)):
        G = gaussian(*shape)
        O = ov.polar_factor(G, method)
        assert error(O, G) <= 0.01
        assert (ov.measures.direction_gain(O, G) - 1).abs().max() <= 0.05
    G = with_condition(64, 256, 100).float()
    assert error(ov.polar_factor(G, method), G) <= 0.03


def test_with_restarts_thirty_cubic_steps_in_the_gram_form_arrive():
    G = gaussian(32, 8) @ gaussian(8, 90, seed=1)
    method = ov.polar.GramNewtonSchulz(ov.polar.CUBIC, restarts=tuple(range(6, 30, 6)))
    assert error(ov.polar_factor(G, method), G) < 0.01


# Products


@pytest.mark.parametrize("shape", [(600, 40), (513, 513), (2, 700, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_symmetric_product_by_blocks_is_the_plain_product(shape, dtype):
    A = gaussian(*shape, dtype=dtype)
    C = symmetric_product(A, A.mT)
    torch.testing.assert_close(C, A @ A.mT)
    torch.testing.assert_close(C, C.mT)


def test_a_method_of_an_older_checkpoint_may_have_a_setting_that_is_gone():
    method = ov.polar.GramNewtonSchulz(restarts=(2,), precision=torch.float16)
    assert as_method((*to_plain(method), ("triton", False))) == method


# Choosing, explaining, falling back


def test_explain_says_what_is_chosen_why_and_what_it_costs():
    small, large = torch.empty(32, 288), torch.empty(4608, 512)
    assert ov.polar.explain(small).chosen == ov.polar.Eigh()
    assert ov.polar.explain(small, null="keep").chosen == ov.polar.SVD(null="keep", precision=torch.float64)
    assert isinstance(ov.polar.explain(torch.empty(8, 8, dtype=torch.float64)).chosen, ov.polar.SVD)
    assert isinstance(ov.polar.explain(small, "fast").chosen, ov.polar.GramNewtonSchulz)
    report = ov.polar.explain(large, "fast")
    assert isinstance(report.chosen, ov.polar.Rational)
    assert report.floor == 4 * 512**2 * 4608
    assert report.operations == report.floor + 4 * 512**3
    assert "4608 x 512" in str(report)
    assert "times the floor" in str(report)
    quintic = ov.polar.explain(large, "newton_schulz")
    assert quintic.operations == 5 * (4 * 512**2 * 4608 + 2 * 512**3)


@pytest.mark.parametrize("method", METHODS)
def test_the_choice_reads_no_values(method):
    """Fake tensors have none: reading one, as a synchronisation would, raises."""
    assert ov.polar.explain(torch.empty(5, 8, device="meta"), method).chosen
    if method not in DECOMPOSING:
        with FakeTensorMode():
            O = ov.polar_factor(torch.empty(3, 40, 90), method)
        assert O.shape == (3, 40, 90)


def test_a_method_object_is_what_its_name_is():
    G = gaussian(8, 20)
    for name, method in ov.polar.METHODS.items():
        assert torch.equal(ov.polar_factor(G, method), ov.polar_factor(G, name))
    assert torch.equal(ov.polar_factor(G, ov.polar.SVD(tol=0.5)), ov.polar_factor(G, "svd", tol=0.5))
    rank_one = torch.outer(gaussian(4), gaussian(6, seed=1))
    kept = ov.polar_factor(rank_one, ov.polar.Exact(null="keep"))
    assert kept.norm().item() == pytest.approx(2, abs=1e-5)


def test_what_the_gram_matrix_cannot_tell_goes_to_the_svd():
    easy, hard = with_condition(8, 20, 10), with_condition(8, 20, 1e5)
    O = ov.polar_factor(torch.stack([easy, hard]), "eigh")
    assert error(O[0], easy) <= 1e-10
    assert error(O[1], hard) <= 1e-10
    kept = ov.polar_factor(torch.ones(4, 6), "eigh", null="keep")
    torch.testing.assert_close(kept @ kept.T, torch.eye(4))
    weak = torch.diag(torch.tensor([1.0, 1e-7]))
    assert ov.polar_factor(weak, "eigh", tol=1e-8)[1, 1].item() == pytest.approx(1)


def test_a_softmax_heads_rounding_gets_no_step_and_with_keep_a_full_one():
    logits = gaussian(64, 10, seed=3).softmax(1)
    logits[range(64), torch.arange(64) % 10] -= 1
    gradient = logits.T @ gaussian(64, 30, seed=4)  # its rows add up to zero, but for rounding
    ones = torch.full((10,), 10**-0.5)
    assert (ones @ ov.polar_factor(gradient)).norm() < 1e-5
    assert (ones @ ov.polar_factor(gradient, null="keep")).norm() > 0.9


# Many matrices, memory


@pytest.mark.parametrize("method", APPROXIMATE)
def test_tiny_matrices_share_a_stack_and_do_not_touch_one_another(method):
    matrices = [gaussian(5, 30), gaussian(40, 6, seed=1), gaussian(8, 8, seed=2), gaussian(1, 3, seed=3)]
    factors = ov.polar.polar_factors(matrices, method)
    for G, O in zip(matrices, factors, strict=True):
        assert (O.shape, O.stride()) == (G.shape, G.stride())
        assert abs(error(O, G) - error(ov.polar_factor(G, method), G)) <= 0.01
    matrices[1][0, 0] = math.nan
    changed = ov.polar.polar_factors(matrices, method)
    assert changed[1].isnan().all()
    assert all(torch.equal(changed[i], factors[i]) for i in (0, 2, 3))


def peak_bytes(call):
    """Most memory in use at once during the call, from torch's own allocation events."""
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    changes = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(96, 64, 64), (40, 64, 576), (256, 2304)])
def test_a_call_needs_at_most_four_times_its_stack(method, shape):
    G = gaussian(*shape)
    ov.polar_factor(G[:1], method)
    assert peak_bytes(lambda: ov.polar_factor(G, method)) <= 4 * G.nbytes + G.nbytes  # and the result


# Derivatives, transforms


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (2, 3, 3)])
def test_the_derivative_is_right(method, shape):
    G = gaussian(*shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda G: ov.polar_factor(G, method), (G,), atol=1e-5)


@pytest.mark.parametrize("method", DECOMPOSING)
def test_equal_singular_values_and_lost_ranks_do_no_harm_to_the_derivative(method):
    identity = torch.eye(3, 4, dtype=torch.float64).requires_grad_()
    ov.polar_factor(identity, method)[0, 1].backward()
    right = torch.zeros(3, 4, dtype=torch.float64)
    right[0, 1], right[1, 0] = 0.5, -0.5  # an antisymmetric change turns, a symmetric one does nothing
    torch.testing.assert_close(identity.grad, right)
    G = torch.outer(
        gaussian(3, dtype=torch.float64), gaussian(4, seed=1, dtype=torch.float64)
    ).requires_grad_()
    ov.polar_factor(G, method).sum().backward()
    assert G.grad.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_vmap_maps_over_matrices(method):
    G = gaussian(4, 5, 9)
    mapped = torch.func.vmap(lambda matrix: ov.polar_factor(matrix, method))(G)
    torch.testing.assert_close(mapped, ov.polar_factor(G, method), rtol=0, atol=2e-5)


@pytest.mark.full  # half a minute each; test_cuda.py compiles "fast" for one shape
@pytest.mark.parametrize("method", APPROXIMATE)
def test_an_iteration_compiles_as_one_graph(method):
    torch.compiler.reset()
    compiled = torch.compile(lambda G: ov.polar_factor(G, method), fullgraph=True, backend="aot_eager")
    for shape in ((5, 9), (9, 5), (2, 400, 410)):
        G = gaussian(*shape)
        torch.testing.assert_close(compiled(G), ov.polar_factor(G, method), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16")])
@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (128, 512)])
@pytest.mark.parametrize("rank", [1, 2, 16])
def test_what_is_rounding_of_half_precision_is_no_direction(dtype, name, shape, rank):
    """At float32's tolerance two directions became 64."""
    generator = torch.Generator().manual_seed(rank)
    A, B = (torch.randn(*size, generator=generator) for size in ((shape[0], rank), (rank, shape[1])))
    G = A.double() @ B.double()
    right = reference.polar(G.numpy(), tol=1e-9)
    for held, tol in ((G.to(dtype), None), (G.to(dtype).float(), name)):
        O = ov.polar_factor(held, tol=tol).double().numpy()
        assert np.square(O).sum() == pytest.approx(rank, rel=0.02)
        assert (O * right).sum() / rank == pytest.approx(1, abs=0.01)
