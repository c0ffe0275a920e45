"""What is wrong with an implementation, in words, beyond an error in noise units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from faceoff.agreement.comparison import without_value
from faceoff.core.errors import WorkerError
from faceoff.results.agreements import Quantity

WITHOUT_EFFECT = "the loss does not depend on it in this implementation"
MISSING_GRADIENT = f"missing: {WITHOUT_EFFECT}"
# What each request would have returned; also the place of a difference that is no value at all.
OF_REQUESTS = {
    "build": "the model",
    "reset": "reset",
    "forward": "outputs",
    "gradients": "loss and gradients",
    "train": "losses in training",
    "weights": "weights",
    "optimiser_state": "optimiser state",
    "trace": "outputs of layers",
}


def explained(quantities: Sequence[Quantity], got: Mapping[str, np.ndarray]) -> list[Quantity]:
    """The quantities, those gradients that are not there, or are nothing but zeros, with what that means.

    Args:
        quantities: as compared.
        got: the contender's values by name.
    """
    return [_explained(quantity, got.get(quantity.name)) for quantity in quantities]


def _explained(quantity: Quantity, got: np.ndarray | None) -> Quantity:
    if quantity.agrees or not quantity.name.startswith("gradient of"):
        return quantity
    if got is None:
        return quantity.model_copy(update={"problem": MISSING_GRADIENT})
    # As frameworks say it that have no word for a gradient that is not there.
    if not quantity.problem and not got.any():
        return quantity.model_copy(update={"problem": f"zero everywhere: {WITHOUT_EFFECT}"})
    return quantity


def unfinished(error: WorkerError) -> Quantity:
    """The quantity that a contender could not give, because of a fault of its own.

    Args:
        error: with the outcome `disagrees`.
    """
    return without_value(OF_REQUESTS.get(error.request, error.request), error.reason or error.what)
