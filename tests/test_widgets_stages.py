"""stage_spectra, cosine_film and filter_gallery: their numbers against the stored runs and the measures."""

import html
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import orthoviz as ov
from orthoviz.training.stored import folder
from orthoviz.widgets import cosine_film, filter_gallery, stage_spectra
from tests.test_widgets import line, presets, press, source, without_ghosts

FILM = {"conv 1": (32, 27), "conv 2": (32, 288), "conv 3": (32, 288), "head": (10, 512)}
SEEDED = torch.Generator()
WORSE = "orthogonal SGD's are more alike"


def code_of(view):
    return html.unescape(re.sub("<[^>]+>", "", view._call.value))


def shown(view):
    return {name for name, control in view._controls.items() if control.layout.display != "none"}


@pytest.fixture(scope="module", params=[stage_spectra, cosine_film, filter_gallery])
def view(request):
    view = request.param()
    yield view
    view.close()


# what the three share


CHANGES = {
    "step": dict(step=16),
    "order": dict(order="none"),
    "momentum": dict(momentum=0.5),
    "source": dict(source="noise alone"),
    "compare": dict(compare="equal lr"),
    "what": dict(what="feature maps"),
    "k": dict(k=20),
    "filters": dict(filters="random twin"),
    "run": dict(run="orthogonal SGD 0.03"),
    "layer": dict(layer="conv 3"),
}


def test_each_control_changes_picture_and_line_and_reset_brings_the_first_back(view):
    press(view, "reset")
    first, said = source(view), line(view)
    for name in view.state.keys() - {"guess"}:
        view.set(**CHANGES[name])
        assert source(view) != first, name
        assert line(view) != said, name
        assert f'alt="{html.escape(line(view), quote=True)}"' in view.picture.value
        press(view, "reset")
    assert (source(view), line(view)) == (first, said)


def test_every_preset_is_another_state_that_the_code_makes_again(view):
    seen = set()
    row = presets(view)
    assert 4 <= len(row) <= 6
    for preset in row:
        preset.click()
        assert 'role="alert"' not in view._line.value, preset.description
        seen.add(source(view))
        assert source(eval(code_of(view), {"ov": ov})) == without_ghosts(view), preset.description
    assert len(seen) == len(row)
    press(view, "reset")


def test_at_most_three_controls_stand_outside_more(view):
    assert len(shown(view)) <= 4
    more = next(child for child in view.children if hasattr(child, "titles"))
    assert len(more.children[0].children) == 1


# stage_spectra


def stored(order, momentum, step, stage):
    table = ov.training.results("stages")
    rows = table[(table.order == order) & (table.momentum == momentum) & (table.step == step)]
    return rows[rows.stage == stage].sort_values("index").value.to_numpy()


def test_the_meter_says_what_is_stored():
    values = stored("before_momentum", 0.9, 8, "momentum")
    agree = sum(0.9**i for i in range(9))
    view = stage_spectra()
    assert f"singular values are {values[-1]:.2f} to {values[0]:.2f}" in line(view)
    assert f"9 gradients that agree give {agree:.2f}" in line(view)
    assert view.state["momentum"] == 0.9


def test_the_buffer_of_noise_and_of_one_direction():
    generator = torch.Generator().manual_seed(0)
    u, v = (nn.functional.normalize(torch.randn(n, generator=generator), dim=0) for n in (32, 288))
    noise = torch.randn(49, 32, 288, generator=generator)
    weights = 0.9 ** torch.arange(48, -1, -1)

    def buffer(gradients):
        factors = ov.polar_factor(gradients)
        return ov.measures.singular_values(torch.einsum("t,tij->ij", weights, factors)).numpy()

    view = stage_spectra(step=48, source="noise alone")
    s = buffer(noise)
    assert f"are {s[-1]:.2f} to {s[0]:.2f}" in line(view)
    unrelated = (1 - 0.9**2) ** -0.5
    assert s[-1] < unrelated < s[0] < 3.5
    press(view, "one persistent direction")
    one = buffer(noise + 40 * torch.outer(u, v))
    assert f"are {one[-1]:.2f} to {one[0]:.2f}" in line(view)
    assert 9 < one[0] < 10
    assert one[1] < 3.5
    assert f"noise alone {s[-1]:.2f} to {s[0]:.2f}" in line(view)


