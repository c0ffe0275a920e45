"""Does a contender compute what the reference computes? The reference's side, and the verdict.

The same quantities (`faceoff.agreement.quantities`) in every dtype, and one limit: the error of a quantity stays under
`NOISE_LIMIT` units of the rounding noise of this very computation in this dtype, measured by running the reference in
stochastic arithmetic (`Expected`).

- In float64 this is the check of meaning: a fault (gate order, epsilon, padding, a missing bias) stands millions of
  units above the limit.
- In any other dtype it is the check of precision: whoever means the same but exceeds the limit computes more coarsely
  than the dtype allows.

Gradients that stand out where all that comes before agrees may be those of a ReLU that decides otherwise, which is no
fault: see `faceoff.agreement.flips`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal, NamedTuple

from faceoff.agreement.comparison import NOT_FINITE, compare_all
from faceoff.agreement.findings import disagreement_message, explained, unfinished
from faceoff.agreement.first_difference import find_first_difference
from faceoff.agreement.flips import Flips, Settled
from faceoff.agreement.noise import (
    Distances,
    Noise,
    Values,
    distances,
    noise_from,
    remembered_noise,
    rms,
    run_all,
    task_key,
)
from faceoff.agreement.quantities import (
    EVERYTHING,
    LOSSES,
    TRAINING_STEP,
    Detail,
    contender_quantities,
    is_output,
    offered,
    reference_quantities,
    stage_of,
)
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, OwnSpec, Workload
from faceoff.frameworks.manifest import Offer
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.memory import passes_at_once, reason_of
from faceoff.pool.worker import Worker
from faceoff.reference.arithmetic import UNIT_ROUNDOFF, Exact, noise_generator
from faceoff.reference.branches import Branches
from faceoff.reference.following import Observed
from faceoff.reference.rounding import leaves_range, stochastic
from faceoff.results.agreements import EVERYDAY, Agreement, PathPoint, Quantity
from faceoff.workloads.task import Task

Check = Literal["meaning", "precision"]
WIDE_DTYPES = ("float64", "float32")
# Of the roundings by which it is found out whether errors multiply; of narrow dtypes they are large as they are.
TIMES_IN_WIDE, TIMES_IN_NARROW = 16.0, 4.0
# Of the size of the outputs. Rounding noise of everyday models takes a hundredth in bfloat16.
MOST_NOISE = 0.25
CHAOTIC = (
    "cannot be told of all: rounding alone changes the outputs by more than a quarter of their size, "
    "and gradients, and what is trained by them, by any amount"
)
CHAOTIC_TRAINING = (
    "cannot be told of what is trained: rounding alone changes the losses by more than a quarter of their size"
)
GROWS = "agrees as far as can be told: rounding errors multiply here, and may go much farther than they mostly do"


class _ExactRun(NamedTuple):
    """The reference's quantities, and what occurred on the way."""

    values: Values
    seen: Observed


