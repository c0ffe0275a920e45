"""What is compared: the named quantities of a task, by the reference and by a contender, in the order of computation.

Forward, layer by layer, in inference and in training mode; the loss; the gradients, from the output backwards; what
should not change; optimiser state and weights after training steps; and what a reset leaves of all that. So the first
quantity that disagrees is where a contender leaves the reference's way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.core.weights import Weights, is_statistic
from harness.live_worker import Worker
from harness.noise import Values
from harness.reference import ReferenceModel
from harness.reference.arithmetic import Arithmetic
from harness.task import Task

Detail = Literal["whole", "layers", "steps"]
"""`whole`: what a model returns and holds. `layers`: every layer's output too. `steps`: and every training step."""

LOSSES = "losses in training"
UNCHANGED = "weights before training"
RESET_WEIGHTS, RESET_STATE = "change of the starting weights by a reset", "optimiser state after a reset"
RESET_STEP = "weights after a reset and a training step"
TRAINING_STEP = "training step"
"""How the parts of the reference's computation are named that are training steps, with a number from 1 on."""


class Held(NamedTuple):
    """What a model holds after a training step.

    Attributes:
        weights: weights and running statistics.
        state: of the optimiser, as `Model.optimiser_state`.
    """

    weights: Weights
    state: Mapping[str, Weights]

    def named(self, after: str) -> Iterator[tuple[str, np.ndarray]]:
        """Every array with its name; the optimiser's state first, as weights are computed from it."""
        for kind, arrays in self.state.items():
            yield from ((f"{kind} of {name!r} {after}", value) for name, value in arrays.items())
        yield from ((f"weight {name!r} {after}", value) for name, value in self.weights.items())


@dataclass(frozen=True)
class Found:
    """Everything that one model showed of a task.

    Args:
        layers: outputs of every layer by mode, `inference` and `training`; may be empty.
        outputs: on the first batch.
        gradients: loss and gradients on the first batch, as `Model.canonical`.
        unchanged: the weights after those.
        losses: before each training step.
        held: after training steps, by their number; the last one at least.
        trained_outputs: on the first batch, after training.
        reset: what the model holds after a reset to the starting weights.
        stepped: the weights after one more training step, on the first batch.
    """

    layers: Mapping[str, Values]
    outputs: np.ndarray
    gradients: Mapping[str, Any]
    unchanged: Weights
    losses: np.ndarray
    held: Mapping[int, Held]
    trained_outputs: np.ndarray
    reset: Held
    stepped: Weights

    def named(self, starting: Weights) -> Values:
        """All quantities in order; `starting` are the weights in the model's own dtype."""
        by_weights, steps = self.gradients["weights"], len(self.losses)
        found = self._layer_outputs("inference")
        found["outputs"] = self.outputs
        found.update(self._layer_outputs("training"))
        found["loss"] = np.asarray(self.gradients["loss"])
        found.update({f"gradient of {name!r}": by_weights[name] for name in reversed(by_weights)})
        found.update({f"gradient of input {name!r}": value for name, value in self.gradients["inputs"].items()})
        found[UNCHANGED] = _flat(self.unchanged)
        for step, held in self.held.items():
            found.update(held.named(after_steps(step)))
        found[LOSSES] = self.losses
        found[f"outputs {after_steps(steps)}"] = self.trained_outputs
        # A difference, because this one has to be exact: the reference's is zero and has no noise.
        found[RESET_WEIGHTS] = _change(_flat(starting), _flat(self.reset.weights))
        if self.reset.state:
            found[RESET_STATE] = np.concatenate([_flat(arrays) for arrays in self.reset.state.values()])
        found[RESET_STEP] = _flat(self.stepped)
        return found

    def _layer_outputs(self, mode: str) -> Values:
        return {f"output of {name} ({mode})": value for name, value in self.layers.get(mode, {}).items()}


def stage_of(name: str) -> str | None:
    """Which of the calls that follow gradients a quantity comes from; None where no gradient enters it."""
    if name == RESET_STEP:
        return "reset step"
    if name.startswith("gradient"):
        return "gradients"
    in_training = name == LOSSES or (" after " in name and name != RESET_STATE)
    return "training" if in_training else None


def after_steps(count: int) -> str:
    """`after 1 training step`, `after 3 training steps`."""
    return f"after {count} training step{'s' if count > 1 else ''}"