def test_at_first_steps_agree_and_an_epoch_later_they_are_little_more_than_noise():
    view = stage_spectra()
    values = {}
    for preset in ("at first steps agree", "an epoch later"):
        press(view, preset)
        found = re.search(r"to ([\d.]+);.* give ([\d.]+), noise alone [\d.]+ to (\d+\.\d+)\.", line(view))
        values[preset] = map(float, found.groups())
    high, agree, _ = values["at first steps agree"]
    assert high > 0.9 * agree
    high, agree, noise = values["an epoch later"]
    assert noise < high < 1.3 * noise
    assert high < 0.4 * agree


def test_the_meter_is_blind_after_momentum():
    view = stage_spectra()
    press(view, "make it lose")
    assert view.state["order"] == "after_momentum"
    flat = stored("after_momentum", 0.9, 48, "orthogonal")
    assert np.allclose(flat, 1, atol=1e-3)
    assert "the orthogonalised step's are 1.00 to 1.00" in line(view)
    buffer, raw = (stored("after_momentum", 0.9, 48, stage) for stage in ("momentum", "raw"))
    assert f"{buffer[-1] / raw[0]:.2f} to {buffer[0] / raw[0]:.2f} times the gradient's largest" in line(view)


def test_without_momentum_there_is_no_buffer():
    assert "there is no buffer" in line(stage_spectra(momentum=0))


@pytest.fixture(scope="module")
def watched():
    """A frame of a small network's run, with all its layers."""
    model = ov.models.digits_cnn(seed=0)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    stages = [f"{stage}.singular_values" for stage in ("raw", "orthogonal", "momentum")]
    data = ov.datasets.load("digits")
    with ov.watch(model, optimizer, quantities=stages) as monitor:
        for images, labels in list(ov.datasets.batches(data, 64, seed=0, epoch=1))[:3]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return monitor.frame()


def test_ones_own_frame(watched):
    layer = watched.layer.unique()[1]
    frame = watched[watched.layer == layer]
    view = stage_spectra(frame)
    rows = frame[(frame.step == 2) & (frame.stage == "momentum") & (frame.quantity == "singular_values")]
    assert line(view).startswith("Step 2, before momentum, momentum 0.9")
    assert f"are {rows.value.min():.2f} to {rows.value.max():.2f}" in line(view)
    before = source(view)
    press(view, "first")
    assert source(view) != before
    assert line(view).startswith("Step 0")
    assert code_of(view) == "ov.widgets.stage_spectra(data, step=0)"
    assert source(eval(code_of(view), {"ov": ov, "data": frame})) == source(view)
    assert shown(view) == {"step"}


def test_a_frame_that_cannot_be_shown_is_refused(watched):
    frame = watched[watched.layer == watched.layer.unique()[0]]
    for wrong, message in (
        (watched, "data must be of one layer"),
        (frame.drop(columns="stage"), "no stage"),
        (frame[frame.quantity == "rows"], "singular_values"),
        (frame[frame.stage != "raw"], "singular_values"),
        (pd.concat([frame, frame]), "data must be of one run"),
    ):
        with pytest.raises(ValueError, match=message):
            stage_spectra(wrong)
    with pytest.raises(ValueError, match="step must be one of 0, 1, 2, got 7"):
        stage_spectra(frame, step=7)
    with pytest.raises(ValueError, match="momentum must be from 0 to 1"):
        stage_spectra(frame, momentum=1.0)


# cosine_film


def film(optimizer, lr, layer, stage, quantity):
    """Each seed's value at the end."""
    table = ov.training.results("filters")
    rows = table[(table.optimizer == optimizer) & (table.lr == lr) & (table.layer == layer)]
    rows = rows[(rows.stage == stage) & (rows.quantity == quantity)]
    return rows[rows.step == rows.step.max()].value


def best(optimizer):
    table = ov.training.results("filters")
    rows = table[(table.optimizer == optimizer) & (table.quantity == "test_accuracy")]
    return rows[rows.step == rows.step.max()].groupby("lr").value.mean().idxmax()


@pytest.mark.parametrize("compare", ["equal lr", "best lr of each"])
@pytest.mark.parametrize("layer", FILM)
def test_the_film_ends_where_the_runs_end(compare, layer):
    text = line(cosine_film(compare=compare, layer=layer))
    for name in ("SGD", "orthogonal SGD"):
        lr = 0.01 if compare == "equal lr" else best(name)
        mean = film(name, lr, layer, "weight", "mean_abs_cosine").mean()
        assert f"{mean:.3f} with {name} (lr {lr:g})" in text
    chance = ov.measures.random_cosine(*FILM[layer])
    low, high = chance.mean - 2 * chance.deviation, chance.mean + 2 * chance.deviation
    assert f"random ones have {low:.3f} to {high:.3f}" in text


