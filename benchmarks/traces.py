"""What BasicCNN's filters and gradients do on CIFAR-10, for lessons, views and pictures.

    python -m benchmarks.traces "CIFAR-10, official archive"

The argument says which copy of the images is in the store. Batch 1024, weight decay 5e-4, crops and flips.

results/filters: five epochs with momentum 0.9, SGD and orthogonal SGD at two learning rates each, three
seeds, watched every seven steps (seven times an epoch), activations on 512 test images. ``table.csv`` has a
value a row, units of a layer as their mean; ``weights.safetensors`` the matrices of the first seed's networks
at the end, in half precision.

results/stages: one epoch of orthogonal SGD with either order of momentum and factor, at momentum 0, 0.5
and 0.9; singular values of the second convolution at all stages at a few steps, and beside them SGD's.

results/signs: what agreement between steps adds to that buffer, at momentum 0.9, five seeds. The control has
the same polar factors, each with a random sign: their shape is kept, and nothing agrees. A row a seed, step
and index: the buffer's singular ``value``, and the least, mean and largest of 40 controls.
"""

import sys

import pandas as pd
import torch
from safetensors.torch import save_file

import orthoviz as ov
from benchmarks.common import keep, provenance, store

EPOCHS, BATCH_SIZE, SEEDS, EVERY = 5, 1024, 3, 7
RUNS = (
    ("sgd", torch.optim.SGD, 0.01),
    ("sgd", torch.optim.SGD, 0.1),
    ("orthogonal_sgd", ov.OrthogonalSGD, 0.01),
    ("orthogonal_sgd", ov.OrthogonalSGD, 0.03),
)
LAYERS = ov.models.BASIC_CNN_LAYERS
QUANTITIES = (
    *("weight.mean_abs_cosine", "feature_cosine", "centred_feature_cosine"),
    *("dead_units", "dormant_units", "dead_parameters", "zero_rows"),
)
KEPT = (
    *("mean_abs_cosine", "feature_cosine", "centred_feature_cosine", "dead_units", "dormant_units"),
    *("dead_parameters", "zero_rows", "test_loss", "test_accuracy"),
)
STEPS = (0, 1, 2, 4, 8, 16, 32, 48)


def film(data: ov.datasets.Dataset, about: dict[str, str]) -> None:
    """The watched runs."""
    path = store("filters", about)
    probe = next(iter(ov.datasets.in_order(data, data.test, batch_size=512)))[0]
    tables, weights = [], {}
    for seed in range(SEEDS):
        for name, make, lr in RUNS:
            model = ov.models.basic_cnn(seed=seed)
            optimizer = make(ov.param_groups(model), lr=lr, momentum=0.9, weight_decay=5e-4)
            with ov.watch(model, optimizer, every=EVERY, quantities=QUANTITIES, probe=probe) as monitor:
                run = ov.training.fit(
                    model,
                    optimizer,
                    data,
                    epochs=EPOCHS,
                    batch_size=BATCH_SIZE,
                    seed=seed,
                    monitor=monitor,
                    progress=False,
                )
            frame = monitor.frame()
            keys = ["step", "epoch", "layer", "stage", "quantity"]
            means = frame.groupby(keys, observed=True, sort=False).value.mean().reset_index()
            scores = run.history[["step", "epoch", "test_loss", "test_accuracy"]]
            scores = scores.melt(["step", "epoch"], var_name="quantity").assign(layer="", stage="")
            tables.append(pd.concat([means, scores]).assign(optimizer=name, lr=lr, seed=seed))
            if seed == 0:
                weights |= {
                    f"{ov.optim.LABELS[name]} {lr:g}/{LAYERS[key]}": p.detach().flatten(1).half()
                    for key, p in model.named_parameters()
                    if key in LAYERS
                }
            print(f"{name} lr {lr:g} seed {seed}: {run.history.test_accuracy.iloc[-1]:.4f}", flush=True)
    table = pd.concat(tables)
    table = table[table.quantity.isin(KEPT)]
    table["layer"] = table.layer.astype(str).map({**LAYERS, "": ""})
    columns = ["optimizer", "lr", "seed", "step", "epoch", "layer", "stage", "quantity", "value"]
    keep(table[columns], path, "%.4g")
    save_file(weights, path / "weights.safetensors")
    (path / "weights.safetensors").chmod(0o644)  # safetensors lets nobody else read it


