"""Plants faults of the catalogue in models of any size, and tells whether one that is not found changes anything."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from faceoff.agreement.check import Expected, check_agreement
from faceoff.agreement.quantities import contender_quantities
from faceoff.core.precision import storage_dtype
from faceoff.core.spec import Contender
from faceoff.reference.rounding import SMALLEST_NORMAL
from faceoff.results.agreements import Agreement
from tests.meta.faults.fault import Fault
from tests.meta.faults.runner import Runner


class Planted(NamedTuple):
    """What became of one planting.

    Attributes:
        agreement: what the shipped check says.
        has_effect: whether any number differs from the unharmed implementation's by more than the smallest normal
            number of the dtype; some faults change nothing at some sizes. None if the fault is found.
    """

    agreement: Agreement
    has_effect: bool | None


class Planter(Runner):
    """Runs the shipped check on copies of the implementations with a fault in them."""

    def plant(self, fault: Fault, expected: Expected, dtype: str) -> Planted:
        """What the check says of a copy with `fault`, and what that changes if it is not found."""
        contender, task = Contender.parse(fault.contender), expected.task
        found = check_agreement(
            self._load(contender, fault), contender, task, lambda: expected, dtype,
            again="", busy=nullcontext(), detail=expected.detail, situation=fault.situation,
        )  # fmt: skip
        if found.outcome != "ok":
            return Planted(found, None)
        harmed, unharmed = (
            contender_quantities(self._load(contender, which), task, contender.mode, dtype, expected.detail, False)
            for which in (fault, None)
        )
        changed = max(float(np.max(np.abs(harmed[name] - unharmed[name]), initial=0.0)) for name in unharmed)
        return Planted(found, changed > SMALLEST_NORMAL[storage_dtype(dtype)])
