"""Intervals and verdicts on speed.

What these intervals cover: the rounds of one process of each contender. The spread between processes is not in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.results import VerdictWord

CONFIDENCE = 0.95
TIE_MARGIN = 0.05
BOOTSTRAP_SAMPLES = 2000


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """An interval for the median from order statistics: no assumption on the distribution.

    The number of values below the median is binomial(n, 1/2); the interval drops as many order statistics on each side
    as the confidence allows. With fewer than 6 values it is their whole range, which covers less than 95 %.

    Args:
        values: at least one.
    """
    ordered = sorted(values)
    count = len(ordered)
    below = 0.0
    for dropped in range(count // 2):
        below += math.comb(count, dropped) / 2**count
        if below > (1 - confidence) / 2:
            break
        low, high = ordered[dropped], ordered[count - 1 - dropped]
    else:
        return ordered[0], ordered[-1]
    return (low, high) if dropped else (ordered[0], ordered[-1])


def ratio_interval(
    values: Sequence[float], baseline: Sequence[float], seed: int, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Ratio of medians, values over baseline, and its bootstrap interval.

    Rounds of the same index were run in the same pass over all contenders, so they are drawn together: what disturbed a
    pass disturbed both.

    Args:
        values, baseline: seconds, in the order of the passes; the longer one is cut.
        seed: of the bootstrap.

    Returns:
        ratio, low, high.
    """
    count = min(len(values), len(baseline))
    ours, theirs = np.asarray(values[:count]), np.asarray(baseline[:count])
    drawn = np.random.default_rng(seed).integers(0, count, (BOOTSTRAP_SAMPLES, count))
    ratios = np.median(ours[drawn], axis=1) / np.median(theirs[drawn], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(np.median(ours) / np.median(theirs)), float(low), float(high)


def verdict(low: float, high: float, margin: float = TIE_MARGIN) -> VerdictWord:
    """The verdict on a contender from the interval of its time over the baseline's.

    A tie when the whole interval is within the margin; otherwise faster or slower when it excludes 1; else unresolved.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return "unresolved"
    if 1 / (1 + margin) <= low and high <= 1 + margin:
        return "tie"
    if high < 1:
        return "faster"
    if low > 1:
        return "slower"
    return "unresolved"
