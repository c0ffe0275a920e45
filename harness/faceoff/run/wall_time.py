"""A run that has only so many minutes: which parts fit into them, and how long rounds may be timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from faceoff.results.records import Result

# A second of timed rounds costs so many seconds, with loading, warming up, settling and what was timed being checked.
COSTS_OF_A_SECOND = 6.0
# What result and page take to be written.
WRITING_S = 3.0
# Of each case, however little is left.
LEAST_TIMED_S = 0.05
# Parts that are run however few minutes there are: one workload's agreement, and one step of it.
AT_LEAST = 2


class Part(Protocol):
    """Of a run: its length in units of progress, and whether rounds are timed in it for as long as there is time."""

    @property
    def units(self) -> float: ...
    @property
    def times(self) -> bool: ...


class WallTime:
    """The wall time of a run, from now on.

    Args:
        limit_s: infinite where there is none.
        most_s: of timed rounds of a case.
        contenders: how many have a case in each step of a workload.
        clock: seconds.
    """

    def __init__(
        self, limit_s: float, most_s: float, contenders: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s, self._most_s, self._contenders, self._clock = limit_s - WRITING_S, most_s, contenders, clock
        self._began_s, self._units, self._costs = clock(), 0.0, COSTS_OF_A_SECOND

    def parts_that_fit(
        self,
        plan: Mapping[str, Part],
        left: Sequence[str],
        result: Result,
        begun: float,
        allow: Callable[[float], None],
    ) -> Iterator[str]:
        """The parts of a run that there is time for, each to be done before the next one is asked for.

        Args:
            plan: all parts, by name.
            left: those that are not done, in order.
            result: is told how many were left out.
            begun: units of progress that are done by now.
            allow: is called before each part with the seconds that the timed rounds of a case may take in it.
        """
        self._units += begun
        for number, key in enumerate(left):
            part, rest = plan[key], [plan[other] for other in left[number:]]
            # Without the first ranking the run would have been for nothing.
            needed = key in list(plan)[:AT_LEAST]
            if not needed and self._spent_s + part.units * self._pace_s > self._limit_s:
                result.left_out = len(rest)
                return
            allow(self._for_a_case(rest))
            count, began_s = len(result.cases), self._clock()
            yield key
            self._units += part.units
            timed_s = sum(sum(c.speed.rounds_s) * c.speed.iterations for c in result.cases[count:] if c.speed)
            if part.times and timed_s:
                self._costs = max(1.0, (self._clock() - began_s) / timed_s)

    def _for_a_case(self, rest: Sequence[Part]) -> float:
        if math.isinf(self._limit_s):
            return self._most_s
        others_s = self._pace_s * sum(part.units for part in rest if not part.times)
        cases = self._contenders * sum(part.times for part in rest)
        left_s = self._limit_s - self._spent_s - others_s
        return min(self._most_s, max(LEAST_TIMED_S, left_s / (max(1, cases) * self._costs)))

    @property
    def _spent_s(self) -> float:
        return self._clock() - self._began_s

    @property
    def _pace_s(self) -> float:
        """Seconds that a unit of progress has taken so far."""
        return self._spent_s / self._units if self._units else 0.0
