"""The views in the kernel: their numbers against NumPy, their controls, their threads."""

import base64
import html
import io
import re
import threading
import time
from xml.etree import ElementTree

import ipywidgets
import numpy as np
import pytest
import torch
from IPython.core.formatters import format_display_data
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import orthoviz as ov
from orthoviz.widgets import core
from orthoviz.widgets.stage import Picture, Stage

G = np.array([[1.6, 0.3], [1.2, 0.9]])


def source(view):
    """The picture's bytes, from what the browser gets."""
    return base64.b64decode(re.search(r'base64,([^"]+)"', view.picture.value).group(1))


def line(view):
    return html.unescape(re.sub(r"<[^>]+>", "", view._line.value))


def button(view, label):
    return next(b for row in view.children for b in row_of(row) if b.description == label)


def presets(view):
    """The buttons that set a state, reset left out."""
    return [b for b in view.children[1].children if type(b) is ipywidgets.Button and b.description != "reset"]


def without_ghosts(view):
    """The picture that a view shows which has no earlier states."""
    view.forget()
    view.redraw()
    return source(view)


def row_of(row):
    return [
        b for b in getattr(row, "children", ()) if isinstance(b, (ipywidgets.Button, ipywidgets.ToggleButton))
    ]


def press(view, label):
    button(view, label).click()


@pytest.fixture
def lab():
    view = ov.widgets.polar_lab()
    yield view
    view.close()


# polar_lab


def test_the_picture_is_a_png_of_the_announced_width_with_alternative_text(lab):
    image = Image.open(io.BytesIO(source(lab)))
    assert image.format == "PNG"
    assert image.width == 1.5 * 900
    assert f'alt="{html.escape(line(lab), quote=True)}"' in lab.picture.value


def test_it_says_the_singular_values_that_numpy_finds(lab):
    first, second = np.linalg.svd(G, compute_uv=False)
    lab.set(p=0.5)
    assert f"axes of {first:.2f} and {second:.2f}" in line(lab)
    assert f"they are {first**0.5:.2f} and {second**0.5:.2f}" in line(lab)
    lab.set(p=0.0)
    assert "they are 1.00 and 1.00" in line(lab)


def test_the_game_knows_the_nearest_pair(lab):
    press(lab, "game: find it by hand")
    U, _, Vh = np.linalg.svd(G)
    best = U @ Vh
    turn = np.degrees(np.arctan2(best[0, 1], best[0, 0]))
    lab.set(turn=round(turn), reveal=True)
    assert "Your orthonormal pair is 1.259 from G." in line(lab)
    assert f"The polar factor: {np.linalg.norm(G - best):.3f}" in line(lab)
    q, r = np.linalg.qr(G.T)
    gram_schmidt = (q * np.sign(np.diag(r))).T
    assert f"Gram-Schmidt: {np.linalg.norm(G - gram_schmidt):.3f}" in line(lab)
    assert "1.522" in line(lab)


def test_one_degree_apart_the_difference_grows_81_times(lab):
    press(lab, "make it lose")
    apart = np.sqrt(2) / (2 * np.sin(np.radians(0.5)))
    assert f"{apart:.1f} times" in line(lab)
    assert round(apart) == 81


def test_every_control_changes_the_picture_and_reset_brings_the_first_back(lab):
    first = source(lab)
    for change in (dict(p=0.3), dict(angle=80.0), dict(p=1.0, show_factor=True), dict(numbers="1 0; 1 1")):
        before = source(lab)
        lab.set(**change)
        assert source(lab) != before, change
    press(lab, "game: find it by hand")
    for change in (dict(turn=30), dict(flip=True), dict(reveal=True)):
        before = source(lab)
        lab.set(**change)
        assert source(lab) != before, change
    press(lab, "reset")
    assert source(lab) == first


def test_at_most_three_controls_are_shown_and_they_are_the_ones_that_work(lab):
    def shown():
        return {name for name, control in lab._controls.items() if control.layout.display != "none"}

    assert shown() == {"numbers", "p", "angle", "show_factor"}  # the numbers stand under "more"
    press(lab, "game: find it by hand")
    assert shown() == {"numbers", "turn", "flip", "reveal"}
    press(lab, "reset")
    assert shown() == {"numbers", "p", "angle", "show_factor"}


