"""What is compared: the named quantities of a task, by the reference and by a contender, in the order of computation.

Forward, layer by layer, in inference and in training mode; the loss; the gradients, from the output backwards; what
should not change; optimiser state and weights after training steps; and what a reset leaves of all that. So the first
quantity that disagrees is where a contender leaves the reference's way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from faceoff.agreement.noise import Values
from faceoff.core.weights import Weights, is_statistic
from faceoff.frameworks.manifest import Offer
from faceoff.pool.worker import Worker
from faceoff.reference import ReferenceModel
from faceoff.reference.arithmetic import Arithmetic
from faceoff.workloads.task import Task

Detail = Literal["whole", "layers", "steps"]
"""`whole`: what a model returns and holds. `layers`: every layer's output too. `steps`: and every training step."""

LOSSES = "losses in training"
UNCHANGED = "weights before training"
RESET_WEIGHTS, RESET_STATE = "change of the starting weights by a reset", "optimiser state after a reset"
OUTPUTS, LOSS, OF_LAYER = "outputs", "loss", "output of "
AFTER_RESET, RESET_GRADIENTS = " after a reset", "loss and gradients after a reset"
RESET_STEP = "weights after a reset and a training step"
EVERYTHING = Offer()
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
class Trained:
    """What a model showed of training.

    Args:
        losses: before each step.
        held: after steps, by their number; the last one at least.
        outputs: on the first batch, after training; several by name.
        stepped: the weights after one more step from the starting weights, on the first batch.
    """

    losses: np.ndarray
    held: Mapping[int, Held]
    outputs: Any
    stepped: Weights


@dataclass(frozen=True)
class Found:
    """Everything that one model showed of a task.

    Args:
        layers: outputs of every layer by mode, `inference` and `training`; may be empty.
        outputs: on the first batch; several by name.
        unchanged: the weights after those.
        reset: what the model holds after a reset to the starting weights.
        reset_outputs: as `outputs`, after that reset.
        gradients: loss and gradients on the first batch, as `Model.canonical`; None where they are not offered.
        reset_gradients: as `gradients`, after that reset.
        trained: what training does; None where it is not offered.
    """

    layers: Mapping[str, Values]
    outputs: Any
    unchanged: Weights
    reset: Held
    reset_outputs: Any
    gradients: Mapping[str, Any] | None
    reset_gradients: Mapping[str, Any] | None
    trained: Trained | None

    def named(self, starting: Weights) -> Values:
        """All quantities in order; `starting` are the weights in the model's own dtype."""
        found = self._layer_outputs("inference")
        found.update(named_outputs(self.outputs))
        found.update(self._layer_outputs("training"))
        if self.gradients is not None:
            found.update(named_gradients(self.gradients))
        found[UNCHANGED] = flat(self.unchanged)
        if self.trained is not None:
            for step, held in self.trained.held.items():
                found.update(held.named(after_steps(step)))
            found[LOSSES] = self.trained.losses
            found.update(named_outputs(self.trained.outputs, f" {after_steps(len(self.trained.losses))}"))
        # A difference, because this one has to be exact: the reference's is zero and has no noise.
        found[RESET_WEIGHTS] = _change(flat(starting), flat(self.reset.weights))
        if self.reset.state:
            found[RESET_STATE] = np.concatenate([flat(arrays) for arrays in self.reset.state.values()])
        found.update(named_outputs(self.reset_outputs, AFTER_RESET))
        if self.reset_gradients is not None:
            found[RESET_GRADIENTS] = flat(named_gradients(self.reset_gradients))
        if self.trained is not None:
            found[RESET_STEP] = flat(self.trained.stepped)
        return found

    def _layer_outputs(self, mode: str) -> Values:
        return {f"{OF_LAYER}{name} ({mode})": value for name, value in self.layers.get(mode, {}).items()}


