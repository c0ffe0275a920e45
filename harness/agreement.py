"""Does a contender compute what the reference computes? Error measures and the verdict.

Two checks of the same quantities (outputs, loss, all gradients, weights and outputs after training steps):

- meaning, in float64: the largest error of a quantity, relative to its largest value, stays under `MEANING_LIMIT`. A
  fault of meaning (gate order, epsilon, padding, a missing bias) stands far above, float64 rounding far below.
- precision, in the working dtype: the rms error of a quantity stays under `NOISE_LIMIT` units of the rounding noise of
  this very computation, measured by running the reference in stochastic arithmetic (`harness.reference.arithmetic`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.core.errors import WorkerError
from harness.core.spec import Contender, Workload
from harness.core.weights import (
    Batch,
    Weights,
    check_batch,
    check_weights,
    seeded_batch,
    seeded_weights,
    trainable_names,
)
from harness.noise import NOISE_RUNS, Values, noise_of, remembered, rms, task_key
from harness.pool import Worker
from harness.reference import ReferenceModel
from harness.reference.arithmetic import Arithmetic, Exact, Rounded, noise_generator
from harness.results import Agreement, Quantity

MEANING_LIMIT = 1e-10
NOISE_LIMIT = 8.0
TRAINING_STEPS = 3

Check = Literal["meaning", "precision"]


@dataclass(frozen=True)
class Task:
    """What reference and contender both compute: a workload, its starting weights, and its batches.

    Args:
        workload: dtype and step do not matter to the reference.
        weights: canonical, float64.
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
        """Weights and batches in the working dtype."""
        return {name: value.astype(dtype) for name, value in self.weights.items()}, [
            b.astype(dtype) for b in self.batches
        ]


def _flat(values: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([values[name].reshape(-1) for name in sorted(values)])


def _name_quantities(
    outputs: np.ndarray,
    gradients: Mapping[str, Mapping[str, np.ndarray]],
    unchanged: Mapping[str, np.ndarray],
    losses: np.ndarray,
    trained: Mapping[str, np.ndarray],
    trained_outputs: np.ndarray,
) -> Values:
    after = f"after {len(losses)} training steps"
    return {
        "outputs": outputs,
        "loss": np.asarray(gradients["loss"]),
        **{f"gradient of {name!r}": value for name, value in gradients["weights"].items()},
        **{f"gradient of input {name!r}": value for name, value in gradients["inputs"].items()},
        "weights before training": _flat(unchanged),
        "losses in training": losses,
        **{f"weight {name!r} {after}": value for name, value in trained.items()},
        f"outputs {after}": trained_outputs,
    }


def reference_quantities(task: Task, arithmetic: Arithmetic) -> Values:
    """All quantities of `task` by the NumPy reference, float64."""
    model = ReferenceModel(task.workload.model, task.weights, task.workload.optimiser, arithmetic)
    first = task.batches[0]
    outputs, unchanged = model.forward(first), model.weights()
    steps = [model.step(batch) for batch in task.batches]
    losses = np.array([step.loss for step in steps])
    # The gradients of the first step are the gradients by the starting weights.
    return _name_quantities(outputs, steps[0].gradients, unchanged, losses, model.weights(), model.forward(first))


def contender_quantities(worker: Worker, task: Task, mode: str, dtype: str) -> Values:
    """All quantities of `task` by a contender; its model stays built, with trained weights. Raises WorkerError."""
    weights, batches = task.cast(dtype)
    worker.request("build", workload=task.workload.replace(dtype=dtype).to_json(), mode=mode, weights=weights)
    worker.request("load", batches=[batch.to_json() for batch in batches])
    outputs = worker.request("forward", indices=[0])["outputs"][0]
    gradients = worker.request("gradients", index=0)
    unchanged = worker.request("weights")
    losses = np.asarray(worker.request("train", indices=list(range(len(batches))))["losses"], dtype=dtype)
    trained = worker.request("weights")
    trained_outputs = worker.request("forward", indices=[0])["outputs"][0]
    return _name_quantities(outputs, gradients, unchanged, losses, trained, trained_outputs)


class Expected:
    """The reference's quantities of a task and their rounding noise, each computed once.

    Args:
        task: what is computed.
        seed: of the stochastic arithmetic.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self._seed = seed
        self.values = reference_quantities(task, Exact())
        self._noise: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def forward(self, index: int) -> np.ndarray:
        """The reference's logits of batch `index` with the starting weights."""
        task = self.task
        return ReferenceModel(task.workload.model, task.weights, task.workload.optimiser, Exact()).forward(
            task.batches[index]
        )

    def noise(self, dtype: str) -> dict[str, float]:
        """The rms rounding noise of each quantity in `dtype`, in the quantity's own unit."""
        with self._lock:
            if dtype not in self._noise:
                settings = self.task.workload.to_json(), dtype, self._seed
                key = task_key("agreement", settings, self.task.weights, self.task.batches)
                self._noise[dtype] = remembered(key, lambda: self._find_noise(dtype))
            return self._noise[dtype]

    def _find_noise(self, dtype: str) -> dict[str, float]:
        runs = [
            reference_quantities(self.task, Rounded(dtype, noise_generator(self._seed, run)))
            for run in range(NOISE_RUNS)
        ]
        return noise_of(self.values, runs, dtype)


def compare_quantity(
    name: str, got: np.ndarray | None, reference: np.ndarray, dtype: str, noise: float | None
) -> Quantity:
    """One quantity against the reference.

    Args:
        name: of the quantity.
        got: the contender's value in `dtype`, or None when it gave none.
        reference: float64.
        dtype: working dtype.
        noise: rms rounding noise for the check of precision; None for the check of meaning.
    """
    limit = MEANING_LIMIT if noise is None else NOISE_LIMIT
    problem = _find_problem(got, reference, dtype)
    if got is None or got.shape != reference.shape:
        return Quantity(
            name=name,
            agrees=False,
            error=None,
            noise_units=None,
            limit=limit,
            worst_index=[],
            got=None,
            reference=None,
            problem=problem,
        )
    difference = np.abs(np.asarray(got, dtype=np.float64) - reference)
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), reference.shape)
    scale = float(np.max(np.abs(reference), initial=0.0))
    largest = float(difference[worst])
    error = largest / scale if scale > 0 else (0.0 if largest == 0 else float("inf"))
    units = None
    if noise is not None:
        distance = rms(difference)
        units = distance / noise if noise > 0 else (0.0 if distance == 0 else float("inf"))
        if np.isinf(units):
            problem = problem or "not zero where the reference is"
    measured = error if units is None else units
    return Quantity(
        name=name,
        agrees=not problem and measured <= limit,
        error=_finite(error),
        noise_units=_finite(units),
        limit=limit,
        worst_index=[int(i) for i in worst],
        got=_finite(float(got[worst])),
        reference=float(reference[worst]),
        problem=problem,
    )


