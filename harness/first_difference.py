"""Where a contender that disagrees leaves the reference's way: the first layer, gradient, weight or training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from harness.comparison import compare_all
from harness.core.spec import LstmSpec, RecurrentSpec
from harness.core.weights import trainable_names
from harness.live_worker import Worker
from harness.noise import NOISE_RUNS, Values, noise_of
from harness.quantities import (
    RESET_QUANTITIES,
    RESET_STATE,
    RESET_WEIGHTS,
    UNCHANGED,
    input_gradient,
    named_gradients,
    traced,
)
from harness.reference import ReferenceModel
from harness.reference.arithmetic import Exact, noise_generator, stochastic
from harness.results import Quantity
from harness.task import Task

ALONE = ", where calls on another batch came before and after: by itself it is right"
GATES = ("i", "f", "g", "o")


def find_first_difference(worker: Worker, task: Task, dtype: str, quantities: Sequence[Quantity]) -> str:
    """Names what differs first on the way from the starting weights through every training step.

    Forward, layer by layer, in inference and in training mode; the loss; the gradients, from the output backwards; what
    should not change and did; then, step by step, the optimiser's state, the weights and the layers that use them.
    Whatever comes before the named place agrees, so nothing is blamed for another's fault. A recurrent layer comes with
    the first time step that differs, an LSTM's gradient with its gates. Raises WorkerError.
    """
    failing = [quantity.name for quantity in quantities if not quantity.agrees]
    if found := _differing_reset(quantities):
        # The way begins with a reset, so nothing on it could be trusted.
        return found
    weights, _ = task.cast(dtype)
    worker.request("reset", weights=weights)
    reference = _References(task.rounded(dtype), dtype)
    if found := reference.differing_layer(worker, training=False):
        return found
    if "outputs" in failing:
        return "outputs" + reference.right_alone(worker, "outputs")
    if found := reference.differing_layer(worker, training=True):
        return found
    if "loss" in failing:
        return "loss" + reference.right_alone(worker, "loss")
    trained = trainable_names(task.workload.model)
    for name in reversed(trained):
        if f"gradient of {name!r}" in failing:
            place = f"gradient of {name!r}"
            return (
                f"{place} (backward){reference.right_alone(worker, place) or reference.differing_gates(worker, name)}"
            )
    for name in task.batches[0].inputs:
        if (place := input_gradient(name)) in failing:
            return f"{place} (backward){reference.right_alone(worker, place)}"
    if UNCHANGED in failing:
        worker.request("forward", indices=[0])
        worker.request("gradients", index=0)
        if found := reference.differing_weight(worker):
            return f"{found} before training"
    for step in range(1, len(task.batches) + 1):
        worker.request("train", indices=[step - 1])
        reference.train(step - 1)
        found = reference.differing_state(worker) or reference.differing_weight(worker)
        if found := found or reference.differing_layer(worker, training=False):
            return f"{found} after training step {step}"
    return failing[0] if failing else ""


def _differing_reset(quantities: Sequence[Quantity]) -> str:
    """What a reset does not bring back, unless a fault elsewhere explains it; empty if none."""
    failing = [quantity.name for quantity in quantities if not quantity.agrees]
    # Zeros of a wrong dtype are brought back well enough: what is wrong with them was so before.
    right = {quantity.name for quantity in quantities if quantity.error == 0}
    found = [name for name in failing if name in RESET_QUANTITIES and name not in right]
    # Weights that were wrong before training are wrong in the same way after a reset, and so is what a model computes.
    by_itself = UNCHANGED not in failing and found[:1] in ([RESET_WEIGHTS], [RESET_STATE])
    return found[0] if found and (by_itself or len(found) == len(failing)) else ""


class _References:
    """The reference and its runs in stochastic arithmetic, trained side by side."""

    def __init__(self, task: Task, dtype: str) -> None:
        rounded = [stochastic(dtype, noise_generator(run)) for run in range(NOISE_RUNS)]
        workload = task.workload
        self._models = [
            ReferenceModel(workload.model, task.weights, workload.optimiser, arithmetic)
            for arithmetic in (Exact(), *rounded)
        ]
        self._task, self._dtype = task, dtype
        self._spec = workload.model

    def train(self, index: int) -> None:
        """One training step on batch `index`."""
        for model in self._models:
            model.train_step(self._task.batches[index])

    def differing_layer(self, worker: Worker, training: bool) -> str:
        """The first layer whose output on the first batch differs, and the mode; empty if all agree."""
        got = traced(worker, training)
        values = [model.trace(self._task.batches[0], training) for model in self._models]
        names = self._differing(got, values)
        if not names:
            return ""
        place = f"{names[0]} ({'training' if training else 'inference'})"
        return place + self._differing_time(got, values, names[0])

    def right_alone(self, worker: Worker, name: str) -> str:
        """Says so if a quantity of the first batch, called since the last reset for the first time, does not differ."""
        batch = self._task.batches[0]
        if name == "outputs":
            got = {name: worker.request("forward", indices=[0])["outputs"][0]}
            values: list[Values] = [{name: model.forward(batch)} for model in self._models]
        else:
            got = named_gradients(worker.request("gradients", index=0))
            values = [{name: named_gradients(model.gradients(batch))[name]} for model in self._models]
        exact, *runs = values
        (found,) = compare_all(exact, got, self._dtype, noise_of(exact, runs, self._dtype))
        # What was just over the limit, and is just under it now, is wrong either way.
        return ALONE if found.agrees and (found.noise_units or 0.0) <= found.limit / 2 else ""

    def differing_gates(self, worker: Worker, name: str) -> str:
        """`, gate f` or `, gates i and f`: those that differ in an LSTM layer's gradient; empty if that is all four."""
        if not isinstance(self._spec, LstmSpec) or name.startswith("head"):
            return ""
        got = worker.request("gradients", index=0)["weights"]
        values = [model.gradients(self._task.batches[0])["weights"] for model in self._models]
        gates = self._differing_parts(
            got, values, name, lambda value: zip(GATES, np.split(value, len(GATES)), strict=True)
        )
        if not 0 < len(gates) < len(GATES):
            return ""
        return f", gate {gates[0]}" if len(gates) == 1 else f", gates {', '.join(gates[:-1])} and {gates[-1]}"

    def differing_state(self, worker: Worker) -> str:
        """The first array of the optimiser's state that differs; `momentum of all weights` if all do; empty if none."""
        got = worker.request("optimiser_state")
        states = [model.optimiser_state() for model in self._models]
        for kind in states[0]:
            names = self._differing(got.get(kind, {}), [state[kind] for state in states])
            if names:
                return f"{kind} of {self._together(names)}"
        return ""

    def differing_weight(self, worker: Worker) -> str:
        """The first weight or running statistic that differs; `all weights` if all do; empty if none does."""
        names = self._differing(worker.request("weights"), [model.weights() for model in self._models])
        return self._together(names) if names else ""

    def _together(self, names: Sequence[str]) -> str:
        return "all weights" if set(trainable_names(self._spec)) <= set(names) else repr(names[0])

    def _differing_time(self, got: Values, values: Sequence[Values], name: str) -> str:
        """`, first at time step 3`, counted from 0, for the output of a recurrent layer; else empty."""
        spec = self._spec
        if not isinstance(spec, RecurrentSpec) or (name == "head" and not spec.many_to_many):
            return ""

        def by_time(value: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
            return ((str(t), value[:, t]) for t in range(value.shape[1]))

        times = self._differing_parts(got, values, name, by_time)
        return f", first at time step {times[0]}" if times else ""

    def _differing_parts(
        self,
        got: Values,
        values: Sequence[Values],
        name: str,
        split: Callable[[np.ndarray], Iterable[tuple[str, np.ndarray]]],
    ) -> list[str]:
        """Which parts of one array differ, each by its own noise; none for an array of another shape."""
        if name not in got or got[name].shape != values[0][name].shape:
            return []
        return self._differing(dict(split(got[name])), [dict(split(value[name])) for value in values])

    def _differing(self, got: Values, values: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
        exact, *runs = (dict(value) for value in values)
        noise = noise_of(exact, runs, self._dtype)
        return [quantity.name for quantity in compare_all(exact, got, self._dtype, noise) if not quantity.agrees]
