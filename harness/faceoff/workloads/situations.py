"""Situations: named kinds of weights and inputs that a model family is checked in, beside the everyday one.

Everyday magnitudes leave parts of a computation unused: no gradient is long enough to be clipped, no logit large
enough to overflow without its shift, no gate quite open. Each situation changes what `Task.seeded` draws, and keeps
the sizes, so that a model that is built serves all of them by a reset; only `large` trains at another rate, and
`one-example` has another batch size. What a situation multiplies is rounded to float32 again, so that every dtype still
starts from the same numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, OwnSpec, RecurrentSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch, Weights
from faceoff.results.agreements import EVERYDAY
from faceoff.workloads.task import TRAINING_STEPS, Task

# At the everyday rate gradients of norm 20 to 217 would throw the weights away.
SMALL_RATE = 1e-4
LARGE_HEAD, LARGE_INPUTS = 60.0, {"x": 3.0, "h0": 2.0, "c0": 10.0}
# Its exponential is infinite in float32.
EQUAL_LOGIT = 100.0
# Of a pre-activation; a sigmoid is then 3e-7 away from 0 or 1, and a tanh exactly 1 in float32.
OPEN_OR_SHUT, STEEP = 15.0, 20.0


Rng = np.random.Generator
Drawn = TypeVar("Drawn")


def _of_any_family(spec: ModelSpec) -> bool:
    # What the layers of a user's own model mean is not known.
    return not isinstance(spec, OwnSpec)


def _as_drawn(spec: ModelSpec, drawn: Drawn, rng: Rng) -> Drawn:
    return drawn


def _unchanged(workload: Workload) -> Workload:
    return workload


@dataclass(frozen=True)
class Situation:
    """A kind of weights and inputs.

    Args:
        name: as `--situation` takes it.
        what: it is, in words.
        finds: faults that no everyday input shows.
        precise: `agree` looks at precision here by default, and not at meaning alone.
        rebuilds: it needs another build than the everyday situation, so only who asks for it gets it.
        applies: whether it means anything for a model.
        weights: changes those that were drawn; gets the generator of the situation.
        batch: changes a batch that was drawn, likewise.
        workload: what is computed instead, where rate or batch size differ.
    """

    name: str
    what: str
    finds: str
    precise: bool = False
    rebuilds: bool = False
    applies: Callable[[ModelSpec], bool] = _of_any_family
    weights: Callable[[ModelSpec, Weights, Rng], Weights] = _as_drawn
    batch: Callable[[ModelSpec, Batch, Rng], Batch] = _as_drawn
    workload: Callable[[Workload], Workload] = _unchanged

    def task(self, workload: Workload, seed: int, batches: int = TRAINING_STEPS) -> Task:
        """The task of `workload` in this situation; its own workload may differ in rate and batch size.

        Args:
            workload: what is checked; its dtype does not matter.
            seed: of weights and batches.
            batches: how many.
        """
        drawn = Task.seeded(self.workload(workload), seed, batches)
        spec, rng = workload.model, np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        weights = self.weights(spec, drawn.weights, rng)
        return Task(
            drawn.workload,
            {name: _exact_in_float32(weights[name]) for name in drawn.weights},
            [_exact(self.batch(spec, batch, rng)) for batch in drawn.batches],
        )


def _exact_in_float32(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


def _exact(batch: Batch) -> Batch:
    return Batch({name: _exact_in_float32(value) for name, value in batch.inputs.items()}, batch.targets)


def head_of(spec: ModelSpec) -> str:
    """The name of the layer that makes the logits."""
    return f"layer.{spec.num_layers - 1}" if isinstance(spec, DenseSpec) else "head"


def has_relu(spec: ModelSpec) -> bool:
    """Whether a value of the model passes through a ReLU."""
    if isinstance(spec, DenseSpec):
        return spec.activation == "relu" and spec.num_layers > 1
    return isinstance(spec, ResidualSpec) or (isinstance(spec, RnnSpec) and spec.activation == "relu")


def _saturates(spec: ModelSpec) -> bool:
    if isinstance(spec, DenseSpec):
        return spec.activation == "tanh" and spec.num_layers > 1
    return isinstance(spec, LstmSpec) or (isinstance(spec, RnnSpec) and spec.activation == "tanh")


def _large_head(spec: ModelSpec, weights: Weights, rng: Rng) -> Weights:
    name = f"{head_of(spec)}.weight"
    return {**weights, name: LARGE_HEAD * weights[name]}


def _large_inputs(spec: ModelSpec, batch: Batch, rng: Rng) -> Batch:
    return Batch({name: LARGE_INPUTS[name] * value for name, value in batch.inputs.items()}, batch.targets)


def _small_rate(workload: Workload) -> Workload:
    optimiser = workload.optimiser
    rate = min(optimiser.learning_rate, SMALL_RATE)
    return workload.replace(optimiser=replace(optimiser, learning_rate=rate))


def _equal_rows(spec: ModelSpec, weights: Weights, rng: Rng) -> Weights:
    """A head that gives every class the same large logit; its weights are zero at half of the seeds."""
    head, factor = head_of(spec), float(rng.integers(0, 2))
    weight, bias = weights[f"{head}.weight"], weights[f"{head}.bias"]
    return {
        **weights,
        f"{head}.weight": factor * np.broadcast_to(weight[:1], weight.shape),
        f"{head}.bias": np.full_like(bias, EQUAL_LOGIT),
    }


def _steep(spec: ModelSpec, weights: Weights, rng: Rng) -> Weights:
    """Pre-activations far from zero: an LSTM's gates open or shut for good, any other tanh at its ends."""
    if not isinstance(spec, LstmSpec):
        head = head_of(spec)
        return {
            name: value if name.startswith(f"{head}.") or name.endswith("bias") else STEEP * value
            for name, value in weights.items()
        }
    changed = dict(weights)
    for layer in range(spec.num_layers):
        name = f"layer.{layer}.bias"
        shift = OPEN_OR_SHUT * rng.choice([-1.0, 1.0], (4, spec.hidden_size))
        # The cell's own input stays as it is: nothing would be left to carry.
        shift[2] = 0.0
        changed[name] = weights[name] + shift.reshape(-1)
    return changed


