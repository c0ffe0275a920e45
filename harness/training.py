"""Training on real data: each contender from the reference's weights over the reference's batches.

The loss curve and the logits on test data are judged like every other quantity, in units of the rounding noise that the
reference itself shows over the same training in stochastic arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.comparison import NOISE_LIMIT, compare_quantity
from harness.core.errors import WorkerError
from harness.core.spec import Contender, DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from harness.core.weights import Batch, check_batch, seeded_weights
from harness.data import ALPHABET, Dataset, held_out_batches, load_cifar10, load_digits, load_text, training_batches
from harness.live_worker import Worker
from harness.noise import NOISE_RUNS, noise_of, remembered, task_key
from harness.reference import ReferenceModel
from harness.reference.arithmetic import Arithmetic, Exact, Rounded, noise_generator
from harness.results import TrainingRun

DTYPE = "float32"


@dataclass(frozen=True)
class TrainingTask:
    """A model, an optimiser and batches of a data set.

    Args:
        name: as tables show it.
        workload: model, batch size, optimiser.
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


def make_tasks(models: Sequence[str], data_folder: Path | None, device: str, seed: int) -> list[TrainingTask]:
    """The training tasks of the main job for the given model families.

    Args:
        models: families.
        data_folder: with CIFAR-10 in its binary version, tasks on it are added for dense and residual.
        device: of the workloads.
        seed: of splits and batches.

    Raises:
        InputError: the folder's data cannot be used.
    """
    cifar = load_cifar10(data_folder) if data_folder else None
    digits = load_digits(seed)
    text = load_text(sequence_length=16)
    momentum = Optimiser("momentum", learning_rate=0.05)
    adam = Optimiser("adam", learning_rate=0.005)
    choices: list[tuple[str, ModelSpec, Dataset, int, int, Optimiser]] = [
        ("dense on digits", DenseSpec((64, 32, 10)), digits, 50, 80, momentum),
        ("residual on digits", ResidualSpec(8, 8, 1, (8, 16), 1), digits, 50, 30, momentum),
        ("rnn on digits, row by row", RnnSpec(8, 32, 10, 8), digits, 50, 60, momentum),
        ("lstm on digits, row by row", LstmSpec(8, 32, 10, 8), digits, 50, 60, adam),
        (
            "lstm on help text, next character",
            LstmSpec(len(ALPHABET), 48, len(ALPHABET), 16, many_to_many=True),
            text,
            16,
            40,
            adam,
        ),
    ]
    if cifar:
        choices += [
            ("dense on CIFAR-10", DenseSpec((3072, 64, 10)), cifar, 20, 40, momentum),
            ("residual on CIFAR-10", ResidualSpec(32, 32, 3, (8, 16), 1), cifar, 20, 20, momentum),
        ]
    return [
        TrainingTask(
            name,
            Workload(spec, size, DTYPE, device, "training", optimiser),
            training_batches(spec, dataset, size, steps, seed),
            held_out_batches(spec, dataset, size, limit=8),
        )
        for name, spec, dataset, size, steps, optimiser in choices
        if spec.kind in models
    ]


@dataclass(frozen=True)
class Trained:
    """What a training run gave: losses `(steps,)` and test logits `(examples, ..., classes)`."""

    losses: np.ndarray
    logits: np.ndarray

    def accuracy(self, targets: np.ndarray) -> float:
        """Share of test examples (or characters) whose largest logit is the right class."""
        return float(np.mean(np.argmax(self.logits, axis=-1) == targets))


def train_reference(task: TrainingTask, seed: int, arithmetic: Arithmetic) -> Trained:
    """Trains the NumPy reference."""
    spec = task.workload.model
    model = ReferenceModel(spec, seeded_weights(spec, seed), task.workload.optimiser, arithmetic)
    losses = np.array([model.train_step(batch) for batch in task.batches])
    return Trained(losses, np.concatenate([model.forward(batch) for batch in task.test]))


def train_contender(worker: Worker, mode: str, task: TrainingTask, seed: int) -> Trained:
    """Trains a contender. Raises WorkerError."""
    weights = {name: value.astype(DTYPE) for name, value in seeded_weights(task.workload.model, seed).items()}
    worker.request("build", workload=task.workload.to_json(), mode=mode, weights=weights)
    batches = [batch.astype(DTYPE).to_json() for batch in (*task.batches, *task.test)]
    worker.request("load", batches=batches)
    steps = len(task.batches)
    losses = np.asarray(worker.request("train", indices=list(range(steps)))["losses"])
    logits = worker.request("forward", indices=list(range(steps, steps + len(task.test))))["outputs"]
    return Trained(losses, np.concatenate(logits))


