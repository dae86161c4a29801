"""The views of the polar factor: Newton-Schulz, flattening, dead filters. Their numbers against NumPy."""

import base64
import html
import re

import numpy as np
import pytest
import torch

import orthoviz as ov
from orthoviz.models import basic_cnn
from orthoviz.widgets import core
from tests.test_widgets import button, line, presets, press, source, without_ghosts

JORDAN = (3.4445, -4.7750, 2.0315)


def code(view):
    return html.unescape(re.sub("<[^>]+>", "", view._call.value))


def again(view, **names):
    """The view that "as code" makes."""
    return eval(code(view), {"ov": ov, **names})


def numbers(pattern, view):
    match = re.search(pattern, line(view))
    assert match, line(view)
    return [float(number) for number in match.groups()]


VIEWS = {
    "newton_schulz": [
        dict(steps=0),
        dict(steps=7),
        dict(table="You"),
        dict(table="Polar Express"),
        dict(table="Modula"),
        dict(table="cubic"),
        dict(condition=1e5),
        dict(precision="bfloat16"),
        dict(precision="float16"),
    ],
    "flattening": [
        dict(rows=1),
        dict(rows=2),
        dict(rows=8),
        dict(layer="BasicCNN's first"),
        dict(layer="1 x 1 expansion"),
        dict(layer="grouped"),
        dict(layer="transposed"),
    ],
    "dead_filters": [
        dict(size=1e-4),
        dict(size=0.0),
        dict(method="keep"),
        dict(method="Jordan"),
        dict(method="fast"),
        dict(show="a mini-batch"),
        dict(batch_size=64),
    ],
}


@pytest.fixture(params=VIEWS)
def view(request):
    view = getattr(ov.widgets, request.param)()
    view.changes = VIEWS[request.param]
    yield view
    view.close()


# all three


def test_every_control_changes_the_picture_and_the_line_and_reset_brings_the_first_back(view):
    first = source(view), line(view)
    for change in view.changes:
        before = source(view), line(view)
        view.set(**change)
        assert 'role="status"' in view._line.value, line(view)
        assert source(view) != before[0], change
        assert line(view) != before[1], change
    press(view, "reset")
    assert (source(view), line(view)) == first


def test_every_preset_makes_another_state_and_losing_another_title(view):
    told = view.title
    assert 4 <= len(presets(view)) <= 6
    for preset in presets(view):
        preset.click()
        assert 'role="status"' in view._line.value
    press(view, "make it lose")
    assert view.title != told


def test_the_code_makes_the_view_that_is_shown(view):
    name = type(view).__name__
    assert re.fullmatch(r"ov\.widgets\.\w+\(\)", code(view)), name
    for change in view.changes:
        view.set(**change)
        other = again(view)
        assert (source(other), line(other), code(other)) == (without_ghosts(view), line(view), code(view))
        other.close()


def test_at_most_three_controls_are_in_sight(view):
    more = [c for part in view.children if hasattr(part, "titles") for c in part.children[0].children]
    shown = [c for c in view._controls.values() if c.layout.display != "none" and c not in more]
    assert 1 <= len(shown) <= 3


def test_the_picture_has_its_line_for_a_text(view):
    assert f'alt="{html.escape(line(view), quote=True)}"' in view.picture.value
    assert base64.b64encode(source(view)).decode() in view._repr_mimebundle_()["text/html"]


