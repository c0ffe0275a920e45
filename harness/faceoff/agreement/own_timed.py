"""What timed calls of a user's own model have to return, judged by its reference side.

Nobody knows whether its outputs follow from each example alone, or how its loss and its batch statistics depend on how
many there are. So nothing but noise is concluded from the few examples that were compared: of a larger batch, which
holds them over and over, the reference side computes the whole, once and undisturbed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from faceoff.agreement.check import WIDE_DTYPES
from faceoff.agreement.comparison import compare_all, compare_quantity
from faceoff.agreement.noise import Noise, Values
from faceoff.agreement.own import OwnExpected
from faceoff.agreement.quantities import stage_of
from faceoff.agreement.timed_check import TimedExpected, is_judged_whole
from faceoff.core.spec import Workload
from faceoff.results.agreements import Quantity
from faceoff.workloads.task import Task


class OwnTimedExpected(TimedExpected):
    """The task that is timed, and what each of its steps has to return; as `TimedExpected`.

    Args:
        workload: what is timed, of any step.
        part: the reference side of the same with the examples that were compared.
        seed: of the order of examples.
    """

    def __init__(self, workload: Workload, part: OwnExpected, seed: int) -> None:
        super().__init__(workload, part, seed)
        self._own = part
        self._judged_whole = is_judged_whole(workload, self._examples)

    def problem(self, step: str, got: Values, dtype: str, new: bool = False) -> str:
        if not new:
            return super().problem(step, got, dtype)
        known = self._values(step, dtype)
        turned = {name: np.flip(value, 0) if self._is_by_example(name) else value for name, value in known.items()}
        found = self._problem(turned, step, got, dtype, new)
        if not found:
            return ""
        # The order of the examples may count: then the batch in reverse order is another one.
        exact = self._compute(Task(self.task.workload, self.task.weights, [self.new_batch(0)]), step, dtype)
        return self._problem({name: exact[name] for name in known}, step, got, dtype, new)

    def _values(self, step: str, dtype: str) -> Values:
        """What is known of a step, float64, of the whole batch."""
        if self._size == self._examples:
            known = self._own.values(dtype)
        elif self._judged_whole or step == "inference":
            key = f"{dtype} {step if not self._judged_whole else ''}"
            if key not in self._whole:
                self._whole = {key: self._compute(self.task, step, dtype)}
            known = self._whole[key]
        else:
            return {}
        return {name: value for name, value in known.items() if self._belongs(name, step)}

    def _compute(self, task: Task, step: str, dtype: str) -> Values:
        """What the reference side makes of batches of this size; of those that are too large the outputs alone."""
        return self._own.values_of(task, dtype) if self._judged_whole else self._own.outputs_of(task, dtype)

    def _copy_of(self, expected: Values, places: np.ndarray) -> Values:
        return self._picked(expected, places)

    def _noises(self, dtype: str) -> Iterator[dict[str, Noise]]:
        yield from super()._noises(dtype)
        if dtype == "float64":
            # As in `OwnExpected.judge`: a right port may hold a constant in float32.
            yield self._own.larger_noise("float32")

    def _disagreeing(self, expected: Values, got: Values, dtype: str, noise: Mapping[str, Noise]) -> list[Quantity]:
        found = [quantity for quantity in compare_all(expected, got, dtype, noise) if not quantity.agrees]
        if not found or dtype not in WIDE_DTYPES:
            return found
        if any(stage_of(quantity.name) is None or quantity.noise_units is None for quantity in found):
            return found
        # As in `OwnExpected.settle`: ReLUs and maxima may decide otherwise.
        spread = self._noise(expected, dtype, self._own.spread(dtype))
        names = [quantity.name for quantity in found]
        again = [compare_quantity(name, got[name], expected[name], dtype, spread[name]) for name in names]
        return found if any(not quantity.agrees for quantity in again) else []
