"""The update rules, with their state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from faceoff.core.spec import Optimiser
from faceoff.reference.arithmetic import Arithmetic, Array


class UpdateRule:
    """SGD, momentum, Adam (Kingma and Ba 2015, algorithm 1) or AdamW, each array with its own state.

    Args:
        optimiser: the rule and its constants.
        arithmetic: the arithmetic of the weights.
    """

    def __init__(self, optimiser: Optimiser, arithmetic: Arithmetic) -> None:
        self._constants = optimiser
        self._one = arithmetic.array(1.0)
        # Frameworks may hold the decay rates in the working dtype, where 1 - beta loses digits: so must the noise.
        self._beta1, self._beta2 = self._one * optimiser.beta1, self._one * optimiser.beta2
        self._step = 0
        self._state: dict[str, dict[str, Array]] = {name: {} for name in optimiser.state_names}

    def apply(self, weights: Mapping[str, Array], gradients: Mapping[str, Array]) -> dict[str, Array]:
        """One step: new weights for every name in `gradients`."""
        self._step += 1
        kind, rate = self._constants.kind, self._constants.learning_rate
        update = {"sgd": self._sgd, "momentum": self._momentum, "adam": self._adam, "adamw": self._adam}[kind]
        kept = 1 - rate * self._constants.weight_decay if kind == "adamw" else 1.0
        return {name: self._kept(weights[name], kept) - rate * update(name, g) for name, g in gradients.items()}

    def state(self, weights: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
        """What is held for each of `weights`, by `Optimiser.state_names`; zeros before the first step."""
        return {
            kind: {name: held.get(name, np.zeros_like(value)) for name, value in weights.items()}
            for kind, held in self._state.items()
        }

    @staticmethod
    def _kept(weight: Array, share: float) -> Array:
        kept: Array = weight if share == 1 else share * weight
        return kept

    def _sgd(self, name: str, g: Array) -> Array:
        return g

    def _momentum(self, name: str, g: Array) -> Array:
        velocity = self._state["momentum"]
        v: Array = self._constants.momentum * velocity.get(name, np.zeros_like(g)) + g
        velocity[name] = v
        return v

    def _adam(self, name: str, g: Array) -> Array:
        first, second, beta1, beta2 = (
            self._state["first moment"],
            self._state["second moment"],
            self._beta1,
            self._beta2,
        )
        first[name] = m = beta1 * first.get(name, np.zeros_like(g)) + (1 - beta1) * g
        second[name] = v = beta2 * second.get(name, np.zeros_like(g)) + (1 - beta2) * g**2
        m_hat = m / self._bias_correction(beta1)
        v_hat = v / self._bias_correction(beta2)
        update: Array = m_hat / (np.sqrt(v_hat) + self._constants.epsilon)
        return update

    def _bias_correction(self, beta: Array) -> Array:
        # Rounded anew: with the very rate of the moments its error would cancel, and frameworks that round the rate in
        # the corrections alone would have no noise to be measured by.
        correction: Array = 1 - (self._one * beta) ** self._step
        return correction
