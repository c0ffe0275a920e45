"""The smallest fault of each kind that the check of agreement finds, by bisection on its size.

The contender is the reference itself, rounded as a contender in the working dtype rounds, in a run that the noise does
not know: right but for what is planted. The shipped comparison judges it. A size is relative: of an epsilon, a rate or
a momentum the share by which it is off; of an array the error over its rms; of a fault that is all or nothing, such as
an example that is left out, the share of the way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from faceoff.agreement.check import Expected
from faceoff.agreement.noise import Values, rms
from faceoff.agreement.quantities import reference_quantities
from faceoff.core.spec import DenseSpec, ModelSpec, RecurrentSpec, ResidualSpec, Workload
from faceoff.core.weights import round_to
from faceoff.reference.arithmetic import noise_generator
from faceoff.reference.rounding import stochastic
from faceoff.workloads.task import Task

# Beside those of the noise, which are numbered from 0.
CONTENDERS_RUN = 1000
LARGEST, SMALLEST, STEPS = 1.0, 1e-17, 14
SEED = 5

Plant = Callable[["Right", float], Values]


class Right:
    """A right contender on one task in one dtype.

    Args:
        task: what is computed.
        dtype: working dtype.
    """

    def __init__(self, task: Task, dtype: str) -> None:
        self.task, self.dtype = task, dtype
        self.expected = Expected(task, SEED, keep=False)
        self.values = self.run(task)

    def run(self, task: Task) -> Values:
        """All quantities of `task`, rounded as a contender rounds."""
        arithmetic = stochastic(self.dtype, noise_generator(SEED, CONTENDERS_RUN))
        return self.rounded(reference_quantities(task.rounded(self.dtype), arithmetic))

    def rounded(self, values: Mapping[str, np.ndarray]) -> Values:
        """The values as they come from a contender in its dtype."""
        return {name: round_to(value, self.dtype) for name, value in values.items()}

    def agrees(self, got: Values) -> bool:
        """What the shipped check says of these quantities."""
        quantities, _ = self.expected.judge(got, self.dtype)
        return all(quantity.agrees for quantity in quantities)

    def with_optimiser(self, **changes: float) -> Values:
        """The quantities with other constants in the optimiser."""
        workload = self.task.workload
        other = workload.replace(optimiser=replace(workload.optimiser, **changes))
        return self.run(replace(self.task, workload=other))

    def with_model(self, **changes: Any) -> Values:
        """The quantities with other constants in the model."""
        workload = self.task.workload
        return self.run(replace(self.task, workload=workload.replace(model=replace(workload.model, **changes))))

    def with_weight(self, name: str, value: np.ndarray) -> Values:
        """The quantities where a weight enters as another value, while the one that is held is right."""
        found = self.run(replace(self.task, weights={**self.task.weights, name: value}))
        held = ("weight", "change of the starting weights", "optimiser state")
        return {key: self.values[key] if key.startswith(held) else value for key, value in found.items()}

    def with_array(self, name: str, size: float, where: tuple[Any, ...]) -> Values:
        """The quantities with a part of one of them off by `size`, relative to its rms."""
        changed = np.array(self.values[name], dtype=np.float64)
        changed[where] += size * rms(changed)
        return {**self.values, name: round_to(changed, self.dtype)}

    def mixed_with(self, fault: Values, size: float) -> Values:
        """Outputs, loss and gradients, by the share `size` of the way from these quantities to those of `fault`.

        What is exactly zero stays so: any other number there would be found however small.
        """
        return {
            name: round_to(np.where(value == 0, 0.0, (1.0 - size) * value + size * fault[name]), self.dtype)
            if name in ("outputs", "loss") or name.startswith("gradient of '")
            else value
            for name, value in self.values.items()
        }


@dataclass(frozen=True)
class Kind:
    """A kind of fault that has a size.

    Args:
        name: what is wrong, and what its size is.
        family: of the models that have it; empty for all.
        optimiser: of training.
        plant: gives a contender's quantities with a fault of some size.
    """

    name: str
    family: str
    optimiser: str
    plant: Plant


def _first_weight(spec: ModelSpec) -> str:
    if isinstance(spec, DenseSpec):
        return "layer.0.weight"
    return "stem.conv.weight" if isinstance(spec, ResidualSpec) else "layer.0.weight_hh"


def _gradient(right: Right) -> str:
    return f"gradient of '{_first_weight(right.task.workload.model)}'"


def _scaled(right: Right, name: str, size: float) -> np.ndarray:
    return right.task.weights[name] * (1 + size)


def _coarse(right: Right, size: float) -> Values:
    """Operands of the first product rounded to as many bits as make a rounding of `size`.

    Weights are exact in float32, so what is finer than its rounding changes nothing, and is found in no dtype.
    """
    name = _first_weight(right.task.workload.model)
    weight = right.task.weights[name]
    mantissa, exponent = np.frexp(weight)
    unit = 2.0 ** np.round(np.log2(2 * size))
    return right.with_weight(name, np.ldexp(np.round(mantissa / unit) * unit, exponent))


def _without_last_example(right: Right, size: float) -> Values:
    count = right.task.workload.batch_size
    rows = np.r_[np.arange(count - 1), 0]
    batches = [batch.pick(rows) for batch in right.task.batches]
    # The first one takes its place, so that every shape stays.
    return right.mixed_with(right.run(replace(right.task, batches=batches)), size)


def _shifted(right: Right, size: float) -> Values:
    """Each example's inputs one step, pixel or feature late, as a mask that is off by one lets them be."""
    batches = [
        replace(batch, inputs={**batch.inputs, "x": np.roll(batch.inputs["x"], 1, axis=1)})
        for batch in right.task.batches
    ]
    return right.mixed_with(right.run(replace(right.task, batches=batches)), size)


