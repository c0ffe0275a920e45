"""What a planted fault is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from harness.core.spec import DenseSpec, LstmSpec, ModelSpec, Optimiser, Workload
from harness.core.weights import Batch
from harness.presets import PRESETS
from harness.task import Task

IMPLEMENTATIONS = Path(__file__).resolve().parents[3] / "impls"
BATCH_SIZE = 6

MODELS: dict[str, ModelSpec] = {
    **{sized.model.kind: sized.model for sized in PRESETS["small"].sized},
    "dense-relu": DenseSpec((12, 16, 8, 5)),
    "lstm-last": LstmSpec(input_size=5, hidden_size=8, output_size=4, sequence_length=6, num_layers=2),
}
"""The models of the small preset, and those of the same sizes without which some lines would never run."""


def large(workload: Workload, seed: int) -> Task:
    """Logits of some hundreds, gradients of norms of some tens, cell states beyond 3: what meets a habitual limit."""
    sizes = {"x": 3.0, "h0": 2.0, "c0": 10.0}
    # At the everyday rate such gradients would throw the weights away.
    task = Task.seeded(workload.replace(optimiser=replace(workload.optimiser, learning_rate=1e-4)), seed)
    head = list(task.weights)[-2]
    batches = [
        Batch({name: exact(sizes[name] * value) for name, value in batch.inputs.items()}, batch.targets)
        for batch in task.batches
    ]
    return replace(task, weights={**task.weights, head: exact(60 * task.weights[head])}, batches=batches)


def exact(values: np.ndarray) -> np.ndarray:
    """`values` rounded to float32, so that every dtype starts from the same numbers."""
    return values.astype(np.float32).astype(np.float64)


SITUATIONS: dict[str, Callable[[Workload, int], Task]] = {"everyday": Task.seeded, "large": large}
"""What makes the task of a workload and a seed."""

Edit = tuple[str, str, str]
"""A file, the text that stands there once, and what a mistaken author wrote instead."""


@dataclass(frozen=True)
class Fault:
    """A mistake in one framework's implementation.

    Args:
        name: what is wrong, in words.
        contender: whose implementation, in which mode.
        model: a key of `MODELS`.
        edits: the lines as the mistaken author wrote them.
        place: how `first_difference` has to begin.
        optimiser: the kind that training uses.
        dtype: in which the fault shows; `float32` means that it shows in no wider one.
        situation: the weights and inputs that let it show: a key of `SITUATIONS`, or one that no check makes.
    """

    name: str
    contender: str
    model: str
    edits: tuple[Edit, ...]
    place: str
    optimiser: str = "sgd"
    dtype: Literal["float64", "float32"] = "float64"
    situation: str = "everyday"

    @property
    def id(self) -> str:
        """The name with framework and model, unique in the catalogue."""
        return f"{self.contender.partition(':')[0]} {self.model}: {self.name}"

    @property
    def rule(self) -> Optimiser:
        return Optimiser(self.optimiser)

    def plant(self, folder: Path) -> None:
        """Edits the copy of the framework's implementation in `folder`."""
        for file, there, written in self.edits:
            path = folder / file
            text = path.read_text()
            assert text.count(there) == 1, f"{path.name} no longer holds {there!r} once: mend {self.id!r}"
            path.write_text(text.replace(there, written))


def in_optimiser(there: str, written: str) -> tuple[Edit, ...]:
    """One edit of `optimiser.py`."""
    return (("optimiser.py", there, written),)


def in_runtime(there: str, written: str) -> tuple[Edit, ...]:
    """One edit of `runtime.py`."""
    return (("runtime.py", there, written),)
