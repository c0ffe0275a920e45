"""The update rules, with their state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.core.spec import Optimiser
from harness.reference.arithmetic import Arithmetic, Array


class UpdateRule:
    """SGD, momentum or Adam (Kingma and Ba 2015, algorithm 1), each array with its own state.

    Args:
        optimiser: the rule and its constants.
        arithmetic: the arithmetic of the weights.
    """

    def __init__(self, optimiser: Optimiser, arithmetic: Arithmetic) -> None:
        self._constants = optimiser
        self._one = arithmetic.array(1.0)
        self._step = 0
        self._velocity: dict[str, Array] = {}
        self._first: dict[str, Array] = {}
        self._second: dict[str, Array] = {}

    def apply(self, weights: Mapping[str, Array], gradients: Mapping[str, Array]) -> dict[str, Array]:
        """One step: new weights for every name in `gradients`."""
        self._step += 1
        update = {"sgd": self._sgd, "momentum": self._momentum, "adam": self._adam}[self._constants.kind]
        return {name: weights[name] - self._constants.learning_rate * update(name, g) for name, g in gradients.items()}

    def _sgd(self, name: str, g: Array) -> Array:
        return g

    def _momentum(self, name: str, g: Array) -> Array:
        v = self._velocity.get(name, np.zeros_like(g))
        self._velocity[name] = self._constants.momentum * v + g
        return self._velocity[name]

    def _adam(self, name: str, g: Array) -> Array:
        beta1, beta2 = self._constants.beta1, self._constants.beta2
        m = self._first.get(name, np.zeros_like(g))
        v = self._second.get(name, np.zeros_like(g))
        self._first[name] = m = beta1 * m + (1 - beta1) * g
        self._second[name] = v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / self._bias_correction(beta1)
        v_hat = v / self._bias_correction(beta2)
        update: Array = m_hat / (np.sqrt(v_hat) + self._constants.epsilon)
        return update

    def _bias_correction(self, beta: float) -> Array:
        # Frameworks compute 1 - beta^t in the working dtype, where it loses digits while t is small: so must the noise.
        return 1 - (self._one * beta) ** self._step