def _find_problem(got: np.ndarray | None, reference: np.ndarray, dtype: str) -> str:
    if got is None:
        return "missing"
    if got.shape != reference.shape:
        return f"wrong shape: got {list(got.shape)}, expected {list(reference.shape)}"
    if str(got.dtype) != dtype:
        return f"wrong dtype: got {got.dtype}, expected {dtype}"
    if not np.isfinite(got).all():
        return "not finite"
    return ""


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def compare_all(expected: Values, got: Values, dtype: str, noise: Mapping[str, float] | None) -> list[Quantity]:
    """Every quantity that the reference has; one that the contender lacks is a disagreement."""
    return [
        compare_quantity(name, got.get(name), value, dtype, None if noise is None else noise[name])
        for name, value in expected.items()
    ]


def check_agreement(
    worker: Worker,
    contender: Contender,
    task: Task,
    expected: Callable[[], Expected],
    dtype: str,
    *,
    again: str,
    busy: AbstractContextManager[object],
) -> Agreement:
    """Runs `contender` on `task` and compares every quantity with the reference.

    A worker that dies, hangs or refuses becomes the outcome, with its reason and the end of its log.

    Args:
        worker: of the contender.
        task: what is computed.
        expected: gives the reference's side of the same task; called when the contender has done its own.
        dtype: float64 checks the meaning, any other dtype the precision.
        again: the command that repeats this check.
        busy: held while the worker computes, so that only so many do at a time.
    """
    check: Check = "meaning" if dtype == "float64" else "precision"
    agreement = Agreement(
        workload=task.workload.replace(dtype=dtype).to_json(),
        contender=str(contender),
        check=check,
        outcome="ok",
        again=again,
    )
    try:
        with busy:
            got = contender_quantities(worker, task, contender.mode, dtype)
        noise = None if check == "meaning" else expected().noise(dtype)
        agreement.quantities = compare_all(expected().values, got, dtype, noise)
        if not all(quantity.agrees for quantity in agreement.quantities):
            agreement.outcome = "disagrees"
            agreement.first_difference = _place(worker, task, dtype, agreement.quantities)
            agreement.message = disagreement_message(agreement)
    except WorkerError as error:
        return ended(agreement, error)
    return agreement


def ended(agreement: Agreement, error: WorkerError) -> Agreement:
    """The same agreement, ended by `error`."""
    return agreement.model_copy(
        update={"outcome": error.outcome, "reason": str(error), "log_tail": error.log_tail, "quantities": []}
    )


