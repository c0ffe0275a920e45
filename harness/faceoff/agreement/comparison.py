"""One quantity of a contender against the reference's: error measures, and the one limit that decides.

A quantity is looked at as a whole, at its largest error, and slice by slice along every axis, each in units of its own
noise: a single wrong element or column is nothing to a whole matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from faceoff.agreement.noise import Distance, Noise, Values, distance_by
from faceoff.core.weights import STATES, carrier_dtype, round_to
from faceoff.results.agreements import Quantity

NOISE_LIMIT = 8.0


def compare_quantity(name: str, got: np.ndarray | None, reference: np.ndarray, dtype: str, noise: Noise) -> Quantity:
    """One quantity against the reference.

    Args:
        name: of the quantity.
        got: the contender's value in `dtype`, or None when it gave none.
        reference: float64.
        dtype: working dtype.
        noise: of this quantity in `dtype`.
    """
    if got is None or got.shape != reference.shape:
        return without_value(name, _find_problem(got, reference, dtype))
    if noise.left_out:
        judged = np.ones(reference.shape, dtype=bool)
        judged.reshape(-1)[list(noise.left_out)] = False
        got, reference = np.where(judged, got, np.zeros_like(got)), np.where(judged, reference, 0.0)
    problem = _find_problem(got, reference, dtype)
    difference = np.subtract(got, reference, dtype=np.float64)
    worst = np.unravel_index(int(np.argmax(np.abs(difference))), reference.shape)
    scale = float(np.max(np.abs(reference), initial=0.0))
    largest = abs(float(difference[worst]))
    error = largest / scale if scale > 0 else (0.0 if largest == 0 else float("inf"))
    view = max(_views(name, distance_by(difference), noise), key=lambda view: view.units)
    if view.where and not view.along:
        view = view._replace(where=f"the element {[int(i) for i in worst]}")
    units = float("nan") if problem == NOT_FINITE else view.units
    if np.isinf(units):
        problem = problem or "not zero where the reference is"
    return Quantity(
        name=name,
        agrees=not problem and units <= NOISE_LIMIT,
        error=_finite(error),
        noise_units=_finite(units),
        limit=NOISE_LIMIT,
        worst_index=[int(i) for i in worst],
        got=_finite(float(got[worst])),
        reference=_finite(float(reference[worst])),
        problem=problem,
        where=view.where,
        left_out=len(noise.left_out),
    )


def without_value(name: str, problem: str) -> Quantity:
    """A quantity of which there is nothing to compare, and why."""
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


class _View(NamedTuple):
    """One way to look at a quantity.

    Attributes:
        units: the error, in units of noise.
        where: the slice, in words; empty for the whole.
        along: whether it is a slice along an axis.
    """

    units: float
    where: str = ""
    along: bool = False


def _views(name: str, distance: Distance, noise: Noise) -> Iterator[_View]:
    yield _View(_units(distance.whole, noise.rms) / noise.reach)
    if noise.largest is not None:
        yield _View(_units(distance.largest, noise.largest), "largest")
    words = _axis_words(name, len(distance.slices))
    for part in noise.slices:
        found = distance.slices[part.axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.where(found > 0, found / part.rms, 0.0)
        worst = int(np.argmax(np.where(np.isnan(units), np.inf, units)))
        yield _View(float(units[worst]) / part.reach, f"{words[part.axis]} {worst}", True)


def _units(distance: float, noise: float) -> float:
    return distance / noise if noise > 0 else (0.0 if distance == 0 else float("inf"))


def _axis_words(name: str, axes: int) -> list[str]:
    """What is counted along each axis of a quantity, by its name."""
    if name in (f"gradient of input {state!r}" for state in STATES):
        words = ["layer", "example", "unit"]
    elif name.startswith(("gradient of '", "weight ")) or " of '" in name:
        words = ["row", "column"] if axes == 2 else ["output channel", "kernel row", "kernel column", "input channel"]
    elif axes == 4:
        words = ["example", "row", "column", "channel"]
    else:
        words = ["example", "time step", "unit"] if axes == 3 else ["example", "unit"]
    return words if len(words) == axes else [f"place on axis {axis}:" for axis in range(axes)]


NOT_FINITE = "not finite"


def _find_problem(got: np.ndarray | None, reference: np.ndarray, dtype: str) -> str:
    if got is None:
        return "missing"
    if got.shape != reference.shape:
        return f"wrong shape: got {list(got.shape)}, expected {list(reference.shape)}"
    if str(got.dtype) != carrier_dtype(dtype):
        return f"wrong dtype: got {got.dtype}, expected {dtype}"
    if not np.isfinite(got).all():
        return NOT_FINITE
    if dtype == "bfloat16" and not np.array_equal(got, round_to(got, dtype)):
        return "wrong dtype: got digits that bfloat16 does not hold"
    return ""


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def compare_all(expected: Values, got: Values, dtype: str, noise: Mapping[str, Noise]) -> list[Quantity]:
    """Every quantity that the reference has; one that the contender lacks is a disagreement."""
    return [compare_quantity(name, got.get(name), value, dtype, noise[name]) for name, value in expected.items()]
