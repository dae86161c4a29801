"""The features of BasicCNN with three optimisers: their effective rank, and what noise does to them.

    python -m benchmarks.features "CIFAR-10, official archive"

The argument says which copy of the images is in the store. Five epochs, batch 1024, momentum 0.9, weight
decay 5e-4, crops and flips, five seeds; each optimiser at the best of its rates after three epochs
(results/controls). ``table.csv`` has a value a row: test accuracy with normal noise on the images, in units
of a channel's deviation, and the effective rank of each layer's maps of 1,000 test images, centred.
``weights.safetensors`` holds all parameters and buffers of three seeds at epochs 0, 1 and 5, in float16.
"""

import sys
from collections.abc import Iterator

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import orthoviz as ov
from benchmarks.common import keep, provenance, store

EPOCHS, SEEDS, KEPT_SEEDS, KEPT_EPOCHS = 5, 5, 3, (0, 1, 5)
RATES = {"sgd": 0.1, "orthogonal_sgd": 0.03, "muon": 0.03}
NOISE = (0.0, 0.1, 0.2, 0.4, 0.8)
IMAGES = 1_000


def measure(model: nn.Module, images: Tensor, labels: Tensor) -> Iterator[tuple[str, str, float]]:
    """(quantity, layer, value) of a network on test images."""
    model.eval()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    for sigma in NOISE:
        right = model(images + sigma * noise).argmax(1) == labels
        yield f"accuracy at noise {sigma:g}", "", right.float().mean().item()
    maps = images[:IMAGES]
    for name, layer in model.named_children():
        maps = layer(maps)
        if isinstance(layer, nn.ReLU):
            rows = maps.flatten(1)
            yield "effective_rank", name, ov.measures.effective_rank(rows - rows.mean(0)).item()


@torch.no_grad()
def main(copy: str) -> None:
    data = ov.datasets.load("cifar10")
    what = (
        f"BasicCNN, {EPOCHS} epochs, batch 1024, momentum 0.9, weight decay 5e-4, crop with padding 4 and "
        f"flip; {SEEDS} seeds; {', '.join(f'{name} at {lr:g}' for name, lr in RATES.items())}"
    )
    path = store(
        "features", provenance(what=what, data=copy, command=f'python -m benchmarks.features "{copy}"')
    )
    images, labels = (torch.cat(parts) for parts in zip(*ov.datasets.in_order(data, data.test), strict=True))
    rows, weights = [], {}
    for seed in range(SEEDS):
        for name, lr in RATES.items():
            model = ov.models.basic_cnn(seed=seed)
            optimizer = ov.optim.OPTIMIZERS[name](ov.param_groups(model), lr)
            for epoch in range(EPOCHS + 1):
                if epoch:
                    with torch.enable_grad():
                        for _ in ov.training.steps(
                            model, optimizer, data, batch_size=1024, seed=seed, epoch=epoch
                        ):
                            pass
                if epoch in KEPT_EPOCHS:
                    found = measure(model, images, labels)
                    rows += [(name, lr, seed, epoch, *one) for one in found]
                    if seed < KEPT_SEEDS:
                        state = {
                            key: value
                            for key, value in model.state_dict().items()
                            if value.is_floating_point()
                        }
                        weights |= {
                            f"{name}/{seed}/{epoch}/{key}": value.half() for key, value in state.items()
                        }
            print(rows[-len(NOISE) - 3 :], flush=True)
    columns = ["optimizer", "lr", "seed", "epoch", "quantity", "layer", "value"]
    keep(pd.DataFrame(rows, columns=columns), path, "%.4g")
    save_file(weights, path / "weights.safetensors")
    (path / "weights.safetensors").chmod(0o644)  # safetensors lets nobody else read it


if __name__ == "__main__":
    main(*sys.argv[1:])
