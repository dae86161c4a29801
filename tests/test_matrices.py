import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.matrices import as_matrix, from_matrix


class Odd(nn.Module):
    """One layer of each kind, a tied weight, and parameters of its own."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(6, 4)
        self.conv = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(8, 6, 3, groups=2)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.transposed = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.attention = nn.MultiheadAttention(8, 2)
        self.embedding = nn.Embedding(10, 8)
        self.norm = nn.LayerNorm([4, 4])
        self.empty = nn.Parameter(torch.ones(0, 5))
        self.tied = nn.Linear(6, 4)
        self.tied.weight = self.dense.weight
        self.gain = nn.Parameter(torch.ones(8, 1, 1))
        self.own = nn.Parameter(torch.ones(3, 5))


def layouts():
    groups = ov.param_groups(Odd())
    return {name: group["matrix"] for group in groups for name, _ in group["params"]}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("dense.weight", ("rows", 1)),
        ("conv.weight", ("rows", 1)),
        ("grouped.weight", ("rows", 2)),
        ("transposed.weight", ("columns", 2)),
        ("attention.in_proj_weight", ("rows", 3)),
        ("attention.out_proj.weight", ("rows", 1)),
        ("own", ("rows", 1)),
        ("depthwise.weight", None),
        ("embedding.weight", None),
        ("norm.weight", None),
        ("empty", None),
        ("dense.bias", None),
        ("gain", None),
    ],
)
def test_the_module_decides_what_the_rows_are(name, layout):
    assert layouts()[name] == layout


def test_every_parameter_is_listed_once_and_tied_ones_too():
    model = Odd()
    listed = [p for group in ov.param_groups(model) for _, p in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in model.parameters()}
    assert len(listed) == len(list(model.parameters()))


def test_any_torch_optimiser_takes_the_groups():
    optimizer = torch.optim.AdamW(ov.param_groups(Odd()), lr=1e-3)
    assert any("dense.weight" in group["param_names"] for group in optimizer.param_groups)


def test_a_transposed_convolutions_rows_are_its_outputs():
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    image = torch.randn(1, 4, 5, 5)
    matrix = as_matrix(layer.weight, ("columns", 2))
    assert matrix.shape == (2, 3, 2 * 9)
    # Silencing row 1 of group 1 must silence output channel 3 + 1, and nothing else.
    silenced = matrix.clone()
    silenced[1, 1] = 0
    before = layer(image)
    with torch.no_grad():
        layer.weight.copy_(from_matrix(silenced, ("columns", 2), layer.weight))
        layer.bias[4] = 0
    after = layer(image)
    changed = [channel for channel in range(6) if not torch.allclose(before[0, channel], after[0, channel])]
    assert changed == [4]
    assert not after[0, 4].any()


def test_a_grouped_convolutions_matrices_are_its_groups():
    layer = nn.Conv2d(8, 6, 3, groups=2)
    matrix = as_matrix(layer.weight, ("rows", 2))
    assert torch.equal(matrix[1, 0], layer.weight[3].flatten())


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 6), ("rows", 1)),
        ((12, 6), ("rows", 3)),
        ((8, 3, 3, 2), ("rows", 2)),
        ((4, 3, 2, 5), ("columns", 2)),
    ],
)
def test_there_and_back_is_the_same_tensor(shape, layout):
    tensor = torch.randn(shape)
    assert torch.equal(from_matrix(as_matrix(tensor, layout), layout, tensor), tensor)


def test_channels_last_comes_back_as_channels_last():
    tensor = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last)
    back = from_matrix(as_matrix(tensor, ("rows", 1)), ("rows", 1), tensor)
    assert torch.equal(back, tensor)
    assert back.stride() == tensor.stride()
