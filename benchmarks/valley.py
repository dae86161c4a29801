"""What optimisers learn of two toy problems, step by step, for the view ``loss_valley``.

    python -m benchmarks.valley

Gradient descent and the orthogonal step on the deep linear network, each at some learning rates (gradient
descent does not settle above 0.03; the orthogonal step's walk ends when it has arrived), and four methods on
the dense quadratic, each at its best learning rate.

results/valley: ``table.csv`` has the steps that the four need until 1e-4 of the first error is left;
``walks.safetensors`` the learnt part of each mode of the network, a mode a row, and the error of the
quadratic, relative to the first, before every step and after the last.
"""

import pandas as pd
import torch
from safetensors.numpy import save_file

import orthoviz as ov
from benchmarks.common import provenance, store

STEPS, RATES = 1000, (0.003, 0.01, 0.03, 0.1)
DEEP = (
    *((f"gradient descent, lr {lr:g}", torch.optim.SGD, lr, STEPS) for lr in RATES if lr <= 0.03),
    *((f"orthogonal, lr {lr:g}", ov.OrthogonalSGD, lr, min(STEPS, round(3 / lr))) for lr in RATES),
)
QUADRATIC = (
    ("SGD, momentum", torch.optim.SGD, 3.3, 0.9, 600),
    ("gradient descent", torch.optim.SGD, 1.9, 0.0, 2000),
    ("orthogonal, momentum", ov.OrthogonalSGD, 0.003, 0.9, 400),
    ("orthogonal", ov.OrthogonalSGD, 0.01, 0.0, 400),
)


def main() -> None:
    about = provenance(
        what="what optimisers learn of a deep linear network and of a quadratic, step by step",
        data="toy problems",
        command="python -m benchmarks.valley",
    )
    walks, rows = {}, []
    for title, make, lr, steps in DEEP:
        toy = ov.toys.DeepLinear()
        walk = ov.toys.descend(toy, make(ov.param_groups(toy), lr=lr), steps)
        walks[f"deep linear network: {title}"] = walk[[*ov.toys.MODES]].to_numpy().T.copy()
    for name, make, lr, momentum, steps in QUADRATIC:
        toy = ov.toys.MatrixQuadratic()
        error = ov.toys.descend(toy, make(ov.param_groups(toy), lr=lr, momentum=momentum), steps).error
        error /= error[0]
        walks[f"dense quadratic: {name}{f' {momentum}' * (momentum > 0)}, lr {lr}"] = error.to_numpy()
        rows.append([name, lr, momentum, ov.toys.steps_until(error, high=1e-4)])
    table = pd.DataFrame(rows, columns=["method", "lr", "momentum", "steps"])
    print(table.to_string(index=False))
    path = store("valley", about)
    table.to_csv(path / "table.csv", index=False)
    save_file(walks, path / "walks.safetensors")


if __name__ == "__main__":
    main()
