"""Barlow Twins: learn from two views of an image, without labels, by making outputs uncorrelated.

The loop is :func:`orthoviz.training.fit`: the data give two views of every image, the network is an encoder
with a projector, the loss sees both views' embeddings, and probes take the place of the test accuracy.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from orthoviz import measures, models
from orthoviz.datasets import Dataset, in_order
from orthoviz.seeds import seeded
from orthoviz.training.processes import rank_and_size

# Weight of the redundancy term, as in the paper.
LAMBDA = 0.005
_PROBED = 5_000  # training images at most that the probes learn from


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    r"""How two views' features go together, over the batch.

    .. math:: C_{ij} = \frac1N \sum_b \hat z^1_{bi} \hat z^2_{bj} \in [-1, 1]

    where :math:`\hat z` has mean 0 and variance 1 over the batch, on several processes that of all.

    Args:
        first, second: embeddings of the two views, ``(N, d)``.

    Returns:
        ``(d, d)``, dimensionless; differentiable. A feature that is constant has correlation 0.

    Source: Zbontar et al. 2021 (arXiv 2103.03230), equation 2.
    """
    count = _sum_over_processes(torch.tensor(float(len(first)), device=first.device))
    normal = []
    for z in (first, second):
        mean = _sum_over_processes(z.sum(0)) / count
        variance = _sum_over_processes((z - mean).square().sum(0)) / count
        normal.append((z - mean) * (variance + 1e-5).rsqrt())
    return _sum_over_processes(normal[0].T @ normal[1]) / count


def barlow_loss(first: Tensor, second: Tensor, *, lam: float = LAMBDA) -> Tensor:
    r"""Make each feature the same in both views, and different from the others.

    .. math:: \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \ne j} C_{ij}^2

    Args:
        first, second: embeddings of the two views, ``(N, d)``.
        lam: weight of the second term. At 0 nothing keeps features from being all the same.

    Source: Zbontar et al. 2021 (arXiv 2103.03230), equation 1.
    """
    C = cross_correlation(first, second)
    diagonal = C.diagonal()
    total: Tensor = (1 - diagonal).square().sum() + lam * (C.square().sum() - diagonal.square().sum())
    return total


class BarlowLoss(nn.Module):
    """:func:`barlow_loss` of embeddings in which the second views follow the first; labels are ignored."""

    def __init__(self, lam: float = LAMBDA) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return barlow_loss(*embeddings.chunk(2), lam=self.lam)


def twins(encoder: str = "basic_cnn", *, width: int = 512, seed: int | None = None) -> nn.Sequential:
    """An encoder, which is a network without its head, and a projector of three dense layers.

    Returns:
        A module with two parts, ``model[0]`` (images to features) and ``model[1]`` (features to embeddings).
    """
    network: Any = models.build(encoder, seed=seed)
    features = network
    if encoder in models.OURS:
        *body, head = network.children()
        features = nn.Sequential(*body)
    else:  # torchvision's ResNets
        head, network.fc = network.fc, nn.Identity()
    generator = None if seed is None else seeded(seed + 1)
    layers: list[nn.Module] = []
    for inputs in (head.in_features, width, width):
        dense = nn.utils.skip_init(nn.Linear, inputs, width)
        layers += [models.initialise(dense, generator), nn.BatchNorm1d(width), nn.ReLU()]
    layers = layers[:-2]  # the last one is dense alone
    return nn.Sequential(features, nn.Sequential(*layers))


class TwoViews:
    """A data set whose training batches hold two random views of every image, one batch after the other.

    A view is a part of the image (a fifth of its area at least) blown up to its size, mirrored half of the
    time, with brightness, contrast and saturation changed, and grey one time in five.
    """

    def __init__(self, data: Dataset) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def to(self, device: torch.device | str) -> "TwoViews":
        """The same with its images on ``device``."""
        return TwoViews(self._data.to(device))

    def batches(self, batch_size: int, **how: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`orthoviz.datasets.Dataset.batches`, with ``2 N`` images and ``N`` labels."""
        rank, ranks = how.get("rank", 0), how.get("ranks", 1)
        rest = self._data.count % batch_size
        if batch_size % ranks or rest % ranks:
            raise ValueError(
                f"each of {ranks} processes must have equally many images of every batch, the last of {rest} "
                f"too: change batch_size, now {batch_size}"
            )
        epoch = 2**20 * how["seed"] + how["epoch"]
        for i, (images, labels) in enumerate(self._data.batches(batch_size, **how), how.get("start", 0)):
            generator = seeded(epoch * 2**20 + 2**4 * i + rank)
            yield torch.cat([random_view(images, generator) for _ in range(2)]), labels


