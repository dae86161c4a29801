"""cosine_film: its numbers against the stored runs, the measures and runs of one's own."""

import itertools

import ipywidgets
import numpy as np
import pandas as pd
import pytest

import orthoviz as ov
from orthoviz.plots import COLOURS
from orthoviz.widgets import cosine_film
from tests.views import again, code, line, points, press, source, watched

pytestmark = pytest.mark.slow

FILM = {"conv 1": (32, 27), "conv 2": (32, 288), "conv 3": (32, 288), "head": (10, 512)}
KINDS = {"filters": ("weight", "mean_abs_cosine"), "feature maps": ("activation", "feature_cosine")}
NAMES, RULES = ("sgd", "orthogonal_sgd"), ("equal lr", "best lr of each")
MORE, LESS = (
    "orthogonal SGD's are more alike, on every seed",
    "orthogonal SGD's are less alike, on every seed",
)


def film(name, compare, layer, what="filters"):
    """The seeds' values, a row a step, and the learning rate."""
    runs = ov.training.results("filters").query("optimizer == @name")
    accuracy = runs[(runs.quantity == "test_accuracy") & (runs.step == runs.step.max())]
    lr = 0.01 if compare == "equal lr" else accuracy.groupby("lr").value.mean().idxmax()
    rows = runs[(runs.lr == lr) & (runs.layer == layer) & (runs.quantity == KINDS[what][1])]
    return rows.pivot(index="step", columns="seed", values="value").to_numpy(), lr


def band(rows, columns):
    """What random filters have, in words."""
    mean, deviation = ov.measures.random_cosine(rows, columns)
    return f"{mean - 2 * deviation:.3f} to {mean + 2 * deviation:.3f}"


@pytest.mark.parametrize("compare", RULES)
def test_the_film_shows_what_the_runs_did(compare):
    view, (other,) = cosine_film(compare=compare), set(RULES) - {compare}
    for layer, what in set(itertools.product(FILM, KINDS)) - {("head", "feature maps")}:
        view.set(layer=layer, what=what)
        for name in NAMES:
            seeds, lr = film(name, compare, layer, what)
            assert f"{seeds[-1].mean():.3f} with {ov.optim.LABELS[name]} (lr {lr:g})" in line(view)
            epochs, drawn = points(view, color=COLOURS[name], linewidth=2.4)
            assert (epochs[0], epochs[-1]) == (0, 5)
            assert drawn == pytest.approx(seeds.mean(axis=1))
            _, pale = points(view, color=COLOURS[name], alpha=0.4)
            assert pale == pytest.approx(film(name, other, layer, what)[0].mean(axis=1))
        chance = {"filters": f"random ones have {band(*FILM[layer])};", "feature maps": "maps have 0.318;"}
        assert chance[what] in line(view)  # 0.318 is 1/pi


def test_the_head_has_no_feature_maps():
    view = cosine_film(layer="head")
    view.set(what="feature maps")
    assert (view.title, line(view)) == ("The head has no feature maps", "Choose filters, or a convolution.")
    assert source(again(view)) == source(view)


def test_the_answer_changes_sign_with_the_learning_rate():
    view = cosine_film()
    for layer in FILM:
        view.set(compare="equal lr", layer=layer)
        assert MORE in line(view)
        view.set(compare="best lr of each")
        assert (MORE if layer == "head" else LESS) in line(view)
        assert ("does not matter" if layer == "head" else "changes sign") in view.title


def test_it_loses_where_orthogonal_filters_are_more_alike_by_the_largest_part():
    view = cosine_film()
    press(view, "make it lose")
    states = itertools.product(RULES, FILM)
    ends = {state: [film(name, *state)[0][-1] for name in NAMES] for state in states}
    worst = max(ends, key=lambda state: ends[state][1].mean() / ends[state][0].mean())
    assert [*view.state.values()] == [*worst, "filters", "skip"]
    assert ends[worst][1].min() > 1.2 * ends[worst][0].max()
    assert MORE in line(view)


def test_a_guess_is_judged():
    view = cosine_film(compare="equal lr")
    assert view._inputs["guess"].get_state()["_options_labels"] == ("skip", "SGD", "orthogonal SGD")
    assert MORE in line(view)
    for name, judged in zip(NAMES, ("wrong", "right"), strict=True):
        view.set(guess=name)
        assert line(view).endswith(f"Your guess was {ov.optim.LABELS[name]}: {judged}.")
        assert code(view) == f"ov.widgets.cosine_film(compare='equal lr', guess='{name}')"
    view.set(what="feature maps")
    assert line(view).endswith("the seeds cannot tell.")


def test_ones_own_runs():
    both = [watched("weight.mean_abs_cosine", seed=seed) for seed in (0, 1)]
    frame = ov.monitor.join(*both)
    view = cosine_film(frame, layer="3.weight")
    rows = [run[(run.layer == "3.weight") & (run.quantity == "mean_abs_cosine")].value for run in both]
    assert f"mine {np.mean([values.iloc[-1] for values in rows]):.3f}" in line(view)
    shape = ov.models.digits_cnn().get_parameter("3.weight").flatten(1).shape
    assert f"random filters {band(*shape)}" in line(view)
    assert code(view) == "ov.widgets.cosine_film(data, layer='3.weight')"
    assert source(again(view, data=frame)) == source(view)
    assert list(view.state) == ["layer", "what"]


def cosines(layers, what="filters"):
    rows = [(step, layer, *KINDS[what], 0.3 + step / 90) for layer in layers for step in (0, 9)]
    return pd.DataFrame(rows, columns=["step", "layer", "stage", "quantity", "value"])


def test_maps_alone_are_a_film_too_and_a_layer_may_lack_them():
    maps, start = cosines("b", "feature maps"), "mean absolute cosine in the end: your run 0.400"
    assert line(cosine_film(maps)) == f"b, feature maps, {start}, chance: 0.318."
    view = cosine_film(pd.concat([cosines("a"), maps]))
    assert line(view) == f"a, filters, {start}."  # chance is unknown without the shape
    view.set(layer="b")
    assert view.title == "There are no filters of b in this frame"


def test_the_layers_of_a_large_model_stand_on_a_slider():
    few, many = (cosine_film(cosines("abcdefghi"[:n])) for n in (8, 9))
    assert isinstance(few._inputs["layer"], ipywidgets.ToggleButtons)
    assert isinstance(many._inputs["layer"], ipywidgets.SelectionSlider)
