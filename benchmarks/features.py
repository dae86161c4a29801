"""The features of BasicCNN with three optimisers: their effective rank, and what noise does to them.

    python -m benchmarks.features "CIFAR-10, official archive"

The argument says which copy of the images is in the store. Five epochs, batch 1024, momentum 0.9, weight
decay 5e-4, crops and flips, five seeds; each optimiser at the best of its rates in the runs of the recipe
"controls". ``table.csv`` has a value a row, after none, one and five epochs: test accuracy, the share
of it that normal noise on the images leaves (sigma in units of a channel's deviation), and the effective rank
of each layer's maps of 1,000 test images, centred. ``weights.safetensors`` has all parameters and buffers of
three seeds of SGD and orthogonal SGD at these epochs, in float16.
"""

import sys
from collections.abc import Iterator

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import orthoviz as ov
from benchmarks.common import keep, provenance, store

EPOCHS, SEEDS, SEEDS_OF_WEIGHTS = (0, 1, 5), 5, 3
RATES = {"sgd": 0.1, "orthogonal_sgd": 0.03, "muon": 0.03}
NOISE = (0.1, 0.2, 0.4, 0.8)
IMAGES = 1_000


@torch.no_grad()
def measure(model: nn.Sequential, images: Tensor, labels: Tensor) -> Iterator[tuple[str, str, float]]:
    """(quantity, layer, value) of a network on test images."""
    model.eval()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    right = {s: float((model(images + s * noise).argmax(1) == labels).float().mean()) for s in (0, *NOISE)}
    yield "test_accuracy", "", right[0]
    for sigma in NOISE:
        yield f"kept at noise {sigma:g}", "", right[sigma] / right[0]
    maps = images[:IMAGES]
    for name, layer in model.named_children():
        maps = layer(maps)
        if isinstance(layer, nn.ReLU):
            rows = maps.flatten(1)
            label = f"conv {int(name) // 3 + 1}"
            yield "effective_rank", label, ov.measures.effective_rank(rows - rows.mean(0)).item()


def train(name: str, seed: int, data: ov.datasets.Dataset) -> Iterator[tuple[int, nn.Sequential]]:
    """The epochs that are looked at, with the network after them."""
    model = ov.models.basic_cnn(seed=seed)
    optimizer = ov.optim.OPTIMIZERS[name](ov.param_groups(model), RATES[name])
    for epoch in range(EPOCHS[-1] + 1):
        steps = ov.training.steps(model, optimizer, data, batch_size=1024, seed=seed, epoch=epoch)
        for _ in steps if epoch else ():
            pass
        if epoch in EPOCHS:
            yield epoch, model


def main(copy: str) -> None:
    data = ov.datasets.load("cifar10")
    rates = ", ".join(f"{ov.optim.LABELS[name]} at {lr:g}" for name, lr in RATES.items())
    what = f"BasicCNN, five epochs, batch 1024, weight decay 5e-4, crop with padding 4 and flip; {rates}; "
    about = provenance(
        what=what + f"{SEEDS} seeds", data=copy, command=f'python -m benchmarks.features "{copy}"'
    )
    images, labels = (torch.cat(parts) for parts in zip(*ov.datasets.in_order(data, data.test), strict=True))
    rows, weights = [], {}
    for seed in range(SEEDS):
        for name, lr in RATES.items():
            for epoch, model in train(name, seed, data):
                found = list(measure(model, images, labels))
                rows += [(name, lr, seed, epoch, *one) for one in found]
                if seed < SEEDS_OF_WEIGHTS and name != "muon":
                    of = f"{name}/{seed}/{epoch}" if epoch else f"start/{seed}/0"
                    state = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
                    weights |= {f"{of}/{key}": value.half().clone() for key, value in state.items()}
            print(name, seed, *(f"{value:.3g}" for *_, value in found), flush=True)
    path = store("features", about)
    columns = ["optimizer", "lr", "seed", "step", "quantity", "layer", "value"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(4, "epoch", table.step)
    table["step"] *= -(-len(data.train.labels) // 1024)
    keep(table, path, "%.4g")
    save_file(weights, path / "weights.safetensors")
    (path / "weights.safetensors").chmod(0o644)  # safetensors lets nobody else read it


if __name__ == "__main__":
    main(*sys.argv[1:])
