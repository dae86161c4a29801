import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

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
        self.lstm = nn.LSTM(5, 6, proj_size=4)
        self.blocks = nn.ModuleDict({"qkv": nn.Linear(8, 24)})
        self.normed = parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 3, groups=2))
        self.spectral = parametrizations.spectral_norm(nn.Conv2d(8, 6, 3, groups=2))
        self.gain = nn.Parameter(torch.ones(8, 1, 1))
        self.own = nn.Parameter(torch.ones(3, 5))
        self.experts = nn.Parameter(torch.ones(4, 6, 5))
        self.relative_position_bias_table = nn.Parameter(torch.ones(7, 4))
        self.pos_embed = nn.Parameter(torch.ones(9, 8))
        self.single = nn.Conv2d(3, 1, 3)
        self.stored = Conv1D(4, 6)
        self.c_attn = Conv1D(24, 8)
        self.Wqkv = nn.Linear(8, 24)
        self.in_proj = nn.Linear(8, 20)  # of something else: not three times as tall as wide
        self.gates = parametrizations.weight_norm(nn.LSTM(3, 4), "weight_ih_l0")
        self.mine = Mine(3, 4)
        self.packed = nn.ModuleDict({"qkv": parametrizations.spectral_norm(nn.Linear(4, 12))})
        self.joined = parametrizations.spectral_norm(nn.MultiheadAttention(4, 2), "in_proj_weight")


class Mine(nn.LSTM):
    pass


