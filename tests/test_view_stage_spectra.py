"""stage_spectra: its numbers against the stored run, the optimiser's formula and a run of one's own."""

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.plots import RANDOM, STAGES
from orthoviz.widgets import stage_spectra
from tests.views import again, code, line, numbers, points, press, source, watched

pytestmark = pytest.mark.slow

BUFFER = dict(color=STAGES["momentum"][0], linewidth=2.4)


def stored(order, momentum, step, stage):
    table = ov.training.results("stages").query("order == @order and momentum == @momentum")
    return table.query("step == @step and stage == @stage").sort_values("index").value.to_numpy()


def test_the_meter_shows_what_is_stored_over_its_earlier_steps():
    view = stage_spectra()
    *earlier, now = (stored("before_momentum", 0.9, step, "momentum") for step in (0, 1, 2, 4, 8))
    agree = sum(0.9**i for i in range(9))
    assert f"singular values are {now[-1]:.2f} to {now[0]:.2f}" in line(view)
    assert f"9 gradients that agree give {agree:.2f}" in line(view)
    assert points(view, **BUFFER).tolist() == [list(range(1, 33)), now.tolist()]
    assert points(view, color=BUFFER["color"], alpha=0.3)[1].tolist() == np.concatenate(earlier).tolist()
    raw = stored("before_momentum", 0.9, 8, "raw")
    assert np.allclose(points(view, color=STAGES["raw"][0])[1], raw / raw[0])
    _, marks = points(view, color=RANDOM, linestyle=":", linewidth=1)
    assert np.unique(marks) == pytest.approx([1, (1 - 0.9**2) ** -0.5, agree, 10])


def test_the_buffer_of_noise_and_of_one_direction():
    generator, weights = torch.Generator().manual_seed(0), 0.9 ** torch.arange(48, -1, -1)
    u, v = (nn.functional.normalize(torch.randn(n, generator=generator), dim=0) for n in (32, 288))
    noise = torch.randn(49, 32, 288, generator=generator)

    def buffer(gradients):
        factors = ov.polar_factor(gradients)
        return ov.measures.singular_values(torch.einsum("t,tij->ij", weights, factors)).numpy()

    view = stage_spectra(step=48, source="noise alone")
    s, one = buffer(noise), buffer(noise + 40 * torch.outer(u, v))
    assert f"are {s[-1]:.2f} to {s[0]:.2f}" in line(view)
    assert s[-1] < (1 - 0.9**2) ** -0.5 < s[0] < 3.5
    press(view, "one persistent direction")
    assert f"are {one[-1]:.2f} to {one[0]:.2f}" in line(view)
    assert f"{one[0]:.1f} of at most {(1 - 0.9**49) / 0.1:.1f}" in view.title
    assert one[1] < 3.5 < 9 < one[0] < 10
    assert f"noise alone {s[-1]:.2f} to {s[0]:.2f}" in line(view)


def test_at_first_steps_agree_and_an_epoch_later_they_are_little_more_than_noise():
    view, pattern = stage_spectra(), r"to ([\d.]+);.* give ([\d.]+), noise alone [\d.]+ to (\d+\.\d+)\."
    press(view, "at first steps agree")
    high, agree, _ = numbers(pattern, view)
    assert high > 0.9 * agree
    press(view, "an epoch later")
    high, agree, noise = numbers(pattern, view)
    assert noise < high < min(1.3 * noise, 0.4 * agree)


def test_the_meter_is_blind_after_momentum():
    view = stage_spectra()
    press(view, "make it lose")
    flat, buffer, raw = (stored("after_momentum", 0.9, 48, s) for s in ("orthogonal", "momentum", "raw"))
    assert np.allclose(flat, 1, atol=1e-3)
    assert "the orthogonalised step's are 1.00 to 1.00" in line(view)
    assert f"{buffer[-1] / raw[0]:.2f} to {buffer[0] / raw[0]:.2f} times the gradient's largest" in line(view)
    assert np.allclose(points(view, **BUFFER)[1], buffer / raw[0])


def test_without_momentum_there_is_no_buffer():
    view = stage_spectra(momentum=0)
    assert "there is no buffer" in line(view)
    assert points(view, **BUFFER).size == 0


def test_ones_own_frame():
    every = watched(*(f"{stage}.singular_values" for stage in ("raw", "orthogonal", "momentum")))
    frame = every[every.layer == every.layer.unique()[1]]
    view = stage_spectra(frame)
    rows = frame[(frame.step == 2) & (frame.stage == "momentum") & (frame.quantity == "singular_values")]
    assert line(view).startswith("Step 2, before momentum, momentum 0.9")
    assert points(view, **BUFFER)[1].tolist() == rows.sort_values("index").value.tolist()
    press(view, "first")
    assert line(view).startswith("Step 0")
    assert code(view) == "ov.widgets.stage_spectra(data, step=0)"
    assert source(again(view, data=frame)) == source(view)
    assert list(view.state) == ["step"]
    assert "noise alone" in line(view)
    assert "noise" not in line(stage_spectra(frame[frame.quantity == "singular_values"]))  # of which shape?
