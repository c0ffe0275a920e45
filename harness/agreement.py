"""Does a contender compute what the reference computes? Error measures and the verdict.

The same quantities (outputs, loss, all gradients, weights and outputs after training steps) in every dtype, and one
limit: the rms error of a quantity stays under `NOISE_LIMIT` units of the rounding noise of this very computation in
this dtype, measured by running the reference in stochastic arithmetic (`harness.reference.arithmetic`).

- In float64 this is the check of meaning: a fault (gate order, epsilon, padding, a missing bias) stands millions of
  units above the limit.
- In any other dtype it is the check of precision: whoever means the same but exceeds the limit computes more coarsely
  than the dtype allows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

import numpy as np

from harness.comparison import compare_all
from harness.core.errors import WorkerError
from harness.core.spec import Contender, Workload
from harness.core.weights import is_statistic
from harness.first_difference import find_first_difference
from harness.noise import NOISE_RUNS, Values, noise_of, remembered, task_key
from harness.pool import Worker
from harness.reference import ReferenceModel
from harness.reference.arithmetic import UNIT_ROUNDOFF, Arithmetic, Exact, Rounded, noise_generator
from harness.results import Agreement, Quantity
from harness.task import Task

Check = Literal["meaning", "precision"]


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
    first, unchanged = task.batches[0], model.weights()
    # Without running statistics the first step's own logits are the outputs, and need not be computed twice.
    outputs = model.forward(first) if any(is_statistic(name) for name in unchanged) else None
    steps = [model.step(batch) for batch in task.batches]
    outputs = steps[0].logits if outputs is None else outputs
    losses = np.array([step.loss for step in steps])
    # The gradients of the first step are the gradients by the starting weights.
    return _name_quantities(outputs, steps[0].gradients, unchanged, losses, model.weights(), model.forward(first))


def contender_quantities(worker: Worker, task: Task, mode: str, dtype: str) -> Values:
    """All quantities of `task` by a contender; its model stays built, with trained weights. Raises WorkerError."""
    weights, _ = task.cast(dtype)
    worker.request("build", workload=task.workload.replace(dtype=dtype).to_json(), mode=mode, weights=weights)
    return built_quantities(worker, task, dtype)


def built_quantities(worker: Worker, task: Task, dtype: str) -> Values:
    """All quantities of `task` by a contender whose model is built and holds the starting weights."""
    _, batches = task.cast(dtype)
    worker.request("load", batches=[batch.to_json() for batch in batches])
    outputs = worker.request("forward", indices=[0])["outputs"][0]
    gradients = worker.request("gradients", index=0)
    unchanged = worker.request("weights")
    losses = worker.request("train", indices=list(range(len(batches))))["losses"]
    trained = worker.request("weights")
    trained_outputs = worker.request("forward", indices=[0])["outputs"][0]
    return _name_quantities(outputs, gradients, unchanged, losses, trained, trained_outputs)


class Expected:
    """The reference's quantities of a task and their rounding noise in each dtype, each computed once.

    Args:
        task: what is computed.
        seed: of the stochastic arithmetic.
        keep: whether the noise is kept between runs (see `harness.noise`).
    """

    def __init__(self, task: Task, seed: int, keep: bool = True) -> None:
        self.task = task
        self._keep = keep
        self._seed = seed
        self._values: dict[str, Values] = {}
        self._noise: dict[str, dict[str, float]] = {}
        self._lock = threading.RLock()

    def forward(self, index: int, dtype: str) -> np.ndarray:
        """The reference's logits of batch `index` with the starting weights, both as rounded to `dtype`."""
        task = self.task.rounded(dtype)
        return ReferenceModel(task.workload.model, task.weights, task.workload.optimiser, Exact()).forward(
            task.batches[index]
        )

    def values(self, dtype: str) -> Values:
        """The reference's quantities from weights and batches as rounded to `dtype`, float64."""
        # What is drawn is exact in float32, so the wide dtypes share their values.
        shared = dtype if dtype in ("bfloat16", "float16") else "float64"
        with self._lock:
            if shared not in self._values:
                self._values[shared] = reference_quantities(self.task.rounded(shared), Exact())
            return self._values[shared]

    def noise(self, dtype: str) -> dict[str, float]:
        """The rms rounding noise of each quantity in `dtype`, in the quantity's own unit."""
        with self._lock:
            if dtype not in self._noise:
                settings = self.task.workload.to_json(), dtype, self._seed
                key = task_key("agreement", settings, self.task.weights, self.task.batches)
                compute = partial(self._find_noise, dtype)
                self._noise[dtype] = remembered(key, compute) if self._keep else compute()
            return self._noise[dtype]

    def _find_noise(self, dtype: str) -> dict[str, float]:
        task = self.task.rounded(dtype)
        runs = [
            reference_quantities(task, Rounded(dtype, noise_generator(self._seed, run))) for run in range(NOISE_RUNS)
        ]
        return noise_of(self.values(dtype), runs, dtype)


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
        agreement.quantities = compare_all(expected().values(dtype), got, dtype, expected().noise(dtype))
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
    failing = sum(not quantity.agrees for quantity in agreement.quantities)
    lines = [head + f"; {failing} of {len(agreement.quantities)} quantities disagree"]
    if worst.reference is not None:
        got = "not finite" if worst.got is None else f"{worst.got:.9g}"
        lines.append(f"  worst at {worst.worst_index}: got {got}, reference {worst.reference:.9g}")
    lines.append(f"  first difference: {agreement.first_difference or 'none'}        again: {agreement.again}")
    return "\n".join(lines)


def name_precision_findings(agreements: Sequence[Agreement]) -> None:
    """Says of each disagreement in a narrower dtype, where the same contender agrees in float64, what it is.

    Args:
        agreements: one contender's on one workload, in every dtype that was checked; messages are added to.
    """
    if not any(agreement.check == "meaning" and agreement.outcome == "ok" for agreement in agreements):
        return
    for agreement in agreements:
        if agreement.check == "precision" and agreement.outcome == "disagrees":
            dtype = str(agreement.workload["dtype"])
            text = f"\n  a finding of precision, not of meaning: it agrees in float64 and differs in {dtype} only"
            worst = agreement.worst
            if worst is not None and worst.noise_units is not None:
                own = UNIT_ROUNDOFF[dtype]
                text += f", as arithmetic of unit roundoff {worst.noise_units * own:.1g} would ({dtype} has {own:.1g})"
            agreement.message += text