def _place(worker: Worker, task: Task, dtype: str, quantities: Sequence[Quantity]) -> str:
    try:
        return find_first_difference(worker, task, dtype, quantities)
    except WorkerError as error:
        # What was found already is no less a disagreement because the search for its place failed.
        return f"not found: {error.what}"


def find_first_difference(worker: Worker, task: Task, dtype: str, quantities: Sequence[Quantity]) -> str:
    """Names what differs first on the way from the starting weights through every training step.

    Forward, layer by layer, in inference and in training mode; the loss; the gradients, from the output backwards; what
    should not change and did; then, step by step, the weights and the layers that use them. Whatever comes before the
    named place agrees, so nothing is blamed for another's fault. Raises WorkerError.
    """
    failing = [quantity.name for quantity in quantities if not quantity.agrees]
    weights, _ = task.cast(dtype)
    worker.request("reset", weights=weights)
    reference = _References(task, dtype)
    if found := reference.differing_layer(worker, training=False):
        return found
    if "outputs" in failing:
        return "outputs"
    if found := reference.differing_layer(worker, training=True):
        return found
    if "loss" in failing:
        return "loss"
    names = [repr(name) for name in reversed(trainable_names(task.workload.model))]
    for name in [*names, *(f"input {name!r}" for name in task.batches[0].inputs)]:
        if f"gradient of {name}" in failing:
            return f"gradient of {name} (backward)"
    if "weights before training" in failing:
        worker.request("forward", indices=[0])
        worker.request("gradients", index=0)
        if found := reference.differing_weight(worker):
            return f"{found} before training"
    for step in range(1, len(task.batches) + 1):
        worker.request("train", indices=[step - 1])
        reference.train(step - 1)
        if found := reference.differing_weight(worker) or reference.differing_layer(worker, training=False):
            return f"{found} after training step {step}"
    return failing[0] if failing else ""


class _References:
    """The reference and, for a check of precision, its runs in stochastic arithmetic, trained side by side."""

    def __init__(self, task: Task, dtype: str) -> None:
        rounded = [] if dtype == "float64" else [Rounded(dtype, noise_generator(run)) for run in range(NOISE_RUNS)]
        workload = task.workload
        self._models = [
            ReferenceModel(workload.model, task.weights, workload.optimiser, arithmetic)
            for arithmetic in (Exact(), *rounded)
        ]
        self._task, self._dtype = task, dtype

    def train(self, index: int) -> None:
        """One training step on batch `index`."""
        for model in self._models:
            model.train_step(self._task.batches[index])

    def differing_layer(self, worker: Worker, training: bool) -> str:
        """The first layer whose output on the first batch differs, and the mode; empty if all agree."""
        got = dict(worker.request("trace", index=0, training=training)["values"])
        names = self._differing(got, lambda model: model.trace(self._task.batches[0], training))
        return f"{names[0]} ({'training' if training else 'inference'})" if names else ""

    def differing_weight(self, worker: Worker) -> str:
        """The first weight or running statistic that differs; `all weights` if all do; empty if none does."""
        names = self._differing(worker.request("weights"), lambda model: model.weights())
        if names and set(trainable_names(self._task.workload.model)) <= set(names):
            return "all weights"
        return repr(names[0]) if names else ""

    def _differing(self, got: Values, values: Callable[[ReferenceModel], Values]) -> list[str]:
        exact, *runs = (values(model) for model in self._models)
        noise = noise_of(exact, runs, self._dtype) if runs else None
        return [quantity.name for quantity in compare_all(exact, got, self._dtype, noise) if not quantity.agrees]


def disagreement_message(agreement: Agreement) -> str:
    """What disagrees, where, by how much, and how to see it again."""
    workload = Workload.from_json(agreement.workload)
    worst = agreement.worst
    if worst is None:
        return ""
    setting = f"({workload.dtype}, {workload.device})"
    head = f"{workload.model.kind} training step, {agreement.contender} against reference {setting}: "
    if worst.problem:
        head += f"{worst.name}: {worst.problem}"
    elif worst.noise_units is not None:
        head += f"{worst.name} is {worst.noise_units:.3g} noise units off (limit {worst.limit:g})"
    elif worst.error is not None:
        head += f"{worst.name} is off by {worst.error:.3g} of its largest value (limit {worst.limit:g})"
    failing = sum(not quantity.agrees for quantity in agreement.quantities)
    lines = [head + f"; {failing} of {len(agreement.quantities)} quantities disagree"]
    if worst.reference is not None:
        got = "not finite" if worst.got is None else f"{worst.got:.9g}"
        lines.append(f"  worst at {worst.worst_index}: got {got}, reference {worst.reference:.9g}")
    lines.append(f"  first difference: {agreement.first_difference or 'none'}        again: {agreement.again}")
    return "\n".join(lines)
