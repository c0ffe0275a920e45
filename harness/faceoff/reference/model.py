"""The reference model: one class for all families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from faceoff.core.errors import InputError
from faceoff.core.spec import ModelSpec, Optimiser, RecurrentSpec
from faceoff.core.weights import (
    Batch,
    Weights,
    check_batch,
    check_weights,
    trace_names,
    trainable_names,
    weight_shapes,
)
from faceoff.reference import dense, recurrent, residual
from faceoff.reference.arithmetic import Arithmetic, Array, Exact
from faceoff.reference.layers import Backward, Forward, softmax_cross_entropy
from faceoff.reference.optimiser import UpdateRule


class Family(Protocol):
    """What a module such as `dense` supplies."""

    def forward(
        self, spec: Any, weights: Mapping[str, Array], inputs: Mapping[str, Array], training: bool, fine: bool = False
    ) -> Forward:
        """Logits, trace, and what `backward` needs."""

    def backward(self, spec: Any, weights: Mapping[str, Array], saved: Any, grad: Array) -> Backward:
        """Gradients from the one by the logits."""


FAMILIES: dict[str, Family] = {"dense": dense, "residual": residual, "rnn": recurrent, "lstm": recurrent}


class Step(NamedTuple):
    """What one training step found, all of it before the update.

    Attributes:
        loss: the training loss.
        gradients: as `ReferenceModel.gradients` returns.
        logits: of the training pass, that is with batch statistics.
    """

    loss: float
    gradients: dict[str, Any]
    logits: Array


class ReferenceModel:
    """A model in float64 NumPy, with its weights and optimiser state. Everything it returns is a plain array.

    Args:
        spec: the model.
        weights: canonical weights; copied.
        optimiser: the rule of `step` and `train_step`.
        arithmetic: `Exact()` unless given; `Rounded` for a noise run.

    Raises:
        InputError: weights that do not fit `spec` or are not finite; likewise a batch, in each method.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Mapping[str, np.ndarray],
        optimiser: Optimiser | None = None,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        check_weights(spec, weights)
        self._spec = spec
        self._arithmetic = arithmetic or Exact()
        self._family = FAMILIES[spec.kind]
        self._weights = {name: self._arithmetic.array(weights[name]) for name in weight_shapes(spec)}
        self._rule = UpdateRule(optimiser or Optimiser(), self._arithmetic)

    def forward(self, batch: Batch) -> Array:
        """The logits, in inference mode (running statistics).

        Returns:
            `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
        """
        return _plain(self._pass(batch, training=False).logits)

    def loss(self, batch: Batch) -> float:
        """The training loss (batch statistics) without gradients: mean softmax cross-entropy. Changes nothing.

        Complex when weights or inputs are, for the complex-step derivative.
        """
        loss: float = softmax_cross_entropy(self._pass(batch, training=True).logits, batch.targets)[0].item()
        return loss

    def gradients(self, batch: Batch) -> dict[str, Any]:
        """The training loss and its gradients. Changes nothing.

        Returns:
            `{"loss": float, "weights": {name: array}, "inputs": {name: array}}`, in canonical names, order and
            layouts; the weights are the trained ones, the inputs `x` and the initial states.
        """
        return self._differentiate(batch)[0]

    def step(self, batch: Batch) -> Step:
        """One optimiser step, running statistics updated too; returns what it had to compute for that."""
        gradients, passed, back = self._differentiate(batch)
        gradients_by_name = {name: self._arithmetic.widen(value) for name, value in back.weights.items()}
        self._weights.update(self._rule.apply(self._weights, gradients_by_name))
        self._weights.update({name: self._arithmetic.widen(value) for name, value in passed.statistics.items()})
        return Step(gradients["loss"], gradients, _plain(passed.logits))

    def train_step(self, batch: Batch) -> float:
        """One optimiser step, running statistics updated too; returns the loss before the step."""
        return self.step(batch).loss

    def weights(self) -> Weights:
        """Weights and running statistics now held, canonical; copies."""
        return {name: _plain(value) for name, value in self._weights.items()}

    def optimiser_state(self) -> dict[str, Weights]:
        """What the optimiser now holds for every trained weight, by `Optimiser.state_names`; copies."""
        trained = {name: self._weights[name] for name in trainable_names(self._spec)}
        return {
            kind: {name: _plain(value) for name, value in held.items()}
            for kind, held in self._rule.state(trained).items()
        }

    def trace(self, batch: Batch, training: bool, fine: bool = False) -> dict[str, np.ndarray]:
        """Intermediate values by `faceoff.core.weights.trace_names`, in order. Changes nothing.

        Args:
            training: batch statistics instead of running ones.
            fine: parts of layers too.
        """
        found = self._pass(batch, training, fine=fine).trace
        return {name: _plain(found[name]) for name in trace_names(self._spec, fine)}

    def through_time(self, batch: Batch) -> tuple[dict[str, Array], Array]:
        """States and the gradients by them along the sequence, in one backward pass. Changes nothing.

        Returns:
            `{"h0": ..., "c0": ...}`: h_t and c_t before each time step; and dLoss/dh_t, where h_t and c_t are taken as
            independent. Each `(sequence_length, batch_size, hidden_size)`, t = 0 to sequence_length - 1.

        Raises:
            InputError: not a recurrent model of one layer, many-to-one.
        """
        spec = self._spec
        if not isinstance(spec, RecurrentSpec) or spec.num_layers != 1 or spec.many_to_many:
            raise InputError(
                "no gradient by each state",
                where="reference",
                got=spec.label,
                expected="a recurrent model of one layer, many-to-one",
            )
        weights = self._entering()
        passed = self._pass(batch, training=True, weights=weights)
        by_logits = softmax_cross_entropy(passed.logits, batch.targets)[1]
        states, gradients = recurrent.through_time(spec, weights, passed.saved, by_logits)
        return {name: _plain(value) for name, value in states.items()}, _plain(gradients)

    def _entering(self) -> Weights:
        """The weights as a pass takes them."""
        return {name: self._arithmetic.narrow(value) for name, value in self._weights.items()}

    def _pass(self, batch: Batch, training: bool, weights: Weights | None = None, fine: bool = False) -> Forward:
        """A forward pass; `weights` from `_entering` where the backward pass needs them too."""
        check_batch(self._spec, len(batch.targets), batch)
        arithmetic = self._arithmetic
        inputs = {name: arithmetic.narrow(arithmetic.array(value)) for name, value in batch.inputs.items()}
        return self._family.forward(self._spec, weights or self._entering(), inputs, training, fine)

    def _differentiate(self, batch: Batch) -> tuple[dict[str, Any], Forward, Backward]:
        weights = self._entering()
        passed = self._pass(batch, training=True, weights=weights)
        loss, by_logits = softmax_cross_entropy(passed.logits, batch.targets)
        back = self._family.backward(self._spec, weights, passed.saved, by_logits)
        gradients = {
            "loss": loss.item(),
            "weights": {name: _plain(back.weights[name]) for name in trainable_names(self._spec)},
            "inputs": {name: _plain(value) for name, value in back.inputs.items()},
        }
        return gradients, passed, back


def _plain(value: Array) -> Array:
    return np.array(value, order="C", subok=False)
