"""The rounds of one process: warming up, timing, and what the kernel says happened meanwhile.

There are two kinds. In a round of latency every call is waited for. In a round of throughput calls follow each other
and only the last is waited for. Its first call takes as long as one that is waited for, which the round of latency in
the same turn tells; what is left is the time of the others. Where a framework itself waits for every call both rounds
would be the same calls once more, and a round of latency is taken for one of throughput too.
"""

from __future__ import annotations

import math
import statistics as central
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faceoff.core.errors import WorkerError
from faceoff.machine.cards import Card, Reading
from faceoff.pool.worker import Worker
from faceoff.speed.budget import Budget

WARMUP_CALLS = 3
# Rounds that get faster by less than this are warm.
WARMING = 0.03
# Waiting for the last call of a round that takes no more of it than this tells nothing.
WAIT_SHARE = 0.01
# Of one call, what is left to wait for where a framework waits by itself.
OWN_WAIT_SHARE = 0.05
ROUNDS_TO_FIND = 3
# In a row there are no fewer calls, so that the first, whose time is taken off, is one of several.
FEWEST_IN_A_ROW = 8
# No round of calls in a row is longer, unless a single call is, and no more results are alive at once.
LONGEST_ROW_S, MOST_ALIVE_BYTES = 0.5, 2**28
# So many rounds of calls in a row have an interval; of long ones, which differ less, half as many.
LEAST_ROWS = 6
# While it warms up a worker is asked for more calls at a time when those of a request take less than this.
REQUEST_S, TICKS_OF_A_REQUEST = 1e-3, 20
# A clock that has not moved after so many calls, or so long, stands still.
MOST_IN_A_TICK, LONGEST_TICK_S = 2**12, 1.0
# Of the clock, in a round, so that reading it is off by a thousandth at most.
LEAST_TICKS = 1000
# So often the stages of an inference are taken, for their median.
STAGE_REPETITIONS = 9
# What a pause let go cold costs a call this long less than a hundredth.
LONG_CALL_S = 0.1
# So long after a pause calls are slower, with some thread pools by a third: threads have to find a core.
SETTLING_S = 0.015
# A round is disturbed when cores were taken away for this share of it; a workload, when others had so much of them.
DISTURBED_SHARE = 0.1
SLEPT_S = 0.001


@dataclass
class Row:
    """Rounds of calls in a row of one process, one entry a round.

    Attributes:
        calls: in a round.
        limit: why there are no more of them.
        waits_s: how long the last call of each was waited for.
        own_wait_s: what is left to wait for after a call, where the framework waits by itself; None where it does not.
    """

    calls: int = 1
    limit: str = ""
    durations_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    taken_s: list[float] = field(default_factory=list)
    waiting_s: list[float] = field(default_factory=list)
    broken: list[bool] = field(default_factory=list)
    own_wait_s: float | None = None

    @property
    def spent_s(self) -> float:
        """How long all of them took, as if the first call of each were like those that follow it."""
        return sum(self.durations_s) * self.calls

    @property
    def wait_share(self) -> float:
        """Of a round, how much was waiting for its last call, median."""
        shares = [wait_s / (s * self.calls) for wait_s, s in zip(self.waits_s, self.durations_s, strict=True)]
        return central.median(shares) if shares else 1.0

    @property
    def least(self) -> int:
        """How many rounds there are to be at least."""
        long = bool(self.durations_s) and self.spent_s / len(self.durations_s) >= LONG_CALL_S
        return LEAST_ROWS // 2 if long else LEAST_ROWS

    @property
    def disturbed(self) -> np.ndarray:
        """As `Rounds.disturbed`."""
        return _disturbed(np.array(self.durations_s) * self.calls, self.taken_s, self.waiting_s, self.broken)


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
    row: Row = field(default_factory=Row)
    cpu_s: float = 0.0
    busy_s: float = 0.0
    switches: int = 0
    device_s: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    stages_s: dict[str, float] = field(default_factory=dict)

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
        return _disturbed(self.length_s, self.taken_s, self.waiting_s, self.broken)


def _disturbed(
    length_s: np.ndarray, taken_s: Sequence[float], waiting_s: Sequence[float], broken: Sequence[bool]
) -> np.ndarray:
    taken, waiting = np.array(taken_s) / length_s, np.array(waiting_s) / length_s
    lost = taken + np.maximum(0.0, waiting - np.median(waiting)) if len(waiting) else taken
    disturbed: np.ndarray = (lost > DISTURBED_SHARE) | np.array(broken, dtype=bool)
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


