"""Dropout by the same masks on all sides: what each side's layers leave out becomes one more input of the model.

Frameworks draw other random numbers, so by default dropout is off. Where a user asks for it, every side says in which
order its dropout layers are called, and with what. Calls are paired by that order. A mask is drawn for each call of the
reference side, and is given to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from faceoff.core.errors import InputError, WorkerError
from faceoff.core.own import Input, Port
from faceoff.core.spec import Workload
from faceoff.pool.worker import Worker
from faceoff.workloads.task import Task

# No size of a layer is taken for it, and batch norm has a variance.
EXAMPLES = 3
NAME = "dropout."

Call = Mapping[str, Any]


def with_masks(port: Port, worker_of: Callable[[str], Worker], seed: int, where: str) -> Port:
    """The port with a mask for each call of a dropout layer in training.

    Args:
        port: whose sides have been opened, without dropout.
        worker_of: the worker of a side.
        seed: of the weights and the batch with which layers are called.
        where: the manifest.

    Raises:
        InputError: there is no dropout, that of a side cannot be told masks, or is not that of the reference side.
    """
    told = {side: _calls_of(port, side, worker_of(side), seed, f"{where}: sides.{side}") for side in port.sides}
    reference = told[port.reference]
    if not reference:
        raise InputError(
            "nothing is left out by the reference side", where=f"{where}: dropout", got="no dropout layer is called",
            expected="one at least", next_step="remove the key",
        )  # fmt: skip
    names = [f"{NAME}{number}" for number in range(1, len(reference) + 1)]
    sides = dict(port.sides)
    for side, calls in told.items():
        axes = _paired(reference, calls, side, port.reference, where)
        turned = {name: order for name, order in zip(names, axes, strict=True) if list(order) != sorted(order)}
        layers = {name: str(call["layer"]) for name, call in zip(names, calls, strict=True)}
        sides[side] = replace(sides[side], inputs={**sides[side].inputs, **turned}, dropouts=layers)
    masks = (
        Input(name, tuple(call["shape"][1:]), "mask", kept=1.0 - call["rate"])
        for name, call in zip(names, reference, strict=True)
    )
    return replace(port, inputs=(*port.inputs, *masks), sides=sides)


def _calls_of(port: Port, side: str, worker: Worker, seed: int, where: str) -> list[Call]:
    """The calls of a side's dropout layers, in their order; raises InputError."""
    workload = Workload(port.spec, EXAMPLES, "float32", step="training")
    weights, batches = Task.seeded(workload, seed, batches=1).cast("float32")
    try:
        worker.request("build", workload=workload.to_json(), mode=worker.contender.mode, weights=weights)
        worker.request("load", batches=[batch.to_json() for batch in batches])
        calls: list[Call] = worker.request("dropouts")["calls"]
    except WorkerError as error:
        raise InputError(
            "its dropout cannot be told masks", where=where, got=" ".join((error.reason or str(error)).split()),
            next_step="remove dropout = true, or mend the side",
        ) from None  # fmt: skip
    paths = [call["layer"] for call in calls]
    for call in calls:
        if paths.count(call["layer"]) > 1:
            raise InputError(
                "a dropout layer that is called more than once", where=where, got=call["layer"],
                expected="a layer for each call", next_step="make one more layer",
            )  # fmt: skip
        if not call["shape"] or call["shape"][0] != EXAMPLES:
            raise InputError(
                "dropout of an array whose first axis is not that of the examples", where=where,
                got=f"{call['layer']}: {call['shape']} of {EXAMPLES} examples", next_step="put that axis first there",
            )  # fmt: skip
    return calls


def _paired(
    reference: Sequence[Call], calls: Sequence[Call], side: str, of_reference: str, where: str
) -> list[tuple[int, ...]]:
    """The permutations of axes that make a side's masks of the reference's, call by call; raises InputError."""
    where = f"{where}: sides.{side}"
    if len(calls) != len(reference):
        raise InputError(
            "another number of calls of dropout layers", where=where, got=_listed(calls),
            expected=f"{len(reference)}, as on the reference side: {_listed(reference)}",
            next_step="make them the same, or remove dropout = true",
        )  # fmt: skip
    found = []
    for number, (own, theirs) in enumerate(zip(calls, reference, strict=True), 1):
        pair = f"call {number}: {own['layer']}", f"{theirs['layer']} of {of_reference}"
        if abs(own["rate"] - theirs["rate"]) > 1e-9:
            raise InputError(
                "another dropout rate", where=where, got=f"{pair[0]}: {own['rate']:g}",
                expected=f"{theirs['rate']:g}, as {pair[1]}", next_step="mend the one that is wrong",
            )  # fmt: skip
        order = _order(theirs, own)
        if order is None:
            raise InputError(
                "dropout of another shape", where=where, got=f"{pair[0]}: {own['shape']}",
                expected=f"{theirs['shape']}, as {pair[1]}, or the same with channels elsewhere",
                next_step="put it where the reference side has it",
            )  # fmt: skip
        found.append(order)
    return found


def _order(theirs: Call, own: Call) -> tuple[int, ...] | None:
    """The axes of the reference's array in the order of the side's; None where no order makes the side's."""
    axes = list(range(len(theirs["shape"])))
    if None not in (theirs["channels"], own["channels"]):
        axes.insert(own["channels"], axes.pop(theirs["channels"]))
    # Steps before units, or channels before places: with three axes the layout does not tell.
    orders = [axes, [0, 2, 1]] if len(axes) == 3 else [axes]
    for order in orders:
        if [theirs["shape"][axis] for axis in order] == list(own["shape"]):
            return tuple(order)
    return None


def _listed(calls: Sequence[Call]) -> str:
    return f"{len(calls)} ({', '.join(str(call['layer']) for call in calls)})" if calls else "none"
