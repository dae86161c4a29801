"""A GPU kernel for A B where the result is symmetric: half the tiles, each written twice.

Never run on a GPU so far: it is tested in Triton's interpreter, on the CPU, against the plain product.
Published kernels of this kind gain from a few thousand rows on, and lose below.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 64


@triton.jit
def _kernel(A, B, C, m, k, a0, a1, b0, b1, c0, c1, TILE: tl.constexpr, STEP: tl.constexpr):  # type: ignore[no-untyped-def]
    row, column = tl.program_id(0), tl.program_id(1)
    if row < column:  # its mirror image writes this tile
        return
    rows = row * TILE + tl.arange(0, TILE)
    columns = column * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), dtype=tl.float32)
    for start in range(0, k, STEP):
        inner = start + tl.arange(0, STEP)
        a_mask = (rows[:, None] < m) & (inner[None, :] < k)
        b_mask = (inner[:, None] < k) & (columns[None, :] < m)
        a = tl.load(A + rows[:, None] * a0 + inner[None, :] * a1, mask=a_mask, other=0.0)
        b = tl.load(B + inner[:, None] * b0 + columns[None, :] * b1, mask=b_mask, other=0.0)
        total += tl.dot(a, b, input_precision="ieee")
    lower = (rows[:, None] >= columns[None, :]) & (rows[:, None] < m)  # half a tile of the diagonal
    result = total.to(C.dtype.element_ty)
    tl.store(C + rows[:, None] * c0 + columns[None, :] * c1, result, mask=lower)
    tl.store(C + columns[None, :] * c0 + rows[:, None] * c1, result, mask=lower)


def lower_product(A: Tensor, B: Tensor) -> Tensor:
    """A B ``(m, m)``: one triangle of its tiles is computed, summed in float32, and copied to the other.

    Args:
        A: ``(m, k)``, float32 or lower precision.
        B: ``(k, m)``, of the same dtype, such that A B is symmetric.
    """
    m, k = A.shape
    C = torch.empty(m, m, dtype=A.dtype, device=A.device)
    tiles = triton.cdiv(m, TILE)
    _kernel[(tiles, tiles)](A, B, C, m, k, *A.stride(), *B.stride(), *C.stride(), TILE=TILE, STEP=32)
    return C
