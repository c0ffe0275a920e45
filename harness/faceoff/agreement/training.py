"""Training on real data: each contender from the reference's weights over the reference's batches.

The loss curve and the logits on test data are judged like every other quantity, in units of the rounding noise that the
reference itself shows over the same training in stochastic arithmetic of the same dtype.

A rounding can flip a ReLU whose input is nearly zero, and from there on a training goes another way. Such events are
too rare to be met by eight runs, and too frequent to be called a fault. So eight more runs are disturbed many times as
much, which makes them as many times as frequent. Where their spread is that many times as large, nothing of the kind
has happened; where it is much larger, rounding explains a spread as large as theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from faceoff.agreement.comparison import NOISE_LIMIT, compare_quantity
from faceoff.agreement.noise import NOISE_RUNS, Noise, noise_of, remembered, task_key
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender
from faceoff.core.weights import Weights, round_to, seeded_weights
from faceoff.pool.memory import reason_of
from faceoff.pool.worker import Worker
from faceoff.reference import ReferenceModel
from faceoff.reference.arithmetic import UNIT_ROUNDOFF, Arithmetic, Exact, noise_generator
from faceoff.reference.rounding import stochastic
from faceoff.results.trainings import TrainingRun
from faceoff.workloads.trainings import TrainingTask

# An event that rounding causes once in this many times the number of runs is still met.
AMPLIFICATION = 128.0
# Spreads of eight runs differ from each other by less than this factor where disturbances act in proportion.
PROPORTIONAL = 4.0
# Beyond, results are disturbed more than a training can bear; coarse dtypes flip ReLUs in every run anyway.
MOST_DISTURBANCE = 1e-3


@dataclass(frozen=True)
class Trained:
    """What a training run gave: losses `(steps,)` and test logits `(examples, ..., classes)`."""

    losses: np.ndarray
    logits: np.ndarray

    def accuracy(self, targets: np.ndarray) -> float:
        """Share of test examples (or characters) whose largest logit is the right class."""
        return float(np.mean(np.argmax(self.logits, axis=-1) == targets))


def _starting_weights(task: TrainingTask, seed: int) -> Weights:
    """Rounded to the task's dtype."""
    weights = seeded_weights(task.workload.model, seed)
    return {name: round_to(value, task.workload.dtype) for name, value in weights.items()}


def train_reference(task: TrainingTask, seed: int, arithmetic: Arithmetic) -> Trained:
    """Trains the NumPy reference on what a contender in the task's dtype meets."""
    workload = task.workload
    weights = {name: value.astype(np.float64) for name, value in _starting_weights(task, seed).items()}
    batches, test = (
        [batch.astype(workload.dtype).astype("float64") for batch in group] for group in (task.batches, task.test)
    )
    model = ReferenceModel(workload.model, weights, workload.optimiser, arithmetic)
    losses = np.array([model.train_step(batch) for batch in batches])
    return Trained(losses, np.concatenate([model.forward(batch) for batch in test]))


def prepare_contender(worker: Worker, mode: str, task: TrainingTask, seed: int) -> None:
    """Lets a contender build the model and compile what it will train and test with. Raises WorkerError."""
    worker.request("build", workload=task.workload.to_json(), mode=mode, weights=_starting_weights(task, seed))
    batches = [batch.astype(task.workload.dtype).to_json() for batch in (*task.batches, *task.test)]
    worker.request("load", batches=batches)
    for step in ("training", "inference"):
        worker.request("first_call", step=step)


def train_contender(worker: Worker, task: TrainingTask, seed: int) -> Trained:
    """Trains a contender that is prepared. Raises WorkerError."""
    worker.request("reset", weights=_starting_weights(task, seed))
    steps = len(task.batches)
    losses = np.asarray(worker.request("train", indices=list(range(steps)))["losses"])
    logits = worker.request("forward", indices=list(range(steps, steps + len(task.test))))["outputs"]
    return Trained(losses.astype(np.float64), np.concatenate(logits))


class ExpectedTraining:
    """The reference's training of a task, and how far rounding alone moves it.

    Args:
        task: what is trained.
        seed: of the weights and of the stochastic arithmetic.
    """

    def __init__(self, task: TrainingTask, seed: int) -> None:
        self.exact = train_reference(task, seed, Exact())
        settings = task.workload.to_json(), seed
        key = task_key(
            "training, rare events", settings, seeded_weights(task.workload.model, seed), [*task.batches, *task.test]
        )
        noise = remembered(key, lambda: self._find_noise(task, seed))
        (self.logit_noise,), (self.accuracy_noise,) = noise["logits"], noise["accuracy"]
        # A spread that shrinks again by chance must not turn the steps there into disagreements.
        self.loss_noise = np.maximum.accumulate(noise["losses"])
        self.rare_from = next((int(step) for step in noise["rare_from"]), None)

    def _find_noise(self, task: TrainingTask, seed: int) -> dict[str, list[float]]:
        dtype = task.workload.dtype
        losses, logits, accuracy = self._spread(task, seed, 1.0)
        rare = np.array([], dtype=int)
        if AMPLIFICATION * UNIT_ROUNDOFF[dtype] < MOST_DISTURBANCE:
            wide_losses, wide_logits, wide_accuracy = self._spread(task, seed, AMPLIFICATION)
            if wide_logits > PROPORTIONAL * AMPLIFICATION * logits:
                accuracy = max(accuracy, wide_accuracy)
            logits = float(explained(np.array(logits), np.array(wide_logits)))
            widened = explained(losses, wide_losses)
            rare, losses = np.flatnonzero(widened > losses), widened
        return {
            "logits": [logits],
            "losses": losses.tolist(),
            "accuracy": [accuracy],
            "rare_from": rare[:1].tolist(),
        }

    def _spread(self, task: TrainingTask, seed: int, times: float) -> tuple[np.ndarray, float, float]:
        """Of loss by step, test logits and accuracy, when every rounding is `times` as large."""
        dtype = task.workload.dtype
        first = 0 if times == 1 else NOISE_RUNS
        runs = [
            train_reference(task, seed, stochastic(dtype, noise_generator(seed, first + run), times))
            for run in range(NOISE_RUNS)
        ]
        logits = spread_of(self.exact.logits, [run.logits for run in runs], dtype)
        accuracy = self.exact.accuracy(task.targets)
        return (
            loss_noise(self.exact.losses, [run.losses for run in runs], dtype),
            logits,
            max(abs(run.accuracy(task.targets) - accuracy) for run in runs),
        )