def _zero(spec: ModelSpec, batch: Batch, rng: Rng) -> Batch:
    return Batch({name: np.zeros_like(value) for name, value in batch.inputs.items()}, batch.targets)


def _constant(spec: ModelSpec, batch: Batch, rng: Rng) -> Batch:
    """Every picture of one colour, every time step like the first, every feature like the first."""
    x = batch.inputs["x"]
    first = {"x": x[:, :1]} if isinstance(spec, (DenseSpec, RecurrentSpec)) else {"x": x[:, :1, :1]}
    return Batch({**batch.inputs, "x": np.broadcast_to(first["x"], x.shape)}, batch.targets)


def _padded(spec: ModelSpec, batch: Batch, rng: Rng) -> Batch:
    """Zeros after each example's own length, or around each picture."""
    x = np.array(batch.inputs["x"])
    for example in x:
        if isinstance(spec, ResidualSpec):
            for axis, size in ((0, spec.height), (1, spec.width)):
                border = int(rng.integers(0, size // 2 + 1))
                pixels = np.moveaxis(example, axis, 0)
                pixels[:border] = pixels[size - border :] = 0.0
        else:
            example[int(rng.integers(1, len(example) + 1)) :] = 0.0
    return Batch({**batch.inputs, "x": x}, batch.targets)


def _no_shift(spec: ModelSpec, weights: Weights, rng: Rng) -> Weights:
    """No bias, and no running mean: zeros stay zeros up to every ReLU."""
    return {
        name: np.zeros_like(value) if name.rpartition(".")[2] in ("bias", "mean") else value
        for name, value in weights.items()
    }


def _half_zero(spec: ModelSpec, batch: Batch, rng: Rng) -> Batch:
    """Every second example is zero, the first one among them."""
    changed = {name: np.array(value) for name, value in batch.inputs.items()}
    for name, value in changed.items():
        (value if name == "x" else value.swapaxes(0, 1))[::2] = 0.0
    return Batch(changed, batch.targets)


SITUATIONS: dict[str, Situation] = {
    situation.name: situation
    for situation in (
        Situation(
            EVERYDAY,
            "weights, inputs and states as they are drawn",
            "what is wrong at any size",
            applies=lambda spec: True,
        ),
        Situation(
            "large",
            "logits of 68 to 437, gradients of norm 20 to 217, cells of 10",
            "gradients clipped by norm or value, cells clipped, probabilities clipped, a softmax without its shift",
            precise=True,
            weights=_large_head,
            batch=_large_inputs,
            workload=_small_rate,
        ),
        Situation(
            "equal-logits",
            "a head that gives all classes the same logit, near 100",
            "a softmax without its shift, a largest logit that is counted twice, gradients that do not cancel",
            precise=True,
            weights=_equal_rows,
        ),
        Situation(
            "saturated",
            "gates open or shut, tanh at its ends",
            "cells clipped over time, hard sigmoids, gradients of gates by an approximation",
            applies=_saturates,
            weights=_steep,
        ),
        Situation("zero", "inputs and states all zero", "divisions by a norm or a spread that is zero", batch=_zero),
        Situation(
            "constant",
            "pictures of one colour, sequences of one step, features all alike",
            "variances by a difference of squares, sums that lose equal terms",
            precise=True,
            batch=_constant,
        ),
        Situation(
            "padded",
            "zeros after each example's own length, or around each picture",
            "a mask or a length taken from the input",
            batch=_padded,
        ),
        Situation(
            "one-example",
            "a batch of one",
            "axes of one element dropped, statistics divided by n - 1",
            rebuilds=True,
            workload=lambda workload: workload.replace(batch_size=1),
        ),
        Situation(
            "at-zero",
            "biases zero and every second example zero, so that ReLUs get exactly zero",
            "another slope of a ReLU at zero",
            applies=has_relu,
            weights=_no_shift,
            batch=_half_zero,
        ),
    )
}


def by_default(spec: ModelSpec, dtype: str) -> tuple[str, ...]:
    """The situations in which `agree` checks a small model in a dtype, the everyday one first."""
    return tuple(
        name
        for name, situation in SITUATIONS.items()
        if situation.applies(spec)
        and not situation.rebuilds
        and (name == EVERYDAY or dtype == "float64" or situation.precise)
    )
