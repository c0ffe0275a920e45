"""The rounding noise of a computation: the spread of the reference's runs in stochastic arithmetic.

It depends on the task, the seed and the reference's code alone, so what was found once is kept between runs, next to
compiled code.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from harness.core.precision import storage_dtype
from harness.core.weights import Batch
from harness.environments import cache_root
from harness.reference.arithmetic import UNIT_ROUNDOFF
from harness.whole_files import keep, kept

NOISE_RUNS = 8
LONG_RUN_S = 1.0

Values = dict[str, np.ndarray]
Found = TypeVar("Found", dict[str, float], dict[str, list[float]])


def rms(values: np.ndarray) -> float:
    """Root mean square over all elements; 0 for none."""
    wide = np.asarray(values, dtype=np.float64)
    largest = float(np.max(np.abs(wide), initial=0.0))
    # Relative to the largest, so that squares neither vanish nor overflow; NaN stays NaN.
    return largest * float(np.sqrt(np.mean(np.square(wide / largest)))) if largest not in (0.0, np.inf) else largest


def noise_of(exact: Values, runs: Iterable[Values], dtype: str) -> dict[str, float]:
    """The rms distance of stochastic runs from the exact values, by quantity; see `noise_from`."""
    return noise_from(exact, [distances(exact, run) for run in runs], dtype)


def distances(exact: Values, run: Values) -> dict[str, float]:
    """The rms distance of one stochastic run from the exact values, by quantity."""
    return {name: rms(run[name] - value) for name, value in exact.items()}


def noise_from(exact: Values, of_runs: Sequence[Mapping[str, float]], dtype: str) -> dict[str, float]:
    """The rms over the `distances` of all runs, by quantity.

    Never finer than the rounding of the result itself: half a unit in the last place of a value of the quantity's size.
    """
    roundoff = UNIT_ROUNDOFF[storage_dtype(dtype)]
    return {
        name: float(np.sqrt(np.mean([run[name] ** 2 for run in of_runs]) + (roundoff * rms(value)) ** 2))
        for name, value in exact.items()
    }


def run_all(run: Callable[[int], dict[str, float]], at_once: int) -> list[dict[str, float]]:
    """What every stochastic run finds, by its number; runs that take long go side by side, `at_once` of them.

    Short ones would only wait for each other, as they are mostly Python. The first one tells.
    """
    began_s = time.monotonic()
    first = run(0)
    if at_once == 1 or time.monotonic() - began_s < LONG_RUN_S:
        return [first, *(run(number) for number in range(1, NOISE_RUNS))]
    with ThreadPoolExecutor(at_once) as executor:
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


def remembered(key: str, compute: Callable[[], Found]) -> Found:
    """What `compute` returned for this key in this run or an earlier one; a damaged or missing file is made anew."""
    path = cache_root() / "noise" / f"{key}.json"
    text = kept(path)
    if text is not None:
        found: Found = json.loads(text)
        return found
    noise = compute()
    keep(path, json.dumps(noise))
    return noise


@functools.cache
def _source() -> str:
    folder = Path(__file__).parent
    names = (
        "noise.py",
        "agreement.py",
        "quantities.py",
        "task.py",
        "training.py",
        "gradient_norms.py",
        "core/weights.py",
    )
    files = [*sorted((folder / "reference").glob("*.py")), *(folder / name for name in names)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