def test_feature_maps_compare_with_one_over_pi():
    text = line(cosine_film(what="feature maps", layer="conv 1", compare="equal lr"))
    assert f"unrelated maps have {1 / math.pi:.3f}" in text
    mean = film("SGD", 0.01, "conv 1", "activation", "feature_cosine").mean()
    assert f"{mean:.3f} with SGD" in text


def test_the_head_has_no_feature_maps():
    view = cosine_film(layer="head")
    view.set(what="feature maps")
    assert view.title == "The head has no feature maps"
    assert line(view) == "Choose filters, or a convolution."
    with pytest.raises(ValueError, match="layer must be a convolution"):
        cosine_film(layer="head", what="feature maps")


def test_the_answer_changes_sign_with_the_learning_rate():
    view = cosine_film()
    for layer in ("conv 1", "conv 2", "conv 3"):
        view.set(compare="best lr of each", layer=layer)
        assert "orthogonal SGD's are less alike, on every seed" in line(view)
        view.set(compare="equal lr")
        assert WORSE in line(view)
    for compare in ("best lr of each", "equal lr"):
        view.set(compare=compare, layer="head")
        assert WORSE in line(view)  # there it does not


def test_the_film_can_lose():
    view = cosine_film()
    press(view, "make it lose")
    state = view.state
    rates = {
        name: 0.01 if state["compare"] == "equal lr" else best(name) for name in ("SGD", "orthogonal SGD")
    }
    sgd, orthogonal = (
        film(name, lr, state["layer"], "weight", "mean_abs_cosine") for name, lr in rates.items()
    )
    assert orthogonal.min() > 1.2 * sgd.max()
    assert WORSE in line(view)


def test_a_guess_is_judged():
    view = cosine_film(compare="equal lr")
    values = {
        n: film(n, 0.01, "conv 2", "weight", "mean_abs_cosine").mean() for n in ("SGD", "orthogonal SGD")
    }
    assert "guess" not in line(view)
    for name in values:
        view.set(guess=name)
        right = values[name] == max(values.values())
        assert line(view).endswith(f"Your guess was {name}: {'right' if right else 'wrong'}.")
    view.set(what="feature maps")
    assert line(view).endswith("the seeds cannot tell.")


# filter_gallery


def alike(matrix):
    """|cos| of every two rows, the most alike first."""
    cosine = ov.measures.cosine_matrix(matrix).numpy()
    return np.sort(np.abs(cosine[np.triu_indices(len(cosine), 1)]))[::-1]


def said(view):
    """The pair's cosine, and the band of random ones."""
    return map(
        float, re.search(r"cosine of (-?[\d.]+);.*\(([\d.]+) to ([\d.]+) in 90 %", line(view)).groups()
    )


@pytest.mark.parametrize("layer", FILM)
def test_the_gallery_finds_the_pairs_of_the_stored_weights(layer):
    weights = load_file(folder("filters") / "weights.safetensors")
    for run in ("SGD 0.01", "orthogonal SGD 0.03"):
        matrix = weights[f"{run}/{layer}"].float()
        assert matrix.shape == FILM[layer]
        for k in (1, 20):
            cosine, *_ = said(filter_gallery(layer=layer, run=run, k=k))
            assert abs(cosine) == pytest.approx(alike(matrix)[k - 1], abs=6e-4)


def test_the_band_of_random_pairs():
    generator = torch.Generator().manual_seed(7)
    most = [alike(torch.randn(32, 27, generator=generator))[0] for _ in range(400)]
    _, low, high = said(filter_gallery())
    assert (low, high) == pytest.approx(tuple(np.quantile(most, (0.05, 0.95))), abs=0.02)
    assert (low, high) == pytest.approx((0.51, 0.67), abs=0.015)


def test_trained_filters_are_more_alike_than_chance_and_where_it_loses_they_are_not():
    view = filter_gallery()
    cosine, _, high = said(view)
    assert abs(cosine) > high
    press(view, "make it lose")
    assert view.state["filters"] == "trained"
    cosine, low, high = said(view)
    assert low <= abs(cosine) <= high
    press(view, "its random twin")
    cosine, low, high = said(view)
    assert low <= abs(cosine) <= high
    assert abs(cosine) == pytest.approx(
        alike(torch.randn(32, 27, generator=SEEDED.manual_seed(2)))[0], abs=6e-4
    )