class Conv1D(nn.Module):
    """As Hugging Face's: a dense layer that stores (in, out)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.weight = nf, nn.Parameter(torch.ones(nx, nf))


LAYOUTS = {
    "dense.weight": ("rows", 1),
    "conv.weight": ("rows", 1),
    "grouped.weight": ("rows", 2),
    "transposed.weight": ("columns", 2),
    "attention.in_proj_weight": ("rows", 3),
    "attention.out_proj.weight": ("rows", 1),
    "own": ("rows", 1),
    "experts": None,
    "relative_position_bias_table": None,
    "pos_embed": None,
    "single.weight": None,
    "stored.weight": ("columns", 1),
    "lstm.weight_hh_l0": ("rows", 4),
    "lstm.weight_hr_l0": ("rows", 1),
    "blocks.qkv.weight": ("rows", 3),
    "normed.parametrizations.weight.original0": None,
    "normed.parametrizations.weight.original1": ("columns", 2),
    "spectral.parametrizations.weight.original": ("rows", 2),
    "depthwise.weight": None,
    "embedding.weight": None,
    "c_attn.weight": ("columns", 3),
    "Wqkv.weight": ("rows", 3),
    "in_proj.weight": ("rows", 1),
    "gates.weight_hh_l0": ("rows", 4),
    "gates.parametrizations.weight_ih_l0.original1": ("rows", 4),
    "mine.weight_hh_l0": ("rows", 4),
    "packed.qkv.parametrizations.weight.original": ("rows", 3),
    "joined.parametrizations.in_proj_weight.original": ("rows", 3),
    "norm.weight": None,
    "empty": None,
    "dense.bias": None,
    "gain": None,
}


def test_the_module_decides_what_the_rows_are():
    found = {d.name: d.layout for d in ov.param_groups(Odd()).decisions}
    assert {name: found[name] for name in LAYOUTS} == LAYOUTS


def test_every_parameter_is_listed_once_and_tied_ones_too():
    model = Odd()
    listed = [p for group in ov.param_groups(model) for _, p in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in model.parameters()}
    assert len(listed) == len(list(model.parameters()))


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


def test_heads_of_a_layer_that_stores_its_inputs_first_are_blocks_of_its_outputs():
    stored = torch.randn(8, 24)  # y = x @ stored
    matrix = as_matrix(stored, ("columns", 6))
    assert matrix.shape == (6, 4, 8)
    x = torch.randn(8)
    torch.testing.assert_close((matrix @ x).flatten(), x @ stored)
    assert torch.equal(from_matrix(matrix, ("columns", 6), stored), stored)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 6), ("rows", 1)),
        ((12, 6), ("rows", 3)),
        ((8, 4, 3, 2), ("rows", 2)),
        ((4, 3, 2, 5), ("columns", 2)),
        ((4, 6), ("columns", 1)),
        ((4, 3, 2, 5), ("stack", 4)),
        ((1, 3, 2, 5), ("stack", 1)),
    ],
)
def test_there_and_back_is_the_same_tensor_in_the_same_memory_format(shape, layout):
    tensor = torch.randn(shape)
    for like in (tensor, tensor.to(memory_format=torch.channels_last) if len(shape) == 4 else tensor.T.T):
        back = from_matrix(as_matrix(like, layout), layout, like)
        assert torch.equal(back, tensor)
        assert back.stride() == like.stride()


# The table, overrides


def test_the_table_says_of_every_parameter_what_happens_and_why():
    model = Odd()
    groups = ov.param_groups(model)
    lines = str(groups.table()).splitlines()
    assert len(lines) == 1 + len(list(model.parameters()))
    (depthwise,) = (line for line in lines if line.startswith("depthwise.weight"))
    assert "left alone" in depthwise
    assert "one row" in depthwise
    guessed = {line.split()[0] for line in lines if "guessed" in line}
    assert guessed == {"own", "experts", "relative_position_bias_table", "pos_embed"}
    (single,) = (line for line in lines if line.startswith("single.weight"))
    assert "a single row" in single
    (tied,) = (line for line in lines if line.startswith("dense.weight"))
    assert "shared with tied.weight" in tied
    (grouped,) = (line for line in lines if line.startswith("grouped.weight"))
    assert "2 of 3 x 36" in grouped
    assert repr(groups) == str(groups.table())
    page = groups._repr_html_()
    assert page.count("<tr>") == len(lines)
    assert "2 of 3 x 36" in page


HEADS = {"*qkv": {"split_heads": 2}, "c_attn": {"split_heads": 4}, "*out_proj": {"split_heads": 2}}


@pytest.mark.parametrize(
    ("name", "overrides", "layout"),
    [
        ("dense.weight", {"dense*": "skip"}, None),
        ("conv.weight", {"*.weight": "skip", "conv*": "matrix"}, None),
        ("embedding.weight", {"embedding": "matrix"}, ("rows", 1)),
        ("attention.out_proj.weight", {"attention.*": {"split": 2}}, ("rows", 2)),
        ("blocks.qkv.weight", {"*.qkv": {"split": 6}}, ("rows", 6)),
        ("conv.bias", {"conv": "matrix"}, None),
        ("blocks.qkv.weight", HEADS, ("rows", 6)),
        ("attention.in_proj_weight", {"attention": {"split_heads": 2}}, ("rows", 6)),
        ("c_attn.weight", HEADS, ("columns", 12)),
        ("attention.out_proj.weight", HEADS, ("rows", 2)),
        ("experts", {"exp*": "stack"}, ("stack", 4)),
        ("own", {"own": "columns"}, ("columns", 1)),
        ("single.weight", {"single": "normalise"}, ("rows", 1)),
        ("single.bias", {"single": "normalise"}, None),
        ("depthwise.weight", {"depthwise": "normalise"}, ("rows", 6)),
    ],
)
def test_overrides_go_by_name_or_module_and_the_first_that_fits_counts(name, overrides, layout):
    decisions = ov.param_groups(Odd(), overrides=overrides).decisions
    assert {d.name: d.layout for d in decisions}[name] == layout


def test_convolutions_only_is_the_papers_table_3():
    groups = ov.param_groups(ov.models.basic_cnn(seed=0), convolutions_only=True)
    matrices = [name for group in groups if group["layout"] for name, _ in group["params"]]
    assert matrices == ["0.weight", "3.weight", "6.weight"]
    assert "only convolutions" in str(groups.table())


def test_an_embedding_tied_to_the_head_is_left_alone():
    model = nn.ModuleDict({"head": nn.Linear(8, 10, bias=False), "embedding": nn.Embedding(10, 8)})
    model["head"].weight = model["embedding"].weight
    (group,) = groups = ov.param_groups(model)
    assert group["layout"] is None
    assert "embedding" in str(groups.table())


def test_a_parametrised_model_alone_is_read_too():
    (layout,) = {g["layout"] for g in ov.param_groups(parametrizations.orthogonal(nn.Linear(6, 6)))} - {None}
    assert layout == ("rows", 1)


def test_groups_hold_only_what_a_checkpoint_may_hold():
    for group in ov.param_groups(Odd()):
        assert set(group) == {"params", "layout", "positions"}
        assert group["layout"] is None or [type(x) for x in group["layout"]] == [str, int]