class Expected:
    """The reference's quantities of a task and their rounding noise in each dtype, each computed once.

    Args:
        task: what is computed.
        seed: of the stochastic arithmetic.
        keep: whether the noise is kept between runs (see `faceoff.agreement.noise`).
        detail: which quantities there are.
    """

    def __init__(self, task: Task, seed: int, keep: bool = True, detail: Detail = "whole") -> None:
        self.task = task
        self.detail: Detail = detail
        self._keep = keep
        self._seed = seed
        self._exact: dict[str, _ExactRun] = {}
        self._noise: dict[tuple[str, bool, float], dict[str, Noise]] = {}
        self._flips: dict[str, Flips] = {}
        self._lock = threading.RLock()

    def values(self, dtype: str) -> Values:
        """The reference's quantities from weights and batches as rounded to `dtype`, float64."""
        return self._exact_run(dtype).values

    def _exact_run(self, dtype: str) -> _ExactRun:
        # What is drawn is exact in float32, so the wide dtypes share their values.
        shared = dtype if dtype in ("bfloat16", "float16") else "float64"
        with self._lock:
            if shared not in self._exact:
                seen = Observed()
                values = reference_quantities(self.task.rounded(shared), seen, self.detail)
                self._exact[shared] = _ExactRun(values, seen)
            return self._exact[shared]

    def values_of(self, task: Task, dtype: str) -> Values:
        """Those of another task of the same model, computed anew, without every layer's output."""
        return reference_quantities(task.rounded(dtype), Exact())

    def noise(self, dtype: str) -> dict[str, Noise]:
        """The rounding noise of each quantity in `dtype`; in wide dtypes with ReLUs as in the exact run."""
        return self._noise_of(dtype, alike=False)

    def larger_noise(self, dtype: str) -> dict[str, Noise]:
        """The same where equal values are rounded alike, if that is larger."""
        alike = self._noise_of(dtype, alike=True)
        return {name: noise.or_larger(alike[name]) for name, noise in self.noise(dtype).items()}

    def grown_noise(self, dtype: str) -> dict[str, Noise]:
        """The same by roundings that are several times as large, over that number, if that is larger still.

        Where errors multiply, few runs tell little of how far they may go: most stay near, and some go a hundred times
        as far. What larger roundings do out of proportion tells of that. Where errors add up it is in proportion, and
        this noise no larger.
        """
        times = TIMES_IN_WIDE if dtype in WIDE_DTYPES else TIMES_IN_NARROW
        grown = self._noise_of(dtype, alike=False, times=times)
        return {name: noise.or_larger(grown[name].times(1 / times)) for name, noise in self.larger_noise(dtype).items()}

    def _noise_of(self, dtype: str, alike: bool, times: float = 1.0) -> dict[str, Noise]:
        with self._lock:
            kind = dtype, alike, times
            if kind not in self._noise:
                self._noise[kind] = self._recall(partial(self._find_noise, dtype, alike, times), dtype, (alike, times))
            return self._noise[kind]

    def _recall(self, compute: Callable[[], dict[str, Noise]], dtype: str, kind: object) -> dict[str, Noise]:
        """Noise of a kind, from an earlier run if it is kept between runs."""
        if not self._keep:
            return compute()
        settings = self.task.workload.to_json(), dtype, self._seed, self.detail, kind
        return remembered_noise(task_key("agreement", settings, self.task.weights, self.task.batches), compute)

    def _find_noise(self, dtype: str, alike: bool, times: float) -> dict[str, Noise]:
        task, exact = self.task.rounded(dtype), self._exact_run(dtype)
        # In narrow dtypes ReLUs that rounding decides are so many that they are noise like any other.
        follow = exact.seen.branches.taken if dtype in WIDE_DTYPES else None
        whole_range = leaves_range(dtype, exact.seen)

        def run(number: int) -> Distances:
            generator = noise_generator(self._seed, number)
            arithmetic = stochastic(dtype, generator, times, Branches(follow), whole_range, alike)
            return distances(exact.values, reference_quantities(task, arithmetic, self.detail))

        return noise_from(exact.values, run_all(run, partial(passes_at_once, self.task.workload)), dtype)

    def judge(self, got: Values, dtype: str, offer: Offer = EVERYTHING) -> tuple[list[Quantity], str]:
        """Every quantity against the reference's, and what has to be known of an agreement that holds.

        Args:
            got: the contender's values.
            dtype: working dtype.
            offer: what its framework has; no more is expected of it.
        """
        expected = offered(self.values(dtype), offer)
        quantities = compare_all(expected, got, dtype, self.noise(dtype))
        notes, untold = [], ""
        if offer.steps != EVERYTHING.steps:
            notes.append(f"checked in what it offers: {' and '.join(offer.steps)}")
        if not all(quantity.agrees for quantity in quantities):
            # Draws of their own for equal values are right nearly always, and tell more surely; see `Rounded`.
            noise = self.larger_noise(dtype)
            quantities = compare_all(expected, got, dtype, noise)
            if not all(quantity.agrees for quantity in quantities):
                settled = self.settle(quantities, got, dtype, noise)
                if settled:
                    quantities = settled.quantities
                    notes.append(settled.note)
            if not all(quantity.agrees for quantity in quantities):
                grown = compare_all(expected, got, dtype, self.grown_noise(dtype))
                grows = all(quantity.agrees for quantity in grown)
                untold = "" if grows else self._chaos(dtype)
                if grows or untold:
                    quantities = grown
                    notes.append(GROWS if grows else untold)
                else:
                    # What larger roundings explain is not what is wrong, and would be named as its place.
                    quantities = [
                        larger if larger.agrees else found for found, larger in zip(quantities, grown, strict=True)
                    ]
            quantities = explained(quantities, got)
        if left_out := sum(quantity.left_out for quantity in quantities):
            notes.append(f"{left_out} numbers are not judged: what they are computed from leaves the range of {dtype}")
        if untold:
            quantities = [_untold(quantity, expected, untold) for quantity in quantities]
        return quantities, "; ".join(notes)

    def _chaos(self, dtype: str) -> str:
        """What rounding decides, in words; empty where it decides nothing.

        The outputs, as in a recurrent model that forgets nothing; or what is trained, as where the second moment of a
        gradient is lost below the smallest number and Adam's step becomes as large as its epsilon is small.
        """
        values, noise = self.values(dtype), self.noise(dtype)
        for name, value in values.items():
            words = CHAOTIC if is_output(name) else CHAOTIC_TRAINING if name == LOSSES else ""
            if words and noise[name].rms > MOST_NOISE * rms(value):
                return words
        return ""

    def look_at_layers(self, agreement: Agreement, worker: Worker, mode: str, dtype: str) -> None:
        """Adds what the layers of a user's own model show to the record of a check; of other families nothing."""

    def settle(
        self, quantities: Sequence[Quantity], got: Values, dtype: str, noise: Mapping[str, Noise]
    ) -> Settled | None:
        """The quantities as they agree once ReLUs that rounding decides are turned over; see `Flips.settle`."""
        with self._lock:
            return self._flips_in(dtype).settle(quantities, got, noise)

    def _flips_in(self, dtype: str) -> Flips:
        if dtype not in self._flips:
            exact, task = self._exact_run(dtype), self.task.rounded(dtype)
            whole_range = leaves_range(dtype, exact.seen)

            def recall(compute: Callable[[], dict[str, Noise]], kind: str) -> dict[str, Noise]:
                return self._recall(compute, dtype, kind)

            self._flips[dtype] = Flips(task, dtype, self.detail, self._seed, exact.values, whole_range, recall)
        return self._flips[dtype]


