"""The schedule of rounds: interleaved over all processes of all contenders in random order, every other one paused.

A pass runs one round of each process, in an order drawn anew, so that drift of the machine hits all alike. Before each
round, calls that are not timed bring back what the pause let go cold. A contender that is clearly faster or slower than
the baseline is measured no further, which leaves time for those that are hard to tell apart.
"""

from __future__ import annotations

import itertools
import math
import statistics as central
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from harness.budget import Budget
from harness.cards import Card, Reading, use_of_card
from harness.core.errors import WorkerError
from harness.core.spec import Contender, Workload
from harness.environments import TUNED
from harness.live_worker import Worker
from harness.pool import Pool, Seat
from harness.results import Comparison, NoiseFloor, Process, Speed
from harness.statistics import LEAST_UNDISTURBED, Precision, Ratio, Sample, adjusted, drift, verdict
from harness.stopping import Question, between_contenders, undecided

WARMUP_CALLS = 3
# Rounds that get faster by less than this are warm.
WARMING = 0.03
PIPELINED_ROUNDS = 3
# While it warms up a worker is asked for more calls at a time when those of a request take less than this.
REQUEST_S = 1e-3
# What a pause let go cold costs a call this long less than a hundredth.
LONG_CALL_S = 0.1
# So long after a pause calls are slower, with TensorFlow's thread pools by a third: threads have to find a core.
SETTLING_S = 0.015
# A round is disturbed when cores were taken away for this share of it; a workload, when others had so much of them.
DISTURBED_SHARE = 0.1
SLEPT_S = 0.001
CHECK_EVERY = 3

Key = TypeVar("Key", bound=Hashable)


@dataclass
class Rounds:
    """What was measured of one process so far, one entry a round."""

    iterations: int
    warmup_calls: int
    fastest_s: float
    process_id: int = 0
    durations_s: list[float] = field(default_factory=list)
    taken_s: list[float] = field(default_factory=list)
    waiting_s: list[float] = field(default_factory=list)
    broken: list[bool] = field(default_factory=list)
    calls_s: list[np.ndarray] = field(default_factory=list)
    pipelined_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    busy_s: float = 0.0
    device_s: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    last_batch: int = 0
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def disturbed(self) -> np.ndarray:
        """In which rounds something other than the work took time, by the kernel's accounting, never by their duration.

        Threads of a process wait for a core in every round where there are more of them than cores. So what counts is
        how much longer they waited than in the process's median round.
        """
        length_s = np.array(self.durations_s) * self.iterations
        taken, waiting = np.array(self.taken_s) / length_s, np.array(self.waiting_s) / length_s
        lost = taken + np.maximum(0.0, waiting - np.median(waiting)) if len(length_s) else taken
        disturbed: np.ndarray = (lost > DISTURBED_SHARE) | np.array(self.broken, dtype=bool)
        return disturbed


Measured = dict[Contender, "list[Rounds] | WorkerError"]


def measure(
    pool: Pool,
    seats: Sequence[Seat],
    step: str,
    budget: Budget,
    seed: int,
    on_round: Callable[[float], None],
    question: Question[Any],
) -> Measured:
    """Times one step of the model that each process holds.

    Args:
        pool: of the workers; each of `seats` has built its model and loaded its batches.
        seats: the processes that are timed, of each contender as many.
        step: `inference`, `gradients` or `training`.
        budget: how long.
        seed: of the order.
        on_round: called with the share done, 0 to 1, after each pass.
        question: what is to be told apart.

    Returns:
        The rounds of each contender's processes, or the WorkerError that ended it; the others went on. Who was clear
        early has fewer passes than the others.
    """
    measured: dict[Seat, Rounds] = {}
    failed: dict[Contender, WorkerError] = {}
    order = np.random.default_rng(seed)

    def attempt(seat: Seat, action: Callable[[Worker], None]) -> None:
        if seat.contender in failed:
            return
        try:
            with pool.awake(seat) as worker:
                action(worker)
        except WorkerError as error:
            failed.setdefault(seat.contender, error)

    def running() -> list[Seat]:
        return [seat for seat in seats if seat.contender not in failed]

    with pool.quiet():
        for seat in seats:
            attempt(seat, partial(_warm_up, step=step, budget=budget, measured=measured, seat=seat))
        open_groups = {question.group(seat) for seat in seats}
        for passes in itertools.count(1):
            now = [seat for seat in running() if question.group(seat) in open_groups]
            if not now:
                break
            for position in order.permutation(len(now)):
                attempt(now[position], partial(_run_round, step=step, rounds=measured[now[position]], card=pool.card))
            groups = _grouped(measured, running(), question)
            done = {group: _share_done(groups[group], budget) for group in open_groups if group in groups}
            on_round(min(done.values(), default=1.0))
            if passes >= budget.min_passes:
                open_groups = {group for group, share in done.items() if share < 1}
                if passes % CHECK_EVERY == 0 and open_groups:
                    open_groups = undecided(precision_of(groups), open_groups, question, budget, done)
        for seat in running():
            attempt(seat, partial(_run_pipelined, step=step, rounds=measured[seat]))
    kept: Measured = dict(failed)
    for seat in running():
        kept.setdefault(seat.contender, []).append(measured[seat])  # type: ignore[union-attr]
    return kept


