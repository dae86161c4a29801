"""loss_valley: its stored walks against runs of the optimisers themselves, and NumPy's."""

import ipywidgets
import numpy as np
import pytest
import torch

import orthoviz as ov
from orthoviz.plots import MODES
from tests.views import line, numbers, points, press

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def valley():
    view = ov.widgets.loss_valley(step=100)
    yield view
    view.close()


@pytest.mark.parametrize("lr", [0.003, 0.01, 0.03, 0.1])
def test_paths_and_curves_are_those_of_the_optimisers_and_the_law_is_near(valley, lr):
    valley.set(problem="deep linear network", lr=lr, step=71)
    predicted, _ = points(valley, marker="v")
    np.testing.assert_allclose(predicted, (0.9 * np.array([*MODES])) ** (1 / 3) / lr)
    for make, marker, rate, steps in (
        (torch.optim.SGD, "o", min(lr, 0.03), 71),
        (ov.OrthogonalSGD, "s", lr, 3 / lr),
    ):
        toy = ov.toys.DeepLinear()
        walk = ov.toys.descend(toy, make(ov.param_groups(toy), lr=rate), min(71, round(steps)))
        np.testing.assert_allclose(points(valley, marker=marker), walk[[10.0, 1.0]].T, atol=1e-3)
        for (mode, (colour, dashes)), law in zip(MODES.items(), predicted, strict=True):
            curves = points(
                valley, color=colour, linestyle=dashes, marker="None"
            )  # descent's has 1001 points
            curve = curves[:, :1001] if marker == "o" else curves[:, 1001:]
            np.testing.assert_allclose(curve[:, : len(walk)], walk[["step", mode]].T, atol=1e-3)
            assert marker == "o" or np.argmax(curve[1] >= 0.9) == pytest.approx(law, rel=0.1)
    assert ("Gradient descent does not settle above lr 0.03" in line(valley)) == (lr > 0.03)


def test_the_strong_mode_comes_first_and_with_the_orthogonal_step_the_weak_one(valley):
    press(valley, "strong first, weak first")
    learnt = r" has learnt (\S+)% of the strong mode and (\S+)% of the weak one"
    said = numbers(f"gradient descent{learnt}; the orthogonal step{learnt}", valley)
    ends = np.concatenate([points(valley, marker=marker)[:, -1] for marker in "os"])
    assert said == (100 * ends).round().tolist()
    assert said[0] > 90 > 10 > said[1]
    assert said[3] > 90 > 50 > said[2]


def numpy_steps(rate, momentum, orthogonal):
    """Steps until the dense quadratic's error stays under 1e-4 of the first."""
    toy = ov.toys.MatrixQuadratic()
    scales = np.outer(toy.scales, toy.scales)
    wrong, buffer, errors = -toy.target.numpy(), 0.0, []
    for _ in range(1500):
        errors.append(((scales * wrong) ** 2).sum())
        U, s, Vh = np.linalg.svd(scales**2 * wrong)
        buffer = momentum * buffer + (U @ Vh if orthogonal else U * s @ Vh)
        wrong = wrong - rate * buffer
    return np.flatnonzero(np.array(errors) > 1e-4 * errors[0])[-1] + 1


def test_the_valley_can_lose_and_numpy_needs_as_many_steps(valley):
    press(valley, "make it lose")
    assert valley.title == "On a dense quadratic tuned momentum is faster"
    best = ((3.3, 0.9, False), (1.9, 0.0, False), (0.003, 0.9, True), (0.01, 0.0, True))
    steps = [numpy_steps(*each) for each in best]
    assert [int(text.get_text()) for text in valley._canvas.figure.axes[0].texts] == steps
    assert numbers(r"To 1e-4 they need (\S+) and (\S+) steps", valley) == [steps[0], steps[3]]
    assert 2 * steps[0] < steps[3]


def test_a_button_plays_the_steps(valley):
    (play,) = (part for part in valley.children[1].children if isinstance(part, ipywidgets.Play))
    options = valley._inputs["step"].options
    assert (options[play.value], play.min, play.max) == (("100", 100), 0, len(options) - 1)