def named_gradients(gradients: Mapping[str, Any]) -> Values:
    """The loss, and the gradients from the output backwards, of what `Model.canonical` returns."""
    by_weights = gradients["weights"]
    found = {LOSS: np.asarray(gradients["loss"])}
    found.update({f"gradient of {name!r}": by_weights[name] for name in reversed(by_weights)})
    found.update({input_gradient(name): value for name, value in gradients["inputs"].items()})
    return found


def named_outputs(outputs: Any, when: str = "") -> Values:
    """What `forward` returned: `outputs`, or of a user's own model that has several `output 'logits'` and so on.

    Args:
        outputs: an array, or several by name.
        when: follows each name, with a space before it.
    """
    if isinstance(outputs, Mapping):
        return {f"output '{name}'{when}": value for name, value in outputs.items()}
    return {f"{OUTPUTS}{when}": outputs}


def is_output(name: str) -> bool:
    """Whether a quantity is the model's output, or one of several, before training."""
    return name == OUTPUTS or (name.startswith("output '") and name.endswith("'"))


def input_gradient(name: str) -> str:
    """What the gradient by an input is called."""
    return f"gradient of input {name!r}"


def stage_of(name: str) -> str | None:
    """Which of the calls that follow gradients a quantity comes from; None where no gradient enters it."""
    if name in (RESET_STEP, RESET_GRADIENTS):
        return name
    if name.startswith("gradient of"):
        return "gradients"
    return "training" if name == LOSSES or re.search(r" after \d+ training steps?$", name) else None


def after_steps(count: int) -> str:
    """`after 1 training step`, `after 3 training steps`."""
    return f"after {count} training step{'s' if count > 1 else ''}"


def flat(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """All arrays as one, in the order of their names."""
    return np.concatenate([values[name].reshape(-1) for name in sorted(values)] or [np.empty(0)])


def _change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    # What does not even fit is left as it is, and compared with zeros of the right shape.
    return after - before if after.shape == before.shape else after


# Beyond the range of float64, or of the dtype whose rounding is tried, numbers are infinite: that is an answer.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
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
        trained=Trained(
            losses=np.array(losses),
            held=held if detail == "steps" else {last: held[last]},
            outputs=model.forward(first),
            stepped=held[1].weights,
        ),
        reset=fresh,
        reset_outputs=opening.logits if outputs is None else outputs,
        reset_gradients=opening.gradients,
    ).named(unchanged)


def offered(values: Values, offer: Offer) -> Values:
    """Those of the quantities that a framework with this offer is asked for."""
    return {
        name: value
        for name, value in values.items()
        if _step_of(name) in offer.steps and (offer.trace or not name.startswith(OF_LAYER))
    }


def _step_of(name: str) -> str:
    """The step that a quantity is of."""
    if name in (RESET_STATE, RESET_STEP) or stage_of(name) == "training" or TRAINING_STEP in name:
        return "training"
    of_gradients = name in (LOSS, RESET_GRADIENTS) or stage_of(name) == "gradients"
    return "gradients" if of_gradients or name.endswith("(training)") else "inference"


def contender_quantities(
    worker: Worker, task: Task, mode: str, dtype: str, detail: Detail = "whole", built: bool = False,
    offer: Offer = EVERYTHING,
) -> Values:  # fmt: skip
    """All quantities of `task` by a contender; its model stays built, with trained weights. Raises WorkerError.

    Args:
        worker: of the contender.
        task: what is computed.
        mode: of the contender.
        dtype: working dtype.
        detail: which quantities there are.
        built: it holds a model of this very workload, which a reset gives the starting weights.
        offer: what its framework has; no more is asked of it.
    """
    weights = task.cast_weights(dtype)
    if built:
        worker.request("reset", weights=weights)
    else:
        worker.request("build", workload=task.workload.replace(dtype=dtype).to_json(), mode=mode, weights=weights)
    return built_quantities(worker, task, dtype, detail, offer)


