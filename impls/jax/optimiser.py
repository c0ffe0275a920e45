"""optax's optimisers with every constant set, and what they hold."""

from __future__ import annotations

from typing import Any

import jax
import optax

from faceoff.core.spec import Optimiser

STATES = {"momentum": "trace", "first moment": "mu", "second moment": "nu"}


def make_optimiser(optimiser: Optimiser) -> optax.GradientTransformation:
    """An optax optimiser for a flat dict of arrays."""
    if optimiser.kind == "adamw":
        return optax.adamw(
            optimiser.learning_rate, optimiser.beta1, optimiser.beta2, optimiser.epsilon, 0.0,
            weight_decay=optimiser.weight_decay, nesterov=False,
        )  # fmt: skip
    if optimiser.kind == "adam":
        return optax.adam(
            optimiser.learning_rate,
            b1=optimiser.beta1,
            b2=optimiser.beta2,
            eps=optimiser.epsilon,
            eps_root=0.0,
            nesterov=False,
        )
    momentum = optimiser.momentum if optimiser.kind == "momentum" else None
    return optax.sgd(optimiser.learning_rate, momentum=momentum, nesterov=False)


def held_state(state: Any, rule: Optimiser) -> dict[str, dict[str, jax.Array]]:
    """The arrays of each weight in an optax state, by `rule.state_names`."""
    return {name: optax.tree_utils.tree_get(state, STATES[name]) for name in rule.state_names}