def _warm_up(worker: Worker, step: str, budget: Budget, measured: dict[Seat, Rounds], seat: Seat) -> None:
    """Calls until they get no faster, and finds how many calls make a round."""
    calls_s: list[float] = []
    calls, iterations, spent_s = 0, 1, 0.0
    while True:
        reply = worker.request("time", step=step, warmup=0, iterations=iterations, start=calls)
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
        if duration_s < REQUEST_S:
            iterations *= 2
    fastest_s = min(calls_s)
    measured[seat] = Rounds(max(1, round(budget.min_round_s / fastest_s)), calls, fastest_s, worker.process_id)


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


def _run_round(worker: Worker, step: str, rounds: Rounds, card: Card | None) -> None:
    warmup = settling_calls(rounds)
    start = len(rounds.durations_s)
    reply = worker.request("time", step=step, warmup=warmup, iterations=rounds.iterations, start=start)
    rounds.durations_s.append(_duration_s(worker, reply) / rounds.iterations)
    rounds.calls_s.append(np.asarray(reply["call_ns"]) / 1e9)
    rounds.taken_s.append(reply["stolen_s"])
    rounds.waiting_s.append(reply["waited_s"])
    rounds.broken.append(reply["major_faults"] > 0 or reply["asleep_s"] > SLEPT_S)
    if reply["device_s"] is not None:
        rounds.device_s.append(reply["device_s"] / rounds.iterations)
    if card is not None:
        reading = card.read()
        rounds.readings.append(reading)
        rounds.broken[-1] = rounds.broken[-1] or reading.disturbed
    rounds.cpu_s += reply["cpu_s"]
    rounds.busy_s += reply["busy_s"]
    rounds.last_batch = reply["last_batch"]


def _run_pipelined(worker: Worker, step: str, rounds: Rounds) -> None:
    count = PIPELINED_ROUNDS if rounds.fastest_s < LONG_CALL_S else 1
    for number in range(count):
        warmup = settling_calls(rounds) if number == 0 else 0
        reply = worker.request("time", step=step, warmup=warmup, iterations=rounds.iterations, start=0, pipelined=True)
        rounds.pipelined_s.append(float(reply["duration_ns"]) / 1e9 / rounds.iterations)
    rounds.last_batch = reply["last_batch"]
    rounds.memory = worker.request("memory")


def precision_of(groups: Mapping[Key, Sequence[Rounds]]) -> Precision[Key]:
    """How surely groups of processes that were measured on one workload can be told apart."""
    return Precision({key: _as_sample(processes) for key, processes in groups.items()}, _is_noisy(groups.values()))


def _as_sample(processes: Sequence[Rounds]) -> Sample:
    # A contender whose process died is not here, so all have run in every pass.
    return Sample(
        np.array([rounds.durations_s for rounds in processes]), np.array([rounds.disturbed for rounds in processes])
    )


def _grouped(
    measured: Mapping[Seat, Rounds], seats: Sequence[Seat], question: Question[Any]
) -> dict[Any, list[Rounds]]:
    groups: dict[Any, list[Rounds]] = {}
    for seat in seats:
        groups.setdefault(question.group(seat), []).append(measured[seat])
    return groups


def _share_done(processes: Sequence[Rounds], budget: Budget) -> float:
    """Of the passes that there is time for, how many a group has had."""
    spent_s = sum(sum(rounds.durations_s) * rounds.iterations for rounds in processes)
    return max(len(processes[0].durations_s) / budget.max_passes, spent_s / budget.max_time_s)


