"""What is trained on real data: models, optimisers and batches."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceoff.core.errors import InputError
from faceoff.core.spec import MODEL_KINDS, DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch, check_batch
from faceoff.workloads.data import (
    ALPHABET,
    Dataset,
    held_out_batches,
    load_cifar10,
    load_digits,
    load_text,
    training_batches,
)

# With these every model learns its task within some hundred steps.
RULES = (
    Optimiser("sgd", learning_rate=0.1),
    Optimiser("momentum", learning_rate=0.05),
    Optimiser("adam", learning_rate=0.005),
    Optimiser("adamw", learning_rate=0.005),
)
TRAINING_DTYPE = "float32"
TEST_BATCHES = 8


@dataclass(frozen=True)
class TrainingTask:
    """A model, an optimiser and batches of a data set.

    Args:
        name: as tables show it.
        workload: model, batch size, optimiser, dtype.
        batches: one for each training step.
        test: batches that are not trained on.
    """

    name: str
    workload: Workload
    batches: Sequence[Batch]
    test: Sequence[Batch]

    def __post_init__(self) -> None:
        for batch in (*self.batches, *self.test):
            check_batch(self.workload.model, self.workload.batch_size, batch, self.name)

    @property
    def targets(self) -> np.ndarray:
        return np.concatenate([batch.targets for batch in self.test])


@dataclass(frozen=True)
class _Choice:
    """A model on a data set: batch size, and steps (0: none) and optimiser of the main job."""

    name: str
    model: ModelSpec
    dataset: Dataset
    batch_size: int
    steps: int
    optimiser: Optimiser

    def tasks(self, workloads: Sequence[Workload], steps: int, seed: int) -> list[TrainingTask]:
        """A task for each workload; all share their batches."""
        batches = training_batches(self.model, self.dataset, self.batch_size, steps, seed)
        test = held_out_batches(self.model, self.dataset, self.batch_size, TEST_BATCHES)
        return [TrainingTask(self.name, workload, batches, test) for workload in workloads]


def _choices(models: Sequence[str], data_folder: Path | None, seed: int) -> list[_Choice]:
    if not set(models) & set(MODEL_KINDS):
        return []
    cifar = load_cifar10(data_folder) if data_folder else None
    digits = load_digits(seed)
    text = load_text(sequence_length=16)
    _, momentum, adam, _ = RULES
    characters = LstmSpec(len(ALPHABET), 48, len(ALPHABET), 16, many_to_many=True)
    choices = [
        _Choice("dense on digits", DenseSpec((64, 32, 10)), digits, 50, 80, momentum),
        _Choice("residual on digits", ResidualSpec(8, 8, 1, (8, 16), 1), digits, 50, 30, momentum),
        _Choice("rnn on digits, row by row", RnnSpec(8, 32, 10, 8), digits, 50, 60, momentum),
        _Choice("lstm on digits, row by row", LstmSpec(8, 32, 10, 8), digits, 50, 0, adam),
        _Choice("lstm on help text, next character", characters, text, 16, 40, adam),
    ]
    if cifar:
        choices += [
            _Choice("dense on CIFAR-10", DenseSpec((3072, 64, 10)), cifar, 20, 40, momentum),
            _Choice("residual on CIFAR-10", ResidualSpec(32, 32, 3, (8, 16), 1), cifar, 20, 20, momentum),
        ]
    return [choice for choice in choices if choice.model.kind in models]


def make_tasks(models: Sequence[str], data_folder: Path | None, device: str, seed: int) -> list[TrainingTask]:
    """The training tasks of the main job for the given model families: one optimiser each, float32, few steps.

    Args:
        models: families.
        data_folder: with CIFAR-10 in its binary version, tasks on it are added for dense and residual.
        device: of the workloads.
        seed: of splits and batches.

    Raises:
        InputError: the folder's data cannot be used.
    """
    tasks = []
    for choice in (choice for choice in _choices(models, data_folder, seed) if choice.steps):
        workload = Workload(choice.model, choice.batch_size, TRAINING_DTYPE, device, "training", choice.optimiser)
        tasks += choice.tasks([workload], choice.steps, seed)
    return tasks


def make_long_tasks(
    models: Sequence[str], kinds: Sequence[str], dtypes: Sequence[str], device: str, seed: int, steps: int
) -> list[TrainingTask]:
    """The same models on the same data, with each optimiser in each dtype, for as many steps as asked for.

    Args:
        models: families.
        kinds: of optimisers; a pair of optimiser and dtype that has no meaning, such as Adam in float16, is left out.
        dtypes: of the workloads.
        device: of the workloads.
        seed: of splits and batches.
        steps: training steps of each task.
    """
    tasks = []
    for choice in _choices(models, None, seed):
        workloads = []
        for optimiser in (optimiser for optimiser in RULES if optimiser.kind in kinds):
            for dtype in dtypes:
                with contextlib.suppress(InputError):
                    workloads.append(Workload(choice.model, choice.batch_size, dtype, device, "training", optimiser))
        tasks += choice.tasks(workloads, steps, seed)
    return tasks
