"""What a probe sees of activations, against what the model computes."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from tests.test_monitor import backward, batch, network, one_step, plain, spectrum, value, watched


def test_activations_are_what_the_model_computes_in_eval_mode_before_the_step():
    model = network(dropout=0.5)
    optimizer = plain(model)
    probe, _ = batch(7)
    quantities = ["dead_units", "feature_cosine", "activation_participation_ratio", "incoming_stable_rank"]
    with ov.watch(model, optimizer, quantities=quantities, probe=probe) as monitor:
        one_step(model, optimizer)
        backward(model, 1)
        before = copy.deepcopy(model).eval()
        optimizer.step()
    frame = monitor.frame()

    def found(quantity, layer="0.weight"):
        return value(frame, quantity, "activation", 1, layer).tolist()

    maps, hidden = before[:3](probe).detach(), before[:7](probe).detach()
    assert found("dead_units") == (maps.amax((0, 2, 3)) == 0).float().tolist()
    assert found("dead_units", "5.weight") == (hidden.amax(0) == 0).float().tolist()
    assert found("dead_units", "7.weight") == []  # nothing fires after the head
    assert found("feature_cosine") == pytest.approx([ov.measures.feature_cosine(maps).item()])
    assert found("feature_cosine", "5.weight") == []  # units have no map
    l = np.linalg.eigvalsh(np.cov(hidden.double().numpy().T))
    right = l.sum() ** 2 / (l**2).sum()
    assert found("activation_participation_ratio", "5.weight") == pytest.approx([right], rel=1e-4)
    s = spectrum(hidden)
    assert found("incoming_stable_rank", "7.weight") == pytest.approx([(s**2).sum() / s[0] ** 2], rel=1e-4)


@pytest.mark.parametrize(
    ("padding", "padding_mode"), [("same", "zeros"), ("valid", "zeros"), (2, "reflect"), ((1, 0), "zeros")]
)
def test_what_enters_a_convolution_is_what_its_weight_is_multiplied_with(padding, padding_mode):
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 6, 3, bias=False, padding=padding, padding_mode=padding_mode)
    model = nn.Sequential(convolution, nn.Flatten(), nn.LazyLinear(3))
    images = torch.randn(4, 2, 7, 7)
    model(images)
    frame = watched(model, plain(model), quantities=["incoming_stable_rank"], layers="0", probe=images)
    # patches by another way: the response to a filter that is 1 in one place is that place's input
    eye = copy.deepcopy(convolution)
    with torch.no_grad():
        eye.weight = nn.Parameter(torch.eye(18).reshape(18, 2, 3, 3))
        patches = eye(images).movedim(1, -1).flatten(0, -2)
    right = ov.measures.stable_rank(patches.double()).item()
    assert value(frame, "incoming_stable_rank", "activation") == pytest.approx(right, rel=1e-5)


def test_an_activation_that_is_a_plain_call_behind_a_shortcut_is_found():
    """resnet20 calls relu itself, after normalisation and sum."""
    model = ov.models.resnet20(seed=0)
    frame = watched(model, plain(model), quantities=["dead_units"], probe=torch.randn(4, 3, 32, 32))
    layers = set(frame.query("quantity == 'dead_units'").layer)
    assert layers == {name for name, p in model.named_parameters() if p.ndim == 4}


class Twice(nn.Module):
    """A layer that runs twice, and an argument that is no tensor."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x, scale):
        return torch.relu(self.layer(torch.relu(self.layer(x * scale))))


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_a_layer_that_runs_twice_has_the_mean_of_both_and_a_probe_may_be_arguments(kind):
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(3, 5)
    once = torch.relu(model.layer(2 * x))
    both = torch.stack([(h.amax(0) == 0).float() for h in (once, torch.relu(model.layer(once)))]).mean(0)
    probe = (x, 2.0) if kind == "tuple" else {"x": x, "scale": 2.0}
    frame = watched(model, plain(model), quantities=["dead_units"], probe=probe)
    assert value(frame, "dead_units", "activation", 0, "layer.weight").tolist() == both.tolist()


class Running(nn.Module):
    """Keeps a statistic by assignment, and one that is first made in a forward pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("largest", None)

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
        self.largest = x.detach().amax() if self.largest is None else self.largest.maximum(x.detach().amax())
        return x - self.mean


def test_a_probe_leaves_statistics_that_are_assigned_as_they_were():
    found = []
    for probed in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 6), Running(), nn.ReLU(), nn.Linear(6, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = ov.watch(model, optimizer, quantities=["dead_units"], probe=torch.full((16, 8), 5.0))
        with monitor if probed else contextlib.nullcontext():
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.randn(32, 8)).square().mean().backward()
                optimizer.step()
        found.append(model.state_dict())
    for name, right in found[0].items():
        assert torch.equal(found[1][name], right), name


class Gated(nn.Module):
    """A dense layer whose units are let through by another's, as in Llama; either may run first."""

    def __init__(self, gate_first):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(5, 7), nn.Linear(5, 7), nn.Linear(7, 5)
        self.gate_first = gate_first

    def forward(self, x):
        if self.gate_first:
            hidden = nn.functional.silu(self.gate(x)) * self.up(x)
        else:
            up, gate = self.up(x), self.gate(x)
            hidden = nn.functional.silu(gate) * up
        return torch.relu(x + self.down(hidden))


@pytest.mark.parametrize("gate_first", [True, False])
def test_an_activation_belongs_to_the_layer_whose_output_it_is_made_from(gate_first):
    torch.manual_seed(0)
    model, x = Gated(gate_first), torch.randn(9, 5)
    frame = watched(model, plain(model), quantities=["dormant_units"], probe=x)
    assert set(frame[frame.quantity == "dormant_units"].layer) == {"gate.weight", "down.weight"}
    right = ov.measures.dormant_units(nn.functional.silu(model.gate(x))).float().tolist()
    assert value(frame, "dormant_units", "activation", 0, "gate.weight").tolist() == right


class Heads(nn.Module):
    """Two layers of one input, of which one has no activation function, and a shared stream."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(5, 5) for _ in range(3))
        self.norm = nn.LayerNorm(5)

    def forward(self, x):
        stream = x + nn.functional.dropout(self.first(x), training=self.training)
        stream = stream + self.second(self.norm(stream))
        head, _ = torch.cat([self.third(x), x], -1).chunk(2, -1)
        return torch.relu(self.norm(stream)), head


def test_sums_norms_and_dropout_lead_to_an_activation_and_another_layer_does_not():
    model = Heads()
    frame = watched(model, plain(model), quantities=["dead_units"], probe=torch.randn(9, 5))
    assert set(frame[frame.quantity == "dead_units"].layer) == {"first.weight", "second.weight"}