def test_looking_leaves_the_global_random_state_alone(view):
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    for change in view.changes:
        view.set(**change)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("newton_schulz", dict(steps=11), "steps must be a whole number from 0 to 10, got 11"),
        ("newton_schulz", dict(steps=2.5), "steps must be a whole number"),
        ("newton_schulz", dict(table="jordan"), "table must be one of 'Jordan', 'You'"),
        ("newton_schulz", dict(condition=2e3), "condition must be one of 10, 30, 100, 300, 1e3, 3e3"),
        ("newton_schulz", dict(precision="float8"), "precision must be one of 'float32'"),
        ("newton_schulz", dict(matrix=torch.ones(3)), r"matrix must be \(m, n\)"),
        ("newton_schulz", dict(matrix=torch.ones(2, 3, 3)), r"take \.flatten\(1\)"),
        ("newton_schulz", dict(matrix=torch.ones(3, 3, dtype=torch.int64)), "real floating point"),
        ("newton_schulz", dict(matrix=torch.full((2, 2), torch.nan)), "NaN"),
        ("newton_schulz", dict(matrix=torch.zeros(2, 2)), "zero"),
        ("flattening", dict(rows=0), "rows must be a whole number from 1 to 8, got 0"),
        ("flattening", dict(rows=9), "rows must be"),
        ("flattening", dict(layer="attention"), "layer must be one of 'toy'"),
        ("flattening", dict(weight=torch.ones(4)), "at least 2-D"),
        ("flattening", dict(weight=torch.zeros(4, 4)), "zero"),
        ("flattening", dict(weight=torch.full((2, 2), torch.inf)), "infinity"),
        ("flattening", dict(weight=torch.nn.ReLU()), "must have a weight of its own, got a ReLU"),
        ("dead_filters", dict(size=2.0), "size must be one of 0, 1e-8"),
        ("dead_filters", dict(method="exact"), "method must be one of 'drop', 'keep'"),
    ],
)
def test_what_a_view_has_no_place_for_is_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        getattr(ov.widgets, name)(**options)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (300.0, "300"),
        (1e3, "1e3"),
        (3e4, "3e4"),
        (1e-8, "1e-8"),
        ("a", "'a'"),
    ],
)
def test_numbers_are_written_as_people_write_them_and_can_be_read_back(value, text):
    assert core.short(value) == text
    assert eval(text) == value


# newton_schulz


@pytest.fixture
def steps():
    view = ov.widgets.newton_schulz()
    yield view
    view.close()


def iterated(G, table, headroom=1.0):
    """Newton-Schulz in NumPy, float64, and the gain of every direction."""
    s = np.linalg.svd(G.astype(np.float64), compute_uv=False)
    x = s / (headroom * np.linalg.norm(s))
    for a, b, *c in table:
        x = a * x + b * x**3 + (c[0] * x**5 if c else 0)
    return s / s[0], x


def drawn(view):
    """The curve's points, and the dots (reached or not) by falling x."""
    scene = view._draw.args[0]
    x, y = np.concatenate([np.array(dots.get_data()) for dots in (scene.dots, scene.missed)], axis=1)
    order = np.argsort(-x)
    return scene.curve.get_data(), (x[order], y[order])


def log_spaced(condition):
    return np.logspace(0, -np.log10(condition), 32)


@pytest.mark.parametrize("count", range(11))
def test_curve_and_dots_are_the_iteration_as_numpy_computes_it(steps, count):
    steps.set(steps=count)
    s, gains = iterated(np.diag(log_spaced(1e3)), [JORDAN] * count)
    (x, curve), (dots_x, dots_y) = drawn(steps)
    np.testing.assert_allclose(dots_x, s, rtol=1e-4)
    np.testing.assert_allclose(dots_y, gains, atol=2e-3)
    start = 1 / np.linalg.norm(log_spaced(1e3))
    at = x * start
    for _ in range(count):
        at = JORDAN[0] * at + JORDAN[1] * at**3 + JORDAN[2] * at**5
    np.testing.assert_allclose(curve, at, atol=1e-5)
    assert (x[0], x[-1]) == pytest.approx((1e-5, 1))


def test_five_jordan_steps_give_the_ranges_that_the_docstring_names():
    x = np.array([1e-4, 1e-3, *np.logspace(-2, 0, 20_001)])
    y = ov.polar.gain(ov.polar.JORDAN, torch.from_numpy(x)).numpy()
    assert y[:2].round(2).tolist() == [0.05, 0.47]
    assert (y[2:].min().round(2), y[2:].max().round(2)) == (0.68, 1.13)
    peak = ov.polar.gain(ov.polar.JORDAN, torch.logspace(-4, 0, 20_001, dtype=torch.float64)).max()
    assert round(peak.item(), 2) == 1.20