class ExpectedTraining:
    """The reference's training of a task, and how far rounding alone moves it.

    Args:
        task: what is trained.
        seed: of the weights and of the stochastic arithmetic.
    """

    def __init__(self, task: TrainingTask, seed: int) -> None:
        self.exact = train_reference(task, seed, Exact())
        settings = task.workload.to_json(), seed
        key = task_key("training", settings, seeded_weights(task.workload.model, seed), [*task.batches, *task.test])
        noise = remembered(key, lambda: self._find_noise(task, seed))
        (self.logit_noise,), (self.accuracy_noise,) = noise["logits"], noise["accuracy"]
        self.loss_noise = np.array(noise["losses"])

    def _find_noise(self, task: TrainingTask, seed: int) -> dict[str, list[float]]:
        runs = [train_reference(task, seed, Rounded(DTYPE, noise_generator(seed, run))) for run in range(NOISE_RUNS)]
        logits = noise_of({"logits": self.exact.logits}, [{"logits": run.logits} for run in runs], DTYPE)["logits"]
        spread = [
            noise_of({"loss": loss}, [{"loss": run.losses[step]} for run in runs], DTYPE)["loss"]
            for step, loss in enumerate(self.exact.losses)
        ]
        accuracy = self.exact.accuracy(task.targets)
        return {
            "logits": [logits],
            # A spread that shrinks again by chance must not turn the steps there into disagreements.
            "losses": np.maximum.accumulate(spread).tolist(),
            "accuracy": [max(abs(run.accuracy(task.targets) - accuracy) for run in runs)],
        }


def judge_training(
    get_worker: Callable[[], Worker],
    contender: Contender,
    task: TrainingTask,
    seed: int,
    expected: Callable[[], ExpectedTraining],
    busy: AbstractContextManager[object],
) -> TrainingRun:
    """Trains `contender` and compares its loss at every step, and its logits on test data, with the reference's.

    A worker that cannot start, dies, hangs or refuses becomes the outcome.

    Args:
        get_worker: gives the contender's worker, or raises WorkerError.
        contender: who trains.
        task: what is trained.
        seed: of the weights.
        expected: gives the reference's side; called when the contender has done its own.
        busy: held while the worker computes, so that only so many do at a time.
    """
    run = TrainingRun(task=task.name, workload=task.workload.to_json(), contender=str(contender), outcome="ok")
    try:
        with busy:
            got = train_contender(get_worker(), contender.mode, task, seed)
    except WorkerError as error:
        return run.model_copy(update={"outcome": error.outcome, "reason": str(error)})
    reference = expected()
    exact = reference.exact
    run.reference_losses, run.noise, run.limit = exact.losses.tolist(), reference.loss_noise.tolist(), NOISE_LIMIT
    run.reference_accuracy, run.accuracy_noise = exact.accuracy(task.targets), reference.accuracy_noise
    logits = compare_quantity("test logits", got.logits, exact.logits, DTYPE, reference.logit_noise)
    run.losses = [float(loss) if np.isfinite(loss) else None for loss in got.losses]
    run.accuracy = got.accuracy(task.targets)
    distance = np.abs(got.losses - exact.losses) / reference.loss_noise
    if not np.isfinite(distance).all():
        run.outcome, run.reason = "disagrees", f"loss is not finite at step {int(np.argmin(np.isfinite(distance)))}"
        return run
    step = int(np.argmax(distance))
    run.noise_units = max(float(distance[step]), logits.noise_units or 0.0)
    if distance[step] > NOISE_LIMIT:
        run.outcome = "disagrees"
        run.reason = (
            f"loss at step {step} is {distance[step]:.3g} noise units off (limit {NOISE_LIMIT:g}): "
            f"got {got.losses[step]:.9g}, reference {exact.losses[step]:.9g}"
        )
    elif not logits.agrees:
        run.outcome = "disagrees"
        run.reason = (
            logits.problem or f"test logits are {logits.noise_units:.3g} noise units off (limit {NOISE_LIMIT:g})"
        )
    return run
