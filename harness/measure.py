"""The schedule of rounds: interleaved over the contenders in random order, every other worker paused.

A pass runs one round of each contender, in an order drawn anew, so that drift of the machine hits all alike. Before
each round, one call that is not timed brings back what the pause let go cold.
"""

from __future__ import annotations

import statistics as central
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.errors import WorkerError
from harness.core.spec import Contender, Workload
from harness.pool import Pool, Worker
from harness.results import Comparison, Speed
from harness.statistics import median_interval, ratio_interval, verdict

MIN_ROUND_S = 0.01
WARMUP_CALLS = 3
WARMUP_S = 0.2


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Args:
        max_time_s: seconds of timed rounds for one case; passes end when the mean case has spent it.
        min_rounds: passes that are run whatever they cost.
        max_rounds: passes after which measuring ends.
        min_round_s: a round repeats its call until it lasts about this long.
    """

    max_time_s: float = 0.8
    min_rounds: int = 7
    max_rounds: int = 30
    min_round_s: float = MIN_ROUND_S


@dataclass
class Rounds:
    """What was measured of one case so far: seconds per call of each round, calls a round, warm-up calls."""

    durations_s: list[float]
    iterations: int
    warmup_calls: int
    last_batch: int = 0

    def summary(self) -> Speed:
        """Median and interval of the rounds."""
        return Speed(
            rounds_s=self.durations_s,
            iterations=self.iterations,
            warmup_calls=self.warmup_calls,
            median_s=central.median(self.durations_s),
            interval_s=median_interval(self.durations_s),
        )


Measured = dict[Contender, "Rounds | WorkerError"]


def measure(
    pool: Pool, contenders: Sequence[Contender], step: str, budget: Budget, seed: int, on_round: Callable[[float], None]
) -> Measured:
    """Times one step of the model that each worker holds.

    Args:
        pool: of the workers; each of `contenders` has built its model and loaded its batches.
        contenders: who is timed.
        step: `inference`, `gradients` or `training`.
        budget: how long.
        seed: of the order.
        on_round: called with the share done, 0 to 1, after each pass.

    Returns:
        The rounds of each contender, or the WorkerError that ended it; the others went on.
    """
    measured: Measured = {}
    order = np.random.default_rng(seed)
    with pool.quiet():
        for contender in contenders:
            try:
                with pool.awake(contender) as worker:
                    measured[contender] = _warm_up(worker, step, budget)
            except WorkerError as error:
                measured[contender] = error
        spent_s = 0.0
        for index in range(budget.max_rounds):
            running = [contender for contender in contenders if isinstance(measured[contender], Rounds)]
            if not running or (index >= budget.min_rounds and spent_s >= budget.max_time_s * len(running)):
                break
            for position in order.permutation(len(running)):
                spent_s += _run_round(pool, running[position], step, measured)
            on_round(max((index + 1) / budget.max_rounds, spent_s / (budget.max_time_s * len(running))))
    return measured


def _warm_up(worker: Worker, step: str, budget: Budget) -> Rounds:
    """Calls until the first-call costs are past, and finds how many calls make a round."""
    calls, spent_s, fastest_s = 0, 0.0, float("inf")
    while calls < WARMUP_CALLS or spent_s < WARMUP_S:
        duration_s = worker.request("time", step=step, warmup=0, iterations=1, start=calls)["duration_ns"] / 1e9
        calls, spent_s, fastest_s = calls + 1, spent_s + duration_s, min(fastest_s, duration_s)
    if not fastest_s > 0:
        raise WorkerError(
            "the clock stands still",
            outcome="crashed",
            where=str(worker.contender),
            got=f"{fastest_s} s for a call",
            expected="more than 0 s",
        )
    return Rounds([], max(1, round(budget.min_round_s / fastest_s)), calls)


def _run_round(pool: Pool, contender: Contender, step: str, measured: Measured) -> float:
    rounds = measured[contender]
    assert isinstance(rounds, Rounds)
    try:
        with pool.awake(contender) as worker:
            reply = worker.request(
                "time", step=step, warmup=1, iterations=rounds.iterations, start=len(rounds.durations_s)
            )
    except WorkerError as error:
        measured[contender] = error
        return 0.0
    duration_s = float(reply["duration_ns"]) / 1e9
    rounds.durations_s.append(duration_s / rounds.iterations)
    rounds.last_batch = reply["last_batch"]
    return duration_s


def last_value(worker: Worker, step: str) -> np.ndarray:
    """What the last timed call returned: the logits, or the loss. Raises WorkerError."""
    value: np.ndarray = worker.request("last_value", step=step)["value"]
    return value


def compare_speeds(workload: Workload, speeds: Mapping[Contender, Speed], seed: int) -> list[Comparison]:
    """Each contender against the fastest one on this workload, by ratio of medians.

    Args:
        workload: what was run.
        speeds: of the contenders that agree, in the order of the report.
        seed: of the bootstrap.
    """
    if not speeds:
        return []
    baseline = min(speeds, key=lambda contender: speeds[contender].median_s)
    comparisons = []
    for contender, speed in speeds.items():
        if contender == baseline:
            continue
        ratio, low, high = ratio_interval(speed.rounds_s, speeds[baseline].rounds_s, seed)
        comparisons.append(
            Comparison(
                workload=workload.name,
                contender=str(contender),
                baseline=str(baseline),
                ratio=ratio,
                interval=(low, high),
                verdict=verdict(low, high),
            )
        )
    return comparisons
