"""What is wrong with an implementation, in words, beyond an error in noise units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from faceoff.agreement.comparison import without_value
from faceoff.agreement.quantities import is_output
from faceoff.core.errors import WorkerError
from faceoff.core.own import family_of
from faceoff.core.spec import Workload
from faceoff.results.agreements import Agreement, Quantity

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
    outputs = ", ".join(name for name in got if is_output(name))
    return [_explained(quantity, got.get(quantity.name), outputs) for quantity in quantities]


def _explained(quantity: Quantity, got: np.ndarray | None, outputs: str) -> Quantity:
    if got is None and outputs and is_output(quantity.name):
        return quantity.model_copy(update={"problem": f"missing: this side returns {outputs}"})
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


def disagreement_message(agreement: Agreement) -> str:
    """What disagrees first, where, by how much, what is off most, and how to see it again."""
    workload = Workload.from_json(agreement.workload)
    first, worst = agreement.first, agreement.worst
    if first is None or worst is None:
        return ""
    situation = "" if agreement.is_everyday else f", situation {agreement.situation}"
    setting = f"({workload.dtype}, {workload.device}{situation})"
    model = family_of(workload.model)
    head = f"{model} training step, {agreement.contender} against reference {setting}: "
    head += f"{agreement.layers}\n  " if agreement.layers and agreement.is_placed else ""
    head += f"{first.name}: {first.problem}" if first.problem else f"{first.name} {_distance(first)}"
    failing = sum(not quantity.agrees for quantity in agreement.quantities)
    if failing == len(agreement.quantities) == 1:
        lines = [f"{head}; nothing more could be compared"]
    else:
        lines = [f"{head}; {failing} of {len(agreement.quantities)} quantities disagree"]
    if first.reference is not None:
        got = "not finite" if first.got is None else f"{first.got:.9g}"
        lines.append(f"  worst at {first.worst_index}: got {got}, reference {first.reference:.9g}")
    if worst is not first:
        most = f"{worst.name}: {worst.problem}" if worst.problem else f"{worst.name} {_distance(worst)}"
        lines.append(f"  farthest off: {most}")
    lines.append(f"  first difference: {agreement.first_difference or 'none'}        again: {agreement.again}")
    return "\n".join(lines)


def _distance(quantity: Quantity) -> str:
    units = "more" if quantity.noise_units is None else f"{quantity.noise_units:.3g}"
    place = f" in {quantity.where}" if quantity.where else ""
    return f"is {units} noise units off{place} (limit {quantity.limit:g})"