def test_it_says_how_many_directions_are_not_reached_and_how_wrong_the_factor_is(steps):
    assert steps.title == "Jordan's quintic gets close fast and never arrives"
    _, gains = iterated(np.diag(log_spaced(1e3)), [JORDAN] * 5)
    assert f"the gains are {gains.min():.2f} to {gains.max():.2f}; 3 of 32 directions are not" in line(steps)
    residual = np.sqrt(((gains**2 - 1) ** 2).mean())
    alignment = (gains * log_spaced(1e3)).sum() / log_spaced(1e3).sum()
    error = np.sqrt(((gains - 1) ** 2).mean())
    found = numbers(r"Residual (\S+), alignment (\S+), relative error to the exact factor (\S+)\.", steps)
    np.testing.assert_allclose(found, [residual, alignment, error], atol=1.5e-3)
    assert (gains < 0.5).sum() == 3
    steps.set(condition=3e3)
    assert "7 of 32 directions are not reached" in line(steps)
    assert "7 of 32 not reached" in {note.get_text() for note in steps._draw.args[0].notes}


def test_ten_steps_reach_every_direction_and_still_do_not_arrive(steps):
    press(steps, "twice as many steps")
    assert "0.68 to 1.13; all 32 directions are reached" in line(steps)
    assert numbers(r"exact factor (\S+)\.", steps)[0] == pytest.approx(0.209, abs=0.003)


@pytest.mark.parametrize(
    ("table", "count", "headroom"),
    [
        ("You", 7, 1),
        ("Modula", 9, 1),
        ("Polar Express", 10, 1.01),
        ("cubic", 10, 1),
        ("Polar Express", 3, 1.01),
    ],
)
def test_beyond_its_own_length_a_table_repeats_its_last_step(steps, table, count, headroom):
    steps.set(table=table, steps=count)
    own = getattr(ov.polar, table.replace(" ", "_").upper())
    repeated = [*own, *[own[-1]] * 10][:count]
    _, gains = iterated(np.diag(log_spaced(1e3)), repeated, headroom)
    _, (_, dots) = drawn(steps)
    np.testing.assert_allclose(dots, gains.clip(0, 1.3), atol=2e-3)


def test_polar_express_arrives_and_the_cubic_is_late(steps):
    press(steps, "Polar Express")
    assert steps.title == "Polar Express arrives: after 8 steps all 32 directions are within 0.01 of 1"
    press(steps, "cubic: slow at first")
    assert steps.title == "The cubic: 10 steps are too few for 13 of 32 directions"


def test_before_the_first_step_there_is_only_the_scaled_gradient(steps):
    steps.set(steps=0)
    _, (_, dots) = drawn(steps)
    np.testing.assert_allclose(dots, log_spaced(1e3) / np.linalg.norm(log_spaced(1e3)), rtol=1e-3)
    assert steps.title.startswith("Before the first step")


def looks_orthogonal_is_wrong(view):
    residual, alignment, error = numbers(
        r"Residual (\S+), alignment (\S+), relative error to the exact factor (\S+)\.", view
    )
    assert view.title.startswith("Looks orthogonal, is wrong: residual 0.00")
    assert residual < 0.012
    assert abs(alignment - 1) < 0.004
    return error


def test_make_it_lose_looks_orthogonal_and_is_wrong(steps):
    press(steps, "make it lose")
    assert looks_orthogonal_is_wrong(steps) == pytest.approx(0.5, abs=0.06)
    (x, curve), (dots_x, dots) = drawn(steps)
    assert curve[x > 2e-4].min() > 0.99  # without rounding the polynomials would have reached all of these
    assert dots[dots_x < 5e-4].max() < 0.9
    steps.set(precision="float32")
    assert numbers(r"exact factor (\S+)\.", steps)[0] < 0.02


