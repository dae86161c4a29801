"""Networks by name, and the one for speed."""

import pytest
import torch
from torch import nn

import orthoviz as ov


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_torchvisions_networks_are_unchanged_seeded_and_leave_the_global_state_alone(name):
    import torchvision

    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = ov.models.build(name, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    theirs = torchvision.models.get_model(name)
    torch.testing.assert_close(model.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)  # the paper's 1000-way head
    assert ov.models.build(name, 7, seed=1)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_a_thousand_outputs_train_on_ten_classes():
    model = ov.models.digits_cnn(1000, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ov.training.check_fits(model, optimizer, ov.datasets.load("digits"), epochs=1, batch_size=256)


def photographs(count=400):
    """Smooth random images: neighbouring pixels and colours go together."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    mixed = coarse + coarse.mean(1, keepdim=True)
    return nn.functional.interpolate(mixed, size=(32, 32), mode="bilinear")


def test_the_first_layer_of_the_speed_network_whitens_patches():
    images = photographs()
    model = ov.models.speedrun_cnn(images, seed=0)
    first = model.network[0]
    assert not first.weight.requires_grad
    assert first.bias.requires_grad
    responses = first(images).permute(0, 2, 3, 1).reshape(-1, 24)
    own, mirrored = responses[:, :12], responses[:, 12:]
    torch.testing.assert_close(own, -mirrored)
    covariance = own.T.double().cov()
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances = torch.linalg.eigvalsh(patches.T.double().cov()).flip(0)
    # of variance 1, less where a direction has hardly any
    torch.testing.assert_close(covariance.diagonal(), variances / (variances + 5e-4), rtol=1e-3, atol=1e-3)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-2


def test_the_speed_network_looks_at_the_mirror_image_when_it_is_tested():
    model = ov.models.speedrun_cnn(photographs(), width=8, seed=0).eval()
    images = photographs(5)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(images.flip(-1)))
        both = model.network(images) + model.network(images.flip(-1))
        torch.testing.assert_close(model(images), both / 18)
    model.train()
    assert not torch.allclose(model(images), model(images.flip(-1)))


def test_the_speed_network_is_small_and_learns():
    model = ov.models.speedrun_cnn(seed=0)
    assert sum(p.numel() for p in model.parameters()) < 2.1e6
    flop = ov.training.recipes.flop_per_image("speedrun_cnn", (3, 32, 32))
    assert 0.25e15 < 10 * 50_000 * flop < 0.4e15
    images = photographs(64)
    labels = (images.mean((1, 2, 3)) > 0).long()
    model = ov.models.speedrun_cnn(images, 2, width=8, seed=0)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, momentum=0.9)
    first = None
    for _ in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        first = first or loss.item()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
    frozen = model.network[0].weight
    assert torch.equal(frozen, ov.models.speedrun_cnn(images, 2, width=8, seed=0).network[0].weight)
