"""The rounding noise of a computation: the spread of the reference's runs in stochastic arithmetic.

Of each quantity there is the noise of the whole, of its largest element, and of each slice that means something: each
row, column, channel, time step or example. It depends on the task, the seed and the reference's code alone, so what was
found once is kept between runs, next to compiled code.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from faceoff.core.precision import storage_dtype
from faceoff.core.weights import Batch
from faceoff.frameworks.caches import cache_root
from faceoff.reference.arithmetic import UNIT_ROUNDOFF
from faceoff.reference.rounding import lost_below
from faceoff.system.whole_files import keep, kept

NOISE_RUNS = 8
LONG_RUN_S = 1.0
# How far a single one of the runs may stand out from all others before it says something about the runs instead.
MOST_REACH, MOST_REACH_OF_SLICES = 3.0, 10.0

Values = dict[str, np.ndarray]
Json = TypeVar("Json")
Run = TypeVar("Run")


@dataclass(frozen=True)
class SliceNoise:
    """The noise of each slice of a quantity along one axis.

    Attributes:
        axis: that is cut.
        rms: of each slice.
        reach: how many of these units the slice that stands out most reaches, where one run is held against all others.
    """

    axis: int
    rms: np.ndarray
    reach: float


@dataclass(frozen=True)
class Noise:
    """The rounding noise of one quantity.

    Attributes:
        rms: over all elements and runs, in the quantity's own unit.
        reach: how many of these units a single run reaches, held against all others; at least 1. Few runs of a quantity
            whose elements err together, as those of a single number do, tell its noise badly: this says how badly.
        largest: the largest error of an element in any run; None where it is not known.
        slices: along every axis, where there are several.
        left_out: flat positions that cannot be judged, as the exact value or that of a run is no finite number.
    """

    rms: float
    reach: float = 1.0
    largest: float | None = None
    slices: Sequence[SliceNoise] = ()
    left_out: Sequence[int] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, to four digits."""
        return {
            "rms": self.rms,
            "reach": self.reach,
            "largest": self.largest,
            "slices": [
                {"axis": part.axis, "rms": [float(f"{v:.4g}") for v in part.rms], "reach": part.reach}
                for part in self.slices
            ],
            "left_out": list(self.left_out),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Noise:
        """What `to_json` wrote."""
        slices = [SliceNoise(part["axis"], np.array(part["rms"]), part["reach"]) for part in data["slices"]]
        return Noise(data["rms"], data["reach"], data["largest"], slices, data["left_out"])

    def times(self, factor: float) -> Noise:
        """The same, `factor` times as large."""
        slices = [SliceNoise(part.axis, part.rms * factor, part.reach) for part in self.slices]
        largest = None if self.largest is None else self.largest * factor
        return Noise(self.rms * factor, self.reach, largest, slices, self.left_out)

    def or_larger(self, other: Noise) -> Noise:
        """The larger of both, in the whole, in the largest error and in each slice."""
        pairs = zip(self.slices, other.slices, strict=True)
        slices = [SliceNoise(a.axis, np.maximum(a.rms, b.rms), max(a.reach, b.reach)) for a, b in pairs]
        largest = [value for value in (self.largest, other.largest) if value is not None]
        return Noise(
            max(self.rms, other.rms),
            max(self.reach, other.reach),
            max(largest, default=None),
            slices,
            sorted({*self.left_out, *other.left_out}),
        )


def rms(values: np.ndarray) -> float:
    """Root mean square over all elements; 0 for none."""
    wide = np.asarray(values, dtype=np.float64)
    largest = float(np.max(np.abs(wide), initial=0.0))
    # Relative to the largest, so that squares neither vanish nor overflow; NaN stays NaN.
    return largest * float(np.sqrt(np.mean(np.square(wide / largest)))) if largest not in (0.0, np.inf) else largest


def rms_of_slices(values: np.ndarray) -> list[np.ndarray]:
    """The root mean square of each slice, along every axis in turn; none for arrays of fewer than two axes."""
    if values.ndim < 2:
        return []
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return [np.full(size, largest) for size in values.shape]
    extremes = largest < 1e-140 or largest > 1e140
    squares = np.square(values / largest) if extremes else np.square(values)
    scale = largest if extremes else 1.0
    found = []
    for axis, size in enumerate(values.shape):
        others = tuple(number for number in range(values.ndim) if number != axis)
        roots = np.sqrt(squares.mean(axis=others)) * scale
        if size > 1 and (roots < 1e-140).any():
            # Slices much smaller than the rest, whose squares have vanished, are looked at one by one.
            for position in np.flatnonzero(roots < 1e-140):
                roots[position] = rms(np.take(values, position, axis=axis))
        found.append(roots)
    return found


@dataclass
class Distance:
    """How far one run is from the exact values of one quantity.

    Attributes:
        whole: the rms over all elements.
        largest: of the elements' distances.
        slices: the rms of each slice, along every axis.
        left_out: flat positions where the run has no finite number; they count as zero above.
    """

    whole: float
    largest: float
    slices: list[np.ndarray]
    left_out: np.ndarray = field(default_factory=lambda: np.array([], dtype=int))

    def times(self, factor: float) -> Distance:
        """The same, `factor` times as far."""
        return Distance(
            self.whole * factor, self.largest * factor, [part * factor for part in self.slices], self.left_out
        )


def distance_of(exact: np.ndarray, got: np.ndarray) -> Distance:
    """How far `got` is from `exact`, of the same shape; elements without a finite difference are left out."""
    return distance_by(np.asarray(got - exact, dtype=np.float64))


def distance_by(difference: np.ndarray) -> Distance:
    """How far two arrays are apart, by their difference, float64; elements of it that are not finite are left out."""
    left_out = np.array([], dtype=int)
    largest = float(np.max(np.abs(difference), initial=0.0))
    if not np.isfinite(largest):
        left_out = np.flatnonzero(~np.isfinite(difference))
        difference = np.where(np.isfinite(difference), difference, 0.0)
        largest = float(np.max(np.abs(difference), initial=0.0))
    slices = rms_of_slices(difference)
    # Slices along an axis hold as many elements each.
    return Distance(rms(slices[0] if slices else difference), largest, slices, left_out)


Distances = dict[str, Distance]


def distances(exact: Values, run: Values) -> Distances:
    """How far a run is from the exact values, by quantity."""
    with np.errstate(invalid="ignore", over="ignore"):
        return {name: distance_of(value, run[name]) for name, value in exact.items()}


def enlarged(exact: Values, run: Values, times: Sequence[float]) -> list[Distances]:
    """How far a run would be off whose roundings were so many times as large, for each of several times.

    As many times as far. But a second moment is a square: that of a gradient which is zero but for rounding grows with
    the square of the roundings, so it is the root that is moved.
    """
    found: list[Distances] = [{} for _ in times]
    with np.errstate(invalid="ignore", over="ignore"):
        for name, value in exact.items():
            if name.startswith("second moment"):
                root, other = (np.sqrt(np.maximum(values, 0.0)) for values in (value, run[name]))
                each = [distance_of(value, np.square(root + (other - root) * factor)) for factor in times]
            else:
                off = distance_of(value, run[name])
                each = [off.times(factor) for factor in times]
            for distances_then, distance in zip(found, each, strict=True):
                distances_then[name] = distance
    return found


def noise_of(exact: Values, runs: Iterable[Values], dtype: str) -> dict[str, Noise]:
    """The spread of stochastic runs around the exact values, by quantity; see `noise_from`."""
    return noise_from(exact, [distances(exact, run) for run in runs], dtype)


def noise_from(exact: Values, of_runs: Sequence[Mapping[str, Distance]], dtype: str) -> dict[str, Noise]:
    """The noise that the `distances` of all runs make, by quantity.

    Never finer than the rounding of the result itself: half a unit in the last place of a value of the quantity's size,
    and no less than the smallest normal number, but where the value is zero.
    """
    return {name: _noise(value, [run[name] for run in of_runs], dtype) for name, value in exact.items()}


def _noise(exact: np.ndarray, runs: Sequence[Distance], dtype: str) -> Noise:
    held = storage_dtype(dtype)
    left_out = np.unique(np.concatenate([np.flatnonzero(~np.isfinite(exact)), *(run.left_out for run in runs)]))
    size = np.abs(np.where(np.isfinite(exact), exact, 0.0))
    # What decays below the smallest normal number may vanish, or come to rest above what it would decay to: times 0.99
    # rounds to itself there.
    own = np.maximum(UNIT_ROUNDOFF[held] * size, np.where(size > 0, lost_below(held), 0.0))
    whole = np.array([run.whole for run in runs])
    slices = []
    for axis, (floor, *parts) in enumerate(zip(rms_of_slices(own), *(run.slices for run in runs), strict=True)):
        if exact.shape[axis] > 1:
            by_run = np.array(parts)
            reach = _reach(by_run, floor, MOST_REACH_OF_SLICES)
            slices.append(SliceNoise(axis, _root_sum(by_run, floor), reach))
    return Noise(
        rms=float(_root_sum(whole[:, np.newaxis], np.array([rms(own)]))[0]),
        reach=_reach(whole[:, np.newaxis], np.array([rms(own)]), MOST_REACH),
        largest=max(float(np.max(own, initial=0.0)), *(run.largest for run in runs)),
        slices=slices,
        left_out=left_out.astype(int).tolist(),
    )


def _root_sum(by_run: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """The root of the runs' mean square `(runs, slices)`, and the floor added as another error."""
    largest = np.maximum(np.max(by_run, axis=0, initial=0.0), floor)
    largest = np.where(largest == 0, 1.0, largest)
    squares = np.mean(np.square(by_run / largest), axis=0) + np.square(floor / largest)
    found: np.ndarray = largest * np.sqrt(squares)
    return found


def _reach(by_run: np.ndarray, floor: np.ndarray, most: float) -> float:
    """How far the one run and slice that stands out most is from zero, in units of what the other runs say; 1 to most.

    Were a contender's errors those of one more run, it would stand out as far as often.
    """
    runs = len(by_run)
    if runs < 2:
        return 1.0
    others = np.array([_root_sum(np.delete(by_run, run, axis=0), floor) for run in range(runs)])
    known = others > 0
    ratios = by_run[known] / others[known]
    return float(np.clip(np.max(ratios, initial=1.0), 1.0, most))


def run_all(run: Callable[[int], Run], at_once: Callable[[], int], long_s: float = LONG_RUN_S) -> list[Run]:
    """What every stochastic run finds, by its number; runs that take long go side by side.

    The first one tells: short ones would only wait for each other, as they are mostly Python.

    Args:
        run: makes the run of a number.
        at_once: how many can go side by side, asked after the first.
        long_s: what is long.
    """
    began_s = time.monotonic()
    first = run(0)
    if time.monotonic() - began_s < long_s or (count := at_once()) == 1:
        return [first, *(run(number) for number in range(1, NOISE_RUNS))]
    with ThreadPoolExecutor(count) as executor:
        return [first, *executor.map(run, range(1, NOISE_RUNS))]


def task_key(kind: str, settings: Sequence[object], weights: Values, batches: Sequence[Batch]) -> str:
    """A name for the noise of one task: a digest of all that it depends on, the reference's source included."""
    digest = hashlib.sha256(repr((kind, NOISE_RUNS, np.__version__, _source(), *settings)).encode())
    for name in sorted(weights):
        digest.update(weights[name].tobytes())
    for batch in batches:
        for name in sorted(batch.inputs):
            digest.update(batch.inputs[name].tobytes())
        digest.update(batch.targets.tobytes())
    return digest.hexdigest()


def remembered(key: str, compute: Callable[[], Json]) -> Json:
    """What `compute` returned for this key in this run or an earlier one; a damaged or missing file is made anew."""
    path = cache_root() / "noise" / f"{key}.json"
    text = kept(path)
    if text is not None:
        found: Json = json.loads(text)
        return found
    noise = compute()
    keep(path, json.dumps(noise))
    return noise


def remembered_noise(key: str, compute: Callable[[], dict[str, Noise]]) -> dict[str, Noise]:
    """As `remembered`, of the noise of each quantity."""
    made: dict[str, Noise] = {}

    def as_json() -> dict[str, Any]:
        made.update(compute())
        return {name: noise.to_json() for name, noise in made.items()}

    found = remembered(key, as_json)
    return made or {name: Noise.from_json(noise) for name, noise in found.items()}


@functools.cache
def _source() -> str:
    package = Path(__file__).resolve().parents[1]
    names = (
        "agreement/noise.py",
        "agreement/check.py",
        "agreement/flips.py",
        "agreement/quantities.py",
        "agreement/training.py",
        "agreement/gradient_norms.py",
        "workloads/task.py",
        "core/weights.py",
    )
    files = [*sorted((package / "reference").glob("*.py")), *(package / name for name in names)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
