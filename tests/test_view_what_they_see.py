"""what_they_see: its maps, ranks and pairs against NumPy's, and one's own models."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.signal import correlate
from sklearn.datasets import load_sample_images

import orthoviz as ov
from orthoviz.training.stored import folder
from tests.views import line, numbers, press

pytestmark = pytest.mark.slow


def first_maps(run, seed, images):
    """The maps of a stored network's first layer, by the formulas: convolution, batch-norm, ReLU."""
    weights = load_file(folder("features") / "weights.safetensors")
    w, b, gain, shift, mean, var = (
        weights[f"{run}/{seed}/5/{key}"].astype(np.float64)
        for key in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    )
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    maps = [[correlate(x, kernel, mode="valid")[0, ::2, ::2] for kernel in w] for x in padded]
    per_filter = (slice(None), None, None)
    normal = (np.array(maps) + b[per_filter] - mean[per_filter]) / np.sqrt(var[per_filter] + 1e-5)
    return np.maximum(normal * gain[per_filter] + shift[per_filter], 0)


def covariance(maps):
    rows = maps.transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    return np.cov(rows, bias=True)


@pytest.fixture(scope="module")
def windows():
    """32 x 32 windows of the two photographs at three sizes, as the networks expect them."""
    found = []
    for photo in load_sample_images().images:
        for size in (3, 4, 6):
            small = torch.nn.functional.interpolate(
                torch.tensor(photo).permute(2, 0, 1)[None] / 255, scale_factor=1 / size, mode="area"
            )[0]
            for y in range(0, small.shape[1] - 31, 16):
                found += [small[:, y : y + 32, x : x + 32] for x in range(0, small.shape[2] - 31, 16)]
    mean, deviation = np.array([0.49, 0.48, 0.45]), np.array([0.25, 0.24, 0.26])
    return ((torch.stack(found).permute(0, 2, 3, 1).numpy() - mean) / deviation).transpose(0, 3, 1, 2)


def test_ranks_and_the_most_alike_pair_are_numpys(windows):
    view = ov.widgets.what_they_see(seed=1)
    ranks, pairs = [], []
    for run in ("sgd", "orthogonal_sgd"):
        C = covariance(first_maps(run, 1, windows))
        p = np.linalg.eigvalsh(C).clip(1e-30)
        p /= p.sum()
        ranks.append(np.exp(-(p * np.log(p)).sum()))
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.nan_to_num(C / np.sqrt(np.outer(C.diagonal(), C.diagonal())), nan=-1)
        pairs.append((r - 2 * np.eye(len(r))).max())
    np.testing.assert_allclose(numbers(r"SGD ([\d.]+), orthogonal SGD ([\d.]+)\.", view), ranks, atol=0.06)
    np.testing.assert_allclose(numbers(r"maps: ([\d.]+) and ([\d.]+)\.", view), pairs, atol=0.006)
    assert f"do the work of {ranks[0]:.1f} (SGD) and {ranks[1]:.1f}" in view.title


def test_three_seeds_say_so_in_every_layer_and_one_state_says_the_opposite():
    view = ov.widgets.what_they_see()
    for layer in ("conv 1", "conv 2", "conv 3"):
        ranks = []
        for seed in range(3):
            view.set(layer=layer, seed=seed)
            ranks.append(numbers(r"SGD ([\d.]+), orthogonal SGD ([\d.]+)\.", view))
        sgd, ours = zip(*ranks, strict=True)
        assert max(sgd) < min(ours)
    press(view, "make it lose")
    sgd, ours = numbers(r"SGD ([\d.]+), orthogonal SGD ([\d.]+)\.", view)
    assert ours < sgd


def test_ones_own_models_and_images():
    def net(copies):
        """A layer of four filters, of which some are copies."""
        layer = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
            layer.weight[:copies] = layer.weight[0]
        return torch.nn.Sequential(layer, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 256, 2))

    images = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    models = {"copies": net(3).train(), "distinct": net(1)}
    view = ov.widgets.what_they_see(models, images)
    copies, distinct = numbers(r"copies ([\d.]+), distinct ([\d.]+)\.", view)
    assert copies < 2 + 1e-6 < 3 < distinct <= 4
    assert numbers(r"maps: ([\d.]+) and", view) == [1.0]
    assert models["copies"].training
    assert "layer" in view.state, line(view)


@pytest.mark.parametrize(("models", "images", "words"), [
    ({"one": ov.models.basic_cnn()}, None, "two by name, got 1"),
    ({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)}, torch.ones(2, 3, 4, 3), "no activation"),
    (None, torch.ones(3, 8, 8), r"images must be \(N, channels, height, width\), got shape \(3, 8, 8\)"),
])  # fmt: skip
def test_what_cannot_be_looked_at_is_refused(models, images, words):
    with pytest.raises(ValueError, match=words):
        ov.widgets.what_they_see(models, images)