def test_the_same_state_gives_the_same_picture(lab):
    press(lab, "half way")
    other = ov.widgets.polar_lab(p=0.5)
    assert (source(other), line(other)) == (without_ghosts(lab), line(lab))


def test_as_code_makes_the_view_that_is_shown(lab):
    lab.set(p=0.35, angle=40.0, show_factor=True)
    code = html.unescape(re.sub("<[^>]+>", "", lab._call.value))
    assert code == "ov.widgets.polar_lab(angle=40, p=0.35, show_factor=True)"
    assert source(eval(code, {"ov": ov})) == without_ghosts(lab)
    press(lab, "make it lose")
    code = html.unescape(re.sub("<[^>]+>", "", lab._call.value))
    assert code == "ov.widgets.polar_lab(torch.tensor([[1, 0], [0, 1]]), angle=1)"
    assert source(eval(code, {"ov": ov, "torch": torch})) == without_ghosts(lab)
    started = ov.widgets.polar_lab(p=1.0)
    assert "polar_lab(p=1)" in started._call.value
    assert lab._call.layout.display == "none"
    button(lab, "as code").value = True
    assert lab._call.layout.display == ""


@pytest.mark.parametrize(
    "numbers", ["", "1 2", "1 2; 3", "a b; c d", "nan 1; 1 1", "0 0; 1 1", "1 2; 3 4; 5 6"]
)
def test_wrong_numbers_are_told_and_the_last_picture_stays(lab, numbers):
    before = source(lab)
    lab.set(numbers=numbers)
    assert 'role="alert"' in lab._line.value
    assert "Traceback" not in line(lab)
    assert source(lab) == before
    lab.set(numbers="1 0; 1 1")
    assert 'role="status"' in lab._line.value


@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_ones_own_gradient_is_shown_in_the_plane_of_its_rows(scale):
    rows = scale * torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    view = ov.widgets.polar_lab(rows, p=1.0)
    first, second = np.linalg.svd(rows.numpy(), compute_uv=False)
    assert f"shown at {2.2 / first:.2g} times its size" in line(view)
    assert f"axes of 2.20 and {2.2 * second / first:.2f}" in line(view)


@pytest.mark.parametrize(
    "matrix", [torch.ones(3, 2), torch.ones(2), torch.full((2, 2), torch.nan), torch.zeros(2, 2)]
)
def test_a_matrix_that_cannot_be_shown_is_refused(matrix):
    with pytest.raises(ValueError, match="matrix"):
        ov.widgets.polar_lab(matrix)


def test_typed_rows_come_with_their_own_angle(lab):
    press(lab, "the gradient")
    lab.set(numbers="1 0; 0 1")
    assert lab.state["angle"] == 90
    assert "axes of 1.00 and 1.00" in line(lab)


@pytest.mark.parametrize("game", [False, True])
def test_parallel_rows_have_one_direction(lab, game):
    lab.set(numbers="1 0; 1 0", game=game, reveal=True)
    assert 'role="status"' in lab._line.value
    if not game:
        assert "they are 1.00 and 0.00" in line(lab)


def test_a_closed_view_leaves_no_widget_behind():
    instances = ipywidgets.widgets.widget._instances
    before = set(instances)
    view = ov.widgets.polar_lab()
    assert len(instances) > len(before) + 20
    view.close()
    left = [instances[key] for key in set(instances) - before]
    assert not [widget for widget in left if isinstance(widget, ipywidgets.DOMWidget)]


def test_a_name_that_the_state_lacks_is_refused(lab):
    with pytest.raises(ValueError, match="the view has no angel"):
        lab.set(angel=40)


