"""What is written down of a check of agreement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from faceoff.core.errors import Outcome
from faceoff.core.precision import DTYPES
from faceoff.results.costs import Record
from faceoff.results.types import (
    Positive,
    Size,
    WorkloadData,
)

EVERYDAY = "everyday"
BELOW_FLOAT32 = "the same up to float32's rounding, and not beyond"
"""How the note begins of a user's model that agrees in float64 only as float32 would."""


class Quantity(Record):
    """One quantity compared with the reference.

    Attributes:
        name: `output of layer.0 (training)`, `outputs`, `loss`, `gradient of 'layer.0.weight'`,
            `gradient of input 'x'`, `weight 'head.bias' after 3 training steps`,
            `momentum of 'head.bias' after 3 training steps`, ...
        agrees: within the limit of its check.
        error: largest absolute error divided by the reference's largest absolute value; null when not finite.
        noise_units: error in units of this computation's rounding noise in its dtype: of the whole by its rms, of the
            largest element, or of the slice that is farthest off, whichever is most; null when not finite.
        limit: what `noise_units` may reach.
        worst_index, got, reference: the element with the largest error; `got` is null when not finite or absent.
        problem: what else is wrong, such as `not finite`, `wrong shape`, `missing`; empty otherwise.
        where: the slice that `noise_units` is of, such as `column 511` or `time step 3`; empty for the whole.
        left_out: elements that were not judged, as they, or what they are computed from, leave the dtype's range.
    """

    name: str
    agrees: bool
    error: float | None
    noise_units: float | None
    limit: Positive
    worst_index: list[int]
    got: float | None
    reference: float | None
    problem: str = ""
    where: str = ""
    left_out: int = 0

    @property
    def in_short(self) -> str:
        """The problem in two or three words, without its details."""
        return self.problem.partition(":")[0]


class PathPoint(Record):
    """One quantity on the way from the starting weights through every training step, in the order of computation.

    Attributes:
        name, agrees, noise_units, problem: as in `Quantity`.
        first: it disagrees, and everything before it agrees.
        fed_units: of a layer of a user's model: the error where it is given what the reference's layer is given; null
            where that was not tried, or is not finite.
        fed_agrees: whether that is within the limit; null where it was not tried.
    """

    name: str
    agrees: bool
    noise_units: float | None
    problem: str = ""
    first: bool = False
    fed_units: float | None = None
    fed_agrees: bool | None = None


class Agreement(Record):
    """One contender against the reference on one model, batch size, dtype and device, over all quantities.

    Attributes:
        workload: as `Workload.to_json`; its step is `training`, which covers all quantities.
        check: `meaning` (float64) or `precision` (the working dtype).
        situation: kind of weights and inputs, as `faceoff.workloads.situations` names it.
        outcome: `ok`, `disagrees`, or how the case ended otherwise; `reason` says more.
        quantities: all that were compared; where another situation than the everyday one agrees, the worst alone.
        first_difference: the first layer, gradient or weight that differs, empty when all agree.
        message: the disagreement in words, empty when all agree.
        layers: of a user's model, in words: where the difference is made, how many layers were compared, or why none.
        is_placed: whether `layers` says where the difference is made.
        path: every quantity in the order of computation, when it was asked for (`--trace`).
        note: what has to be known of an agreement that holds, such as ReLUs that rounding alone decides; mostly empty.
        examples: of a batch of this size, where fewer were compared than the workload has; else None.
        timed: what is judged of timed calls on the whole batch then: `everything`, or `outputs` alone, as the reference
            does not compute as much. Empty where all examples were compared, and in files that do not tell.
        again: the command that repeats this check.
        log_tail: the end of the worker's log when it crashed or hung.
    """

    workload: WorkloadData
    contender: str
    check: Literal["meaning", "precision"]
    situation: str = EVERYDAY
    outcome: Outcome
    quantities: list[Quantity] = []
    path: list[PathPoint] = []
    note: str = ""
    examples: Size | None = None
    timed: Literal["", "everything", "outputs"] = ""
    first_difference: str = ""
    layers: str = ""
    is_placed: bool = False
    message: str = ""
    again: str = ""
    reason: str = ""
    log_tail: str = ""

    @property
    def first(self) -> Quantity | None:
        """The first quantity in the order of computation that disagrees; None when all agree."""
        return next((quantity for quantity in self.quantities if not quantity.agrees), None)

    @property
    def worst(self) -> Quantity | None:
        """The quantity nearest to, or farthest over, its limit; None when nothing was compared."""
        return max(self.quantities, key=_badness, default=None)

    @property
    def is_everyday(self) -> bool:
        """Whether weights and inputs were as they are drawn."""
        return self.situation == EVERYDAY

    @property
    def check_name(self) -> str:
        """`meaning`, or `meaning in the situation large`."""
        return self.check if self.is_everyday else f"{self.check} in the situation {self.situation}"

    @property
    def badness(self) -> tuple[bool, float]:
        """Sorts checks by how far they are from agreeing."""
        return self.outcome != "ok", _badness(self.worst) if self.worst else 0.0


def meaning_checked_in(agreements: Iterable[Agreement]) -> dict[str, str]:
    """Contenders that offer no float64, and the widest dtype in which they agree: what is known of their meaning."""
    agreed: dict[str, set[str]] = {}
    offered: dict[str, bool] = {}
    for agreement in agreements:
        dtype = str(agreement.workload.get("dtype"))
        if dtype == "float64":
            offered[agreement.contender] = offered.get(agreement.contender, False) or agreement.outcome != "not_offered"
        elif agreement.outcome == "ok":
            agreed.setdefault(agreement.contender, set()).add(dtype)
    return {
        contender: next(dtype for dtype in DTYPES if dtype in agreed[contender])
        for contender, any_offered in offered.items()
        if not any_offered and contender in agreed
    }


def _badness(quantity: Quantity) -> float:
    if quantity.problem or quantity.noise_units is None:
        return float("inf")
    return quantity.noise_units / quantity.limit
