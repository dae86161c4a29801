"""Barlow Twins against its formulas written out; test_ranks.py has it on two processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.training import barlow


def embeddings(seed=0, count=40, size=6):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return first, first + 0.5 * torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_the_cross_correlation_is_numpys():
    first, second = embeddings()
    right = np.corrcoef(first.T.numpy(), second.T.numpy())[:6, 6:]
    assert barlow.cross_correlation(first, second).numpy() == pytest.approx(right, abs=1e-4)


def test_the_loss_is_the_papers_equation_1():
    first, second = embeddings()
    C = barlow.cross_correlation(first, second)
    right = sum((1 - C[i, i]) ** 2 for i in range(6))
    right += 0.01 * sum(C[i, j] ** 2 for i in range(6) for j in range(6) if i != j)
    assert barlow.barlow_loss(first, second, lam=0.01) == pytest.approx(right.item())
    both = torch.cat([first, second])
    assert barlow.BarlowLoss(0.01)(both, torch.zeros(40)) == pytest.approx(right.item())


def test_equal_views_with_independent_features_cost_nothing_and_a_constant_feature_one():
    views = torch.linalg.qr(torch.randn(64, 6, dtype=torch.float64) - 0).Q
    views = views - views.mean(0)
    views = torch.linalg.qr(views).Q  # columns at right angles, and with mean 0
    assert barlow.barlow_loss(views, views, lam=1) == pytest.approx(0, abs=0.02)  # variance has 1e-5 added
    views = 10 * views
    assert barlow.barlow_loss(views, views, lam=1) == pytest.approx(0, abs=1e-6)
    views[:, 2] = 3.0
    assert barlow.barlow_loss(views, views, lam=1) == pytest.approx(1, abs=1e-6)


def test_gradients_are_those_of_finite_differences():
    first, second = embeddings(count=9, size=3)
    assert torch.autograd.gradcheck(
        lambda a, b: barlow.barlow_loss(a, b, lam=0.1), (first.requires_grad_(), second.requires_grad_())
    )


def test_two_views_of_an_image_are_views_of_it_and_differ():
    data = ov.datasets.load("digits")
    views, how = barlow.TwoViews(data), dict(seed=0, epoch=1, device="cpu")
    batches = list(views.batches(100, **how))
    plain, right = next(iter(ov.datasets.batches(data, 100, seed=0, epoch=1)))
    images, labels = batches[0]
    assert images.shape == (200, 1, 8, 8)
    assert torch.equal(labels, right)
    first, second = images.chunk(2)
    assert not torch.equal(first, second)

    def likeness(a, b):
        return nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).mean()

    assert likeness(first, plain) > likeness(first, plain.roll(1, 0)) + 0.1
    later = next(iter(views.batches(100, **how, start=2)))[0]
    assert torch.equal(later, batches[2][0])
    with pytest.raises(ValueError, match="equally many images"):
        next(iter(views.batches(100, **how, rank=0, ranks=2)))


def test_each_seed_has_its_own_views():
    """torch's generator looks at 32 bits: the seeds were beyond them, and all views the same."""
    views = barlow.TwoViews(ov.datasets.load("digits").subset(train=64))
    drawn = [next(iter(views.batches(64, seed=seed, epoch=1, device="cpu")))[0] for seed in (0, 1)]
    first, second = (images.mean((1, 2, 3)).sort().values for images in drawn)
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.slow
def test_without_the_second_term_features_become_the_same():
    views, rank_me = barlow.TwoViews(ov.datasets.load("digits")), {}
    for lam in (0.0, 0.05):
        model = barlow.twins("digits_cnn", width=32, seed=0)
        optimizer = ov.optim.OPTIMIZERS["lars"](ov.param_groups(model, convolutions_only=True), 0.1)
        ov.training.fit(
            model, optimizer, views, epochs=6, loss=barlow.BarlowLoss(lam), progress=False,
            evaluation=lambda model, data: {},
        )  # fmt: skip
        rank_me[lam] = barlow.probe(model, views)["centred_rank"]
    untrained = barlow.probe(barlow.twins("digits_cnn", width=32, seed=0), views)["centred_rank"]
    assert rank_me[0.0] < 2.5 < 7 < untrained
    assert rank_me[0.05] > 2 * rank_me[0.0]


def test_the_probes_are_scikit_learns_and_chance_without_information():
    torch.manual_seed(0)
    known, answers = torch.randn(400, 8), torch.randint(10, (400,))
    clear = known + 6 * nn.functional.one_hot(answers % 8, 8)
    for probe in (barlow.knn, barlow.linear):
        assert probe(clear, answers % 8, clear, answers % 8) > 0.95
        assert probe(known[:300], answers[:300], known[300:], answers[300:]) < 0.3


@pytest.mark.parametrize(("encoder", "features"), [("basic_cnn", 512), ("resnet20", 64), ("resnet18", 512)])
def test_an_encoder_is_a_network_without_its_head(encoder, features):
    model, images = barlow.twins(encoder, width=16, seed=0).eval(), torch.randn(2, 3, 32, 32)
    assert model[0](images).flatten(1).shape == (2, features)
    assert model(images).shape == (2, 16)
    assert sum(isinstance(layer, nn.Linear) for layer in model[1]) == 3


def test_the_probes_learn_from_images_of_all_classes_however_they_lie():
    data = ov.datasets.load("digits")
    images, labels = data.train.some(data.train.labels.argsort())  # as an archive of folders has them
    many = ov.datasets.Split(images.repeat_interleave(4, 0), labels.repeat_interleave(4))
    model = barlow.twins("digits_cnn", width=16, seed=0)
    whole, sorted_by_class = (
        barlow.probe(model, replace(data, train=train))["test_accuracy"] for train in (data.train, many)
    )
    assert whole > 0.8
    assert sorted_by_class == pytest.approx(whole, abs=0.02)


def test_a_probe_says_what_its_parts_say():
    model, data = barlow.twins("digits_cnn", width=16, seed=0), ov.datasets.load("digits")
    found = barlow.probe(model, data)
    assert 1 <= found["rank_me"] <= 16
    known, asked = (barlow.features(model, data, part) for part in ("train", "test"))
    assert found["test_accuracy"] == barlow.knn(*known, *asked)
    assert found["linear_accuracy"] == barlow.linear(*known, *asked)