def test_without_a_kernel_a_view_is_its_picture_with_a_caption(lab):
    data, _ = format_display_data(lab)
    assert "<figcaption>" in data["text/html"]
    assert base64.b64encode(source(lab)).decode() in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_an_error_in_drawing_is_shown_in_the_view():
    def draw(state):
        if state["x"]:
            raise RuntimeError("the pencil broke")
        return Picture(Stage(Figure()), [], "a title", "fine")

    view = core.View("none", draw, {"x": ipywidgets.Checkbox(False)})
    view.set(x=True)
    assert "the pencil broke" in line(view)


def test_earlier_states_stay_as_ghosts_until_reset(lab):
    lab.set(p=0.5)
    ghosted = source(lab)
    assert ghosted != source(ov.widgets.polar_lab(p=0.5))
    assert without_ghosts(lab) == source(ov.widgets.polar_lab(p=0.5))
    press(lab, "reset")
    assert source(lab) == source(ov.widgets.polar_lab())


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_is_saved_with_its_title_and_only_what_is_shown(lab, kind, tmp_path):
    path = tmp_path / f"lab.{kind}"
    before = source(lab)
    lab.save(path)
    assert without_ghosts(lab) == before  # saving leaves the picture as it was
    if kind == "png":
        width, height = Image.open(path).size
        shown = Image.open(io.BytesIO(before))
        assert height / width > shown.height / shown.width  # the title stands above
    else:
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        comments = re.findall(r"<!-- (.*?) -->", path.read_text())
        assert lab.title in comments
        assert "row 1" in comments
        assert not any("Your" in comment for comment in comments)
        steps = ov.widgets.newton_schulz()
        steps.save(path)
        assert "residual" in path.read_text()  # it stands outside the axes


def test_of_a_state_that_cannot_be_drawn_the_picture_that_is_shown_is_saved(lab, tmp_path):
    lab.save(tmp_path / "before.png")
    lab.set(numbers="1 x")
    assert 'role="alert"' in lab._line.value
    lab.save(tmp_path / "after.png")
    button(lab, "save").value = True
    assert "download" in lab._files.value
    assert (tmp_path / "after.png").read_bytes() == (tmp_path / "before.png").read_bytes()


def test_what_passes_is_gone_though_the_picture_could_not_be_made():
    figure = Figure()
    ax = figure.subplots()

    class Torn(Stage):
        def png(self, moving=()):
            raise RuntimeError("the paper tore")

    view = core.View("none", lambda state: Picture(Torn(figure), [], "", "", passing=ax.plot([1, 2])), {})
    assert "the paper tore" in line(view)
    assert not ax.lines


def test_a_picture_of_another_kind_is_refused(lab, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg"):
        lab.save(tmp_path / "lab.gif")


def test_the_lecture_theme_is_larger_and_darker_and_ends(lab):
    pale = Image.open(io.BytesIO(source(lab)))
    ov.widgets.theme("lecture")
    try:
        view = ov.widgets.polar_lab()
    finally:
        ov.widgets.theme()
    large = Image.open(io.BytesIO(source(view)))
    assert large.width > pale.width
    assert "orthoviz-lecture" in view._dom_classes
    greys = [{c[:3] for _, c in i.getcolors(1 << 20) if c[0] == c[1] == c[2]} for i in (pale, large)]
    assert (0xBB,) * 3 in greys[0] - greys[1]
    assert (255,) * 3 in greys[1]
    with pytest.raises(ValueError, match="theme must be one of 'notebook', 'lecture'"):
        ov.widgets.theme("night")


# race


@pytest.fixture
def race():
    view = ov.widgets.race(epochs=2)
    yield view
    view.close()


def long_race():
    """A race that would take minutes, on images that do not start by themselves."""
    data = ov.datasets.load("digits")
    images = torch.nn.functional.pad(data.train.images, (4, 4, 4, 4)).repeat(1, 3, 2, 2)
    split = ov.datasets.Split(images, data.train.labels)
    big = ov.datasets.Dataset("big", data.classes, split, split, (0.3,) * 3, (0.4,) * 3, False, "made here")
    return ov.widgets.race(big, epochs=500)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "orthoviz-view"]


def wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_a_race_ends_where_the_training_loop_ends(race):
    for name, make in (("SGD", torch.optim.SGD), ("orthogonal SGD", ov.OrthogonalSGD)):
        model = ov.models.digits_cnn(seed=0)
        optimizer = make(ov.param_groups(model), lr=0.01, momentum=0.9, weight_decay=5e-4)
        run = ov.training.fit(model, optimizer, ov.datasets.load("digits"), epochs=2, seed=0, progress=False)
        lane = next(lane for lane in race.state["lanes"] if lane.name == name)
        assert lane.accuracy[-1] == run.history.test_accuracy.iloc[-1]
        assert f"{name} at lr 0.01: {lane.accuracy[-1]:.3f}" in line(race)


def test_races_are_kept_and_pale_and_the_axis_can_be_seconds(race):
    race.set(lr_first=0.1)
    press(race, "start")
    wait(lambda: not race.working)
    lanes = race.state["lanes"]
    assert [lane.lr for lane in lanes] == [0.01, 0.01, 0.1, 0.01]
    assert all(lane.finished for lane in lanes)
    said = line(race)
    assert "Best of 2 finished races: not separated by one run each" in said
    before = source(race)
    race.set(axis="seconds")
    assert source(race) != before


def test_the_score_is_a_comparisons_sentence_once_there_are_two_seeds(race):
    assert list(race.frame.optimizer.unique()) == ["SGD", "orthogonal SGD"]
    race.set(seed=1)
    press(race, "start")
    wait(lambda: not race.working)
    right = ov.training.compare(
        lambda seed: ov.models.digits_cnn(seed=seed), ov.datasets.load("digits"),
        {name: ov.optim.OPTIMIZERS[name] for name in ("SGD", "orthogonal SGD")},
        protocol="equal_lr", lrs=0.01, epochs=2, seeds=2, progress=False,
    )  # fmt: skip
    sentence = right.verdict.removeprefix("equal lr: ")
    assert f"Best of 2 finished races: {sentence}." in line(race)
    ends = race.frame[race.frame.step == race.frame.step.max()].set_index(["optimizer", "seed"])
    theirs = right.frame[right.frame.epoch == 2].set_index(["optimizer", "seed"])
    assert ends.test_accuracy.to_dict() == theirs.test_accuracy.to_dict()
    assert isinstance(ov.plots.compare(race.frame, x="step"), Figure)


def test_make_it_lose_gives_sgd_its_best_rate(race):
    press(race, "make it lose")
    assert (race.state["lr_first"], race.state["lr_second"]) == (0.1, 0.1)
    press(race, "reset")
    assert (race.state["lr_first"], race.state["lr_second"]) == (0.01, 0.01)


def test_curves_move_while_it_trains_and_stop_stops_at_once():
    view = long_race()
    press(view, "start")
    wait(lambda: view.state["lanes"] and len(view.state["lanes"][0].accuracy) > 2)
    pictures = {source(view)}
    wait(lambda: pictures.add(source(view)) or len(pictures) > 3)
    began = time.monotonic()
    press(view, "stop")
    assert time.monotonic() - began < 1
    assert not view.working
    assert "Stopped" in line(view)
    assert not any(lane.finished for lane in view.state["lanes"])
    view.close()


def test_closing_ends_the_thread():
    view = long_race()
    press(view, "start")
    wait(threads)
    view.close()
    assert not threads()
    view.start()
    assert not threads()


