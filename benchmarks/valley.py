"""What two optimisers learn of toy problems, step by step, for the view ``loss_valley``.

    python -m benchmarks.valley

results/valley: on the deep linear network gradient descent and the orthogonal step, each at some learning
rates, and the learnt part of each mode (gradient descent does not settle above 0.03; the orthogonal step's
walk ends when it has arrived). On the dense quadratic four methods, each at its best learning rate, and the
error relative to the first. A row a step.
"""

import pandas as pd
import torch

import orthoviz as ov
from benchmarks.common import provenance, store

STEPS, RATES = 1000, (0.003, 0.01, 0.03, 0.1)
WALKS = (
    *(("deep", "gradient descent", torch.optim.SGD, STEPS, dict(lr=lr)) for lr in RATES if lr <= 0.03),
    *(("deep", "orthogonal", ov.OrthogonalSGD, min(STEPS, round(3 / lr)), dict(lr=lr)) for lr in RATES),
    ("quadratic", "SGD, momentum", torch.optim.SGD, 600, dict(lr=3.3, momentum=0.9)),
    ("quadratic", "gradient descent", torch.optim.SGD, 2000, dict(lr=1.9)),
    ("quadratic", "orthogonal, momentum", ov.OrthogonalSGD, 400, dict(lr=0.003, momentum=0.9)),
    ("quadratic", "orthogonal", ov.OrthogonalSGD, 400, dict(lr=0.01)),
)


def main() -> None:
    about = provenance(
        what="what optimisers learn of a deep linear network and of a quadratic, step by step",
        data="toy problems",
        command="python -m benchmarks.valley",
    )
    tables = []
    for problem, method, make, steps, options in WALKS:
        toy = ov.toys.DeepLinear() if problem == "deep" else ov.toys.MatrixQuadratic()
        walk = ov.toys.descend(toy, make(ov.param_groups(toy), **options), steps)
        walk["error"] /= walk.error[0]
        seen = walk[[*ov.toys.MODES]].round(6) if problem == "deep" else walk[["error"]]
        key = {"problem": problem, "method": method, "lr": options["lr"], "step": walk.step}
        tables.append(seen.assign(**key))
        print(problem, method, options, len(walk))
    table = pd.concat(tables)
    path = store("valley", about) / "table.csv"
    columns = [*key, *ov.toys.MODES, "error"]
    table[columns].to_csv(path, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
