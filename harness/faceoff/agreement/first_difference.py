"""Where a contender that disagrees leaves the reference's way: the first layer, gradient, weight or training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from faceoff.agreement.comparison import compare_all
from faceoff.agreement.findings import OF_REQUESTS
from faceoff.agreement.noise import NOISE_RUNS, Values, noise_of
from faceoff.agreement.quantities import UNCHANGED, input_gradient, named_gradients, traced
from faceoff.core.errors import WorkerError
from faceoff.core.spec import DenseSpec, LstmSpec, RecurrentSpec, ResidualSpec
from faceoff.core.weights import trainable_names
from faceoff.pool.worker import Worker
from faceoff.reference import ReferenceModel
from faceoff.reference.arithmetic import Exact, noise_generator
from faceoff.reference.rounding import stochastic
from faceoff.results.agreements import Quantity
from faceoff.workloads.task import Task

ALONE = ", where calls on another batch came before and after: by itself it is right"
GATES = ("i", "f", "g", "o")
# More parts than these are no place.
MOST_PARTS = 3

Parts = Iterable[tuple[str, np.ndarray]]


def find_first_difference(worker: Worker, task: Task, mode: str, dtype: str, quantities: Sequence[Quantity]) -> str:
    """Names what differs first on the way from the starting weights through every training step.

    Forward, layer by layer, in inference and in training mode; the loss; the gradients, from the output backwards; what
    should not change and did; then, step by step, the optimiser's state, the weights and the layers that use them.
    Whatever comes before the named place agrees, so nothing is blamed for another's fault. Where only parts of what is
    named differ, they are named too: units, channels, examples, gates, layers of an initial state, time steps.

    The model is built anew, as a reset may leave something of what was done before. Raises WorkerError.

    Args:
        worker: of the contender.
        task: what was compared.
        mode: the contender's.
        dtype: in which it was compared.
        quantities: what was found.
    """
    failing = [quantity.name for quantity in quantities if not quantity.agrees]
    search = _Search(worker, task, mode, dtype, failing)
    try:
        # What does not show on the way shows after it: in a reset, or in what the first calls leave for later ones.
        return search.run() or (failing[0] if failing else "")
    except WorkerError as error:
        if error.outcome != "disagrees":
            raise
        return search.at


class _Search:
    """One way through the contender's computation.

    Attributes:
        at: what the contender was asked for last.
    """

    def __init__(self, worker: Worker, task: Task, mode: str, dtype: str, failing: Sequence[str]) -> None:
        self._worker, self._task, self._mode, self._dtype, self._failing = worker, task, mode, dtype, failing
        self._reference = _References(task.rounded(dtype), dtype)
        self._aside = ""
        self.at = ""

    def run(self) -> str:
        """The first difference; empty if there is none."""
        worker, task = self._worker, self._task
        self.at = OF_REQUESTS["build"]
        weights, batches = task.cast(self._dtype)
        workload = task.workload.replace(dtype=self._dtype).to_json()
        worker.request("build", workload=workload, mode=self._mode, weights=weights)
        worker.request("load", batches=[batch.to_json() for batch in batches])
        # A layer that differs by itself may not be what the trace takes it for, such as one that is called twice.
        return self._forward() or self._backward() or self._unchanged() or self._training() or self._aside

    def _forward(self) -> str:
        for training, result in ((False, "outputs"), (True, "loss")):
            self.at = f"forward pass ({'training' if training else 'inference'})"
            found, reaches = self._reference.differing_layer(self._worker, training)
            if reaches or (found and result in self._failing):
                return found
            self._aside = self._aside or found
            if result in self._failing:
                self.at = result
                alone = self._reference.right_alone(self._worker, result)
                return result + (alone or (self._reference.left_out(self._gradients()) if training else ""))
        return ""

    def _gradients(self) -> dict[str, Values]:
        return self._worker.request("gradients", index=0)

    def _backward(self) -> str:
        self.at = f"{OF_REQUESTS['gradients']} (backward)"
        if OF_REQUESTS["gradients"] in self._failing:
            return self.at
        by_weights = {f"gradient of {n!r}": n for n in reversed(trainable_names(self._task.workload.model))}
        by_inputs = {input_gradient(n): n for n in self._task.batches[0].inputs}
        for quantity, name in {**by_weights, **by_inputs}.items():
            if quantity in self._failing:
                alone = self._reference.right_alone(self._worker, quantity)
                parts = alone or self._reference.differing_gradient(self._gradients(), name, quantity in by_inputs)
                return f"{quantity} (backward){parts}"
        return ""

    def _unchanged(self) -> str:
        if UNCHANGED not in self._failing:
            return ""
        self.at = UNCHANGED
        self._worker.request("forward", indices=[0])
        self._gradients()
        found = self._reference.differing_weight(self._worker)
        return f"{found} before training" if found else ""

    def _training(self) -> str:
        for step in range(1, len(self._task.batches) + 1):
            self.at = f"training step {step}"
            self._worker.request("train", indices=[step - 1])
            self._reference.train(step - 1)
            found = self._reference.differing_state(self._worker) or self._reference.differing_weight(self._worker)
            layer, reaches = self._reference.differing_layer(self._worker, training=False) if not found else ("", False)
            if found or reaches:
                return f"{found or layer} after training step {step}"
        return ""


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

    def differing_layer(self, worker: Worker, training: bool) -> tuple[str, bool]:
        """The first layer whose output on the first batch differs, and the mode; empty if all agree.

        Of a residual network's stem or block the convolution or batch norm, if one differs. And whether the logits that
        come of it differ too.
        """
        got, values = self._trace(worker, training)
        names = self._differing(got, values)
        if not names:
            return "", False
        name, reaches = names[0], list(values[0])[-1] in names
        if isinstance(self._spec, ResidualSpec) and name not in ("pool", "head"):
            fine, fine_values = self._trace(worker, training, fine=True)
            inside = [part for part in self._differing(fine, fine_values) if part.startswith(f"{name}.")]
            if inside:
                name, got, values = inside[0], fine, fine_values
        place = f"{name} ({'training' if training else 'inference'})"
        parts = self._differing_time(got, values, name) or self._differing_places(got, values, name)
        return place + parts, reaches

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

    def left_out(self, got: Mapping[str, Values]) -> str:
        """`, without example 5`, `, without class 2`: what a loss that differs has no gradient by; empty if nothing."""
        exact = self._models[0].gradients(self._task.batches[0])["inputs"]["x"]
        by_x = got["inputs"].get("x")
        if by_x is None or by_x.shape != exact.shape or not np.isfinite(by_x).all():
            return ""
        rows = [n for n in range(len(exact)) if exact[n].any() and not by_x[n].any()]
        targets = self._task.batches[0].targets
        if not rows or len(rows) == len(exact):
            return ""
        classes = set(targets[rows].tolist()) if targets.ndim == 1 else set()
        if len(classes) == 1 and len(rows) == np.count_nonzero(targets == targets[rows[0]]) > 1:
            return f", without class {classes.pop()}"
        if len(rows) > 2 and rows[-1] - rows[0] == len(rows) - 1:
            return f", without examples {rows[0]} to {rows[-1]}"
        return f", without {_listed('example', [str(row) for row in rows])}"

    def differing_gradient(self, got: Mapping[str, Values], name: str, of_input: bool) -> str:
        """Which parts of a gradient differ: gates, layers, examples; and the time step where going back begins to."""
        values = [model.gradients(self._task.batches[0]) for model in self._models]
        part = "inputs" if of_input else "weights"
        arrays = [value[part] for value in values]
        found = ""
        if isinstance(self._spec, LstmSpec) and not of_input and not name.startswith("head"):
            found = self._some(got[part], arrays, name, "gate", lambda v: zip(GATES, np.split(v, 4), strict=True))
        elif of_input:
            found = self._some(got[part], arrays, name, "example" if name == "x" else "layer", _along(0))
        if not isinstance(self._spec, RecurrentSpec) or name.startswith("head"):
            return found
        by_x = [value["inputs"] for value in values]
        times = [int(time) for time in self._differing_parts(got["inputs"], by_x, "x", _along(1))]
        # At the last one the loss is nearest: what begins there is no matter of time.
        if times and times[-1] < self._spec.sequence_length - 1:
            found += f", from time step {times[-1]} back"
        return found

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

    def _trace(self, worker: Worker, training: bool, fine: bool = False) -> tuple[Values, list[Values]]:
        batch = self._task.batches[0]
        return traced(worker, training, fine), [model.trace(batch, training, fine) for model in self._models]

    def _differing_time(self, got: Values, values: Sequence[Values], name: str) -> str:
        """`, first at time step 3`, counted from 0, for the output of a recurrent layer; else empty."""
        spec = self._spec
        if not isinstance(spec, RecurrentSpec) or (name == "head" and not spec.many_to_many):
            return ""
        times = self._differing_parts(got, values, name, _along(1))
        return f", first at time step {times[0]}" if times else ""

    def _differing_places(self, got: Values, values: Sequence[Values], name: str) -> str:
        """`, unit 3`, `, channel 0`, `, examples 4 and 5`: what differs of a layer's output if it is little of it."""
        last = values[0][name].ndim - 1
        unit = "unit" if last == 1 or isinstance(self._spec, DenseSpec) else "channel"
        return self._some(got, values, name, unit, _along(last)) or self._some(got, values, name, "example", _along(0))

    def _some(
        self, got: Values, values: Sequence[Values], name: str, kind: str, split: Callable[[np.ndarray], Parts]
    ) -> str:
        """`, gate f`, `, gates i and f`: the parts of one array that differ; empty if all do, or many."""
        found = self._differing_parts(got, values, name, split)
        total = len(list(split(values[0][name])))
        return f", {_listed(kind, found)}" if 0 < len(found) < total and len(found) <= MOST_PARTS else ""

    def _differing_parts(
        self, got: Values, values: Sequence[Values], name: str, split: Callable[[np.ndarray], Parts]
    ) -> list[str]:
        """Which parts of one array differ, each by its own noise; none for an array of another shape."""
        if name not in got or got[name].shape != values[0][name].shape:
            return []
        return self._differing(dict(split(got[name])), [dict(split(value[name])) for value in values])

    def _differing(self, got: Values, values: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
        exact, *runs = (dict(value) for value in values)
        noise = noise_of(exact, runs, self._dtype)
        return [quantity.name for quantity in compare_all(exact, got, self._dtype, noise) if not quantity.agrees]


def _along(axis: int) -> Callable[[np.ndarray], Iterator[tuple[str, np.ndarray]]]:
    """What splits an array along `axis` into numbered parts."""

    def split(value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        return ((str(number), part) for number, part in enumerate(np.moveaxis(value, axis, 0)))

    return split


def _listed(kind: str, names: Sequence[str]) -> str:
    """`gate f`, `gates i and f`, `examples 3, 4 and 5`."""
    return f"{kind}s {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else f"{kind} {names[0]}"
