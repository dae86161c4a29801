"""Every example trains, and does what its first lines say."""

import importlib
import pkgutil
from types import SimpleNamespace

import pytest
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

import examples
import orthoviz as ov
from tests.weights import near

pytestmark = pytest.mark.slow

NAMES = [module.name for module in pkgutil.iter_modules(examples.__path__)]
LIBRARIES = {"lightning_module": "lightning", "accelerate_loop": "accelerate"}


def batches(size=128):
    data = ov.datasets.load("digits").train
    return [
        (images.float() / 255, labels)
        for images, labels in zip(data.images.split(size), data.labels.split(size), strict=True)
    ]


@pytest.fixture
def example(request):
    if request.param in LIBRARIES:
        pytest.importorskip(LIBRARIES[request.param])
    if request.param == "several_gpus":
        store = dist.HashStore()
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield importlib.import_module(f"examples.{request.param}").train
    if request.param == "several_gpus":
        dist.destroy_process_group()


class ReturnsItsLoss(nn.Module):
    """A classifier that is called as those of transformers are."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixel_values, labels):
        logits = self.network(pixel_values)
        return SimpleNamespace(loss=cross_entropy(logits, labels), logits=logits)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice about loaders
@pytest.mark.parametrize(
    "example",
    [pytest.param(name, marks=pytest.mark.full if name == "compiled_step" else ()) for name in NAMES],
    indirect=True,
)
def test_it_trains(example):
    model, data = ov.models.digits_cnn(seed=0), batches()
    if example.__module__ == "examples.transformers_loop":
        data = [{"pixel_values": images, "labels": labels} for images, labels in data]
        model = ReturnsItsLoss(model)
    losses = example(model, data)
    assert len(losses) == 12
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("example", ["lightning_module", "accelerate_loop", "several_gpus"], indirect=True)
@pytest.mark.filterwarnings("ignore")
def test_a_framework_changes_nothing(example):
    plain, framed = ov.models.digits_cnn(seed=0), ov.models.digits_cnn(seed=0)
    importlib.import_module("examples.plain_loop").train(plain, batches())
    example(framed, batches())
    near(plain, [p.to("cpu") for p in framed.parameters()], rtol=1e-4, atol=1e-5)


def test_parts_of_a_batch_are_added_up_before_the_polar_factor():
    from examples.accumulate_and_clip import train

    whole, parts = ov.models.digits_cnn(seed=0).eval(), ov.models.digits_cnn(seed=0).eval()
    train(whole, batches(128)[:2], accumulate=1)
    halves = [
        half
        for images, labels in batches(128)[:2]
        for half in zip(images.split(64), labels.split(64), strict=True)
    ]
    train(parts, halves, accumulate=2)
    near(whole, parts, rtol=1e-3, atol=1e-4)
