"""Polar factors of all weight matrices of a model, once: time and error, all contenders in one run.

    make bench-polar                        every model and shape, into results/polar
    python -m benchmarks.polar vit_b_16     one of them, into the same table
    python -m benchmarks.polar --quick      resnet18, resnet50 and densenet121, printed only

Contenders: the SVD one by one (the paper), the quintic of torch's Muon as it is shipped (bfloat16) and in
float32, timm's and pytorch-optimizer's where they are installed, this package's methods, and the floor: the
two products K = G G^T and K G, which any of them needs. The matrices are Gaussian. A time is the median of
the rounds after one that is not counted; a contender that takes over 10 s on a model is timed once, and
marked. The error is the relative Frobenius distance from the float64 factor, over one matrix of each shape;
the gains are the lengths that the directions of these come out with, the shortest and the longest.
"""

import argparse
import importlib
import math
from collections.abc import Callable, Sequence
from functools import cache

import pandas as pd
import torch
import torchvision
from torch import Tensor

import orthoviz as ov
from benchmarks.common import (
    DEVICE,
    RESULTS,
    interleave,
    keep,
    markdown,
    medians,
    provenance,
    seconds,
    store,
)

ROUNDS = 3
QUICK = ("resnet18", "resnet50", "densenet121")
PAPER = (
    *("BasicCNN", "resnet20", "resnet44", "resnet18", "resnet34", "resnet50", "densenet121", "densenet161"),
    *("resnext50_32x4d", "wide_resnet50_2"),
)
SHAPES = [
    (16, 27), (16, 144), (32, 288), (64, 576), (128, 128), (128, 1152), (256, 256), (256, 2304), (512, 512),
    (512, 4608), (1000, 1024), (1024, 4096), (2048, 2048), (2048, 8192),
]  # fmt: skip
STACKS = [(count, 64, 576) for count in (1, 4, 16, 64)]

