"""loss_valley: its stored walks against runs of the optimisers themselves, and NumPy's."""

import ipywidgets
import numpy as np
import pytest
import torch

import orthoviz as ov
from orthoviz.plots import MODES, ORTHOGONAL, SGD
from tests.views import line, numbers, points, press

LEARNT = (
    r": gradient descent has learnt (\S+)% of the strong mode and (\S+)% of the weak one; the orthogonal "
)
LEARNT += r"step has learnt (\S+)% of the strong mode and (\S+)% of the weak one\."


@pytest.fixture(scope="module")
def valley():
    view = ov.widgets.loss_valley()
    yield view
    view.close()


@pytest.mark.parametrize("lr", [0.003, 0.01, 0.03, 0.1])
def test_paths_and_curves_are_those_of_the_optimisers(valley, lr):
    valley.set(problem="deep linear network", lr=lr, step=71)
    started = 0  # where the curve of the second optimiser begins among the points of a mode
    for make, marker, rate in ((torch.optim.SGD, "o", min(lr, 0.03)), (ov.OrthogonalSGD, "s", lr)):
        toy = ov.toys.DeepLinear()
        arrived = min(71, round(3 / lr)) if marker == "s" else 71
        walk = ov.toys.descend(toy, make(ov.param_groups(toy), lr=rate), arrived)
        np.testing.assert_allclose(points(valley, marker=marker), walk[[10.0, 1.0]].T, atol=1e-3)
        for mode, (colour, dashes) in MODES.items():
            curves = points(valley, color=colour, linestyle=dashes, marker="None")
            seen = curves[:, started : started + len(walk)]
            np.testing.assert_allclose(seen, walk[["step", mode]].T, atol=1e-3)
        started = 1001


def test_it_says_where_the_paths_are(valley):
    press(valley, "reset")
    ends = [points(valley, color=colour, marker=m)[:, -1] for colour, m in ((SGD, "o"), (ORTHOGONAL, "s"))]
    assert numbers(LEARNT, valley) == (100 * np.concatenate(ends)).round().tolist()
    strong_descent, weak_descent, strong_orthogonal, weak_orthogonal = numbers(LEARNT, valley)
    assert strong_descent > 90 > 10 > weak_descent
    assert weak_orthogonal > 90 > 50 > strong_orthogonal


@pytest.mark.parametrize("lr", [0.003, 0.01, 0.03, 0.1])
def test_the_law_says_when_the_orthogonal_step_has_learnt_a_mode(valley, lr):
    valley.set(problem="deep linear network", lr=lr)
    predicted, _ = points(valley, marker="v")
    np.testing.assert_allclose(predicted, (0.9 * np.array([*MODES])) ** (1 / 3) / lr)
    for at, (colour, dashes) in zip(predicted, MODES.values(), strict=True):
        _, learnt = points(valley, color=colour, linestyle=dashes, marker="None")[:, 1001:]
        assert np.argmax(learnt >= 0.9) == pytest.approx(at, rel=0.1)


def numpy_steps(rate, momentum, orthogonal):
    """Steps until the dense quadratic's error stays under 1e-4 of the first."""
    toy = ov.toys.MatrixQuadratic()
    weights = np.outer(toy.scales, toy.scales)
    wrong, buffer, errors = -toy.target.numpy(), 0.0, []
    for _ in range(1501):
        errors.append(((weights * wrong) ** 2).sum())
        step = weights**2 * wrong
        if orthogonal:
            U, _, Vh = np.linalg.svd(step)
            step = U @ Vh
        buffer = momentum * buffer + step
        wrong = wrong - rate * buffer
    return np.flatnonzero(np.array(errors) > 1e-4 * errors[0])[-1] + 1


def test_the_valley_can_lose_and_numpy_needs_as_many_steps(valley):
    press(valley, "make it lose")
    assert valley.title == "On a dense quadratic tuned momentum is faster"
    settings = ((3.3, 0.9, False), (1.9, 0.0, False), (0.003, 0.9, True), (0.01, 0.0, True))
    steps = [numpy_steps(*each) for each in settings]
    assert [int(text.get_text()) for text in valley._canvas.figure.axes[0].texts] == steps
    assert numbers(r"To 1e-4 they need (\S+) and (\S+) steps", valley) == [steps[0], steps[3]]
    assert 2 * steps[0] < steps[3]


def test_a_rate_too_large_for_gradient_descent_is_capped_and_said(valley):
    press(valley, "too large for SGD")
    assert "does not settle above lr 0.03" in line(valley)
    capped = points(valley, marker="o")
    valley.set(lr=0.03)
    np.testing.assert_array_equal(points(valley, marker="o"), capped)


def test_a_button_plays_all_steps_from_the_one_that_is_shown():
    view = ov.widgets.loss_valley(step=100)
    (play,) = (part for part in view.children[1].children if isinstance(part, ipywidgets.Play))
    options = view._inputs["step"].options
    assert (options[play.value], play.min, play.max) == (("100", 100), 0, len(options) - 1)
    view.close()


def test_a_step_between_two_options_is_refused():
    with pytest.raises(ValueError, match=r"step must be one of 0, 1, 2, .* 1000, got 33"):
        ov.widgets.loss_valley(step=33)
