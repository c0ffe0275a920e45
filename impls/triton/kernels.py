"""The matrix product, and what follows it in a dense layer, in Triton."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

# Rows and columns of the block of c that a program computes, and how far along the depth it goes at a time.
ROWS, COLUMNS, STEP = 64, 64, 32
# Elements of a program that adds a bias.
ELEMENTS = 1024
NONE, RELU, TANH = 0, 1, 2
ACTIVATIONS = {"": NONE, "relu": RELU, "tanh": TANH}


@triton.jit
def product_blocked(
    a, b, c, rows, columns, depth, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr
) -> None:
    """c (rows, columns) = a (rows, depth) times b (depth, columns), all row by row."""
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    along = tl.arange(0, STEP)
    sums = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, depth, STEP):
        k = start + along
        # Beyond the edges stand zeros, which add nothing.
        of_a = tl.load(
            a + row[:, None] * depth + k[None, :], mask=(row[:, None] < rows) & (k[None, :] < depth), other=0.0
        )
        of_b = tl.load(
            b + k[:, None] * columns + column[None, :],
            mask=(k[:, None] < depth) & (column[None, :] < columns),
            other=0.0,
        )
        # True float32: of itself Triton multiplies in TF32.
        sums = tl.dot(of_a, of_b, sums, input_precision="ieee")
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    tl.store(c + row[:, None] * columns + column[None, :], sums, mask=inside)


@triton.jit
def add_bias(c, bias, count, columns, ACTIVATION: tl.constexpr, ELEMENTS: tl.constexpr) -> None:
    """In place: c, row by row, plus the bias of its column, and an activation."""
    place = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    inside = place < count
    x = tl.load(c + place, mask=inside, other=0.0) + tl.load(bias + place % columns, mask=inside, other=0.0)
    if ACTIVATION == 1:
        # So written, NaN stays NaN.
        x = tl.where(x < 0, 0.0, x)
    if ACTIVATION == 2:
        # Triton has no tanh of its own. Near zero the exponentials would cancel, so there stands the series.
        size = tl.abs(x)
        power = tl.exp(-2.0 * size)
        far = (1.0 - power) / (1.0 + power)
        square = x * x
        series = 1.0 - square * (1 / 3 - square * (2 / 15 - square * (17 / 315 - square * (62 / 2835))))
        x = tl.where(size < 0.25, x * series, tl.where(x < 0, -far, far))
    tl.store(c + place, x, mask=inside)


def launch_product(a: Any, b: Any, c: Any) -> None:
    """Queues c = a times b."""
    (rows, depth), columns = a.shape, b.shape[1]
    grid = (triton.cdiv(columns, COLUMNS), triton.cdiv(rows, ROWS))
    product_blocked[grid](a, b, c, rows, columns, depth, ROWS=ROWS, COLUMNS=COLUMNS, STEP=STEP)


def launch_bias(c: Any, bias: Any, activation: str) -> None:
    """Queues the addition of a bias, and an activation, in place."""
    grid = (triton.cdiv(c.numel(), ELEMENTS),)
    add_bias[grid](c, bias, c.numel(), c.shape[1], ACTIVATION=ACTIVATIONS[activation], ELEMENTS=ELEMENTS)
