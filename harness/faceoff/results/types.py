"""What values a record may hold: a record that cannot be true can be neither made from a file nor from a journal."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from faceoff.core.errors import HarnessError
from faceoff.core.spec import Workload


def _in_order(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("an interval ends before it begins")
    return interval


def _valid_workload(data: dict[str, Any]) -> dict[str, Any]:
    try:
        Workload.from_json(data)
    except (HarnessError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a workload: {error}") from None
    return data


def _above_zero(value: float) -> float:
    # What was not finite was not measured, which is no lie.
    if value <= 0:
        raise ValueError("should be above 0")
    return value


def _at_least_zero(value: float) -> float:
    if value < 0:
        raise ValueError("should be at least 0")
    return value


def _or_not_finite(value: object) -> object:
    """A number that was not finite is stored as null."""
    return math.nan if value is None else value


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# What a round or a call took: longer than any clock's tick, and no longer than anybody waits.
Duration = Annotated[float, Field(gt=1e-12, lt=1e9)]
Positive = Annotated[float, AfterValidator(_above_zero)]
Ratio = Annotated[float, BeforeValidator(_or_not_finite), AfterValidator(_above_zero)]
_Bound = Annotated[float, BeforeValidator(_or_not_finite), AfterValidator(_at_least_zero)]
Interval = Annotated[tuple[_Bound, _Bound], AfterValidator(_in_order)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
WorkloadData = Annotated[dict[str, Any], AfterValidator(_valid_workload)]
