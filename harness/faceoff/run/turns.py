"""Turns at the cores: so many contenders compute at a time, and who has most to do goes first."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from faceoff.core.spec import Contender


class Turns:
    """Slots for which contenders wait in the order of what they have cost so far.

    Whoever compiles for longest has to begin first, and to go on as soon as it can, or it is left to end alone.

    Args:
        slots: contenders that compute at the same time.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._spent_s: dict[Contender, float] = {}

    def spent_s(self, contender: Contender) -> float:
        """Seconds that a contender's turns took so far."""
        return self._spent_s.get(contender, 0.0)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    @contextmanager
    def turn(self, contender: Contender) -> Iterator[None]:
        """Waits for a slot and holds it while the block runs."""
        with self._changed:
            ticket = (-self.spent_s(contender), next(self._numbers))
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._free -= 1
            # Another slot may be free for the next in the queue.
            self._changed.notify_all()
        begin_s = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._spent_s[contender] = self.spent_s(contender) + time.monotonic() - begin_s
                self._free += 1
                self._changed.notify_all()
