"""Does a contender cost more than code written by hand in its framework? `python -m tests.benchmarks.handwritten`.

For each contender a process of its own runs the contender and the hand-written model of the same framework, rounds
interleaved in random order, and prints the ratio of medians with its interval. Exit status 1 when a ratio is above the
limit.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.core.contract import Settings
from harness.core.spec import STEPS, Contender, Workload
from harness.core.weights import seeded_batch, seeded_weights
from harness.environments import cache_directory, parse_contenders, worker_environment
from harness.presets import choose
from harness.worker.server import VERBS

LIMIT = 1.10
MIN_ROUND_S = 0.02


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


def compare(
    contender: Contender, models: list[str], steps: list[str], threads: int, passes: int
) -> list[dict[str, Any]]:
    """Both versions of every model and step, in this process."""
    runtime = importlib.import_module(f"impls.{contender.framework}").RUNTIME
    by_hand = importlib.import_module(f"tests.benchmarks.handwritten.{contender.framework}_models")
    runtime.configure(Settings(device="cpu", threads=threads))
    rows = []
    for sized in choose("default", models):
        workload = Workload(sized.model, sized.batch_size, step="training")
        weights = {name: value.astype("float32") for name, value in seeded_weights(sized.model, 0).items()}
        batches = [seeded_batch(workload, 0, index) for index in range(3)]
        model = runtime.build(workload, weights, contender.mode)
        hand = by_hand.build(workload, weights, contender.mode)
        ours, theirs = [runtime.place(b, workload.dtype) for b in batches], [by_hand.place(b) for b in batches]
        outputs = np.asarray(runtime.fetch(model.forward(ours[0])))
        difference = float(np.abs(outputs - np.asarray(runtime.fetch(hand["inference"](theirs[0])))).max())
        assert difference < 1e-3, f"{sized.model.kind}: the hand-written model computes something else ({difference})"
        for step in steps:
            sides = [(getattr(model, VERBS[step]), ours), (hand[step], theirs)]
            for call, placed in sides:
                time_round(call, runtime.wait, placed, 3)
            once_s = min(time_round(call, runtime.wait, placed, 2) for call, placed in sides)
            iterations = max(1, round(MIN_ROUND_S / once_s))
            rounds: list[list[float]] = [[], []]
            order = np.random.default_rng(0)
            for _ in range(passes):
                for side in order.permutation(2):
                    call, placed = sides[side]
                    rounds[side].append(time_round(call, runtime.wait, placed, iterations))
            ratio, low, high = ratio_interval(rounds[0], rounds[1])
            rows.append(
                {
                    "contender": str(contender),
                    "model": sized.model.kind,
                    "step": step,
                    "contender_s": statistics.median(rounds[0]),
                    "hand_s": statistics.median(rounds[1]),
                    "ratio": ratio,
                    "interval": [low, high],
                }
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contenders", nargs="*", help="framework:mode or framework; all by default")
    parser.add_argument("--models", nargs="*", default=[], help="families; all by default")
    parser.add_argument("--steps", nargs="*", default=list(STEPS))
    parser.add_argument("--passes", type=int, default=40, help="rounds of each version")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    contenders = parse_contenders(asked.contenders)
    if asked.here:
        print(json.dumps(compare(contenders[0], asked.models, asked.steps, asked.threads, asked.passes)))
        return 0
    worst = 0.0
    for contender in contenders:
        command = [sys.executable, "-m", "tests.benchmarks.handwritten", str(contender), "--here"]
        command += ["--models", *asked.models, "--steps", *asked.steps]
        command += ["--passes", str(asked.passes), "--threads", str(asked.threads)]
        environment = worker_environment(contender, asked.threads, cache_directory({}))
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for row in json.loads(run.stdout.splitlines()[-1]):
            low, high = row["interval"]
            worst = max(worst, row["ratio"])
            mark = "" if row["ratio"] <= LIMIT else f"   above {LIMIT}"
            print(
                f"{row['contender']:24} {row['model']:9} {row['step']:10} {1e3 * row['contender_s']:9.3f} ms "
                f"by hand {1e3 * row['hand_s']:9.3f} ms   {row['ratio']:.3f} [{low:.3f}, {high:.3f}]{mark}",
                flush=True,
            )
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