KINDS = (
    Kind("batch norm's epsilon, share", "residual", "sgd", lambda right, size: right.with_model(
        epsilon=right.task.workload.model.epsilon * (1 + size))),  # type: ignore[attr-defined]
    Kind("batch norm's momentum, share", "residual", "sgd", lambda right, size: right.with_model(
        momentum=right.task.workload.model.momentum * (1 - size))),  # type: ignore[attr-defined]
    Kind("learning rate, share", "", "sgd", lambda right, size: right.with_optimiser(
        learning_rate=right.task.workload.optimiser.learning_rate * (1 + size))),
    Kind("momentum, share", "", "momentum", lambda right, size: right.with_optimiser(
        momentum=right.task.workload.optimiser.momentum * (1 - size))),
    Kind("Adam's first decay rate, share of its distance from 1", "", "adam", lambda right, size: right.with_optimiser(
        beta1=1 - (1 - right.task.workload.optimiser.beta1) * (1 + size))),
    Kind("Adam's second decay rate, share of its distance from 1", "", "adam", lambda right, size: right.with_optimiser(
        beta2=1 - (1 - right.task.workload.optimiser.beta2) * (1 + size))),
    Kind("Adam's epsilon, share", "", "adam", lambda right, size: right.with_optimiser(
        epsilon=right.task.workload.optimiser.epsilon * (1 + size))),
    Kind("bias of the first layer, share", "dense", "sgd", lambda right, size: right.with_weight(
        "layer.0.bias", _scaled(right, "layer.0.bias", size))),
    Kind("bias of the gates, share", "lstm", "sgd", lambda right, size: right.with_weight(
        "layer.0.bias", _scaled(right, "layer.0.bias", size))),
    Kind("weights of one product rounded, relative unit", "", "sgd", _coarse),
    Kind("one element of a gradient, over the rms", "", "sgd", lambda right, size: right.with_array(
        _gradient(right), size, (-1,) * right.values[_gradient(right)].ndim)),
    Kind("last column of a gradient, over the rms", "", "sgd", lambda right, size: right.with_array(
        _gradient(right), size, (..., -1))),
    Kind("a whole gradient, over the rms", "", "sgd", lambda right, size: right.with_array(
        _gradient(right), size, (...,))),
    Kind("one example's outputs, over the rms", "", "sgd", lambda right, size: right.with_array(
        "outputs", size, (-1,))),
    Kind("last example left out, share of the way", "", "sgd", _without_last_example),
    Kind("inputs shifted by one, share of the way", "", "sgd", _shifted),
)  # fmt: skip


def smallest(kind: Kind, workload: Workload, dtype: str, seed: int) -> float | None:
    """The smallest size at which a fault is found, to a hundredth of a decade; None where the largest is overlooked.

    Args:
        kind: of the fault.
        workload: model and batch size; its optimiser gives way to that of the kind.
        dtype: working dtype.
        seed: of weights and batches.
    """
    changed = workload.replace(dtype="float64", optimiser=replace(workload.optimiser, kind=kind.optimiser))
    right = Right(Task.seeded(changed, seed), dtype)
    if not right.agrees(right.values):
        raise AssertionError(f"the run without a fault disagrees: {workload.name}, seed {seed}")
    if right.agrees(kind.plant(right, LARGEST)):
        return None
    low, high = np.log10(SMALLEST), np.log10(LARGEST)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if right.agrees(kind.plant(right, float(10**middle))):
            low = middle
        else:
            high = middle
    return float(10**high)


def fits(kind: Kind, spec: ModelSpec) -> bool:
    """Whether a model can have the fault at all, at a size at which it changes anything."""
    if isinstance(spec, RecurrentSpec) and spec.sequence_length < 2:
        return False
    return not kind.family or spec.kind == kind.family
