"""Does a contender remember results? A call on a batch that it has seen must not be faster than one on a new batch.

What is remembered by batch and weights is right, so that no comparison of values finds it. In training every call
changes the weights, and nothing comes a second time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core.errors import WorkerError
from harness.live_worker import Worker
from harness.rounds import Rounds, settling_calls
from harness.timed_check import TimedExpected
from harness.units import format_duration

# Beyond doubt: so many times as fast, in all pairs of calls but one.
FASTER, PAIRS, PAIRS_PREPARED = 2.0, 6, 10


def find_remembered(worker: Worker, step: str, rounds: Rounds, expected: TimedExpected, dtype: str) -> str:
    """What tells that results are remembered; empty when nothing does. The model holds the starting weights after it.

    Frameworks may prepare something for a batch at its first call, such as a graph that reads it where it lies. So
    where calls on new batches are slow, others are called once with other weights first.

    Args:
        worker: its model holds the batches of what is timed, and the starting weights.
        step: what was timed.
        rounds: of the process.
        expected: what was timed.
        dtype: working dtype.

    Raises:
        WorkerError: of the worker.
    """
    if step == "training":
        return ""
    try:
        suspected = _differing_pairs(worker, step, rounds, expected, dtype, prepared=False)
        pairs_s = _differing_pairs(worker, step, rounds, expected, dtype, prepared=True) if suspected else []
    except WorkerError as error:
        # One batch more than what was timed: that this does not fit is no fault.
        if error.outcome == "out_of_memory":
            return ""
        raise
    if not pairs_s:
        return ""
    seen_s, new_s = np.median(pairs_s, axis=0)
    return (
        f"calls on a batch that was seen before take {format_duration(seen_s)}, on a new one {format_duration(new_s)}: "
        "results are remembered"
    )


def _differing_pairs(
    worker: Worker,
    step: str,
    rounds: Rounds,
    expected: TimedExpected,
    dtype: str,
    prepared: bool,
) -> list[tuple[float, float]]:
    """Seconds of a call on a seen batch and on a new one, pair by pair; none as soon as they are not clearly apart."""
    more: dict[str, Any] = {}
    if prepared:
        weights = expected.task.cast_weights(dtype)
        more = {"weights": weights, "other": {name: value / 2 for name, value in weights.items()}}
    pairs_s: list[tuple[float, float]] = []
    alike = 0
    for number in range(PAIRS_PREPARED if prepared else PAIRS):
        batch = expected.new_batch(number + prepared * PAIRS).astype(dtype)
        reply = worker.request(
            "time_new",
            step=step,
            batch=batch.to_json(),
            seen=number % len(expected.task.batches),
            new_first=bool(number % 2),
            warmup=max(1, settling_calls(rounds)),
            **more,
        )
        pairs_s.append((reply["seen_ns"] / 1e9, reply["new_ns"] / 1e9))
        alike += pairs_s[-1][1] < FASTER * pairs_s[-1][0]
        if alike > 1:
            return []
    return pairs_s
