"""The one clock, in monotonic nanoseconds. A jump of the wall clock does not touch it."""

import time
from typing import Callable, List

Clock = Callable[[], int]
"""Returns nanoseconds since an arbitrary start; never goes back."""


def _perf_counter_ns() -> int:
    return int(time.perf_counter() * 1e9)


# Python 3.6 has none; of its float nothing is lost that the clock itself can tell.
monotonic_ns: Clock = getattr(time, "perf_counter_ns", _perf_counter_ns)
# Readings, mostly of some ten nanoseconds each, in which even a coarse clock ticks several times.
READINGS, LONGEST_S = 1000, 0.05


def tick_s(clock: Clock = monotonic_ns) -> float:
    """The smallest step that a clock was seen to make, in seconds; 0 when it made none within `LONGEST_S`."""
    steps: List[int] = []
    last, readings = clock(), 0
    begin_s = time.monotonic()
    while readings < READINGS or (not steps and time.monotonic() - begin_s < LONGEST_S):
        now = clock()
        readings += 1
        if now != last:
            steps.append(now - last)
            last = now
    return min(steps, default=0) / 1e9
