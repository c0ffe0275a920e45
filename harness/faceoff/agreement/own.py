"""The reference's side of a user's own model: one of its implementations, in float64, and its rounding noise.

There is no NumPy reference of it. The side that the user calls the reference runs in a process of its own, in float64,
and, for the noise, in stochastic arithmetic (`Model.disturb`): forward, backward and over training steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from faceoff.agreement.check import WIDE_DTYPES, Expected
from faceoff.agreement.comparison import compare_all, compare_quantity
from faceoff.agreement.findings import explained
from faceoff.agreement.flips import Settled
from faceoff.agreement.layer_pairs import Call
from faceoff.agreement.layers import LayerSearch, values_of, with_model
from faceoff.agreement.noise import (
    NOISE_RUNS,
    Distances,
    Noise,
    Values,
    distances,
    enlarged,
    noise_from,
    rms,
)
from faceoff.agreement.own_processes import SideProcesses
from faceoff.agreement.quantities import (
    EVERYTHING,
    LOSS,
    Detail,
    built_quantities,
    disturbed_quantities,
    is_output,
    named_outputs,
    offered,
    stage_of,
)
from faceoff.core.errors import WorkerError
from faceoff.core.own import port_of
from faceoff.core.weights import is_statistic
from faceoff.frameworks.manifest import Offer
from faceoff.pool.worker import Worker
from faceoff.reference.arithmetic import UNIT_ROUNDOFF
from faceoff.results.agreements import BELOW_FLOAT32, Agreement, Quantity
from faceoff.workloads.task import Task

# Roundings so small turn no ReLU over, and so large that float64 carries them.
SMALL = 2.0**-40
BACKWARD = "outputs and loss agree; from the back, this is the first gradient that does not"
WHOLE_AGREES = "run layer by layer it agrees: what is compiled, or kept between calls, differs"
# As many times as far as a dtype rounds: no way of rounding in it explains that.
FAR = 1e4


class OwnExpected(Expected):
    """The quantities of a task by the reference side, and their rounding noise in each dtype.

    Args:
        task: what is computed.
        seed: of the stochastic arithmetic.
        reference: gives the live process of the reference side.
        mode: in which that runs operation by operation.
        detail: which quantities there are.
        another: gives one more process of it, which long runs share with the first.
    """

    def __init__(
        self, task: Task, seed: int, reference: Callable[[], Worker], mode: str, detail: Detail = "whole",
        another: Callable[[], Worker] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(task, seed, keep=False, detail=detail)
        self._mode = mode
        self._processes = SideProcesses(reference, another)
        self._centre: dict[str, Values] = {}
        self._spread: dict[str, dict[str, Noise]] = {}
        self._whole: set[str] = set()
        self._met_limits = False
        self._wide_runs: list[dict[str, Distances]] = []
        self._layers: dict[tuple[str, bool, object], dict[str, Call]] = {}
        self._layer_runs: dict[tuple[str, bool, object], list[Distances]] = {}
        self._layer_noise: dict[object, dict[str, Noise]] = {}

    @property
    def left_whole(self) -> list[str]:
        """Operations that could not be taken apart: what follows them is noisier than is known."""
        return sorted(self._whole)

    def values(self, dtype: str) -> Values:
        """The reference side's quantities from weights and batches as rounded to `dtype`, float64."""
        shared = _shared(dtype)
        with self._lock:
            if shared not in self._centre:
                # The same operations as the disturbed runs, undisturbed: fused kernels hold constants in float32.
                self._centre[shared] = self._run(shared, 0.0, 0, alike=False)
            return self._centre[shared]

    def values_of(self, task: Task, dtype: str) -> Values:
        """Those of another task of the same model, as `values` has them."""
        with self._lock:
            return self._run(_shared(dtype), 0.0, 0, alike=False, other=task)

    def outputs_of(self, task: Task, dtype: str) -> Values:
        """The outputs alone of another task of the same model, likewise."""
        with self._lock, self._processes.one() as worker:
            self._prepare(worker, task.rounded(_shared(dtype)), _shared(dtype), 0.0, 0, alike=False)
            worker.request("load", batches=[task.rounded(_shared(dtype)).batches[0].to_json()])
            found = named_outputs(worker.request("forward", indices=[0])["outputs"][0])
            return {name: np.asarray(value, np.float64) for name, value in found.items()}

    def _find_noise(self, dtype: str, alike: bool, times: float) -> dict[str, Noise]:
        if dtype in WIDE_DTYPES and not alike and times == 1:
            runs = self._in_float32()
            if dtype == "float32" or not (self._met_limits or self._whole):
                return noise_from(self.values(dtype), [run[dtype] for run in runs], dtype)
        unit, scale = times * UNIT_ROUNDOFF[dtype], 1.0
        if dtype in WIDE_DTYPES and times == 1:
            # Small enough that no ReLU decides otherwise; larger ones are to show what roundings do out of proportion.
            unit, scale = SMALL, unit / SMALL
        exact = self.values(dtype)

        def run(number: int) -> Distances:
            (found,) = enlarged(exact, self._run(dtype, unit, number + 1, alike), [scale])
            return found

        return noise_from(exact, self._processes.run_all(run), dtype)

    def _in_float32(self) -> list[dict[str, Distances]]:
        """How far each run with small roundings in the range of float32 is off, scaled to each wide dtype.

        Where that range does not matter, and nothing is cast, runs in the range of float64 would be the same ones.
        """
        exact = self.values("float32")

        def run(number: int) -> dict[str, Distances]:
            values = self._run("float32", SMALL, number + 1, alike=False)
            scales = [UNIT_ROUNDOFF[dtype] / SMALL for dtype in WIDE_DTYPES]
            return dict(zip(WIDE_DTYPES, enlarged(exact, values, scales), strict=True))

        if not self._wide_runs:
            self._met_limits = False
            self._wide_runs = self._processes.run_all(run)
        return self._wide_runs

    def settle(
        self, quantities: Sequence[Quantity], got: Values, dtype: str, noise: Mapping[str, Noise]
    ) -> Settled | None:
        """The quantities as they agree with runs whose ReLUs and maxima decide for themselves, if they do."""
        failing = [quantity for quantity in quantities if not quantity.agrees]
        if dtype not in WIDE_DTYPES or any(stage_of(q.name) is None or q.noise_units is None for q in failing):
            return None
        exact, spread = self.values(dtype), self.spread(dtype)
        judged = [
            q if q.agrees else compare_quantity(q.name, got[q.name], exact[q.name], dtype, spread[q.name])
            for q in quantities
        ]
        return Settled(judged, 0) if all(quantity.agrees for quantity in judged) else None

    def spread(self, dtype: str) -> dict[str, Noise]:
        """The noise of runs whose ReLUs and maxima decide for themselves, in a wide dtype."""
        with self._lock:
            if dtype not in self._spread:
                exact, unit = self.values(dtype), UNIT_ROUNDOFF[dtype]
                runs = self._processes.run_all(
                    lambda number: distances(exact, self._run(dtype, unit, NOISE_RUNS + number + 1, alike=True))
                )
                self._spread[dtype] = noise_from(exact, runs, dtype)
            return self._spread[dtype]

    def judge(self, got: Values, dtype: str, offer: Offer = EVERYTHING) -> tuple[list[Quantity], str]:
        """Every quantity against the reference side's; see `Expected.judge`.

        A right port may hold a constant, or make a cast, in float32. In float64 it then differs by more than float64
        rounds, and by less than float32 does: it agrees, and the note says so.
        """
        expected = offered(self.values(dtype), offer)
        if dtype in WIDE_DTYPES and self._is_far(got, expected, dtype):
            quantities, note = explained(compare_all(expected, got, dtype, self.noise(dtype)), got), ""
        else:
            quantities, note = super().judge(got, dtype, offer)
        note = "; ".join(part for part in (note, _alone(expected, got)) if part)
        agrees = all(quantity.agrees for quantity in quantities)
        in_float32 = UNIT_ROUNDOFF["float32"] / UNIT_ROUNDOFF["float64"]
        if agrees or dtype != "float64" or self._is_far(got, expected, dtype, in_float32):
            return quantities, self._noted(note)
        # The larger noise takes as many runs again.
        for noise in (self.noise, self.larger_noise):
            coarser = compare_all(expected, got, dtype, noise("float32"))
            if all(quantity.agrees for quantity in coarser):
                break
        else:
            return quantities, self._noted(note)
        first = next(quantity for quantity in quantities if not quantity.agrees)
        units = "" if first.noise_units is None else f" by {first.noise_units:.2g} units of float64's rounding"
        said = f"{BELOW_FLOAT32}: {first.name}{units}. Look for a constant, a cast or a table in float32, or an epsilon"
        return coarser, self._noted("; ".join(part for part in (note, said) if part))

    def _is_far(self, got: Values, expected: Values, dtype: str, times: float = 1.0) -> bool:
        """Whether outputs or loss are so far off that no better estimate of the noise, times so much, matters."""
        noise = self.noise(dtype)
        return any(
            rms(got[name] - expected[name]) > FAR * times * noise[name].rms > 0
            for name in set(expected) & set(got)
            if (name == LOSS or is_output(name))
            and got[name].shape == expected[name].shape
            and np.isfinite(got[name]).all()
        )

    def _noted(self, note: str) -> str:
        """With what could not be taken apart."""
        if not self._whole:
            return note
        whole = f"noise is not known of what follows {', '.join(self.left_whole)}"
        return f"{note}; {whole}" if note else whole

    def look_at_layers(self, agreement: Agreement, worker: Worker, mode: str, dtype: str) -> None:
        """With the layers on the path, if it is kept, and the layer that makes a difference as its place."""
        failing = [quantity.name for quantity in agreement.quantities if not quantity.agrees]
        if agreement.path or any(name == LOSS or is_output(name) for name in failing):
            weights, batches = self.task.cast(dtype)
            workload = self.task.workload.replace(dtype=dtype).to_json()
            try:
                worker.request("build", workload=workload, mode=mode, weights=weights)
                worker.request("load", batches=[batches[0].to_json()])
                # Nothing but batch statistics makes a mode of its own.
                for training in (False, True) if any(is_statistic(name) for name in weights) else (False,):
                    if agreement.path or not agreement.is_placed:
                        self._look(agreement, worker, dtype, training, failing)
            except WorkerError as error:
                agreement.layers = f"layers are not compared: {error.where}: {error.reason or error.what}"
        if not agreement.is_placed and failing and failing[0].startswith("gradient of "):
            agreement.first_difference, agreement.layers = f"{failing[0]} (backward)", BACKWARD
            agreement.is_placed = True

    def _look(self, agreement: Agreement, worker: Worker, dtype: str, training: bool, failing: Sequence[str]) -> None:
        """Compares the layers in one mode."""
        port = port_of(self.task.workload.model)
        framework = port.key_of(worker.contender.framework)

        def ask(forced: Mapping[str, Any] | None) -> Mapping[str, Any]:
            return worker.request("layers", index=0, training=training, forced=forced)

        found = LayerSearch(port, framework, dtype, training, self, ask).run()

        def is_result(name: str) -> bool:
            return name == LOSS if training else is_output(name)

        fails = any(map(is_result, failing))
        places = bool(found.place) and fails and not agreement.is_placed
        for point in found.points:
            point.first = point.first and places
        if agreement.path:
            place = next((n for n, point in enumerate(agreement.path) if is_result(point.name)), 0)
            agreement.path[place:place] = found.points
        if agreement.is_placed:
            return
        if places:
            agreement.first_difference, agreement.layers, agreement.is_placed = found.place, found.sentence, True
            for point in agreement.path:
                point.first = point.first and point in found.points
        elif fails and found.agrees:
            agreement.layers, agreement.is_placed = WHOLE_AGREES, True
        elif not found.count:
            agreement.layers = f"no layers are paired; name some in [sides.{framework}.layers]"
        else:
            agreement.layers = f"{found.count} layers are compared"

    def layers(self, dtype: str, training: bool, forced: Mapping[str, Any] | None) -> dict[str, Call]:
        """See `LayersOfReference`."""
        shared = _shared(dtype)
        key = shared, training, None if forced is None else (dtype, places_of(forced))
        with self._lock:
            if key not in self._layers:
                self._layers[key] = self._record(shared, 0.0, 0, False, training, forced)
            return self._layers[key]

    def noise_of_layers(
        self, dtype: str, training: bool, forced: Mapping[str, Any] | None, like: str
    ) -> dict[str, Noise]:
        """See `LayersOfReference`."""
        runs_of = dtype, training, None if forced is None else places_of(forced)
        with self._lock:
            exact = values_of(self.layers(dtype, training, forced))
            unit = SMALL if dtype in WIDE_DTYPES else UNIT_ROUNDOFF[dtype]
            if runs_of not in self._layer_runs:

                def measure(number: int) -> Distances:
                    # Equal values are rounded alike in every other run.
                    found = self._record(dtype, unit, number + 1, number % 2 == 1, training, forced)
                    return distances(exact, values_of(found))

                self._layer_runs[runs_of] = self._processes.run_all(measure)
            if (runs_of, like) not in self._layer_noise:
                scale = UNIT_ROUNDOFF[like] / unit
                runs = [{name: off.times(scale) for name, off in run.items()} for run in self._layer_runs[runs_of]]
                self._layer_noise[runs_of, like] = noise_from(exact, runs, like)
            return self._layer_noise[runs_of, like]

    def _record(
        self, dtype: str, unit: float, seed: int, alike: bool, training: bool, forced: Mapping[str, Any] | None
    ) -> dict[str, Call]:
        task = self.task.rounded(dtype)
        with self._processes.one() as worker:
            self._prepare(worker, task, dtype, unit, seed, alike)
            worker.request("load", batches=[task.cast("float64")[1][0].to_json()])
            return with_model(worker.request("layers", index=0, training=training, forced=forced))

    def _run(self, dtype: str, unit_roundoff: float, seed: int, alike: bool, other: Task | None = None) -> Values:
        """All quantities, float64, from weights and batches as rounded to `dtype`; of another task without layers."""
        task, detail = (other or self.task).rounded(dtype), "whole" if other else self.detail
        with self._processes.one() as worker:
            self._prepare(worker, task, dtype, unit_roundoff, seed, alike)
            if unit_roundoff:
                found = disturbed_quantities(worker, task, detail)
            else:
                found = built_quantities(worker, task, "float64", detail)
            left = worker.request("left_whole")
            self._whole.update(left["operations"])
            # Runs side by side do not take back what another has met.
            if left["met_limits"]:
                self._met_limits = True
        return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}

    def _prepare(self, worker: Worker, task: Task, dtype: str, unit_roundoff: float, seed: int, alike: bool) -> None:
        """Gives a process of the reference side the model and the starting weights of a task, disturbed."""
        weights = task.cast_weights("float64")
        workload = task.workload.replace(dtype="float64").to_json()
        if worker.holds(workload, self._mode):
            worker.request("reset", weights=weights)
        else:
            worker.request("build", workload=workload, mode=self._mode, weights=weights)
        worker.request("disturb", dtype=dtype, unit_roundoff=unit_roundoff, seed=self._seed * 1000 + seed, alike=alike)


def places_of(forced: Mapping[str, Any]) -> frozenset[tuple[str, str, int]]:
    """Which values are forced: layer, part and number. All of them are the reference's own."""
    return frozenset(
        (name, part, number)
        for name, parts in forced.items()
        for part, values in parts.items()
        for number, value in enumerate(values)
        if value is not None
    )


def _alone(expected: Values, got: Values) -> str:
    """Which outputs a side returns beside all of the reference side's."""
    names = [name for name in got if is_output(name) and name not in expected]
    if not all(name in got for name in expected if is_output(name)):
        return ""  # What is missing is told together with these.
    return f"not compared, as the reference side does not return it: {', '.join(names)}" if names else ""


def _shared(dtype: str) -> str:
    """The dtype that the exact values are rounded for: what is drawn is exact in float32."""
    return dtype if dtype in ("bfloat16", "float16") else "float64"
