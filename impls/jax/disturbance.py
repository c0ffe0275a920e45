"""The verbs of a model in stochastic arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .stochastic import Stochastic


class Disturbance:
    """Pure functions that are disturbed anew, and otherwise, at every call. Each is traced once for a dtype.

    Args:
        functions: undisturbed.

    Attributes:
        verbs: the same functions, disturbed.
    """

    def __init__(self, functions: Sequence[Callable[..., Any]]) -> None:
        self._functions = functions
        self._programs: dict[tuple[int, str], Stochastic] = {}
        self.verbs = tuple(partial(self._run, number) for number in range(len(functions)))

    def begin(self, dtype: str, unit_roundoff: float | None, seed: int, alike: bool) -> None:
        """Starts a run; see `Model.disturb`."""
        Stochastic(self._functions[0], dtype)  # Refuses what is no dtype.
        self._dtype, self._unit_roundoff, self._seed, self._alike = dtype, unit_roundoff, seed, alike
        self._calls = 0
        self._called: set[int] = set()

    def left_whole(self) -> dict[str, int]:
        """See `Model.left_whole`."""
        found: Counter[str] = Counter()
        for number in self._called:
            found += self._programs[number, self._dtype].whole
        return dict(found)

    def _run(self, number: int, *args: Any) -> Any:
        key = number, self._dtype
        if key not in self._programs:
            self._programs[key] = Stochastic(self._functions[number], self._dtype)
        self._calls += 1
        self._called.add(number)
        seed = int(np.random.SeedSequence([self._seed, self._calls]).generate_state(1, np.uint64)[0])
        return self._programs[key].again(seed, self._unit_roundoff, self._alike).run(*args)