Factors = Callable[[list[Tensor]], list[Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three models, nothing stored")
    parser.add_argument(
        "job", nargs="*", help="only these models or shapes; the stored rows of others are kept"
    )
    arguments = parser.parse_args()
    sgemm = product_rate()
    print(f"float32 products of 2048 x 2048: {sgemm:.0f} GFLOP/s")
    shapes = {" x ".join(map(str, shape)): [shape] for shape in SHAPES + STACKS}
    jobs = QUICK if arguments.quick else arguments.job or [*PAPER, "vit_b_16", "gpt2", *shapes]
    tables = [stored_rows(jobs)] if arguments.job else []
    for job in jobs:
        tables.append(pd.DataFrame(measure(job, shapes.get(job) or model_shapes(job), sgemm)))
        print(summary(tables[-1]), flush=True)
        if not arguments.quick:  # after every job, so that a run that is cut short keeps what it has
            write(pd.concat(tables), sgemm)


def stored_rows(but: list[str]) -> pd.DataFrame:
    """The table as it is, without some jobs."""
    table = pd.read_csv(RESULTS / "polar" / "table.csv")
    return table[~table.job.isin(but)]


def contenders() -> dict[str, Factors]:
    """Name to a function from a model's matrices to their factors."""
    found: dict[str, Factors] = {
        "svd one by one": one_by_one(svd),
        "quintic float32": one_by_one(quintic),
    }
    muon, timms, other = "torch.optim._muon", "timm.optim.muon", "pytorch_optimizer.optimizer.utils"
    jordan = ov.polar.JORDAN[0]
    peers: dict[str, tuple[str, str, tuple[object, ...]]] = {
        "torch's quintic": (muon, "_zeropower_via_newtonschulz", (jordan, 5, 1e-7)),
        "timm's quintic": (timms, "zeropower_via_newtonschulz", (5, [jordan])),
        "pytorch-optimizer's quintic": (other, "zero_power_via_newton_schulz_5", ()),
    }
    if torch.cuda.is_available():  # made for GPUs: on two CPU cores it took 17 s on resnet18
        peers["pytorch-optimizer's Gram form"] = (other, "zero_power_via_gram_newton_schulz", ())
    for name, (module, function, arguments) in peers.items():
        try:
            call = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError):
            continue
        found[name] = one_by_one(lambda G, call=call, arguments=arguments: call(G, *arguments))
    for method in ("exact", "fast", "newton_schulz", "polar_express", "gram_newton_schulz", "rational"):
        found[f"orthoviz {method}"] = lambda Gs, method=method: ov.polar.polar_factors(Gs, method)
    found["floor: two products"] = one_by_one(two_products)
    return found


def one_by_one(factor: Callable[[Tensor], Tensor]) -> Factors:
    """Apply a function of one matrix to all; the matrices of a stack too are taken one by one."""

    def factors(matrices: list[Tensor]) -> list[Tensor]:
        return [factor(G) if G.ndim == 2 else torch.stack([factor(matrix) for matrix in G]) for G in matrices]

    return factors


def svd(G: Tensor) -> Tensor:
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return U @ Vh


def quintic(G: Tensor) -> Tensor:
    """Muon's five steps as published, in float32."""
    X = G.mT if G.shape[0] > G.shape[1] else G
    X = X / (X.norm() + 1e-7)
    a, b, c = ov.polar.JORDAN[0]
    for _ in range(5):
        A = X @ X.mT
        X = torch.addmm(X, torch.addmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X.mT if G.shape[0] > G.shape[1] else X


def two_products(G: Tensor) -> Tensor:
    return (G @ G.mT) @ G if G.shape[0] <= G.shape[1] else G @ (G.mT @ G)


def model_shapes(name: str) -> list[tuple[int, ...]]:
    """Shapes of a model's matrices, as ``ov.param_groups`` reads them."""
    if name == "gpt2":  # twelve blocks of width 768: q, k and v, projection, two dense layers
        return [(3, 768, 768), (768, 768), (3072, 768), (768, 3072)] * 12
    own = {"BasicCNN": ov.models.basic_cnn, "resnet20": ov.models.resnet20, "resnet44": ov.models.resnet44}
    model = own.get(name, getattr(torchvision.models, name, None))()
    groups = [group for group in ov.param_groups(model) if group["layout"]]
    return [
        tuple(ov.matrices.as_matrix(p.detach(), group["layout"]).shape)
        for group in groups
        for _, p in group["params"]
    ]


def measure(job: str, shapes: list[tuple[int, ...]], sgemm: float) -> list[dict[str, object]]:
    """A row a contender."""
    matrices = gaussian(shapes)
    made = contenders()
    times = interleave({name: lambda work=work: work(matrices) for name, work in made.items()}, ROUNDS)
    took = medians(times)
    operations = sum(4.0 * math.prod(s[:-2]) * min(s[-2:]) ** 2 * max(s[-2:]) for s in shapes)
    return [
        {
            "job": job,
            "contender": name,
            "milliseconds": 1e3 * took[name],
            "to_svd": took["svd one by one"] / took[name],
            "to_quintic": took["quintic float32"] / took[name],
            "to_floor": took[name] / (operations / sgemm / 1e9),
            **accuracy(name, work, shapes),
            "rounds": len(times[name]),
        }
        for name, work in made.items()
    ]


def gaussian(shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    generator = torch.Generator(DEVICE).manual_seed(0)
    return [0.01 * torch.randn(shape, generator=generator, device=DEVICE) for shape in shapes]


def accuracy(name: str, work: Factors, shapes: Sequence[tuple[int, ...]]) -> dict[str, float]:
    """Error and gains; the floor, which makes no factors, has none."""
    if "floor" in name:
        return dict.fromkeys(("error", "smallest_gain", "largest_gain"), math.nan)
    known = [reference(shape) for shape in dict.fromkeys(shape[-2:] for shape in shapes)]
    factors = [O.cpu().double() for O in work([G.to(DEVICE) for G, _, _ in known])]
    off, size, gains = 0.0, 0, []
    for O, (_, U, Vh) in zip(factors, known, strict=True):
        off, size = off + (O - U @ Vh).square().sum().item(), size + len(Vh)
        gains.append((U * (O @ Vh.mT)).sum(0))
    low, high = (gain.item() for gain in torch.cat(gains).aminmax())
    return {"error": math.sqrt(off / size), "smallest_gain": low, "largest_gain": high}


@cache
def reference(shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """A Gaussian matrix, and its singular vectors in float64."""
    G = 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    U, _, Vh = torch.linalg.svd(G.double(), full_matrices=False)
    return G, U, Vh


def product_rate() -> float:
    """GFLOP/s of a large float32 product, best of ten."""
    A = torch.randn(2048, 2048, device=DEVICE)
    return 2 * 2048**3 / min(seconds(lambda: A @ A) for _ in range(10)) / 1e9


def summary(table: pd.DataFrame) -> str:
    """One job as Markdown."""
    rows = []
    for row in table.itertuples():
        error = f"{row.error:.1g}" if row.error < 1e-3 else f"{row.error:.3f}".replace("nan", "")
        took = f"{row.milliseconds:.3g}" + (" (once)" if row.rounds == 1 else "")
        ratios = (f"{ratio:.2f}" for ratio in (row.to_svd, row.to_quintic, row.to_floor))
        rows.append((row.contender, took, *ratios, error))
    head = ("contender", "ms", "times faster than SVD", "than the quintic", "times the floor", "error")
    return f"\n### {table.job.iloc[0]}\n\n{markdown(head, rows)}"


def write(table: pd.DataFrame, sgemm: float) -> None:
    about = provenance(
        what=f"polar factors of all weight matrices, float32 input; float32 products at {sgemm:.0f} GFLOP/s",
        data="Gaussian matrices",
        command="python -m benchmarks.polar",
    )
    folder = store("polar", about)
    keep(table, folder, "%.4g")
    text = [f"# Polar factors: time and error\n\n{about['what']}. {about['device']}, torch {about['torch']}, "
            f"{about['date']}. Made by `{about['command']}`."]  # fmt: skip
    text += [summary(part) for _, part in table.groupby("job", sort=False)]
    (folder / "table.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
