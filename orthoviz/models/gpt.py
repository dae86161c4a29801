"""A small decoder of characters or other tokens, as in GPT-2."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from orthoviz.seeds import seeded


class Block(nn.Module):
    """Attention, then two dense layers; each on normalised inputs, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        # (N, T, 3 width) to three of (N, heads, T, width / heads)
        query, key, value = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        dense: Tensor = self.down(gelu(self.up(self.norm2(x))))
        return x + dense


class GPT(nn.Module):
    """Takes ``(N, T)`` tokens to the logits ``(N, T, tokens)`` of the ones that follow."""

    def __init__(self, tokens: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Embedding(tokens, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.head(self.norm(self.blocks(self.token(tokens) + self.position(places))))
        return logits


def gpt(
    tokens: int = 103, *, context: int = 128, width: int = 128, depth: int = 4, heads: int = 4,
    seed: int | None = None,
) -> GPT:  # fmt: skip
    """A decoder for ``(N, T)`` tokens: 836,096 parameters as it comes.

    Args:
        tokens: how many there are; the default is what the data set "words" has.
        context: the most tokens that it can look at.
        width, depth, heads: of the stream, of the stack of blocks, of each block's attention.
        seed: of the initial weights; the global random state is not used. None: torch's own.

    Raises:
        ValueError: ``heads`` does not divide ``width``.

    Source: Radford and others 2019 (GPT-2); initial weights normal with standard deviation 0.02, those that
    write to the stream ``sqrt(2 depth)`` smaller.
    """
    if width % heads:
        raise ValueError(f"heads must divide width, got {heads} and {width}")
    model = GPT(tokens, context, width, depth, heads)
    generator = None if seed is None else seeded(seed)
    for name, p in model.named_parameters():
        if p.ndim > 1:
            into_stream = name.endswith(("out.weight", "down.weight"))
            std = 0.02 / (2 * depth) ** 0.5 if into_stream else 0.02
            nn.init.normal_(p, std=std, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(p)
    return model