def test_a_cell_that_runs_again_ends_its_earlier_race_and_no_other(monkeypatch):
    class Shell:
        cell, run = "a", 1

        def get_parent(self):
            return {"metadata": {"cellId": self.cell}, "header": {"msg_id": self.run}}

    shell = Shell()
    monkeypatch.setattr(core, "get_ipython", lambda: shell)
    first = long_race()
    beside = long_race()  # a second one in the same cell
    shell.cell = "b"
    other = long_race()
    for view in (first, beside, other):
        press(view, "start")
    wait(lambda: len(threads()) == 3)
    shell.cell, shell.run = "a", 2
    again = long_race()
    assert len(threads()) == 1
    assert other.working
    for view in (again, other):
        view.close()
    assert not threads()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_an_error_in_training_is_shown_and_the_view_can_start_again(race, monkeypatch, error):
    def broken(*args, **kwargs):
        raise error("the road is closed")
        yield

    with monkeypatch.context() as m:
        m.setattr(ov.training, "steps", broken)
        press(race, "start")
        wait(lambda: "the road is closed" in line(race))
        wait(lambda: not race.working)
    press(race, "start")
    wait(lambda: "the road is closed" not in line(race))
    press(race, "stop")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(lr_first=0.5), "lr of SGD must be one of"),
        (dict(second="sideways"), "second must be one of 'SGD', .*'SWAN', .* got 'sideways'"),
        (dict(seed=10), "seed must be one of 0, 1"),
        (dict(epochs=0), "epochs must be at least 1"),
        (dict(batch_size=0), "batch_size must be at least 1"),
    ],
)
def test_a_race_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ov.widgets.race(**options)


def test_a_races_code_names_what_differs_from_the_default(race):
    assert "ov.widgets.race(epochs=2)" in race._call.value
    press(race, "make it lose")
    assert "ov.widgets.race(lr_first=0.1, lr_second=0.1, epochs=2)" in race._call.value


@pytest.mark.parametrize("name", ov.optim.OPTIMIZERS)
def test_every_optimiser_and_control_races_and_learns(name):
    view = ov.widgets.race(second=name, lr_second=0.003, epochs=1)
    lane = view.state["lanes"][1]
    assert lane.name == name
    assert lane.finished
    assert all(0 <= accuracy <= 1 for accuracy in lane.accuracy)
    assert max(lane.accuracy) > lane.accuracy[0] or name in ("SGD", "norm-matched", "LARS")
    assert f"second={name!r}" in html.unescape(view._call.value) or name == "orthogonal SGD"
    assert view._controls["lr_second"].description == f"lr of {name}"
    view.close()


def test_the_rates_label_follows_the_optimiser(race):
    race.set(first="AdamW")
    assert race._controls["lr_first"].description == "lr of AdamW"


def test_racing_leaves_the_global_random_state_alone(race):
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    press(race, "start")
    wait(lambda: not race.working)
    assert torch.equal(torch.rand(4), expected)


def test_a_race_goes_step_by_step_and_then_on(race):
    def steps():
        return [len(lane.accuracy) - 1 for lane in race.state["lanes"][-2:]]

    for expected in (1, 2):
        race.start(pieces=1)
        wait(lambda: not race.working)
        assert steps() == [expected, expected]
    races = len(race.state["lanes"])
    race.start()
    wait(lambda: not race.working)
    assert len(race.state["lanes"]) == races  # the same race, to its end
    assert all(lane.finished for lane in race.state["lanes"][-2:])
    race.start(pieces=1)
    wait(lambda: not race.working)
    race.stop()
    assert line(race).startswith("Stopped: this race does not count")
    assert not any(lane.finished for lane in race.state["lanes"][-2:])
    assert not race.working
    assert len(threads()) == 1  # for all that it did


def test_ones_own_network_races():
    def model(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Linear(12, 10))

    view = ov.widgets.race(model=model, epochs=2, seed=3)
    network = model(3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    data = ov.datasets.load("digits")
    for epoch in (1, 2):
        for _ in ov.training.steps(network, optimizer, data, batch_size=256, seed=3, epoch=epoch):
            pass
    images, labels = next(iter(ov.datasets.whole(data, data.test)))
    expected = (network(images).argmax(1) == labels).double().mean().item()
    first = view.state["lanes"][0]
    assert first.accuracy[-1] == pytest.approx(expected)
    assert "ov.widgets.race(epochs=2, seed=3, model=model)" in html.unescape(view._call.value)
    view.close()
    with pytest.raises(ValueError, match=r"classes|logits"):
        ov.widgets.race(model=lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))


def test_two_equal_gradients_are_one_direction():
    view = ov.widgets.polar_lab(torch.eye(2), angle=0.0)
    for p in (1.0, 0.0):
        view.set(p=p)
        assert view.title == "One direction only: there is nothing to make orthogonal"
    view.close()
