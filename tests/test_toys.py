"""The toy problems: their gradients and errors against other ways of computing them, and their laws."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad

import orthoviz as ov

PROBLEMS = {
    "quadratic": ov.toys.MatrixQuadratic,
    "deep": ov.toys.DeepLinear,
    "rank one": ov.toys.RankOne,
    "teacher": ov.toys.TeacherStudent,
}


def sgd(problem, lr, **options):
    return torch.optim.SGD(problem.parameters(), lr=lr, **options)


def polar(problem, lr, **options):
    return ov.OrthogonalSGD(ov.param_groups(problem), lr=lr, **options)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_seed_is_a_problem_and_nothing_global_is_drawn(name):
    state = torch.get_rng_state()
    losses = [PROBLEMS[name](seed=seed).loss().item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2] or name == "quadratic"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["rank one", "teacher"])
def test_the_error_is_the_mean_loss_less_the_noise(name):
    problem = PROBLEMS[name](batch=200_000)
    noise = 64 / 2 if name == "rank one" else 0
    assert problem.loss().item() - noise == pytest.approx(problem.error().item(), rel=0.05)


def test_the_teachers_error_by_numerical_integration():
    """Two units' activations are Gaussian with the overlaps as covariance; here for one pair."""
    problem = ov.toys.TeacherStudent(size=2)
    problem.student.data = torch.tensor([[0.3, 0.2], [0.0, 0.0]], dtype=torch.float64)
    student, teacher = problem.student[0].detach().numpy(), problem.teacher.numpy()

    def loss(y, x):
        z = np.array([x, y])
        output = math.erf(student @ z / 2**0.5) - sum(math.erf(w @ z / 2**0.5) for w in teacher)
        return output**2 / 2 * math.exp(-(x * x + y * y) / 2) / (2 * math.pi)

    right, _ = dblquad(loss, -7, 7, -7, 7, epsabs=1e-8)
    assert problem.error().item() == pytest.approx(right, rel=1e-5)


def test_the_plateau_is_where_both_units_are_the_same():
    """Biehl et al. 1996: (2/pi)(pi/6 - 2 asin(1/4)) where each has overlap a with both teacher units."""
    problem = ov.toys.TeacherStudent()
    least = min(
        (problem.student.data.copy_(a * problem.teacher.sum(0)), problem.error().item())[1]
        for a in torch.linspace(0.3, 0.8, 501)
    )
    assert least == pytest.approx(2 / math.pi * (math.pi / 6 - 2 * math.asin(1 / 4)), abs=1e-6)


def test_descent_of_the_quadratic_by_hand():
    problem = ov.toys.MatrixQuadratic(size=2, condition=10, aligned=True)
    frame = ov.toys.descend(problem, sgd(problem, lr=1.0), steps=3)
    assert frame.step.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(frame[1.0], [0, 1, 1, 1])
    np.testing.assert_allclose(frame.iloc[:, 3], 1 - (1 - 1e-4) ** np.arange(4))


def test_a_polar_step_learns_every_aligned_mode_in_the_same_time():
    problem = ov.toys.MatrixQuadratic(aligned=True)
    frame = ov.toys.descend(problem, polar(problem, lr=0.03), steps=60)
    times = [ov.toys.steps_until(frame[mode], 0.9, 1.1) for mode in frame.columns[2:]]
    assert times == [30] * 10


def test_the_gradient_of_the_deep_network_by_hand():
    problem = ov.toys.DeepLinear(size=4)
    problem.loss().backward()
    W1, W2, W3 = (layer.detach() for layer in problem.layers)
    difference = W3 @ W2 @ W1 - problem.target
    torch.testing.assert_close(problem.layers[1].grad, W3.T @ difference @ W1.T)
    np.testing.assert_allclose(torch.linalg.svdvals(problem.target), [10, 3, 1, 0.3], rtol=1e-7)


def test_a_diverging_run_ends_early():
    problem = ov.toys.DeepLinear()
    assert len(ov.toys.descend(problem, sgd(problem, lr=1.0), steps=500)) < 400


def test_when_values_stay():
    assert ov.toys.steps_until([0, 0.95, 0.5, 0.95, 1.0], 0.9, 1.1) == 3
    assert ov.toys.steps_until([1, 1], 0.9, 1.1) == 0
    assert math.isnan(ov.toys.steps_until([1, 1.2], 0.9, 1.1))


def test_the_students_units_become_alike_before_they_part():
    problem = ov.toys.TeacherStudent()
    a, b = problem.student.detach().clone().numpy()
    frame = ov.toys.descend(problem, sgd(problem, lr=0.4), steps=600)
    assert frame.alike[0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert frame.alike.max() > 0.95 > 0.2 > abs(frame.alike.iloc[-1])
