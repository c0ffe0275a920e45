"""What reference and contender both compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceoff.core.spec import Workload
from faceoff.core.weights import Batch, Weights, check_batch, check_weights, round_to, seeded_batch, seeded_weights

TRAINING_STEPS = 3


@dataclass(frozen=True)
class Task:
    """What reference and contender both compute: a workload, its starting weights, and its batches.

    Args:
        workload: dtype and step do not matter to the reference.
        weights: canonical, float64 or exact in it.
        batches: the first serves outputs and gradients; training goes over all of them.
    """

    workload: Workload
    weights: Weights
    batches: Sequence[Batch]

    def __post_init__(self) -> None:
        check_weights(self.workload.model, self.weights)
        for index, batch in enumerate(self.batches):
            check_batch(self.workload.model, self.workload.batch_size, batch, f"batch {index}")

    @staticmethod
    def seeded(workload: Workload, seed: int, batches: int = TRAINING_STEPS) -> Task:
        """Weights and synthetic batches that depend only on the workload's sizes and `seed`."""
        return Task(
            workload.replace(step="training"),
            seeded_weights(workload.model, seed),
            [seeded_batch(workload.replace(dtype="float64"), seed, index) for index in range(batches)],
        )

    def cast(self, dtype: str) -> tuple[Weights, list[Batch]]:
        """Weights and batches rounded to the working dtype."""
        return self.cast_weights(dtype), [batch.astype(dtype) for batch in self.batches]

    def cast_weights(self, dtype: str) -> Weights:
        """The weights rounded to the working dtype."""
        return {name: round_to(value, dtype) for name, value in self.weights.items()}

    def rounded(self, dtype: str) -> Task:
        """The task as a contender in `dtype` meets it, in float64: its numbers are exact in `dtype`."""
        weights, batches = self.cast(dtype)
        wide = {name: value.astype(np.float64) for name, value in weights.items()}
        return Task(self.workload.replace(dtype=dtype), wide, [batch.astype("float64") for batch in batches])
