"""The one clock: monotonic nanoseconds, and a fake one for tests of the scheduling."""

from __future__ import annotations

import time
from typing import Callable

Clock = Callable[[], int]
"""Returns nanoseconds since an arbitrary start; never goes back."""

monotonic_ns: Clock = time.perf_counter_ns


class FakeClock:
    """A clock that moves only when told to.

    Args:
        start_ns: the first reading, in nanoseconds.
    """

    def __init__(self, start_ns: int = 0) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, duration_ns: int) -> None:
        """Moves the clock forward by `duration_ns` nanoseconds."""
        self.now_ns += duration_ns
