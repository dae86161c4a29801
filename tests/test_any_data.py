"""Any data: tokens, numbers to predict, loaders of one's own; and a timm network with timm's scheduler."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import orthoviz as ov
from orthoviz.datasets import words as module

WORDS = ov.datasets.load("words").subset(train=128, test=40)


def plane(count=120, seed=0):
    """Numbers that a linear layer can predict, up to a little noise."""
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(count, 5, generator=draw)
    return X, X @ torch.arange(5.0)[:, None] + 0.1 * torch.randn(count, 1, generator=draw)


def test_a_transformer_learns_tokens():
    model = ov.models.gpt(width=32, depth=2, seed=0)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, momentum=0.9)
    run = ov.training.fit(model, optimizer, WORDS, epochs=3, batch_size=16, progress=False)
    first, *_, last = run.history.test_loss
    assert first == pytest.approx(math.log(103), abs=0.1)  # it knows nothing
    assert last < 0.85 * first
    assert run.history.test_accuracy.iloc[-1] > 0.1


def test_regression_is_judged_by_its_loss():
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = plane(), plane(40, seed=1)
    run = ov.training.fit(model, optimizer, data, epochs=20, batch_size=30, loss=mse_loss, progress=False)
    assert "test_accuracy" not in run.history
    X, y = plane(40, seed=1)
    assert run.history.test_loss.iloc[-1] == pytest.approx(mse_loss(model(X), y).item(), rel=1e-5)
    assert run.history.test_loss.iloc[-1] < 0.05


def test_regression_is_compared_by_its_loss_and_lower_is_better():
    def model(seed):
        torch.manual_seed(seed)
        return nn.Linear(5, 1)

    makers = {"sgd": lambda groups, lr: torch.optim.SGD(groups, lr=lr), "adam": ov.optim.OPTIMIZERS["adamw"]}
    how = dict(lrs=(1e-3, 0.1, 0.2), epochs=3, batch_size=20, seeds=2, loss=mse_loss, progress=False)
    found = ov.training.compare(model, (plane(), plane(40, seed=1)), makers, **how)
    last = found.frame[(found.frame.epoch == 3) & (found.frame.optimizer == "sgd")]
    assert found.rates["sgd"] == last.groupby("lr").valid_loss.mean().idxmin() > 1e-3
    assert "SGD loss 0.0" in found.verdict
    assert found.verdict.index("SGD loss") < found.verdict.index("adam loss")  # the best comes first


def test_a_metric_is_the_users_own():
    metric = ov.training.Metric("mean error", lambda out, y: (out - y).abs().flatten(1).mean(1), False)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = plane(), plane(40, seed=1)
    how = dict(epochs=2, batch_size=30, loss=mse_loss, metric=metric, progress=False)
    history = ov.training.fit(model, optimizer, data, **how).history
    X, y = plane(40, seed=1)
    assert history["test_mean error"].iloc[-1] == pytest.approx((model(X) - y).abs().mean().item(), rel=1e-5)


def own_loader(count=96, batch_size=32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(count, 6, generator=draw)
    data = TensorDataset(X, (X.sum(1) > 0).long())
    return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)


def test_a_loader_of_ones_own_is_taken_and_a_run_with_it_goes_on(tmp_path):
    def run(out, epochs):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
        optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
        data = own_loader(), own_loader(64, seed=1)
        how = dict(out=out, resume=True, progress=False)  # a batch is as large as the loader says
        return ov.training.fit(model, optimizer, data, epochs=epochs, **how).history.drop(columns="seconds")

    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "parts", 2)
    assert run(tmp_path / "parts", 6).equals(whole)
    assert whole.step.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert whole.test_accuracy.iloc[-1] > 0.85


def test_loaders_are_compared_where_a_third_is_there_to_choose_by():
    def model(seed):
        torch.manual_seed(seed)
        return nn.Linear(6, 2)

    makers = {name: ov.optim.OPTIMIZERS[name] for name in ("sgd", "orthogonal_sgd")}
    how = dict(lrs=(0.01, 0.1), epochs=1, batch_size=32, seeds=1, progress=False)
    two = own_loader(), own_loader(64, seed=1)
    found = ov.training.compare(model, (*two, own_loader(64, seed=2)), makers, **how)
    assert found.frame.valid_accuracy.between(0, 1).all()


def test_a_timm_network_with_timms_scheduler_and_layer_decay():
    timm = pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay
    from timm.scheduler import CosineLRScheduler

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=10, depth=2)
    optimizer = torch.optim.SGD(param_groups_layer_decay(model, layer_decay=0.5), lr=0.1, momentum=0.9)
    ov.orthogonalise(optimizer, model)
    scheduler = CosineLRScheduler(optimizer, t_initial=4, warmup_t=2, warmup_lr_init=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(4):
        scheduler.step(step)
        model(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    rates = [group["lr"] for group in optimizer.param_groups]
    assert len(set(rates)) > 2  # each layer its own


def bowl(make, lr, seed):
    """A loop of a user's own: the length of a vector that should be zero, after each of five steps."""
    draw = torch.Generator().manual_seed(seed)
    p = nn.Parameter(torch.randn(4, 3, generator=draw))
    optimizer = make([p], lr)
    curve = []
    for _ in range(5):
        optimizer.zero_grad()
        (p.square().sum() / 2).backward()
        optimizer.step()
        curve.append(p.norm().item())
    return curve


