"""The report: each fault is planted in a run and named alone, and healthy runs have none."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import orthoviz as ov
from tests.test_monitor import (
    backward,
    batch,
    lbfgs,
    monitored,
    network,
    one_step,
    orthogonal_sgd,
    plain,
    wrapped,
)
from tests.test_watching import Reader

STEPS = 6


def gpt(**options):
    return ov.models.gpt(20, context=16, width=8, depth=1, heads=2, seed=0, **options)


class Tied(nn.Module):
    """A table of tokens that is the head too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.token, self.hidden = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens):
        return self.head(self.hidden(self.token(tokens)).relu())


def stepping(loss_of):
    """A step along the gradient of a loss, which is of a model and a seed."""

    def step(model, optimizer, seed):
        optimizer.zero_grad()
        loss = loss_of(model, torch.Generator().manual_seed(seed))
        loss.backward()
        optimizer.step()
        return loss

    return step


def reader():
    torch.manual_seed(0)
    return Reader()


@stepping
def on_tokens(model, generator):
    tokens = torch.randint(20, (8, 16), generator=generator)
    return cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten())


@stepping
def on_series(model, generator):
    return cross_entropy(model(torch.randn(24, 7, 5, generator=generator)), torch.arange(24) % 3)


@stepping
def on_colours(model, generator):
    return cross_entropy(model(torch.randn(64, 3, 32, 32, generator=generator)), torch.arange(64) % 10)


def accumulated(model, optimizer, seed):
    optimizer.zero_grad()
    loss = backward(model, 2 * seed) + backward(model, 2 * seed + 1)
    optimizer.step()
    return loss


def closed(model, optimizer, seed):
    def closure():
        optimizer.zero_grad()
        return backward(model, seed)

    return optimizer.step(closure)


def scaled(model, optimizer, seed):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    images, labels = batch(seed)
    optimizer.zero_grad()
    loss = cross_entropy(model(images), labels)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    return loss


def clipped(model, optimizer, seed):
    optimizer.zero_grad()
    loss = backward(model, seed)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    return loss


def dense(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))


def on_vectors(count=256, precision=None):
    @stepping
    def step(model, generator):
        x = torch.randn(count, 32, generator=generator).to(model[0].weight.dtype)
        labels = torch.randint(8, (count,), generator=generator)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            logits = model(x)
        return cross_entropy(logits.float(), labels)

    return step


in_autocast = on_vectors(40, torch.bfloat16)
"""Forty images: fewer than directions, so that some of a factor's are rounding."""


def muon(model, **options):
    options = {"lr": 0.02, "momentum": 0.95, "nesterov": True, "scale": "sqrt_max", **options}
    groups = ov.param_groups(model)
    return ov.OrthogonalSGD(groups, order="after_momentum", rest="adamw", rest_lr=1e-3, **options)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def lars(model):
    return ov.LARS(model.parameters(), lr=0.2)


def lamb(model, **options):
    return pytest.importorskip("timm.optim").Lamb(model.parameters(), lr=1e-3, **options)


def scheduled(model):
    optimizer = orthogonal_sgd(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 4)  # from 0 on
    optimizer.register_step_post_hook(lambda *_: scheduler.step())
    optimizer.scheduler = scheduler
    return optimizer


def frozen(model):
    model[0].requires_grad_(False)
    return ov.OrthogonalSGD(ov.param_groups(model[5:]), lr=0.05)


