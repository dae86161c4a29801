"""How right the methods are on real gradients, beside Gaussian matrices of the same shapes.

    python -m benchmarks.polar_gradients "CIFAR-10, official archive"

BasicCNN (batch 1024) and torchvision's resnet18 (batch 128) on CIFAR-10 images from the store, before the
first step ("early") and after some training with orthogonal SGD ("late"). The argument says which copy of the
images is in the store. For every layer: condition number, rank, and each method's error and smallest gain.
Writes results/polar_gradients.
"""

import sys

import pandas as pd
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import orthoviz as ov
from benchmarks.common import keep, provenance, store

METHODS = ("svd", "exact", "fast", "newton_schulz", "polar_express")
RUNS = {"BasicCNN": (ov.models.basic_cnn, 1024, 240), "resnet18": (torchvision.models.resnet18, 128, 60)}


def main(copy: str) -> None:
    data = ov.datasets.load("cifar10")
    rows = []
    for name, (make, batch_size, steps) in RUNS.items():
        torch.manual_seed(0)
        model = make()
        optimizer = ov.OrthogonalSGD(
            ov.param_groups(model), lr=0.01, momentum=0.9, weight_decay=5e-4, method="fast"
        )
        for stage, count in (("early", 0), ("late", steps)):
            train(model, optimizer, data, batch_size, count)
            images, labels = next(ov.datasets.batches(data, batch_size, seed=1, epoch=1))
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            for layer, G in matrices(optimizer):
                rows += measure(G, run=name, stage=stage, layer=layer)
                generator = torch.Generator().manual_seed(0)
                if stage == "early":
                    rows += measure(
                        torch.randn(G.shape, generator=generator), run=name, stage="Gaussian", layer=layer
                    )
            print(f"{name}, {stage}", flush=True)
    table = pd.DataFrame(rows)
    folder = store(
        "polar_gradients",
        provenance(
            what="errors of polar factors on gradients: BasicCNN, batch 1024, before step 1 and after 240; "
            "resnet18 with 1000 outputs, batch 128, before step 1 and after 60",
            data=copy,
            command=f'python -m benchmarks.polar_gradients "{copy}"',
        ),
    )
    keep(table, folder, "%.3g")
    print(table.groupby(["run", "stage", "method"]).error.describe()[["min", "50%", "max"]].to_string())


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: ov.datasets.Dataset, batch_size: int, count: int
) -> None:
    epoch = 0
    while count > 0:
        epoch += 1
        for _, _ in zip(
            range(count),
            ov.training.steps(model, optimizer, data, batch_size=batch_size, seed=0, epoch=epoch),
            strict=False,
        ):
            count -= 1


def matrices(optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    return [
        (name, ov.matrices.as_matrix(p.grad, group["layout"]))
        for group in optimizer.param_groups
        if group["layout"]
        for name, p in zip(group["param_names"], group["params"], strict=True)
    ]


def measure(G: Tensor, **labels: str) -> list[dict[str, object]]:
    """A row a method for one gradient."""
    U, s, Vh = torch.linalg.svd(G.double(), full_matrices=False)
    kept = ov.polar.counts(s, ov.polar.default_tol(G.dtype))
    right = (U * kept) @ Vh
    rows = []
    for method in METHODS:
        O = ov.polar_factor(G, method)
        gain = ov.measures.direction_gain(O, G)[kept]
        rows.append(
            {
                **labels,
                "shape": f"{G.shape[0]} x {G.shape[1]}",
                "rank": int(kept.sum()),
                "condition": (s[0] / s[kept][-1]).item(),
                "method": method,
                "error": ((O.double() - right).norm() / right.norm()).item(),
                "least_gain": gain.min().item(),
            }
        )
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