def random_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random view of each normalised image, ``(N, C, H, W)``; see :class:`TwoViews`."""
    count, channels = images.shape[:2]

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator).to(images.device)

    side = uniform(0.2, 1.0).sqrt()
    places = [uniform(-1, 1) * (1 - side) for _ in range(2)]
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(side)
    rows = [torch.stack([side * mirror, zero, places[0]], 1), torch.stack([zero, side, places[1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    view = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def each(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1)

    view = view + each(uniform(-0.4, 0.4))
    middle = view.mean((1, 2, 3), keepdim=True)
    view = middle + each(uniform(0.6, 1.4)) * (view - middle)
    if channels > 1:
        grey = view.mean(1, keepdim=True)
        colour = torch.where(uniform(0, 1) < 0.2, 0.0, uniform(0.6, 1.4))
        view = grey + each(colour) * (view - grey)
    return view


@torch.no_grad()
def probe(model: nn.Module, data: Any) -> dict[str, float]:
    """What the encoder has learnt, after every epoch.

    Returns:
        ``rank_me`` of the test images' embeddings (1 to their number of dimensions), and ``centred_rank``,
        the same of embeddings whose mean is taken off: a shift that all share is no dimension;
        ``test_accuracy``, of the 20 nearest neighbours (cosine, weighted) among at most 5,000 labelled
        training images' features, and ``linear_accuracy``, of a logistic regression on them.
    """
    model.eval()
    embeddings = torch.cat([model(images) for images, _ in in_order(data, data.test, device=_device(model))])
    (known, answers), (asked, right) = (features(model, data, part) for part in ("train", "test"))
    return {
        "rank_me": measures.rank_me(embeddings).item(),
        "centred_rank": measures.rank_me(embeddings - embeddings.mean(0)).item(),
        "test_accuracy": knn(known, answers, asked, right),
        "linear_accuracy": linear(known, answers, asked, right),
    }


@torch.no_grad()
def features(model: nn.Module, data: Any, part: str) -> tuple[Tensor, Tensor]:
    """The encoder's outputs for the images of a split, at most 5,000 of all classes, and their labels."""
    model.eval()
    split = getattr(data, part)
    count = len(split.labels)
    if count > _PROBED:  # images may lie sorted by class
        split = split.some(torch.randperm(count, generator=seeded(0))[:_PROBED])
    found = [
        (model[0](images).flatten(1).cpu(), labels.cpu())  # type: ignore[index]
        for images, labels in in_order(data, split, device=_device(model))
    ]
    X, y = (torch.cat(parts) for parts in zip(*found, strict=True))
    return X, y


def knn(known: Tensor, answers: Tensor, asked: Tensor, right: Tensor, *, neighbours: int = 20) -> float:
    """Accuracy of the nearest neighbours by cosine, the nearer weighing more."""
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(neighbours, metric="cosine", weights="distance").fit(known, answers)
    return float(nearest.score(asked, right))


def linear(known: Tensor, answers: Tensor, asked: Tensor, right: Tensor) -> float:
    """Accuracy of a logistic regression on standardised features, after at most 300 iterations."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # to stop early is part of this probe
        line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(known, answers)
    return float(line.score(asked, right))


def _sum_over_processes(tensor: Tensor) -> Tensor:
    """Over all processes, for gradients too."""
    if rank_and_size()[1] == 1:
        return tensor
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(tensor)  # type: ignore[no-any-return, no-untyped-call]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