def find_row(worker: Worker, step: str, rounds: Rounds, result_bytes: int) -> None:
    """Finds how many calls make a row, and whether the framework waits for every call by itself.

    Args:
        worker: whose calls are warm.
        step: what is called.
        rounds: with the length of a call and how many make a round; gets the `row`.
        result_bytes: of what a call returns, which stays alive until the call is done.

    Raises:
        WorkerError: it failed.
    """
    by_time = max(1, rounds.iterations, math.floor(LONGEST_ROW_S / rounds.fastest_s))
    by_memory = max(1, MOST_ALIVE_BYTES // max(1, result_bytes))
    limit = "each call is long" if by_time <= by_memory else f"more than {MOST_ALIVE_BYTES // 2**20} MiB at once"
    most = min(by_time, by_memory)
    rounds.row = Row(min(most, max(rounds.iterations, FEWEST_IN_A_ROW)), limit)
    if rounds.iterations >= most:
        return
    found = Row(rounds.iterations)
    warmup = settling_calls(rounds)
    for _ in range(ROUNDS_TO_FIND):
        _time_row(worker, step, found, warmup)
        warmup = 0
        # A framework that waits by itself says so at once.
        if found.wait_share <= WAIT_SHARE:
            break
    wait_s = central.median(found.waits_s)
    if found.wait_share <= WAIT_SHARE and wait_s <= OWN_WAIT_SHARE * min(found.durations_s):
        rounds.row = Row(found.calls, limit, own_wait_s=wait_s)


def run_turn(worker: Worker, step: str, rounds: Rounds, card: Card | None, with_row: bool, row_first: bool) -> None:
    """Times one more round of latency, after a pause, and in its turn one of throughput if asked. Raises WorkerError.

    Whichever comes second finds threads more settled, so neither kind always should.
    """
    if not with_row or rounds.row.own_wait_s is not None:
        run_round(worker, step, rounds, card)
    elif row_first:
        run_row(worker, step, rounds, card)
        run_round(worker, step, rounds, card, paused=False)
    else:
        run_round(worker, step, rounds, card)
        run_row(worker, step, rounds, card, paused=False)
    if with_row and rounds.row.own_wait_s is not None:
        _share_round(rounds, rounds.row.own_wait_s)
    elif with_row:
        _take_off_first(rounds)


def run_round(worker: Worker, step: str, rounds: Rounds, card: Card | None, paused: bool = True) -> None:
    """Times one more round, after a pause unless it was not `paused`. Raises WorkerError."""
    warmup = settling_calls(rounds) if paused else 0
    start = len(rounds.durations_s)
    held_up_s = worker.held_up_s
    reply = worker.request("time", step=step, warmup=warmup, iterations=rounds.iterations, start=start)
    rounds.durations_s.append(_duration_s(worker, reply) / rounds.iterations)
    rounds.calls_s.append(np.asarray(reply["call_ns"]) / 1e9)
    rounds.taken_s.append(reply["stolen_s"] + reply["throttled_s"])
    rounds.waiting_s.append(reply["waited_s"])
    rounds.broken.append(_is_broken(worker, reply, held_up_s))
    rounds.switches += reply["switches"]
    if card is not None:
        reading = card.read()
        rounds.readings.append(reading)
        rounds.broken[-1] = rounds.broken[-1] or reading.disturbed
    rounds.cpu_s += reply["cpu_s"]
    rounds.busy_s += reply["busy_s"]


def _is_broken(worker: Worker, reply: dict[str, Any], held_up_s: float) -> bool:
    """Whether pages were read, or machine, worker or harness stood still; `held_up_s` is the worker's before."""
    stopped = reply["asleep_s"] > SLEPT_S or reply["continued"] > 0 or worker.held_up_s > held_up_s
    return bool(reply["major_faults"] > 0 or stopped)


def run_row(worker: Worker, step: str, rounds: Rounds, card: Card | None, paused: bool = True) -> None:
    """Times one more round of calls in a row, after a pause unless it was not `paused`. Raises WorkerError."""
    reply = _time_row(worker, step, rounds.row, settling_calls(rounds) if paused else 0)
    if card is not None:
        rounds.row.broken[-1] = rounds.row.broken[-1] or card.read().disturbed
    # Where every call is waited for, the device's clock counts the waiting too.
    if reply["device_s"] is not None:
        rounds.device_s.append(reply["device_s"] / rounds.row.calls)


def _share_round(rounds: Rounds, wait_s: float) -> None:
    """Takes the last round of latency for one of throughput too, after whose last call so much was left to wait for."""
    row = rounds.row
    row.durations_s.append(rounds.durations_s[-1])
    row.waits_s.append(wait_s)
    row.taken_s.append(rounds.taken_s[-1])
    row.waiting_s.append(rounds.waiting_s[-1])
    row.broken.append(rounds.broken[-1])


def _take_off_first(rounds: Rounds) -> None:
    """Makes the last row's time of a call that of the calls after the first, by the last round of latency."""
    row = rounds.row
    if row.calls > 1:
        whole_s = row.durations_s[-1] * row.calls
        # The calls that follow take half of a row at least, whatever disturbed the round of latency.
        row.durations_s[-1] = max((whole_s - rounds.durations_s[-1]) / (row.calls - 1), whole_s / 2 / row.calls)
        row.broken[-1] = row.broken[-1] or rounds.broken[-1]


def _time_row(worker: Worker, step: str, row: Row, warmup: int) -> dict[str, Any]:
    start, held_up_s = len(row.durations_s), worker.held_up_s
    reply = worker.request("time", step=step, warmup=warmup, iterations=row.calls, start=start, pipelined=True)
    row.durations_s.append(_duration_s(worker, reply) / row.calls)
    row.waits_s.append(reply["wait_ns"] / 1e9)
    row.taken_s.append(reply["stolen_s"] + reply["throttled_s"])
    row.waiting_s.append(reply["waited_s"])
    row.broken.append(_is_broken(worker, reply, held_up_s))
    return reply


def end_rounds(worker: Worker, step: str, rounds: Rounds) -> None:
    """Asks for the memory of the process, and for the stages of an inference; then makes two more timed calls, which
    enter no time. Raises WorkerError.

    The last call is one on the first batch, which is the one whose values are known (`faceoff.agreement.timed_check`).
    """
    rounds.memory = worker.request("memory")
    if step == "inference":
        told = worker.request("stages", repetitions=STAGE_REPETITIONS)
        rounds.stages_s = {name: central.median(seconds.tolist()) for name, seconds in told.items()}
    worker.request("time", step=step, warmup=0, iterations=2, start=-1, pipelined=True)