def explained(noise: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """The spread that rounding explains, where rare events count too.

    Args:
        noise: spread of runs in stochastic arithmetic, of any shape.
        wide: of runs that were disturbed `AMPLIFICATION` times as much.

    Returns:
        `noise` where the two are in proportion, else `wide`.
    """
    return np.where(wide > PROPORTIONAL * AMPLIFICATION * noise, wide, noise)


def spread_of(exact: np.ndarray, runs: Sequence[np.ndarray], dtype: str) -> float:
    """The rms distance of runs from the exact values; infinite where one of them overflows."""
    noise = noise_of({"": exact}, [{"": run} for run in runs], dtype)[""]
    return float("inf") if noise.left_out else noise.rms


def loss_noise(exact: np.ndarray, runs: Sequence[np.ndarray], dtype: str) -> np.ndarray:
    """How far rounding alone has moved the loss, before each step, `(steps,)`."""
    spread = [spread_of(loss, [run[step] for run in runs], dtype) for step, loss in enumerate(exact)]
    # A spread that shrinks again by chance must not turn the steps there into disagreements.
    return np.maximum.accumulate(spread)


def judge_training(
    get_worker: Callable[[], Worker],
    contender: Contender,
    task: TrainingTask,
    seed: int,
    expected: Callable[[], ExpectedTraining],
    preparing: AbstractContextManager[object],
    busy: AbstractContextManager[object],
    *,
    again: str = "",
) -> TrainingRun:
    """Trains `contender` and compares its loss at every step, and its logits on test data, with the reference's.

    A worker that cannot start, dies, hangs or refuses becomes the outcome.

    Args:
        get_worker: gives the contender's worker, or raises WorkerError.
        contender: who trains.
        task: what is trained.
        seed: of the weights.
        expected: gives the reference's side; called when the contender has done its own.
        preparing: held while the worker builds and compiles, so that only so many do at a time.
        busy: held while it trains.
        again: the command that repeats it.
    """
    run = TrainingRun(
        task=task.name, workload=task.workload.to_json(), contender=str(contender), outcome="ok", again=again
    )
    try:
        with preparing:
            worker = get_worker()
            prepare_contender(worker, contender.mode, task, seed)
        with busy:
            got = train_contender(worker, task, seed)
    except WorkerError as error:
        return run.model_copy(update={"outcome": error.outcome, "reason": reason_of(error, task.workload.device)})
    judge_trained(run, task, got, expected())
    return run


def judge_trained(run: TrainingRun, task: TrainingTask, got: Trained, reference: ExpectedTraining) -> None:
    """Fills in `run`: what was got, what the reference has, how far apart they are, and the verdict."""
    exact = reference.exact
    known = np.isfinite(exact.losses) & np.isfinite(reference.loss_noise)
    steps = len(known) if known.all() else int(np.argmin(known))
    run.reference_losses, run.noise = exact.losses[:steps].tolist(), reference.loss_noise[:steps].tolist()
    run.limit, run.rare_from = NOISE_LIMIT, reference.rare_from
    run.reference_accuracy, run.accuracy_noise = exact.accuracy(task.targets), reference.accuracy_noise
    noise = Noise(reference.logit_noise)
    logits = compare_quantity("test logits", got.logits, exact.logits, task.workload.dtype, noise)
    run.losses = [float(loss) if np.isfinite(loss) else None for loss in got.losses]
    run.accuracy = got.accuracy(task.targets)
    difference = np.abs(got.losses - exact.losses)
    distance = difference / reference.loss_noise
    if steps < len(known):
        run.outcome = "disagrees"
        run.reason = f"cannot be judged: from step {steps} the reference, or rounding alone, makes the loss overflow"
        return
    if not np.isfinite(distance).all():
        run.outcome, run.reason = "disagrees", f"loss is not finite at step {int(np.argmin(np.isfinite(distance)))}"
        return
    step = int(np.argmax(distance))
    run.noise_units = max(float(distance[step]), logits.noise_units or 0.0)
    run.loss_error = float(np.max(difference / np.abs(exact.losses)))
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