def test_a_larger_matrix_deceives_as_well():
    generator = torch.Generator().manual_seed(0)
    U, _, Vh = torch.linalg.svd(torch.randn(64, 192, generator=generator), full_matrices=False)
    G = U * torch.logspace(0, -4, 64) @ Vh
    view = ov.widgets.newton_schulz(G, steps=10, table="Polar Express", precision="bfloat16")
    assert looks_orthogonal_is_wrong(view) > 0.45
    assert source(again(view, matrix=G)) == source(view)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_ones_own_matrix_is_shown_whatever_its_scale(scale):
    G = scale * torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    view = ov.widgets.newton_schulz(G)
    s, gains = iterated(G.numpy(), [JORDAN] * 5)
    _, (x, dots) = drawn(view)
    np.testing.assert_allclose(x, s, rtol=1e-4)
    np.testing.assert_allclose(dots, gains, atol=1e-3)
    assert code(view) == "ov.widgets.newton_schulz(matrix)"
    assert view._controls["condition"].layout.display == "none"


def test_directions_that_do_not_count_are_left_out():
    G = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    G[3] = G[4]
    view = ov.widgets.newton_schulz(G)
    assert "all 19 directions" in line(view)


def test_directions_below_the_usual_axis_lengthen_it():
    view = ov.widgets.newton_schulz(torch.diag(torch.tensor([1.0, 1e-2, 4e-6])))
    (x, _), (dots, _) = drawn(view)
    assert x[0] == pytest.approx(dots[-1], rel=1e-3) == pytest.approx(4e-6, rel=1e-3)


def test_a_result_that_is_not_finite_is_said_so(steps, monkeypatch):
    factor = ov.widgets.newton_schulz.__globals__["polar_factor"]
    broken = lambda G, *method: factor(G, *method) * (torch.inf if method else 1)  # noqa: E731
    monkeypatch.setitem(ov.widgets.newton_schulz.__globals__, "polar_factor", broken)
    view = ov.widgets.newton_schulz(precision="float16")
    assert view.title == "Jordan's quintic leaves float16's range: the result is not finite"
    assert "NaN or infinity" in line(view)


# flattening


@pytest.fixture
def flat():
    view = ov.widgets.flattening()
    yield view
    view.close()


def products(view):
    """O O^T and O^T O as they are drawn."""
    scene = view._draw.args[0](view.state["layer"] == "toy")
    return [np.array(heat.image.get_array()) for heat in scene.maps]


def nearest(matrix):
    U, _, Vh = np.linalg.svd(matrix, full_matrices=False)
    return U @ Vh


def tips(view, count):
    """Where the arrows end: the gradient's rows, and the step's."""
    arrows = view._draw.args[0](True).rows
    return [np.array([arrow.xy for arrow in kind[:count]]) for kind in (arrows.pale, arrows.strong)]


@pytest.mark.parametrize("rows", range(1, 9))
def test_the_arrows_are_the_rows_that_numpy_finds(flat, rows):
    flat.set(rows=rows)
    gradient, step = tips(flat, rows)
    np.testing.assert_allclose(np.linalg.norm(gradient, axis=1).max(), 1, rtol=1e-6)
    np.testing.assert_allclose(step, nearest(gradient), atol=1e-6)
    first, second = products(flat)
    np.testing.assert_allclose(first, step @ step.T, atol=1e-6)
    np.testing.assert_allclose(second, step.T @ step, atol=1e-6)