def summarise(
    measured: Mapping[Contender, Sequence[Rounds]], own_processes: Collection[int] = ()
) -> dict[Contender, Speed]:
    """The speed of each contender on one workload, with what its own processes and everybody's say of its spread.

    Args:
        measured: rounds of each contender's processes, which all ran in the same passes.
        own_processes: ids of the run's other processes, which may hold a card too.
    """
    if not measured:
        return {}
    precision = precision_of(measured)
    own_processes = {*own_processes, *(rounds.process_id for processes in measured.values() for rounds in processes)}
    rows = {
        (c, index): np.array(p.durations_s) for c, processes in measured.items() for index, p in enumerate(processes)
    }
    speeds = {}
    for contender, processes in measured.items():
        middle_s, low_s, high_s = precision.interval(contender)
        calls_s = np.concatenate([call for rounds in processes for call in rounds.calls_s])
        pipelined_s = [duration_s for rounds in processes for duration_s in rounds.pipelined_s]
        records = []
        for index, rounds in enumerate(processes):
            passes = len(rounds.durations_s)
            others_s = np.array(
                [row[:passes] for key, row in rows.items() if key != (contender, index) and len(row) >= passes]
            )
            records.append(
                Process(
                    passes=passes,
                    disturbed=[int(number) for number in np.flatnonzero(rounds.disturbed)],
                    stolen_s=sum(rounds.taken_s),
                    waited_s=sum(rounds.waiting_s),
                    others_s=max(0.0, rounds.busy_s - rounds.cpu_s),
                    warmup_calls=rounds.warmup_calls,
                    memory=rounds.memory,
                    drift=drift(rows[contender, index], others_s),
                    device_s=central.median(rounds.device_s) if rounds.device_s else None,
                    card=use_of_card(rounds.readings, rounds.process_id, own_processes),
                )
            )
        p50_s, p90_s, p99_s = (float(value) for value in np.quantile(calls_s, [0.5, 0.9, 0.99]))
        calls = sum(len(rounds.durations_s) * rounds.iterations for rounds in processes)
        speeds[contender] = Speed(
            rounds_s=[duration_s for rounds in processes for duration_s in rounds.durations_s],
            iterations=processes[0].iterations,
            warmup_calls=sum(rounds.warmup_calls for rounds in processes),
            time_s=middle_s,
            interval_s=(low_s, high_s),
            processes=records,
            latency_s=(p50_s, p90_s, p99_s),
            pipelined_s=central.median(pipelined_s) if pipelined_s else None,
            cpu_s=sum(rounds.cpu_s for rounds in processes) / calls,
        )
    return speeds


def last_value(worker: Worker, step: str) -> np.ndarray:
    """What the last timed call returned: the logits, or the loss. Raises WorkerError."""
    value: np.ndarray = worker.request("last_value", step=step)["value"]
    return value


def compare_speeds(
    workload: Workload, measured: Mapping[Contender, Sequence[Rounds]], baseline: Contender | None = None
) -> tuple[list[Comparison], NoiseFloor | None]:
    """Each contender against the baseline on this workload, its verdict still to come (`decide`).

    Args:
        workload: what was run.
        measured: rounds of the processes of the contenders that agree, in the order of the report.
        baseline: what all are compared with; None means the fastest.
    """
    if not measured:
        return [], None
    precision = precision_of(measured)
    baseline_of = between_contenders(baseline, list(measured)).baseline
    comparisons = []
    for contender in measured:
        against, picked_from = baseline_of(precision, contender)
        if contender != against:
            ratio = precision.ratio(contender, against, picked_from)
            comparisons.append(_comparison(workload, contender, against, ratio))
    floor = NoiseFloor(
        workload=workload.name,
        resolvable=precision.noise_floor(),
        twins={str(contender): precision.twin_ratio(contender) for contender in measured},
        disturbed=_disturbed_share(measured.values()),
        noisy=_is_noisy(measured.values()),
    )
    return comparisons, floor


def compare_tuned(workload: Workload, measured: Mapping[Contender, Sequence[Rounds]]) -> list[Comparison]:
    """Each framework's mode `tuned` against the fastest of its others: what tuning brings. The verdict is to come."""
    tuned = [contender for contender in measured if contender.mode == TUNED]
    found = []
    precision = precision_of(measured) if tuned else None
    for contender in tuned:
        plain = [other for other in measured if other.framework == contender.framework and other.mode != TUNED]
        if precision is not None and plain:
            best = precision.fastest(plain)
            found.append(_comparison(workload, contender, best, precision.ratio(contender, best, len(plain) + 1)))
    return found


def _comparison(workload: Workload, contender: Contender, baseline: Contender, ratio: Ratio) -> Comparison:
    return Comparison(
        workload=workload.name,
        contender=str(contender),
        baseline=str(baseline),
        ratio=ratio.ratio,
        interval=(ratio.low, ratio.high),
        verdict="unresolved",
        p_value=ratio.p_value,
    )


def _is_noisy(groups: Collection[Sequence[Rounds]]) -> bool:
    return _disturbed_share(groups) > LEAST_UNDISTURBED or _lost_share(groups) > DISTURBED_SHARE


def _disturbed_share(groups: Collection[Sequence[Rounds]]) -> float:
    return float(np.mean(np.concatenate([rounds.disturbed for processes in groups for rounds in processes])))


def _lost_share(groups: Collection[Sequence[Rounds]]) -> float:
    """Processor time that other processes and other machines had while rounds were timed, over the rounds' own."""
    every = [rounds for processes in groups for rounds in processes]
    own_s = sum(rounds.cpu_s for rounds in every)
    lost_s = sum(rounds.busy_s + sum(rounds.taken_s) for rounds in every) - own_s
    return lost_s / own_s if own_s > 0 else 0.0


def decide(comparisons: Sequence[Comparison]) -> None:
    """Gives every comparison of a run its verdict, the error rate being held over all of them together."""
    for comparison, p_value in zip(
        comparisons, adjusted([1.0 if c.p_value is None else c.p_value for c in comparisons]), strict=True
    ):
        comparison.adjusted_p = p_value
        comparison.verdict = verdict(comparison.interval, comparison.ratio, p_value)