def built_quantities(
    worker: Worker, task: Task, dtype: str, detail: Detail = "whole", offer: Offer = EVERYTHING
) -> Values:
    """All quantities of `task` by a contender whose model is built and holds the starting weights.

    What a model remembers of another call must not show. So calls on another batch come before the one that is compared
    and before its value is fetched, and the starting weights have to give the same again after others served the batch.
    """
    starting, batches = task.cast(dtype)
    other = len(batches) - 1
    worker.request("load", batches=[batch.to_json() for batch in batches])
    layers = {}
    differentiates, trains = ("gradients" in offer.steps), ("training" in offer.steps)
    if detail != "whole" and offer.trace:
        modes = ("inference", "training") if differentiates else ("inference",)
        layers = {mode: traced(worker, training=mode == "training") for mode in modes}
    outputs = worker.request("forward", indices=[other, 0, other])["outputs"][1]
    gradients = worker.request("gradients", index=0, before=other, after=other) if differentiates else None
    unchanged = worker.request("weights")
    losses, held, trained = [], {}, None
    for indices in _train_requests(len(batches), detail) if trains else ():
        losses.append(worker.request("train", indices=indices)["losses"])
        held[indices[-1] + 1] = _held(worker, trains)
    if trains:
        trained_outputs = worker.request("forward", indices=[0])["outputs"][0]
    if differentiates:
        worker.request("first_call", step="gradients")
    worker.request("reset", weights=starting)
    reset = _held(worker, trains)
    reset_outputs = worker.request("forward", indices=[0])["outputs"][0]
    reset_gradients = worker.request("gradients", index=0) if differentiates else None
    if trains:
        worker.request("train", indices=[0])
        trained = Trained(np.concatenate(losses), held, trained_outputs, worker.request("weights"))
    return Found(
        layers=layers,
        outputs=outputs,
        gradients=gradients,
        unchanged=unchanged,
        trained=trained,
        reset=reset,
        reset_outputs=reset_outputs,
        reset_gradients=reset_gradients,
    ).named(starting)


def disturbed_quantities(worker: Worker, task: Task, detail: Detail = "whole") -> Values:
    """All quantities of `task` by a reference side of a user's own that is disturbed; its model is built, and reset.

    That it remembers nothing is known from its undisturbed run. So everything is computed once, as in
    `reference_quantities`: the first of the training steps is the step after a reset, too.
    """
    _, batches = task.cast("float64")
    worker.request("load", batches=[batch.to_json() for batch in batches])
    outputs = worker.request("forward", indices=[0])["outputs"][0]
    gradients = worker.request("gradients", index=0)
    fresh = _held(worker, trains=True)
    losses, held = [], {}
    for step in range(1, len(batches) + 1):
        losses.append(worker.request("train", indices=[step - 1])["losses"])
        if detail == "steps" or step in (1, len(batches)):
            held[step] = _held(worker, trains=True)
    return Found(
        layers={},
        outputs=outputs,
        gradients=gradients,
        unchanged=fresh.weights,
        trained=Trained(
            losses=np.concatenate(losses),
            held=held if detail == "steps" else {len(batches): held[len(batches)]},
            outputs=worker.request("forward", indices=[0])["outputs"][0],
            stepped=held[1].weights,
        ),
        reset=fresh,
        reset_outputs=outputs,
        reset_gradients=gradients,
    ).named(fresh.weights)


def traced(worker: Worker, training: bool, fine: bool = False) -> Values:
    """The outputs of a contender's layers on the first batch; with `fine` those of their parts too."""
    return dict(worker.request("trace", index=0, training=training, **({"fine": True} if fine else {}))["values"])


def _held(worker: Worker, trains: bool) -> Held:
    return Held(worker.request("weights"), worker.request("optimiser_state") if trains else {})


def _train_requests(steps: int, detail: Detail) -> Sequence[list[int]]:
    """Which batches each request trains on: all at once, or step by step."""
    return [[index] for index in range(steps)] if detail == "steps" else [list(range(steps))]
