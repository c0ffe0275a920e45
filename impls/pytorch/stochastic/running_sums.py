"""What a plain running sum in float32 is off by: the floor of a sum's noise.

Roundings of a sum are random where its terms are. Equal terms round alike, so that the error of a running sum of n of
them grows like n, not like its root: bias gradients, statistics of blank pictures, padding. How far is found by making
such sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

FLOAT32 = 2.0**-24
# Elements of a product that are summed again, and the fewest terms for which that is worth it.
SAMPLES = 16
FEWEST_TERMS = 32


def running_sum_errors(
    terms: torch.Tensor, axes: Sequence[int], rng: np.random.Generator, every: bool = False
) -> torch.Tensor | None:
    """How far running sums over `axes` are off, in the order of memory; absolute, float64.

    How equal terms round depends on where they stand between two powers of two, so all are made larger by a factor that
    is drawn anew.

    Args:
        terms: float64, any shape.
        axes: what is summed; empty for all of it.
        rng: draws the factor.
        every: all partial sums, along the one axis.

    Returns:
        Of the other axes, flat, or `(terms, others)` with `every`; None where there are too few terms to matter.
    """
    summed = [axis % terms.dim() for axis in axes] or list(range(terms.dim()))
    others = [axis for axis in range(terms.dim()) if axis not in summed]
    count = math.prod(terms.shape[axis] for axis in summed)
    if count < FEWEST_TERMS or not terms.numel():
        return None
    largest = float(terms.abs().max())
    if largest == 0 or not math.isfinite(largest):
        return None
    scale = rng.uniform(1, 2) / largest
    rows = (terms.permute(summed + others) * scale).float().reshape(count, -1).contiguous().numpy()
    if every:
        errors = np.add.accumulate(rows, axis=0) - np.add.accumulate(rows, axis=0, dtype=np.float64)
    else:
        # Several sums side by side are running ones in NumPy; of one alone, and along the last axis of memory, it makes
        # many short ones.
        running = np.add.reduce(rows, axis=0) if rows.shape[1] > 1 else np.add.accumulate(rows[:, 0])[-1:]
        errors = running - np.add.reduce(rows, axis=0, dtype=np.float64)
    return torch.from_numpy(np.abs(errors) / scale)


def times_as_far(terms: torch.Tensor, rng: np.random.Generator) -> float:
    """How many times as far plain running sums are off as random roundings would be (`Rounding.sums`), but at least 1.

    Args:
        terms: float64, `(SAMPLES, terms)`.
        rng: draws a factor for each sum.
    """
    count = terms.shape[1]
    if count < FEWEST_TERMS:
        return 1.0
    found = terms.numpy()
    largest = np.max(np.abs(found), axis=1)
    largest[(largest == 0) | ~np.isfinite(largest)] = 1.0
    narrow = (found * (rng.uniform(1, 2, len(found)) / largest)[:, np.newaxis]).astype(np.float32)
    exact = narrow.sum(axis=1, dtype=np.float64)
    errors = np.abs(np.add.accumulate(narrow, axis=1)[:, -1] - exact)
    squares = np.square(narrow).sum(axis=1, dtype=np.float64)
    expected = np.sqrt(count / 18 * (2 * np.square(exact) + squares)) * FLOAT32
    known = np.isfinite(errors) & (expected > 0)
    return max(1.0, float(np.sqrt(np.mean(np.square(errors[known] / expected[known]))))) if known.any() else 1.0