def test_from_two_to_three_filters_the_right_angle_breaks_and_the_columns_stay(flat):
    press(flat, "2 filters: a right angle")
    rows, columns = products(flat)
    np.testing.assert_allclose(rows, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(columns, np.eye(2), atol=1e-6)
    course = np.array([[1.6, 0.3], [1.2, 0.9]])
    np.testing.assert_allclose(tips(flat, 2)[1], nearest(course), atol=1e-6)
    press(flat, "3 filters: it breaks")
    rows, columns = products(flat)
    assert abs(rows[0, 1]) > 0.2
    assert numbers(r"O O\^T is up to (\S+) away", flat)[0] == pytest.approx(
        np.abs(rows - np.eye(3)).max(), abs=6e-3
    )
    np.testing.assert_allclose(columns, np.eye(2), atol=1e-6)
    assert flat.title == "More filters than dimensions: the rows cannot be orthogonal, so the columns are"


def mean_cosine(matrix):
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.abs((unit @ unit.T)[~np.eye(len(matrix), dtype=bool)]).mean()


def test_make_it_lose_eight_filters_stay_as_alike_as_they_were(flat):
    press(flat, "make it lose")
    gradient, step = tips(flat, 8)
    before, after = mean_cosine(gradient), mean_cosine(step)
    assert after > 0.95 * before > 0.5
    assert numbers(r"rows: (\S+) in the gradient, (\S+) in the step", flat) == [
        round(before, 2),
        round(after, 2),
    ]
    assert flat.title == (
        f"8 filters in 2 dimensions stay as alike as they were: mean |cos| {before:.2f}, then {after:.2f}"
    )


@pytest.mark.parametrize(
    ("layer", "rows", "columns", "orthonormal"),
    [
        ("BasicCNN's first", 32, 27, "columns"),
        ("1 x 1 expansion", 64, 16, "columns"),
        ("grouped", 32, 144, "rows"),
        ("transposed", 3, 64, "rows"),
    ],
)
def test_the_shorter_side_of_a_layers_matrix_is_orthonormal(flat, layer, rows, columns, orthonormal):
    flat.set(layer=layer)
    by_side = dict(zip(("rows", "columns"), products(flat), strict=True))
    assert [len(side) for side in by_side.values()] == [rows, columns]
    for side, found in by_side.items():
        assert np.allclose(found, np.eye(len(found)), atol=1e-5) == (side == orthonormal)
    assert flat._controls["rows"].layout.display == "none"


def test_a_group_is_a_matrix_of_its_own(flat):
    flat.set(layer="grouped")
    _, columns = products(flat)
    inside = np.kron(np.eye(8), np.ones((18, 18)))
    assert np.abs(columns[inside == 0]).max() == 0
    assert "4 rows in 18 dimensions, in each of 8 groups" in line(flat)


def test_the_first_convolution_has_basic_cnns_shape(flat):
    flat.set(layer="BasicCNN's first")
    m, n = basic_cnn(seed=0)[0].weight.flatten(1).shape
    assert f"{m} rows in {n} dimensions" in line(flat)


def test_one_filter_is_left_alone_as_param_groups_says(flat):
    flat.set(rows=1)
    [group] = ov.param_groups(torch.nn.Linear(2, 1, bias=False))
    assert group["layout"] is None
    assert "ov.param_groups leaves such a weight alone" in line(flat)


@pytest.mark.parametrize(
    ("shape", "bricks"),
    [((8, 3, 3, 3), 27), ((8, 20), 20), ((4, 5, 7), 35), ((4, 2, 2, 3, 3), 36), ((64, 512), 64)],
)
def test_a_filters_weights_are_bricks_and_then_a_row_in_the_same_order(shape, bricks):
    view = ov.widgets.flattening(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    drawn = view._draw.args[0](False).bricks.bricks
    colours, paths = drawn.get_facecolor(), drawn.get_paths()
    assert len(paths) == 2 * bricks
    np.testing.assert_array_equal(colours[:bricks], colours[bricks:])
    left = [path.vertices[:, 0].min() for path in paths[bricks:]]
    assert (np.diff(left) > 0).all()
    assert max(path.vertices[:, 0].max() for path in paths) <= 100


def test_a_module_brings_its_gradient_and_its_matrix():
    module = torch.nn.ConvTranspose2d(6, 4, 2, groups=2)
    weight_only = ov.widgets.flattening(module)
    module(torch.randn(2, 6, 5, 5)).square().sum().backward()
    view = ov.widgets.flattening(module)
    assert view.state["layer"] == "yours"
    assert source(view) != source(weight_only)
    # inputs (2 groups of 3), outputs of a group, kernel -> group, output, (input, kernel)
    groups = module.weight.grad.numpy().reshape(2, 3, 2, 4).transpose(0, 2, 1, 3).reshape(2, 2, 12)
    expected = np.zeros((24, 24))
    for i, group in enumerate(groups):
        part = slice(12 * i, 12 * i + 12)
        expected[part, part] = nearest(group).T @ nearest(group)
    np.testing.assert_allclose(products(view)[1], expected, atol=1e-5)
    assert source(again(view, weight=module)) == source(view)


def test_ones_own_weight_comes_first_and_the_built_in_layers_stay_at_hand():
    view = ov.widgets.flattening(torch.eye(3, 5))
    assert code(view) == "ov.widgets.flattening(weight)"
    assert "3 rows in 5 dimensions" in line(view)
    press(view, "make it lose")
    assert code(view) == "ov.widgets.flattening(weight, rows=8, layer='toy')"


def test_a_gradient_without_enough_directions_makes_neither_side_orthonormal():
    weight = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    weight[1:] = weight[0]
    view = ov.widgets.flattening(weight)
    assert view.title == "The gradient has too few directions: neither rows nor columns are orthonormal"


def test_of_a_large_matrix_the_first_rows_and_columns_are_shown():
    view = ov.widgets.flattening(torch.randn(300, 700, generator=torch.Generator().manual_seed(0)))
    assert [found.shape for found in products(view)] == [(256, 256)] * 2
    lines = [heat.line.get_text() for heat in view._draw.args[0](False).maps]
    assert lines[0] == "first 256 of 300, up to 0.00 from I"
    assert lines[1].startswith("first 256 of 700")


# dead_filters


@pytest.fixture
def dead():
    view = ov.widgets.dead_filters()
    yield view
    view.close()


def gradient(size):
    G = torch.randn(16, 60, generator=torch.Generator().manual_seed(0)).double().numpy()
    G[3] *= size
    return G


def bars(view):
    return np.array([bar.get_height() for bar in view._draw.args[0].bars])


@pytest.mark.parametrize("size", [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_the_bars_are_the_row_lengths_that_numpy_finds(dead, size):
    dead.set(size=size)
    np.testing.assert_allclose(bars(dead), np.linalg.norm(nearest(gradient(size)), axis=1), atol=1e-5)
    dead.set(method="Jordan")
    U, _, Vh = np.linalg.svd(gradient(size), full_matrices=False)
    _, gains = iterated(gradient(size), [JORDAN] * 5)
    np.testing.assert_allclose(bars(dead), np.linalg.norm(U * gains @ Vh, axis=1), atol=2e-3)


def test_the_question_is_the_title_until_the_gradient_fades(dead):
    assert dead.title == "What happens to a filter whose gradient fades?"
    assert "as long as the others': with drop its step has length 1.00" in line(dead)


def test_jordans_polynomial_lets_it_fade(dead):
    lengths = []
    for size in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0):
        dead.set(size=size, method="Jordan")
        lengths.append(bars(dead)[3])
    np.testing.assert_allclose(lengths, [0.69, 0.84, 0.094, 0.0094, 0.00094, 0], atol=6e-3)
    dead.set(size=1e-3)
    assert dead.title == "A few polynomial steps let a faint filter fade"


def test_at_exactly_zero_keep_still_takes_a_full_step_and_drop_none(dead):
    press(dead, "exactly 0, keep")
    assert bars(dead)[3] > 0.9
    assert dead.title == "No gradient at all, and still a step of full length, in a made-up direction"
    press(dead, "exactly 0, drop")
    assert bars(dead)[3] < 1e-6
    assert "exactly 0: with drop its step has length 0," in line(dead)
    np.testing.assert_allclose(np.delete(bars(dead), 3), 1, atol=1e-5)


def test_drop_cuts_where_the_direction_is_ten_epsilons_of_the_largest(dead):
    eps = np.finfo(np.float32).eps
    for size in (1e-5, 1e-6):
        s = np.linalg.svd(gradient(size), compute_uv=False)
        dead.set(size=size)
        assert (bars(dead)[3] > 0.9) == (s[-1] > 10 * eps * s[0])


def test_make_it_lose_gives_rounding_a_step_of_full_length(dead):
    press(dead, "make it lose")
    assert (dead.state["size"], dead.state["method"]) == (1e-5, "drop")
    assert bars(dead)[3] == pytest.approx(1, abs=1e-4)
    assert dead.title == "A gradient of 1e-5, hardly more than rounding, still takes a step of full length"


def test_the_marker_stands_on_its_line_also_at_exactly_zero(dead):
    scene = dead._draw.args[0]
    axes = scene.marker.axes
    for method in ("drop", "keep", "Jordan", "fast"):
        dead.set(size=0.0, method=method)
        x, y = scene.marker.get_data()
        assert y[0] == pytest.approx(bars(dead)[3])
        ends = [line.get_xydata() for line in axes.lines if line.get_marker() == "D"]
        assert any(np.allclose(end, [[x[0], y[0]]], atol=1e-6) for end in ends)
        assert axes.get_xlim()[0] < x[0] < -9 + 0.3  # a place of its own, left of 1e-8


def test_the_as_code_button_shows_the_call(dead):
    assert dead._call.layout.display == "none"
    button(dead, "as code").value = True
    press(dead, "exactly 0, keep")
    assert dead._call.layout.display == ""
    assert code(dead) == "ov.widgets.dead_filters(size=0, method='keep')"


def test_a_mini_batch_supports_the_stored_number_of_directions():
    view = ov.widgets.dead_filters(show="a mini-batch")
    stored = ov.training.results("rank_budget").set_index("batch_size")
    assert stored.possible.unique() == sum(  # the smaller sides of the network's matrices
        [8, *[8] * 4, *[16] * 4, 8, *[32] * 4, 16, *[64] * 4, 32, 10]
    )
    for size in stored.index:
        view.set(batch_size=int(size))
        given, possible = stored.loc[size, ["supported", "possible"]]
        assert f"have {given:.0f} of {possible:.0f} directions" in line(view)
        assert f"the other {possible - given:.0f}" in line(view)
    assert stored.supported.is_monotonic_increasing


def test_ones_own_gradient_fades_and_its_steps_are_those_of_numpy():
    gradient = torch.randn(6, 20, generator=torch.Generator().manual_seed(3))
    gradient[3] *= 1e4  # another length than the others
    view = ov.widgets.dead_filters(gradient, size=1e-2)
    G = gradient.double().numpy()
    lengths = np.linalg.norm(G, axis=1)
    G[3] *= 1e-2 * np.delete(lengths, 3).mean() / lengths[3]
    U, _, Vh = np.linalg.svd(G, full_matrices=False)
    steps = np.linalg.norm(U @ Vh, axis=1)
    assert f"with drop its step has length {steps[3]:.2f}" in line(view)
    assert f"{np.delete(steps, 3).min():.2f} to {np.delete(steps, 3).max():.2f}" in line(view)
    assert code(view) == "ov.widgets.dead_filters(gradient, size=0.01)"


@pytest.mark.parametrize(
    ("gradient", "match"),
    [
        (torch.ones(3, 5), "4 to 64 rows, got torch.float32 of shape"),
        (torch.ones(8, 3, 3, 3), "flatten"),
        (torch.full((8, 4), torch.nan), "NaN"),
        (torch.cat([torch.ones(3, 4), torch.zeros(2, 4)]), "row 3 of the gradient is zero"),
    ],
)
def test_a_gradient_that_cannot_fade_is_refused(gradient, match):
    with pytest.raises(ValueError, match=match):
        ov.widgets.dead_filters(gradient)