def _flat(values: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([values[name].reshape(-1) for name in sorted(values)] or [np.empty(0)])


def _change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    # What does not even fit is left as it is, and compared with zeros of the right shape.
    return after - before if after.shape == before.shape else after


def reference_quantities(task: Task, arithmetic: Arithmetic, detail: Detail = "whole") -> Values:
    """All quantities of `task` by the NumPy reference, float64, in order."""
    model = ReferenceModel(task.workload.model, task.weights, task.workload.optimiser, arithmetic)
    first, last = task.batches[0], len(task.batches)
    layers = {}
    arithmetic.begin("before training")
    if detail != "whole":
        layers = {mode: model.trace(first, training=mode == "training") for mode in ("inference", "training")}
    unchanged = model.weights()
    # Without running statistics the first step's own logits are the outputs, and need not be computed twice.
    outputs = model.forward(first) if any(is_statistic(name) for name in unchanged) else None
    fresh = Held(unchanged, model.optimiser_state())
    losses, held = [], {}
    for count, batch in enumerate(task.batches, 1):
        arithmetic.begin(f"{TRAINING_STEP} {count}")
        step = model.step(batch)
        losses.append(step.loss)
        if count == 1:
            opening = step
        if detail == "steps" or count in (1, last):
            held[count] = Held(model.weights(), model.optimiser_state())
    arithmetic.begin("after training")
    return Found(
        layers=layers,
        outputs=opening.logits if outputs is None else outputs,
        # The gradients of the first step are the gradients by the starting weights.
        gradients=opening.gradients,
        unchanged=unchanged,
        losses=np.array(losses),
        held=held if detail == "steps" else {last: held[last]},
        trained_outputs=model.forward(first),
        reset=fresh,
        stepped=held[1].weights,
    ).named(unchanged)


def contender_quantities(
    worker: Worker, task: Task, mode: str, dtype: str, detail: Detail = "whole", built: bool = False
) -> Values:
    """All quantities of `task` by a contender; its model stays built, with trained weights. Raises WorkerError.

    Args:
        worker: of the contender.
        task: what is computed.
        mode: of the contender.
        dtype: working dtype.
        detail: which quantities there are.
        built: it holds a model of this very workload, which a reset gives the starting weights.
    """
    weights = task.cast_weights(dtype)
    if built:
        worker.request("reset", weights=weights)
    else:
        worker.request("build", workload=task.workload.replace(dtype=dtype).to_json(), mode=mode, weights=weights)
    return built_quantities(worker, task, dtype, detail)


def built_quantities(worker: Worker, task: Task, dtype: str, detail: Detail = "whole") -> Values:
    """All quantities of `task` by a contender whose model is built and holds the starting weights."""
    starting, batches = task.cast(dtype)
    worker.request("load", batches=[batch.to_json() for batch in batches])
    layers = {}
    if detail != "whole":
        layers = {mode: traced(worker, training=mode == "training") for mode in ("inference", "training")}
    outputs = worker.request("forward", indices=[0])["outputs"][0]
    gradients = worker.request("gradients", index=0)
    unchanged = worker.request("weights")
    losses, held = [], {}
    for indices in _train_requests(len(batches), detail):
        losses.append(worker.request("train", indices=indices)["losses"])
        held[indices[-1] + 1] = _held(worker)
    trained_outputs = worker.request("forward", indices=[0])["outputs"][0]
    worker.request("reset", weights=starting)
    reset = _held(worker)
    worker.request("train", indices=[0])
    return Found(
        layers=layers,
        outputs=outputs,
        gradients=gradients,
        unchanged=unchanged,
        losses=np.concatenate(losses),
        held=held,
        trained_outputs=trained_outputs,
        reset=reset,
        stepped=worker.request("weights"),
    ).named(starting)


def traced(worker: Worker, training: bool, fine: bool = False) -> Values:
    """The outputs of a contender's layers on the first batch; with `fine` those of their parts too."""
    return dict(worker.request("trace", index=0, training=training, **({"fine": True} if fine else {}))["values"])


def _held(worker: Worker) -> Held:
    return Held(worker.request("weights"), worker.request("optimiser_state"))


def _train_requests(steps: int, detail: Detail) -> Sequence[list[int]]:
    """Which batches each request trains on: all at once, or step by step."""
    return [[index] for index in range(steps)] if detail == "steps" else [list(range(steps))]