def test_a_loop_of_ones_own_is_compared():
    makers = {name: lambda groups, lr, factor=f: torch.optim.SGD(groups, lr=factor * lr)
              for name, f in (("slow", 0.1), ("fast", 1.0))}  # fmt: skip
    how = dict(seeds=3, progress=False)
    found = ov.training.compare_own(bowl, makers, lrs=(0.1, 0.5, 2.5), score="length", **how)
    assert found.rates == {"slow": 2.5, "fast": 0.5}
    last = found.frame[found.frame.chosen & (found.frame.epoch == 5)]
    for seed in range(3):
        start = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)).norm().item()
        ours = last[last.seed == seed].set_index("optimizer").test_length
        assert ours["fast"] == pytest.approx(0.5**5 * start, rel=1e-5)
        assert ours["slow"] == pytest.approx(0.75**5 * start, rel=1e-5)
    assert "unclear, for the best rate of slow is at the end of its grid" in found.verdict
    lost = lambda make, lr, seed: math.nan if lr == 0.5 and seed else torch.tensor(lr)  # noqa: E731
    told = ov.training.compare_own(lost, makers, lrs=(0.5, 1.0, 2.0), seeds=2, progress=False)
    assert set(told.rates.values()) == {1.0}  # where every run has a number
    ends = ov.training.compare_own(lambda *given: bowl(*given)[-1], makers, lrs=0.5, **how)
    assert "fast better" in ends.verdict


# The text


def test_the_text_is_cut_into_pieces_whose_targets_come_next():
    data = ov.datasets.load("words")
    text = module.text()
    back = "".join(data.classes[i] for i in data.train.images[:3].flatten())
    assert back == text[: 3 * 128]
    ahead = "".join(data.classes[i] for i in data.train.labels[:3].flatten())
    assert ahead == text[1 : 3 * 128 + 1]
    assert len(data.train.labels) + len(data.test.labels) == (len(text) - 1) // 128
    assert data.name in ov.datasets.available()
    of = f"{len(data.train.labels):,} training and {len(data.test.labels)} test examples of 128"
    assert repr(data) == f"Dataset('words': {of}, {len(set(text))} classes)"


def test_another_pythons_text_is_used_with_a_warning(monkeypatch):
    monkeypatch.setattr(module, "text", lambda: "other words " * 1000)
    with pytest.warns(UserWarning, match="differ from those of Python 3.11"):
        assert len(module.words().classes) == len(set("other words "))


def test_a_gpt_looks_at_nothing_that_comes_later():
    model = ov.models.gpt(seed=0)
    assert sum(p.numel() for p in model.parameters()) == 836_096
    tokens = torch.randint(103, (2, 128), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 64:] = 0
    with torch.no_grad():
        torch.testing.assert_close(model(changed)[:, :64], model(tokens)[:, :64], rtol=0, atol=1e-5)
        assert not torch.allclose(model(changed)[:, 64:], model(tokens)[:, 64:])