def stages(data: ov.datasets.Dataset, about: dict[str, str]) -> None:
    """Spectra at every stage."""
    path = store("stages", about)
    tables = []
    for momentum in (0.0, 0.5, 0.9):
        for order in ("none", "before_momentum", "after_momentum"):
            model = ov.models.basic_cnn(seed=0)
            options = {"lr": 0.01, "momentum": momentum, "weight_decay": 5e-4}
            groups = ov.param_groups(model)
            if order == "none":
                optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, **options)
            else:
                optimizer = ov.OrthogonalSGD(groups, order=order, **options)
            wanted = [f"{stage}.singular_values" for stage in ("raw", "orthogonal", "momentum", "applied")]
            with ov.watch(model, optimizer, quantities=wanted, layers="3") as monitor:
                ov.training.fit(
                    model, optimizer, data, epochs=1, batch_size=BATCH_SIZE, monitor=monitor, progress=False
                )
            frame = monitor.frame()
            frame = frame[frame.step.isin(STEPS) & (frame.quantity == "singular_values")]
            tables.append(frame.assign(order=order, momentum=momentum))
            print(order, momentum, flush=True)
    columns = ["order", "momentum", "step", "stage", "index", "value"]
    pd.concat(tables)[columns].to_csv(path / "table.csv", index=False, float_format="%.4g")


def signs(data: ov.datasets.Dataset, about: dict[str, str]) -> None:
    """The buffer of polar factors beside buffers of the same factors with random signs."""
    path = store("signs", about)
    rows = []
    for seed in range(5):
        model = ov.models.basic_cnn(seed=seed)
        optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9, weight_decay=5e-4)
        factors = []
        weight = dict(model.named_parameters())["3.weight"]
        for images, labels in ov.datasets.batches(data, BATCH_SIZE, seed=seed, epoch=1):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            factors.append(ov.polar_factor(weight.grad.flatten(1)))
            optimizer.step()
        draw = torch.Generator().manual_seed(seed)
        for step in STEPS[1:]:
            kept = torch.stack(factors[: step + 1])
            weights = 0.9 ** torch.arange(step, -1, -1.0)
            flips = torch.randint(2, (40, step + 1), generator=draw) * 2.0 - 1
            buffers = torch.einsum("kt,tij->kij", torch.cat([weights[None], weights * flips]), kept)
            value, *controls = ov.measures.singular_values(buffers)
            low, mean, high = (getattr(torch.stack(controls), how)(0) for how in ("amin", "mean", "amax"))
            for index, row in enumerate(torch.stack([value, low, mean, high], 1).tolist()):
                rows.append((seed, step, index, *row))
        print(f"signs, seed {seed}", flush=True)
    columns = ["seed", "step", "index", "value", "control_low", "control_mean", "control_high"]
    pd.DataFrame(rows, columns=columns).to_csv(path / "table.csv", index=False, float_format="%.4g")


def main(copy: str) -> None:
    data = ov.datasets.load("cifar10")
    command = f'python -m benchmarks.traces "{copy}"'
    what = "BasicCNN, batch 1024, weight decay 5e-4, crop with padding 4 and flip; "
    stages(
        data,
        provenance(
            what=what + "one epoch, learning rate 0.01, spectra of conv 2", data=copy, command=command
        ),
    )
    signs(
        data,
        provenance(
            what=what + "one epoch, learning rate 0.01, momentum 0.9, buffer of conv 2 and its control",
            data=copy,
            command=command,
        ),
    )
    film(
        data,
        provenance(what=what + "five epochs, momentum 0.9, three seeds, watched", data=copy, command=command),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