def _untold(quantity: Quantity, exact: Values, why: str) -> Quantity:
    """The same, not judged if it follows from what is chaos; a value that is missing or of a wrong kind is judged.

    Args:
        quantity: of the contender.
        exact: the reference's.
        why: `CHAOTIC`: what follows from a gradient; `CHAOTIC_TRAINING`: what follows from more than one step.
    """
    stage = stage_of(quantity.name)
    follows = stage == "training" or (why == CHAOTIC and (stage is not None or TRAINING_STEP in quantity.name))
    if quantity.agrees or not follows or (quantity.noise_units is None and quantity.problem != NOT_FINITE):
        return quantity
    size = exact[quantity.name].size
    return quantity.model_copy(update={"agrees": True, "problem": "", "noise_units": 0.0, "left_out": size})


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
    built: bool = False,
    situation: str = EVERYDAY,
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
        built: the worker holds a model of this very workload and dtype, which need not be built again.
        situation: of the task; of one that agrees, and is not everyday, the worst quantity alone is kept.
    """
    agreement = blank(task.workload, contender, dtype, again, situation)
    try:
        with busy:
            offer = FRAMEWORKS[contender.framework].can
            got = contender_quantities(worker, task, contender.mode, dtype, detail, built, offer)
        agreement.quantities, agreement.note = expected().judge(got, dtype, offer)
        if detail == "steps":
            agreement.path = path_of(agreement.quantities)
        if not all(quantity.agrees for quantity in agreement.quantities):
            agreement.outcome = "disagrees"
            agreement.first_difference = _place(worker, task, contender.mode, dtype, agreement.quantities)
        expected().look_at_layers(agreement, worker, contender.mode, dtype)
        if agreement.outcome == "disagrees":
            agreement.message = disagreement_message(agreement)
        elif situation != EVERYDAY and agreement.worst:
            agreement.quantities = [agreement.worst]
    except WorkerError as error:
        if error.outcome != "disagrees":
            return ended(agreement, error)
        agreement.outcome, agreement.quantities, agreement.log_tail = "disagrees", [unfinished(error)], error.log_tail
        agreement.first_difference = _place(worker, task, contender.mode, dtype, agreement.quantities)
        agreement.message = disagreement_message(agreement)
    return agreement


def blank(workload: Workload, contender: Contender, dtype: str, again: str, situation: str = EVERYDAY) -> Agreement:
    """The record of a check that has not been made yet; arguments as of `check_agreement`."""
    check: Check = "meaning" if dtype == "float64" else "precision"
    return Agreement(
        workload=workload.replace(dtype=dtype).to_json(),
        contender=str(contender),
        check=check,
        situation=situation,
        outcome="ok",
        again=again,
    )


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


def _place(worker: Worker, task: Task, mode: str, dtype: str, quantities: Sequence[Quantity]) -> str:
    if isinstance(task.workload.model, OwnSpec):  # Its layers may tell more.
        return next(quantity.name for quantity in quantities if not quantity.agrees)
    try:
        return find_first_difference(worker, task, mode, dtype, quantities)
    except WorkerError as error:
        # What was found already is no less a disagreement because the search for its place failed.
        return f"not found: {error.what}"


def name_precision_findings(agreements: Sequence[Agreement]) -> None:
    """Says of each disagreement in a narrower dtype, where the same contender agrees in float64, what it is.

    Args:
        agreements: one contender's on one workload, in every dtype and situation that was checked; messages are added
            to.
    """
    cleared = {a.situation for a in agreements if a.check == "meaning" and a.outcome == "ok"}
    for agreement in agreements:
        if agreement.check == "precision" and agreement.outcome == "disagrees" and agreement.situation in cleared:
            dtype = str(agreement.workload["dtype"])
            model = Workload.from_json(agreement.workload).model.kind
            contender = Contender.parse(agreement.contender)
            if FRAMEWORKS[contender.framework].runs_otherwise_in_float64(contender.mode, model):
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
