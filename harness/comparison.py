"""One quantity of a contender against the reference's: error measures, and the one limit that decides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.core.weights import carrier_dtype, round_to
from harness.noise import Values, rms
from harness.results import Quantity

NOISE_LIMIT = 8.0


def compare_quantity(name: str, got: np.ndarray | None, reference: np.ndarray, dtype: str, noise: float) -> Quantity:
    """One quantity against the reference.

    Args:
        name: of the quantity.
        got: the contender's value in `dtype`, or None when it gave none.
        reference: float64.
        dtype: working dtype.
        noise: rms rounding noise of this quantity in `dtype`.
    """
    problem = _find_problem(got, reference, dtype)
    if got is None or got.shape != reference.shape:
        return Quantity(
            name=name,
            agrees=False,
            error=None,
            noise_units=None,
            limit=NOISE_LIMIT,
            worst_index=[],
            got=None,
            reference=None,
            problem=problem,
        )
    difference = np.abs(np.asarray(got, dtype=np.float64) - reference)
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), reference.shape)
    scale = float(np.max(np.abs(reference), initial=0.0))
    largest = float(difference[worst])
    error = largest / scale if scale > 0 else (0.0 if largest == 0 else float("inf"))
    distance = rms(difference)
    units = distance / noise if noise > 0 else (0.0 if distance == 0 else float("inf"))
    if not np.isfinite(noise):
        # Any error is small beside an infinite spread: nothing could fail, so nothing may pass.
        problem = problem or f"cannot be judged: rounding in {dtype} alone makes it overflow"
    elif np.isinf(units):
        problem = problem or "not zero where the reference is"
    return Quantity(
        name=name,
        agrees=not problem and units <= NOISE_LIMIT,
        error=_finite(error),
        noise_units=_finite(units),
        limit=NOISE_LIMIT,
        worst_index=[int(i) for i in worst],
        got=_finite(float(got[worst])),
        reference=float(reference[worst]),
        problem=problem,
    )


def _find_problem(got: np.ndarray | None, reference: np.ndarray, dtype: str) -> str:
    if got is None:
        return "missing"
    if got.shape != reference.shape:
        return f"wrong shape: got {list(got.shape)}, expected {list(reference.shape)}"
    if str(got.dtype) != carrier_dtype(dtype):
        return f"wrong dtype: got {got.dtype}, expected {dtype}"
    if not np.isfinite(got).all():
        return "not finite"
    if dtype == "bfloat16" and not np.array_equal(got, round_to(got, dtype)):
        return "wrong dtype: got digits that bfloat16 does not hold"
    return ""


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def compare_all(expected: Values, got: Values, dtype: str, noise: Mapping[str, float]) -> list[Quantity]:
    """Every quantity that the reference has; one that the contender lacks is a disagreement."""
    return [compare_quantity(name, got.get(name), value, dtype, noise[name]) for name, value in expected.items()]