HEALTHY = {
    "SGD": (network, plain, one_step),
    "LBFGS": (network, lbfgs, closed),
    "LARS": (network, lars, one_step),
    "OrthogonalSGD": (network, orthogonal_sgd, one_step),
    "with a warm-up from 0": (network, scheduled, one_step),
    "accumulated": (network, orthogonal_sgd, accumulated),
    "clipped": (network, orthogonal_sgd, clipped),
    "a closure": (network, orthogonal_sgd, closed),
    "GradScaler": (network, orthogonal_sgd, scaled),
    "orthogonal SGD": (network, wrapped, one_step),
    "orthogonal AdamW": (network, lambda model: wrapped(model, adamw), one_step),
    "orthogonal LARS": (network, lambda model: wrapped(model, lars), one_step),
    "orthogonal LBFGS": (network, lambda model: wrapped(model, lbfgs), closed),
    "Lamb that does not clip": (
        network, lambda model: wrapped(model, lambda m: lamb(m, max_grad_norm=None)), one_step),
    "SWAN": (network, lambda model: ov.SWAN(ov.param_groups(model), lr=0.001), one_step),
    "Muon": (network, muon, one_step),
    "both": (network, lambda model: orthogonal_sgd(model, order="both", weight_decay=0.01), one_step),
    "per_filter": (network, lambda model: orthogonal_sgd(model, method="per_filter"), one_step),
    "newton_schulz": (network, lambda model: muon(model, method="newton_schulz"), one_step),
    "layers outside the optimiser": (network, frozen, one_step),
    "gpt": (gpt, muon, on_tokens),
    "a tied table left alone": (Tied, muon, on_tokens),
    "LSTM": (reader, orthogonal_sgd, on_series),
    "BasicCNN": (lambda: ov.models.basic_cnn(seed=0), orthogonal_sgd, on_colours),
    "bf16": (lambda: dense().bfloat16(), orthogonal_sgd, on_vectors()),
    "autocast": (dense, lambda model: orthogonal_sgd(model, tol="bf16"), in_autocast),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_has_no_fault(name):
    make, make_optimizer, step = HEALTHY[name]
    model = make()
    report = monitored(model, make_optimizer(model), STEPS, step).report()
    assert report == []
    assert str(report) == "Nothing found by 6 measurements in 6 steps."


# Faults


class Clips(torch.optim.SGD):
    """Cuts what it is given to length 0.1 a weight."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                nn.utils.clip_grad_norm_([p], 0.1)
        return super().step(closure)


def shrinking(model, optimizer, seed):
    """Takes back nine tenths of the step before."""
    before = getattr(optimizer, "before", None)
    with torch.no_grad():
        for p, old in zip(model.parameters(), before or (), strict=before is not None):
            p.data = old + 0.1 * (p - old)
    optimizer.before = [p.detach().clone() for p in model.parameters()]
    return one_step(model, optimizer, seed)


def decaying(model, optimizer, seed):
    loss = one_step(model, optimizer, seed)
    for p in model.parameters():
        p.data *= 0.9
    return loss


def untold(model):
    return ov.OrthogonalSGD([{"params": list(model.parameters()), "layout": None}], lr=0.05)


def only(model, overrides):
    return ov.OrthogonalSGD(ov.param_groups(model, overrides=overrides), lr=0.02, rest="adamw", rest_lr=1e-3)


def guessed(model):
    optimizer = adamw(model)
    with pytest.warns(UserWarning, match="param_groups"):
        ov.orthogonalise(optimizer)
    return optimizer


def tall():
    torch.manual_seed(0)
    return nn.Sequential(*dense()[:4], nn.Linear(64, 700))


def rate(model, rest_lr):
    return ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, rest="adamw", rest_lr=rest_lr)


def standing(model):
    model[5].requires_grad_(False)
    return orthogonal_sgd(model)


def at_rate_zero(model):
    head = [{**group, "lr": 0.0} for group in ov.param_groups(model[7])]
    return ov.OrthogonalSGD([*ov.param_groups(model[:7]), *head], lr=0.05)


def diverging(model, optimizer, seed):
    return one_step(model, optimizer, seed) * (math.nan if seed > 1 else 1)  # logged for the step after


def half(model, **options):
    return orthogonal_sgd(model, **{"tol": 1e-6, **options})


FAULTS = {
    "an optimiser that clips": (
        "shrunk by its optimiser", network, lambda m: wrapped(m, lambda m: Clips(m.parameters(), lr=0.05)),
        one_step, "5.weight", 8**0.5 / 0.1),
    "Lamb": ("shrunk by its optimiser", network, lambda m: wrapped(m, lamb), one_step, "0.weight", None),
    "taken back": ("shrunk by hand", network, orthogonal_sgd, shrinking, "0.weight", 0.9),
    "decayed by hand": ("shrunk by hand", network, orthogonal_sgd, decaying, "0.weight", None),
    "no layout": ("nothing orthogonalised", network, untold, one_step, None, 3),
    "a table": ("embedding orthogonalised", gpt, lambda m: only(m, {"token": "matrix"}), on_tokens,
                "token.weight", 20),
    "a tied table": ("head orthogonalised", Tied, lambda m: only(m, {"token": "matrix"}), on_tokens,
                     "token.weight", 2.5),
    "a tall head": ("head orthogonalised", tall, orthogonal_sgd, on_vectors(300), "4.weight", 700 / 64),
    "a high rate": ("rate of the rest", network, lambda m: rate(m, 10.0), one_step, None, None),
    "a low rate": ("rate of the rest", network, lambda m: rate(m, 1e-6), one_step, None, None),
    "autocast": ("rounding stepped along", dense, orthogonal_sgd, in_autocast, "2.weight", None),
    "a tolerance under bf16's": (
        "rounding stepped along", lambda: dense().bfloat16(), half,
        on_vectors(40), "2.weight", None),
    "few images": ("rank under half", dense, orthogonal_sgd, on_vectors(6), "2.weight", 1 - 6 / 64),
    "no gradient": ("does not move", network, standing, one_step, "5.weight", 0),
    "rate 0": ("does not move", network, at_rate_zero, one_step, "7.weight", None),
    "a loss that is lost": ("not finite", network, orthogonal_sgd, diverging, None, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_alone(name):
    fault, make, make_optimizer, step, layer, value = FAULTS[name]
    model = make()
    report = monitored(model, make_optimizer(model), STEPS, step).report()
    assert [one.fault for one in report] == [fault], report
    (found,) = report
    assert layer is None or layer in found.layers
    assert value is None or found.value == pytest.approx(value, rel=0.05)
    assert str(report) == f"{fault}: {found.text}"
    assert "\n" not in found.text
    assert layer is None or found.layers[0] in found.text


def test_there_are_ten_faults_and_each_is_planted():
    from orthoviz.monitor.report import RULES

    assert len(RULES) == 10
    assert {fault for fault, *_ in FAULTS.values()} == RULES.keys()


def test_where_no_loss_is_logged_weights_that_are_not_finite_are_named():
    model = network()
    optimizer = orthogonal_sgd(model)
    with ov.watch(model, optimizer, quantities=["raw.stable_rank"]) as monitor:
        for step in range(STEPS):
            one_step(model, optimizer, step)
            if step == 2:
                model[5].bias.data[0] = math.inf
    (found,) = monitor.report()
    assert (found.fault, found.value) == ("not finite", 3)


def test_a_loss_that_comes_back_is_no_fault_and_an_unwatched_run_says_so():
    model = network()
    monitor = ov.watch(model, plain(model))
    assert str(monitor.report()) == "Nothing found by 0 measurements in 0 steps."
    with monitor:
        for step, loss in enumerate([1.0, math.inf, 0.5]):
            monitor.log(loss=loss)
            one_step(model, monitor.optimizer, step)
    assert monitor.report() == []


def test_parameters_that_come_and_go_are_judged_by_the_steps_they_had():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model[:5]), lr=0.05)
    with ov.watch(model, optimizer) as monitor:
        for step in range(STEPS):
            if step == 2:
                for group in ov.param_groups(model[5:]):
                    optimizer.add_param_group(group)
            if step == 4:
                del optimizer.param_groups[0]
            one_step(model, optimizer, step)
    assert monitor.report() == []


@pytest.mark.parametrize("options", [{"every": 3}, {"quantities": ["raw.stable_rank"]}, {"layers": "0"}])
def test_what_is_reported_depends_on_no_quantity_and_few_measurements_will_do(options):
    model = network()
    report = monitored(model, orthogonal_sgd(model), 7, decaying, **options).report()
    assert [one.fault for one in report] == ["shrunk by hand"]
    expected = {"0.weight"} if "layers" in options else {"0.weight", "5.weight", "7.weight"}
    assert {*report[0].layers} == expected


def test_a_report_is_made_of_a_stream_too(tmp_path):
    model = network()
    monitor = monitored(model, orthogonal_sgd(model), STEPS, diverging, stream=tmp_path / "run")
    assert [one.fault for one in monitor.report()] == ["not finite"]
    assert monitor.frame().quantity.isin(["change", "gradient", "reached"]).sum() == 0


# Quantities of a step


def test_rate_in_effect_and_predicted_change_against_a_loop_by_hand():
    model, twin = network(), network()
    optimizer, other = adamw(model), adamw(twin)
    frame = monitored(model, optimizer, 3, quantities=["effective_rate", "predicted_change"]).frame()
    for step in range(3):
        before = twin[5].weight.detach().clone()
        one_step(twin, other, step)
        change = twin[5].weight.detach() - before
        rows = frame[(frame.step == step) & (frame.layer == "5.weight")].set_index("quantity").value
        assert rows["effective_rate"] == pytest.approx(change.square().mean().sqrt().item(), rel=1e-5)
        predicted = (change * twin[5].weight.grad).sum().item()
        assert rows["predicted_change"] == pytest.approx(predicted, rel=1e-4)


def test_adams_first_step_has_its_learning_rate_and_an_orthogonal_one_less():
    def rate(make, options):
        model = nn.Linear(9, 4, bias=False)
        optimizer = make(ov.param_groups(model), lr=0.01, **options)
        with ov.watch(model, optimizer, quantities=["effective_rate"]) as monitor:
            model(torch.randn(20, 9)).square().sum().backward()
            optimizer.step()
        frame = monitor.frame()
        return frame[frame.quantity == "effective_rate"].value.item()

    assert rate(torch.optim.Adam, {}) == pytest.approx(0.01, rel=1e-3)
    assert rate(ov.OrthogonalSGD, {}) == pytest.approx(0.01 / 3, rel=1e-3)


@pytest.mark.parametrize("layers", [None, "5"])
def test_on_one_batch_a_small_step_changes_the_loss_as_predicted(layers):
    model = network().double()
    images, labels = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    losses, predicted = [], []
    with ov.watch(model, optimizer, quantities=["loss_change"], every=2, layers=layers) as monitor:
        for _ in range(5):
            optimizer.zero_grad()
            loss = cross_entropy(model(images.double()), labels)
            loss.backward()
            monitor.log(loss=loss)
            losses.append(loss.item())
            predicted.append(-1e-5 * sum(p.grad.square().sum().item() for p in model.parameters()))
            optimizer.step()
    frame = monitor.frame().query("quantity == 'loss_change'")
    assert frame.step.tolist() == [0, 2]
    assert set(frame.layer) == set(frame.stage) == {""}
    actual = [after - before for before, after in itertools.pairwise(losses)]
    right = [actual[step] / predicted[step] for step in (0, 2)]
    assert frame.value.tolist() == pytest.approx(right, rel=1e-4)
    assert frame.value.tolist() == pytest.approx([1, 1], rel=1e-2)
