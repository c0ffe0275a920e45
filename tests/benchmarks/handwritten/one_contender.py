"""One contender beside its hand-written model, in the framework's own interpreter; started by the benchmark.

The request is JSON on the command line. Answers are lines of JSON: the settings in force, then rows, and for what could
not be run its outcome and reason. What a framework prints goes to standard error.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from faceoff.core.contract import Runtime, Settings
from faceoff.core.errors import HarnessError
from faceoff.core.spec import Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.worker.failures import describe_error
from faceoff.worker.server import VERBS

MIN_ROUND_S = 0.02
# Largest distance between both versions, as a share of the largest value: finds other models, not other roundings.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
# What `Runtime.describe` says of precision and of the choice of kernels, which one process has for both versions.
SWITCHES = (
    "float32_matmul_precision", "cudnn_allow_tf32", "cudnn_benchmark", "matmul_precision", "x64", "tensor_float_32",
)  # fmt: skip
Side = tuple[Callable[[Any], Any], list[Any]]


class DifferenceError(HarnessError):
    """Both versions are not the same computation under the same conditions."""


def time_round(call: Callable[[Any], Any], wait: Callable[[Any], None], batches: list[Any], iterations: int) -> float:
    """Seconds per call over one round, each call waited for."""
    wait(call(batches[0]))
    begin_s = time.perf_counter()
    for index in range(iterations):
        wait(call(batches[index % len(batches)]))
    return (time.perf_counter() - begin_s) / iterations


def ratio_interval(values: list[float], baseline: list[float]) -> tuple[float, float, float]:
    """Ratio of medians and its 95 % bootstrap interval over the passes: ratio, low, high. Both ran in one process."""
    ours, theirs = np.asarray(values), np.asarray(baseline)
    drawn = np.random.default_rng(0).integers(0, len(ours), (2000, len(ours)))
    low, high = np.quantile(np.median(ours[drawn], axis=1) / np.median(theirs[drawn], axis=1), [0.025, 0.975])
    return float(np.median(ours) / np.median(theirs)), float(low), float(high)


def compare(sides: list[Side], wait: Callable[[Any], None], passes: int) -> dict[str, Any]:
    """Times the contender and the hand-written version, in this order in `sides`."""
    for call, placed in sides:
        time_round(call, wait, placed, 3)
    once_s = min(time_round(call, wait, placed, 2) for call, placed in sides)
    iterations = max(1, round(MIN_ROUND_S / once_s))
    rounds: list[list[float]] = [[], []]
    order = np.random.default_rng(0)
    for _ in range(passes):
        for side in order.permutation(2):
            call, placed = sides[side]
            rounds[side].append(time_round(call, wait, placed, iterations))
    ratio, low, high = ratio_interval(rounds[0], rounds[1])
    return {
        "contender_s": statistics.median(rounds[0]),
        "hand_s": statistics.median(rounds[1]),
        "ratio": ratio,
        "interval": [low, high],
    }


def leaves(value: Any) -> Iterator[Any]:
    """The arrays in dicts, lists, tuples and dataclasses."""
    if dataclasses.is_dataclass(value):
        yield from leaves(vars(value))
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    elif hasattr(value, "shape"):
        yield value


def devices_of(value: Any) -> set[str]:
    """Where its arrays are."""
    return {str(array.device) for array in leaves(value)}


def values_of(step: str, side: Side, fetch: Callable[[Any], Any]) -> list[np.ndarray]:
    """What tells models apart whatever their layouts: logits, loss and norm of the gradient, or losses of training."""
    call, placed = side
    if step == "training":
        return [np.asarray(fetch(call(batch)), dtype="float64") for batch in placed]
    found = [np.asarray(array, dtype="float64") for array in leaves(fetch(call(placed[0])))]
    if step == "inference":
        return found
    return [found[0], np.sqrt(sum(np.square(array).sum() for array in found[1:]))]


def check_values(step: str, sides: list[Side], fetch: Callable[[Any], Any], dtype: str) -> None:
    """Raises DifferenceError where the hand-written version computes something else."""
    ours, theirs = (values_of(step, side, fetch) for side in sides)
    for mine, other in zip(ours, theirs, strict=True):
        distance = float(np.abs(mine - other).max() / np.abs(mine).max())
        if not distance <= TOLERANCES[dtype]:
            raise DifferenceError(
                "the hand-written model computes something else", where=step, got=f"a distance of {distance:.2g}",
                expected=f"at most {TOLERANCES[dtype]:g} of the largest value",
            )  # fmt: skip


def prepare(runtime: Runtime, by_hand: ModuleType, workload: Workload, mode: str) -> Callable[[str], list[Side]]:
    """Builds both versions, on the same data and device; what it returns gives the two sides of a step."""
    weights = {name: value.astype("float32") for name, value in seeded_weights(workload.model, 0).items()}
    batches = [seeded_batch(workload, 0, index) for index in range(3)]
    model = runtime.build(workload, weights, mode)
    before = runtime.describe()
    hand = by_hand.build(workload, weights, mode)
    after = runtime.describe()
    changed = [name for name in SWITCHES if before.get(name) != after.get(name)]
    if changed:
        raise DifferenceError("the hand-written model changed a switch", where=", ".join(changed))
    ours = [runtime.place(batch, workload.storage_dtype) for batch in batches]
    theirs = [by_hand.place(batch, workload) for batch in batches]
    places = [devices_of(placed) for placed in (ours, theirs)]
    if places[0] != places[1]:
        raise DifferenceError("batches are on different devices", where="place", got=str(places))

    def sides(step: str) -> list[Side]:
        both = [(getattr(model, VERBS[step]), ours), (hand[step], theirs)]
        if step == "inference":
            places = [devices_of(call(placed[0])) for call, placed in both]
            if places[0] != places[1]:
                raise DifferenceError("logits are on different devices", where=step, got=str(places))
        return both

    return sides


def failure(error: Exception) -> dict[str, Any]:
    """What is said of a failure; `device_lost` where the process can use its device no more."""
    found = describe_error(error)
    outcome = "disagrees" if isinstance(error, DifferenceError) else found["outcome"]
    said = {"outcome": outcome, "reason": found["reason"], "device_lost": found["device_lost"]}
    return {**said, "traceback": traceback.format_exc()}


def run(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answers the whole request; what fails is said, and the rest is run as far as the device still works."""
    framework = request["framework"]
    try:
        runtime: Runtime = importlib.import_module(f"impls.{framework}").RUNTIME
        runtime.configure(Settings(device=request["device"], threads=request["threads"]))
        by_hand = importlib.import_module(f"tests.benchmarks.handwritten.{framework}_models")
        yield {"settings": runtime.describe()}
    except Exception as error:
        yield failure(error)
        return
    for name, data in request["workloads"].items():
        for answer in run_workload(runtime, by_hand, Workload.from_json(data), request):
            yield {"workload": name, **answer}
            if answer.get("device_lost"):
                return
        # Models refer to themselves in circles, and would keep their memory until some later collection.
        gc.collect()


def run_workload(
    runtime: Runtime, by_hand: ModuleType, workload: Workload, request: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """A row for each step, or why there is none."""
    try:
        sides_of = prepare(runtime, by_hand, workload, request["mode"])
    except Exception as error:
        yield failure(error)
        return
    for step in request["steps"]:
        try:
            sides = sides_of(step)
            check_values(step, sides, runtime.fetch, workload.dtype)
            yield {"step": step, **compare(sides, runtime.wait, request["passes"])}
        except Exception as error:
            yield {"step": step, **failure(error)}


def main() -> int:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for answer in run(json.loads(sys.argv[1])):
        print(json.dumps(answer), file=channel, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
