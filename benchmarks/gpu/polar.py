"""Stage 2: the polar factors of all matrices of a model, by every way there is on a GPU."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

import orthoviz as ov
from benchmarks import polar
from benchmarks.common import DEVICE
from benchmarks.gpu.stage import Rows, Task, timed
from benchmarks.polar import Factors, one_by_one

MODELS = ("resnet18", "126 small convolutions", "vit_b_16", "gpt2", "resnet50", "BasicCNN", "densenet121")
DETECTION = [(16, 27)] + 5 * [
    shape for c in (16, 32, 64, 128, 256) for shape in 2 * [(c, 9 * c)] + 2 * [(c, c)] + [(c, 2 * c)]
]
"""Small 3 x 3 and 1 x 1 convolutions of five widths, as in a network that detects objects."""
LATE = ("svd one by one", "stacked", "compiled")  # they take seconds, so the others come first


def tasks(dry: bool, _: str) -> Iterator[Task]:
    made = contenders()
    for late in (False, True):
        for job in MODELS[5:6] if dry else (*MODELS, "2048 x 2048"):
            for name, work in made.items():
                if late == any(word in name for word in LATE):
                    yield Task(job, name, partial(row, job, name, work, dry))


def row(job: str, name: str, work: Factors, dry: bool) -> Rows:
    named = {"126 small convolutions": DETECTION, "2048 x 2048": [(2048, 2048)]}
    shapes = named.get(job) or polar.model_shapes(job)
    matrices = polar.gaussian(shapes)
    return [timed(lambda: work(matrices), dry) | polar.accuracy(name, work, shapes)]


def contenders() -> dict[str, Factors]:
    """Those of the CPU's table, and what there is on a GPU besides."""
    found = polar.contenders()
    half, brain = (
        ov.polar.GramNewtonSchulz(restarts=restarts, precision=precision)
        for restarts, precision in (((2, 4), torch.float16), ((1, 2, 4), torch.bfloat16))
    )

    class Compiled(ov.polar.GramNewtonSchulz):
        __call__ = compiled(ov.polar.GramNewtonSchulz.__call__)

    methods = {"Gram form float16": half, "Gram form bfloat16": brain}
    methods |= {"Gram form float16, compiled": Compiled(restarts=(2, 4), precision=torch.float16)}
    drivers = (None, "gesvd", "gesvdj", "gesvda")
    methods |= {f"svd stacked, {driver or 'default'}": ov.polar.SVD(driver=driver) for driver in drivers}
    for name, method in methods.items():
        found[name] = partial(ov.polar.polar_factors, method=method)
    found["orthoviz fast, graph"] = graphed(found["orthoviz fast"])
    found["Gram form float16, one by one"] = one_by_one(partial(ov.polar.polar_factor, method=half))
    found["floor: two products float16"] = one_by_one(lambda G: polar.two_products(G.half()))
    if "torch's quintic" in found:
        from torch.optim._muon import _zeropower_via_newtonschulz as quintic

        jordan = ov.polar.JORDAN[0]
        found["torch's quintic, compiled"] = one_by_one(compiled(lambda G: quintic(G, jordan, 5, 1e-7)))
    return found


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compiled once for all shapes; on a CPU by a backend that needs no C++ compiler."""
    return torch.compile(function, dynamic=True, backend="inductor" if DEVICE == "cuda" else "aot_eager")


def graphed(factors: Factors) -> Factors:
    """Captured for the shapes that it sees first; then the matrices are copied into their places and the
    graph is replayed."""
    known: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor]]] = {}

    def replayed(matrices: list[Tensor]) -> list[Tensor]:
        shapes = tuple(G.shape for G in matrices)
        if shapes not in known:
            known.clear()  # a graph keeps its memory
            places, graph = [G.clone() for G in matrices], torch.cuda.CUDAGraph()
            factors(places)  # torch's own workspaces are made outside of the graph
            with torch.cuda.graph(graph):
                results = factors(places)
            known[shapes] = graph, places, results
        graph, places, results = known[shapes]
        torch._foreach_copy_(places, matrices)
        graph.replay()
        return results

    return replayed
