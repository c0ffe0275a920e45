"""The rounds of one process: warming up, timing, and what the kernel says happened meanwhile."""

from __future__ import annotations

import math
import statistics as central
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.budget import Budget
from harness.cards import Card, Reading
from harness.core.errors import WorkerError
from harness.live_worker import Worker

WARMUP_CALLS = 3
# Rounds that get faster by less than this are warm.
WARMING = 0.03
PIPELINED_ROUNDS = 3
# While it warms up a worker is asked for more calls at a time when those of a request take less than this.
REQUEST_S, TICKS_OF_A_REQUEST = 1e-3, 20
# A clock that has not moved after so many calls, or so long, stands still.
MOST_IN_A_TICK, LONGEST_TICK_S = 2**12, 1.0
# Of the clock, in a round, so that reading it is off by a thousandth at most.
LEAST_TICKS = 1000
# What a pause let go cold costs a call this long less than a hundredth.
LONG_CALL_S = 0.1
# So long after a pause calls are slower, with TensorFlow's thread pools by a third: threads have to find a core.
SETTLING_S = 0.015
# A round is disturbed when cores were taken away for this share of it; a workload, when others had so much of them.
DISTURBED_SHARE = 0.1
SLEPT_S = 0.001


@dataclass
class Rounds:
    """What was measured of one process so far, one entry a round."""

    iterations: int
    warmup_calls: int
    fastest_s: float
    process_id: int = 0
    warm: bool = True
    on_gpu: bool = False
    durations_s: list[float] = field(default_factory=list)
    taken_s: list[float] = field(default_factory=list)
    waiting_s: list[float] = field(default_factory=list)
    broken: list[bool] = field(default_factory=list)
    calls_s: list[np.ndarray] = field(default_factory=list)
    pipelined_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    busy_s: float = 0.0
    switches: int = 0
    device_s: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    last_batch: int = 0
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def length_s(self) -> np.ndarray:
        """How long each round took."""
        return np.array(self.durations_s) * self.iterations

    @property
    def disturbed(self) -> np.ndarray:
        """In which rounds something other than the work took time, as kernel and card account for it, not by duration.

        Threads of a process wait for a core in every round where there are more of them than cores. So what counts is
        how much longer they waited than in the process's median round.
        """
        taken, waiting = np.array(self.taken_s) / self.length_s, np.array(self.waiting_s) / self.length_s
        lost = taken + np.maximum(0.0, waiting - np.median(waiting)) if len(waiting) else taken
        disturbed: np.ndarray = (lost > DISTURBED_SHARE) | np.array(self.broken, dtype=bool)
        return disturbed


def warm_up(worker: Worker, step: str, budget: Budget) -> Rounds:
    """Calls until they get no faster, and finds how many calls make a round. Raises WorkerError."""
    tick_s = worker.start_reply["clock_tick_s"]
    calls_s: list[float] = []
    calls, iterations, spent_s = 0, 1, 0.0
    begin_s = time.monotonic()
    while True:
        reply = worker.request("time", step=step, warmup=0, iterations=iterations, start=calls)
        if not reply["duration_ns"] and iterations < MOST_IN_A_TICK and time.monotonic() - begin_s < LONGEST_TICK_S:
            calls, iterations = calls + iterations, 2 * iterations
            continue
        duration_s = _duration_s(worker, reply)
        # The first one compiles.
        spent_s += duration_s if calls else 0.0
        calls_s.append(duration_s / iterations)
        calls += iterations
        half = len(calls_s) // 2
        warm = central.median(calls_s[half:]) >= (1 - WARMING) * central.median(calls_s[1 : half + 1] or calls_s)
        enough = len(calls_s) >= WARMUP_CALLS and spent_s >= budget.min_warmup_s and warm
        if enough or (len(calls_s) >= WARMUP_CALLS and spent_s >= budget.max_warmup_s):
            break
        if duration_s < max(REQUEST_S, TICKS_OF_A_REQUEST * tick_s):
            iterations *= 2
    fastest_s = min(calls_s[half:])
    # The memory of the case is that of its timed calls, not that of compiling and of checks before.
    worker.request("forget_peak")
    round_s = max(budget.min_round_s, LEAST_TICKS * tick_s)
    iterations = max(1, round(round_s / fastest_s))
    warm = warm or not budget.max_warmup_s
    return Rounds(iterations, calls, fastest_s, worker.process_id, warm, on_gpu=worker.device == "gpu")


def _duration_s(worker: Worker, reply: Mapping[str, Any]) -> float:
    """Of a round; raises WorkerError when no time went by."""
    duration_s = float(reply["duration_ns"]) / 1e9
    if not duration_s > 0:
        raise WorkerError(
            "the clock stands still",
            outcome="crashed",
            where=str(worker.contender),
            got=f"{duration_s} s for a round",
            expected="more than 0 s",
        )
    return duration_s


def settling_calls(rounds: Rounds) -> int:
    """Calls to make after a pause before any is timed."""
    return 0 if rounds.fastest_s >= LONG_CALL_S else max(1, math.ceil(SETTLING_S / rounds.fastest_s))


def run_round(worker: Worker, step: str, rounds: Rounds, card: Card | None) -> None:
    """Times one more round after a pause. Raises WorkerError."""
    warmup = settling_calls(rounds)
    start = len(rounds.durations_s)
    held_up_s = worker.held_up_s
    reply = worker.request("time", step=step, warmup=warmup, iterations=rounds.iterations, start=start)
    rounds.durations_s.append(_duration_s(worker, reply) / rounds.iterations)
    rounds.calls_s.append(np.asarray(reply["call_ns"]) / 1e9)
    rounds.taken_s.append(reply["stolen_s"] + reply["throttled_s"])
    rounds.waiting_s.append(reply["waited_s"])
    stopped = reply["asleep_s"] > SLEPT_S or reply["continued"] > 0 or worker.held_up_s > held_up_s
    rounds.broken.append(reply["major_faults"] > 0 or stopped)
    rounds.switches += reply["switches"]
    if card is not None:
        reading = card.read()
        rounds.readings.append(reading)
        rounds.broken[-1] = rounds.broken[-1] or reading.disturbed
    rounds.cpu_s += reply["cpu_s"]
    rounds.busy_s += reply["busy_s"]
    rounds.last_batch = reply["last_batch"]


def run_pipelined(worker: Worker, step: str, rounds: Rounds) -> None:
    """Times rounds of which only the last call is waited for, and asks for the memory. Raises WorkerError."""
    count = PIPELINED_ROUNDS if rounds.fastest_s < LONG_CALL_S else 1
    for number in range(count):
        warmup = settling_calls(rounds) if number == 0 else 0
        reply = worker.request("time", step=step, warmup=warmup, iterations=rounds.iterations, start=0, pipelined=True)
        rounds.pipelined_s.append(float(reply["duration_ns"]) / 1e9 / rounds.iterations)
        # Where every call is waited for, the device's clock counts the waiting too.
        if reply["device_s"] is not None:
            rounds.device_s.append(reply["device_s"] / rounds.iterations)
    rounds.last_batch = reply["last_batch"]
    rounds.memory = worker.request("memory")
