"""What a step costs: the whole step against SGD's by batch size, and what is left without the polar work.

    make bench-optim

BasicCNN on 32 x 32 and resnet18 on 32 x 32 images (its ImageNet stem unchanged, as in the paper): forward,
backward and step, all optimisers in turn in one process, each on its own copy of the network. torch's Muon
takes two-dimensional parameters only, so of these networks it orthogonalises the head alone; it is shown with
an SGD for the rest, as it would be used. Each figure is a median of ratios to SGD in the same round.

Overhead: the step of OrthogonalSGD less ``polar_factors`` of the same gradients and less SGD's own update,
against a whole training step of SGD.
"""

import statistics
from collections.abc import Callable

import pandas as pd
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

import orthoviz as ov
from benchmarks.common import DEVICE, compare, keep, markdown, provenance, seconds, store
from orthoviz.matrices import as_matrix

ROUNDS = {"BasicCNN": 31, "resnet18": 7}  # a step of the small one takes milliseconds
BATCHES = {"BasicCNN": (16, 64, 256, 1024), "resnet18": (16, 64, 128, 256)}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "BasicCNN": lambda: ov.models.basic_cnn(seed=0),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
}
OPTIONS = dict(lr=1e-3, momentum=0.9)


class Both:
    """torch's Muon where it can, SGD for the rest."""

    def __init__(self, model: nn.Module) -> None:
        flat = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim != 2]
        self.parts = [torch.optim.Muon(flat, **OPTIONS), torch.optim.SGD(rest, **OPTIONS)]  # type: ignore[arg-type]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()


def optimizers() -> dict[str, Callable[[nn.Module], object]]:
    """Name to a function that makes the optimiser of a model."""

    def orthogonal(method: str, **more: object) -> Callable[[nn.Module], object]:
        return lambda m: ov.OrthogonalSGD(ov.param_groups(m), method=method, **OPTIONS, **more)  # type: ignore[arg-type]

    def wrapped(m: nn.Module) -> object:
        optimizer = torch.optim.SGD(m.parameters(), **OPTIONS)  # type: ignore[arg-type]
        ov.orthogonalise(optimizer, m)
        return optimizer

    found: dict[str, Callable[[nn.Module], object]] = {
        "SGD": lambda m: torch.optim.SGD(m.parameters(), **OPTIONS),  # type: ignore[arg-type]
        "AdamW": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3),
        "OrthogonalSGD exact": orthogonal("exact"),
        "OrthogonalSGD fast": orthogonal("fast"),
        "OrthogonalSGD svd": orthogonal("svd"),
        "orthogonalise(SGD) exact": wrapped,
        "torch Muon (head only) + SGD": Both,
    }
    try:
        from pytorch_optimizer import Muon
    except ImportError:
        print("pytorch-optimizer is not installed: left out")
    else:
        found["pytorch-optimizer Muon"] = lambda m: Muon(
            [
                {"params": [p for p in m.parameters() if p.ndim > 1], "use_muon": True},
                {"params": [p for p in m.parameters() if p.ndim < 2], "use_muon": False},
            ],
            lr=1e-3,
        )
    return found


def training_step(model: nn.Module, optimizer: object, batch_size: int, size: int = 32) -> Callable[[], None]:
    images = torch.randn(batch_size, 3, size, size, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch_size,), device=DEVICE)

    def step() -> None:
        optimizer.zero_grad()  # type: ignore[attr-defined]
        cross_entropy(model(images), labels).backward()
        optimizer.step()  # type: ignore[attr-defined]

    return step


def whole_steps(name: str, batch_size: int) -> list[dict[str, object]]:
    """A row an optimiser: its step's median, and the median of its ratio to SGD's in the same round."""
    torch.manual_seed(0)
    steps = {}
    for label, make in optimizers().items():
        model = MODELS[name]().to(DEVICE, memory_format=torch.channels_last)
        steps[label] = training_step(model, make(model), batch_size)
    return [
        {
            "model": name,
            "batch": batch_size,
            "optimizer": label,
            "milliseconds": round(1000 * took, 2),
            "to_sgd": round(statistics.median(ratios), 3),
        }
        for label, (took, ratios) in compare(steps, dict.fromkeys(steps, "SGD"), ROUNDS[name]).items()
    ]


def overhead(name: str, batch_size: int) -> dict[str, object]:
    """Step of OrthogonalSGD less the polar factors of its gradients, relative to a whole step of SGD."""
    torch.manual_seed(0)
    models = [MODELS[name]().to(DEVICE, memory_format=torch.channels_last) for _ in range(2)]
    sgd = torch.optim.SGD(models[0].parameters(), **OPTIONS)  # type: ignore[arg-type]
    ours = ov.OrthogonalSGD(ov.param_groups(models[1]), method="fast", **OPTIONS)  # type: ignore[arg-type]
    whole, other = training_step(models[0], sgd, batch_size), training_step(models[1], ours, batch_size)
    whole(), other()
    matrices = [
        as_matrix(p.grad, group["layout"])
        for group in ours.param_groups
        if group["layout"]
        for p in group["params"]
    ]
    rows = [
        (
            seconds(ours.step),
            seconds(lambda: ov.polar.polar_factors(matrices, "fast")),
            seconds(sgd.step),
            seconds(whole),
        )
        for _ in range(ROUNDS[name] + 14)
    ]
    share = statistics.median((step - polar - own) / whole_step for step, polar, own, whole_step in rows)
    return {"model": name, "batch": batch_size, "overhead": round(share, 4)}


def main() -> None:
    table = pd.DataFrame([row for name in MODELS for b in BATCHES[name] for row in whole_steps(name, b)])
    beyond = pd.DataFrame([overhead("BasicCNN", 128), overhead("resnet18", 128)])
    about = provenance(
        what="whole training steps, 32 x 32 random images",
        data="random images and labels",
        command="python -m benchmarks.optim",
    )
    path = store("optim", about)
    keep(table, path)
    beyond.to_csv(path / "overhead.csv", index=False)
    (path / "table.md").write_text(summary(table, beyond, about), encoding="utf-8")
    print(summary(table, beyond, about))


def summary(table: pd.DataFrame, beyond: pd.DataFrame, about: dict[str, str]) -> str:
    parts = [
        f"# What a step costs\n\n{about['what']}. {about['device']}, torch {about['torch']}, "
        f"{about['date']}.\nMade by `{about['command']}`. Whole steps (forward, backward, step) relative to "
        "SGD's."
    ]
    for name, part in table.groupby("model", sort=False):
        wide = part.pivot(index="optimizer", columns="batch", values="to_sgd").loc[part.optimizer.unique()]
        rows = [(label, *(f"{v:.2f}" for v in row)) for label, *row in wide.itertuples()]
        parts.append(f"## {name}\n\n" + markdown(("batch", *wide.columns), rows))
    lines = [
        f"- {row.model}, batch {row.batch}: OrthogonalSGD's step less polar factors and SGD's own update "
        f"is {row.overhead:.1%} of a whole training step of SGD."
        for row in beyond.itertuples()
    ]
    return "\n\n".join([*parts, "## Beyond the polar work", "\n".join(lines)]) + "\n"


if __name__ == "__main__":
    main()
