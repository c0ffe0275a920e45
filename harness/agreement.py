"""Does a contender compute what the reference computes? The reference's side, and the verdict.

The same quantities (`harness.quantities`) in every dtype, and one limit: the rms error of a quantity
stays under `NOISE_LIMIT` units of the rounding noise of this very computation in this dtype, measured by running the
reference in stochastic arithmetic (`harness.reference.arithmetic`).

- In float64 this is the check of meaning: a fault (gate order, epsilon, padding, a missing bias) stands millions of
  units above the limit.
- In any other dtype it is the check of precision: whoever means the same but exceeds the limit computes more coarsely
  than the dtype allows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

from harness.comparison import compare_all
from harness.core.errors import WorkerError
from harness.core.spec import Contender, Workload
from harness.first_difference import find_first_difference
from harness.live_worker import Worker
from harness.memory import passes_at_once, reason_of
from harness.noise import Values, distances, noise_from, remembered, run_all, task_key
from harness.quantities import Detail, contender_quantities, reference_quantities
from harness.reference.arithmetic import UNIT_ROUNDOFF, Exact, noise_generator, stochastic
from harness.results import Agreement, PathPoint, Quantity
from harness.task import Task

Check = Literal["meaning", "precision"]
# Who has code of its own for float64, which fused kernels lack, so that what agrees there is not what else is run.
OTHERWISE_IN_FLOAT64 = {
    ("jax:cudnn", "lstm"),
    ("tensorflow:eager", "residual"),
    ("tensorflow:graph", "residual"),
    ("tensorflow:graph-onednn", "residual"),
    ("tensorflow:tuned", "residual"),
}


class Expected:
    """The reference's quantities of a task and their rounding noise in each dtype, each computed once.

    Args:
        task: what is computed.
        seed: of the stochastic arithmetic.
        keep: whether the noise is kept between runs (see `harness.noise`).
        detail: which quantities there are.
    """

    def __init__(self, task: Task, seed: int, keep: bool = True, detail: Detail = "whole") -> None:
        self.task = task
        self.detail: Detail = detail
        self._keep = keep
        self._seed = seed
        self._values: dict[str, Values] = {}
        self._noise: dict[str, dict[str, float]] = {}
        self._lock = threading.RLock()

    def values(self, dtype: str) -> Values:
        """The reference's quantities from weights and batches as rounded to `dtype`, float64."""
        # What is drawn is exact in float32, so the wide dtypes share their values.
        shared = dtype if dtype in ("bfloat16", "float16") else "float64"
        with self._lock:
            if shared not in self._values:
                self._values[shared] = reference_quantities(self.task.rounded(shared), Exact(), self.detail)
            return self._values[shared]

    def noise(self, dtype: str) -> dict[str, float]:
        """The rms rounding noise of each quantity in `dtype`, in the quantity's own unit."""
        with self._lock:
            if dtype not in self._noise:
                settings = self.task.workload.to_json(), dtype, self._seed, self.detail
                key = task_key("agreement", settings, self.task.weights, self.task.batches)
                compute = partial(self._find_noise, dtype)
                self._noise[dtype] = remembered(key, compute) if self._keep else compute()
            return self._noise[dtype]

    def _find_noise(self, dtype: str) -> dict[str, float]:
        task, exact = self.task.rounded(dtype), self.values(dtype)

        def run(number: int) -> dict[str, float]:
            arithmetic = stochastic(dtype, noise_generator(self._seed, number))
            return distances(exact, reference_quantities(task, arithmetic, self.detail))

        return noise_from(exact, run_all(run, passes_at_once(self.task.workload)), dtype)


def check_agreement(
    worker: Worker,
    contender: Contender,
    task: Task,
    expected: Callable[[], Expected],
    dtype: str,
    *,
    again: str,
    busy: AbstractContextManager[object],
    detail: Detail = "whole",
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
        detail: which quantities are compared; `expected` must have the same. `steps` keeps their path too.
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
            got = contender_quantities(worker, task, contender.mode, dtype, detail)
        agreement.quantities = compare_all(expected().values(dtype), got, dtype, expected().noise(dtype))
        if detail == "steps":
            agreement.path = path_of(agreement.quantities)
        if not all(quantity.agrees for quantity in agreement.quantities):
            agreement.outcome = "disagrees"
            agreement.first_difference = _place(worker, task, dtype, agreement.quantities)
            agreement.message = disagreement_message(agreement)
    except WorkerError as error:
        return ended(agreement, error)
    return agreement


def ended(agreement: Agreement, error: WorkerError) -> Agreement:
    """The same agreement, ended by `error`."""
    reason = reason_of(error, str(agreement.workload["device"]))
    return agreement.model_copy(
        update={"outcome": error.outcome, "reason": reason, "log_tail": error.log_tail, "quantities": []}
    )


def path_of(quantities: Sequence[Quantity]) -> list[PathPoint]:
    """The quantities as points on the way, with the first that disagrees marked."""
    first = next((quantity for quantity in quantities if not quantity.agrees), None)
    return [
        PathPoint(
            name=quantity.name,
            agrees=quantity.agrees,
            noise_units=quantity.noise_units,
            problem=quantity.problem,
            first=quantity is first,
        )
        for quantity in quantities
    ]


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
            model = Workload.from_json(agreement.workload).model.kind
            if (agreement.contender, model) in OTHERWISE_IN_FLOAT64:
                agreement.message += (
                    "\n  in float64 it agrees, but other code of it serves there: meaning is not cleared"
                )
                continue
            text = f"\n  a finding of precision, not of meaning: it agrees in float64 and differs in {dtype} only"
            worst = agreement.worst
            if worst is not None and worst.noise_units is not None:
                own = UNIT_ROUNDOFF[dtype]
                text += f", as arithmetic of unit roundoff {worst.noise_units * own:.1g} would ({dtype} has {own:.1g})"
            agreement.message += text
