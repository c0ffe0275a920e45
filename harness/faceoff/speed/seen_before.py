"""Does a contender remember results? A batch that it never saw must give what it should, and take no longer.

What is remembered by batch and weights is right, so that no comparison of values finds it. In training every call
changes the weights, and nothing comes a second time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff.agreement.timed_check import TimedExpected, last_values
from faceoff.core.errors import WorkerError
from faceoff.pool.worker import Worker
from faceoff.speed.rounds import Rounds, settling_calls
from faceoff.speed.units import format_duration

# Beyond doubt: more than so many times as long, in all pairs of calls but one.
LONGER, PAIRS, PAIRS_PREPARED = 2.0, 6, 10


def find_remembered(worker: Worker, step: str, rounds: Rounds, expected: TimedExpected, dtype: str) -> str:
    """What tells that results are remembered; empty when nothing does.

    Frameworks may prepare something for a batch at its first call, such as a graph that reads it where it lies. So
    where calls on new batches take long, others are called once with other weights first.

    Args:
        worker: its model holds the batches of what is timed, and the starting weights; so it does when this ends.
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
        pairs = _Pairs(worker, step, rounds, expected, dtype)
        pairs.time(0, prepared=False)
        if problem := expected.problem(step, last_values(worker, step), dtype, new=True):
            return problem
        if not pairs.all_apart(1, PAIRS, prepared=False):
            return ""
        pairs.seconds.clear()
        if not pairs.all_apart(PAIRS, PAIRS_PREPARED, prepared=True):
            return ""
    except WorkerError as error:
        # One batch more than what was timed: that this does not fit is no fault.
        if error.outcome == "out_of_memory":
            return ""
        raise
    seen_s, new_s = np.median(pairs.seconds, axis=0)
    seen, new = format_duration(seen_s), format_duration(new_s)
    return f"calls on a batch that was seen before take {seen}, on a new one {new}: results are remembered"


class _Pairs:
    """Calls on a seen batch beside such on a new one. Arguments as of `find_remembered`; `seconds` of either so far."""

    def __init__(self, worker: Worker, step: str, rounds: Rounds, expected: TimedExpected, dtype: str) -> None:
        self._worker, self._step, self._expected, self._dtype = worker, step, expected, dtype
        self._warmup = max(1, settling_calls(rounds))
        self._weights = expected.task.cast_weights(dtype)
        self.seconds: list[tuple[float, float]] = []

    def all_apart(self, begin: int, count: int, prepared: bool) -> bool:
        """Whether so many pairs are all clearly apart but one; times no more than tell."""
        for number in range(begin, begin + count - len(self.seconds)):
            self.time(number, prepared)
            if sum(new_s <= LONGER * seen_s for seen_s, new_s in self.seconds) > 1:
                return False
        return True

    def time(self, number: int, prepared: bool) -> None:
        """Times pair `number`, its two calls in an order that changes from pair to pair."""
        more: dict[str, Any] = {}
        if prepared:
            more = {"weights": self._weights, "other": {name: value / 2 for name, value in self._weights.items()}}
        reply = self._worker.request(
            "time_new",
            step=self._step,
            batch=self._expected.new_batch(number).astype(self._dtype).to_json(),
            seen=number % len(self._expected.task.batches),
            new_first=bool(number % 2),
            warmup=self._warmup,
            **more,
        )
        self.seconds.append((reply["seen_ns"] / 1e9, reply["new_ns"] / 1e9))