def test_ones_own_filters():
    weight = torch.randn(12, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[7] = -2 * weight[3]
    weight[5] = 0
    view = filter_gallery(weight)
    cosine, *_ = said(view)
    assert cosine == -1
    view.set(k=2)
    cosine, *_ = said(view)
    assert abs(cosine) < 0.9
    assert abs(cosine) == pytest.approx(alike(weight.flatten(1)[torch.arange(12) != 5])[1], abs=6e-4)
    assert code_of(view) == "ov.widgets.filter_gallery(weight, k=2)"
    assert source(eval(code_of(view), {"ov": ov, "weight": weight})) == without_ghosts(view)
    flat = filter_gallery(weight.flatten(1))
    cosine, *_ = said(flat)
    assert cosine == -1
    assert shown(view) == {"k", "filters"}
    assert max(value for value in view._controls["k"].options) == 50


def test_of_many_filters_the_first_are_shown_and_small_layers_have_fewer_pairs():
    weight = torch.randn(100, 20, generator=torch.Generator().manual_seed(0))
    cosine, *_ = said(filter_gallery(weight))
    assert abs(cosine) == pytest.approx(alike(weight[:64])[0], abs=6e-4)
    view = filter_gallery(layer="head", k=200)
    assert line(view).startswith("The 45th most alike pair of head's filters")


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (stage_spectra, dict(order="before")),
        (stage_spectra, dict(momentum=0.7)),
        (stage_spectra, dict(step=3)),
        (stage_spectra, dict(source="noise")),
        (cosine_film, dict(compare="lr")),
        (cosine_film, dict(layer="conv 4")),
        (cosine_film, dict(what="maps")),
        (filter_gallery, dict(k=4)),
        (filter_gallery, dict(filters="twin")),
        (filter_gallery, dict(layer="conv 4")),
        (filter_gallery, dict(run="Adam")),
        (filter_gallery, dict(weight=torch.zeros(4, 3))),
        (filter_gallery, dict(weight=torch.ones(3))),
        (filter_gallery, dict(weight=torch.ones(4, 3, dtype=torch.int64))),
        (filter_gallery, dict(weight=torch.full((4, 3), torch.nan))),
    ],
    ids=str,
)
def test_what_cannot_be_shown_is_refused(make, options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} (must|holds)"):
        make(**options)


def my_run(seed):
    data = ov.datasets.load("digits")
    model = ov.models.digits_cnn(seed=seed)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    with ov.watch(model, optimizer, every=3, run="mine", seed=seed) as monitor:
        ov.training.fit(model, optimizer, data, epochs=1, batch_size=256, monitor=monitor, progress=False)
    return monitor.frame(), model


def test_ones_own_runs_in_the_film():
    (one, first), (two, _) = my_run(0), my_run(1)
    frame = ov.monitor.join(one, two)
    view = cosine_film(frame, layer="3.weight")
    ends = []
    for monitored in (one, two):
        rows = monitored.query("layer == '3.weight' and quantity == 'mean_abs_cosine' and stage == 'weight'")
        ends.append(rows.sort_values("step").value.iloc[-1])
    assert f"mine {np.mean(ends):.3f}" in line(view)
    rows, columns = first.get_parameter("3.weight").flatten(1).shape
    chance = ov.measures.random_cosine(rows, columns)
    low, high = chance.mean - 2 * chance.deviation, chance.mean + 2 * chance.deviation
    assert f"random filters {low:.3f} to {high:.3f}" in line(view)
    assert code_of(view) == "ov.widgets.cosine_film(data, layer='3.weight')"
    picture = source(view)
    view.set(layer="6.weight")
    assert source(view) != picture


def test_maps_alone_are_a_film_too():
    frame = pd.DataFrame(
        [
            (0, "3.weight", "activation", "feature_cosine", 0.3),
            (9, "3.weight", "activation", "feature_cosine", 0.4),
        ],
        columns=["step", "layer", "stage", "quantity", "value"],
    )
    assert "feature maps" in line(cosine_film(frame))


def test_a_frame_without_cosines_is_no_film():
    with pytest.raises(ValueError, match="got neither"):
        cosine_film(my_run(0)[0].query("quantity == 'singular_values'"))
    with pytest.raises(ValueError, match="what must be one of 'filters', got 'feature maps'"):
        cosine_film(my_run(0)[0], what="feature maps")
    with pytest.raises(ValueError, match="needs a column layer"):
        cosine_film(my_run(0)[0].drop(columns="layer"))
