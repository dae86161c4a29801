"""Every plot of the package, drawn from a real run: orthogonal SGD beside SGD, five epochs of CIFAR-10.

    python -m benchmarks.gallery "CIFAR-10, official archive" FOLDER

The first argument says which copy of the images is in the store. BasicCNN, batch 1024, learning rate 0.01
for both, momentum 0.9; for the batch sizes also 256. Writes the pictures to the folder, in two sizes, and the
README's to results/gallery.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import orthoviz as ov
from benchmarks.common import RESULTS, provenance, store

MORE = ("weight.rms_cosine", "centred_feature_cosine", "dead_parameters")
RUNS = {"SGD": torch.optim.SGD, "orthogonal SGD": ov.OrthogonalSGD}


def train(data: ov.datasets.Dataset) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, nn.Module]]:
    """Frames, histories and networks of both."""
    probe = next(iter(ov.datasets.in_order(data, data.test, batch_size=256)))[0]
    frames, histories, models = [], [], {}
    for name, make in RUNS.items():
        model = ov.models.basic_cnn(seed=0)
        optimizer = make(ov.param_groups(model), lr=0.01, momentum=0.9, weight_decay=5e-4)
        wanted = [*ov.monitor.PRESETS["research"], *MORE]
        options = {"every": 7, "quantities": wanted, "probe": probe, "run": name, "seed": 0}
        with ov.watch(model, optimizer, **options) as monitor:
            run = ov.training.fit(
                model, optimizer, data, epochs=5, batch_size=1024, monitor=monitor, progress=False
            )
        frames.append(monitor.frame())
        histories.append(run.history.assign(optimizer=name, lr=0.01, seed=0, batch_size=1024))
        models[name] = model
        model = ov.models.basic_cnn(seed=0)
        optimizer = make(ov.param_groups(model), lr=0.01, momentum=0.9, weight_decay=5e-4)
        run = ov.training.fit(model, optimizer, data, epochs=5, batch_size=256, progress=False)
        histories.append(run.history.assign(optimizer=name, lr=0.01, seed=0, batch_size=256))
    return ov.monitor.join(*frames), pd.concat(histories), models


def activations(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """After each ReLU."""
    found = {}
    model.eval()
    with torch.no_grad():
        for name, layer in model.named_children():
            images = layer(images)
            if isinstance(layer, nn.ReLU):
                found[f"ReLU {name}"] = images
    return found


def gradient_of(model: nn.Module, data: ov.datasets.Dataset) -> Tensor:
    """Of the second convolution, on a batch of training images."""
    images, labels = next(iter(ov.datasets.batches(data, 1024, seed=0, epoch=6)))
    model.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    gradient = model.get_parameter("3.weight").grad
    assert gradient is not None
    return gradient.flatten(1)


def pictures(data: ov.datasets.Dataset) -> dict[str, Callable[[], Figure]]:
    """Name to what draws it."""
    frame, both, models = train(data)
    histories = both[both.batch_size == 1024]
    images = next(iter(ov.datasets.in_order(data, data.test, batch_size=256)))[0]
    one = frame[frame.run == "orthogonal SGD"]
    weight = models["orthogonal SGD"].get_parameter("0.weight")
    deep = models["orthogonal SGD"].get_parameter("3.weight")
    seen = {name: activations(model, images) for name, model in models.items()}
    gradient = gradient_of(models["orthogonal SGD"], data)
    factors = {name: ov.polar_factor(gradient, name) for name in ("exact", "fast", "newton_schulz")}
    sweep = ov.training.results("lr_sweep")
    plots = ov.plots
    return {
        "spectra": lambda: plots.spectra(one, layer="3.weight"),
        "stage_spectra": lambda: plots.stage_spectra(one, layer="3.weight", momentum=0.9),
        "cosine_matrix": lambda: plots.cosine_matrix(weight),
        "cosine_matrix_clustered": lambda: plots.cosine_matrix(deep, cluster=True),
        "filter_cosine": lambda: plots.filter_cosine(frame),
        "filter_cosine_rms": lambda: plots.filter_cosine(frame, rms=True),
        "feature_cosine": lambda: plots.feature_cosine(frame),
        "feature_cosine_centred": lambda: plots.feature_cosine(frame, centred=True),
        "training_curves": lambda: plots.training_curves(histories),
        "lr_flatness": lambda: plots.lr_flatness(sweep),
        "dead_units": lambda: plots.dead_units(frame),
        "cka_matrix": lambda: plots.cka_matrix(*seen.values(), names=list(seen)),
        "rank": lambda: plots.rank(frame),
        "update_ratio": lambda: plots.update_ratio(frame),
        "gain_per_direction": lambda: plots.gain_per_direction(factors, gradient),
        "filters": lambda: plots.filters(weight),
        "filters_deep": lambda: plots.filters(deep),
        "over_steps": lambda: plots.over_steps(frame, "step_inflation"),
        "over_steps_loss": lambda: plots.over_steps(frame, "loss"),
        "compare": lambda: plots.compare(sweep[sweep.lr == 0.01]),
        "paper_speedup": lambda: plots.paper_figure("speedup", histories),
        "paper_imagenet": lambda: plots.paper_figure("imagenet", histories),
        "paper_barlow": lambda: plots.paper_figure("barlow", histories),
        "paper_batch_size": lambda: plots.paper_figure("batch_size", both),
        "paper_filter_cosine": lambda: plots.paper_figure("filter_cosine", frame),
        "paper_feature_cosine": lambda: plots.paper_figure("feature_cosine", frame),
        "paper_dead_parameters": lambda: plots.paper_figure("dead_parameters", frame),
    }


def main(copy: str, folder: str) -> None:
    drawn = pictures(ov.datasets.load("cifar10"))
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for name, draw in drawn.items():
        figure = draw()
        for size in (100, 200):
            figure.savefig(path / f"{name}-{size}.png", dpi=size)
        print(name, flush=True)
    about = provenance(
        what="BasicCNN, batch 1024, learning rate 0.01, momentum 0.9, weight decay 5e-4, five epochs",
        data=copy,
        command=f'python -m benchmarks.gallery "{copy}" FOLDER',
    )
    store("gallery", about)
    drawn["filter_cosine"]().savefig(RESULTS / "gallery" / "picture.png", dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
