"""The schedule of rounds: interleaved over all processes of all contenders in random order, every other one paused.

A pass runs one round of each process, in an order drawn anew, so that drift of the machine hits all alike. Before each
round, calls that are not timed bring back what the pause let go cold. In the first passes and every few later ones a
round of calls in a row goes with it, first in one pass and second in the next. A contender that is clearly faster or
slower than the baseline is measured no further, which leaves time for those that are hard to tell apart.
"""

from __future__ import annotations

import itertools
import statistics as central
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, Workload
from faceoff.core.tuning import TUNED, is_tuned, without
from faceoff.frameworks.manifest import Setting
from faceoff.machine.cards import use_of_card
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool, Seat
from faceoff.results.records import Comparison, NoiseFloor, Process, Result, Speed, TunedSetting
from faceoff.speed.budget import Budget
from faceoff.speed.rounds import (
    DISTURBED_SHARE,
    WAIT_SHARE,
    Rounds,
    end_rounds,
    find_row,
    run_turn,
    warm_up,
)
from faceoff.speed.statistics import LEAST_UNDISTURBED, Precision, Ratio, Sample, adjusted, drift, verdict
from faceoff.speed.stopping import Question, between_contenders, undecided

CHECK_EVERY = 3
# Calls in a row are timed in each of the passes that are run whatever they cost, and in one of so many later ones,
# until that has taken this share of the time that there is for a case.
ROWS_EVERY, ROWS_SHARE = 5, 0.15

Key = TypeVar("Key", bound=Hashable)
Measured = dict[Contender, "list[Rounds] | WorkerError"]


def measure(
    pool: Pool,
    seats: Sequence[Seat],
    step: str,
    budget: Budget,
    seed: int,
    on_round: Callable[[float], None],
    question: Question[Any],
    result_bytes: int = 0,
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
        result_bytes: of what a call returns.

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

    def begin(worker: Worker, seat: Seat) -> None:
        measured[seat] = warm_up(worker, step, budget)
        find_row(worker, step, measured[seat], result_bytes)

    def turn(worker: Worker, seat: Seat, passes: int, with_row: bool) -> None:
        run_turn(worker, step, measured[seat], pool.card, with_row, row_first=passes % 2 == 0)

    def running() -> list[Seat]:
        return [seat for seat in seats if seat.contender not in failed]

    with pool.quiet():
        for seat in seats:
            attempt(seat, partial(begin, seat=seat))
        for processes in _grouped(measured, running(), question).values():
            calls = max(rounds.row.calls for rounds in processes)
            waits_s = [rounds.row.own_wait_s for rounds in processes]
            for rounds in processes:
                rounds.row.calls = calls
                if None in waits_s:
                    rounds.row.own_wait_s = None
        open_groups = {question.group(seat) for seat in seats}
        for passes in itertools.count(1):
            now = [seat for seat in running() if question.group(seat) in open_groups]
            if not now:
                break
            with_row = _groups_with_row(_grouped(measured, running(), question), passes, budget)
            for position in order.permutation(len(now)):
                seat = now[position]
                attempt(seat, partial(turn, seat=seat, passes=passes, with_row=question.group(seat) in with_row))
            groups = _grouped(measured, running(), question)
            done = {group: _share_done(groups[group], budget) for group in open_groups if group in groups}
            on_round(min(done.values(), default=1.0))
            if passes >= budget.min_passes:
                open_groups = {group for group, share in done.items() if share < 1}
                if passes % CHECK_EVERY == 0 and open_groups:
                    open_groups = undecided(precision_of(groups), open_groups, question, budget, done)
        for seat in running():
            attempt(seat, partial(end_rounds, step=step, rounds=measured[seat]))
    kept: Measured = dict(failed)
    for seat in running():
        kept.setdefault(seat.contender, []).append(measured[seat])  # type: ignore[union-attr]
    return kept


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


def _groups_with_row(groups: Mapping[Key, Sequence[Rounds]], passes: int, budget: Budget) -> set[Key]:
    """Whose processes time calls in a row in a pass: the same passes for all, from the first on, to be compared."""
    if passes > budget.min_passes and passes % ROWS_EVERY:
        return set()
    return {
        key
        for key, processes in groups.items()
        if len(processes[0].row.durations_s) < processes[0].row.least
        or sum(rounds.row.spent_s for rounds in processes) < ROWS_SHARE * budget.max_time_s
    }


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
    throughput = throughput_of(measured)
    speeds = {}
    for contender, processes in measured.items():
        middle_s, low_s, high_s = precision.interval(contender)
        calls_s = np.concatenate([call for rounds in processes for call in rounds.calls_s])
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
                    pipelined_disturbed=[int(number) for number in np.flatnonzero(rounds.row.disturbed)],
                    stolen_s=sum(rounds.taken_s),
                    waited_s=sum(rounds.waiting_s),
                    others_s=max(0.0, rounds.busy_s - rounds.cpu_s),
                    switches=rounds.switches,
                    warmup_calls=rounds.warmup_calls,
                    warm=rounds.warm,
                    memory=rounds.memory,
                    drift=drift(rows[contender, index], others_s),
                    device_s=central.median(rounds.device_s) if rounds.device_s else None,
                    stages_s=rounds.stages_s,
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
            **_throughput_fields(processes, throughput.interval(contender) if throughput else None),
            cpu_s=sum(rounds.cpu_s for rounds in processes) / calls,
        )
    return speeds


def throughput_of(measured: Mapping[Key, Sequence[Rounds]]) -> Precision[Key] | None:
    """How surely throughput can be told apart, by the rounds of calls in a row; None where there were none."""
    samples = {}
    for key, processes in measured.items():
        count = min(len(rounds.row.durations_s) for rounds in processes)
        if not count:
            return None
        samples[key] = Sample(
            np.array([rounds.row.durations_s[:count] for rounds in processes]),
            np.array([rounds.row.disturbed[:count] for rounds in processes]),
        )
    return Precision(samples, _is_noisy(measured.values()))


def _throughput_fields(processes: Sequence[Rounds], interval_s: tuple[float, float, float] | None) -> dict[str, Any]:
    """What a `Speed` says of throughput."""
    if interval_s is None:
        return {}
    middle_s, low_s, high_s = interval_s
    calls = processes[0].row.calls
    # Of several calls the first is taken off with its wait.
    last_wait = max(rounds.row.wait_share for rounds in processes) if calls == 1 else 0.0
    return {
        "pipelined_s": middle_s,
        "pipelined_interval_s": (low_s, high_s),
        "pipelined_rounds_s": [duration_s for rounds in processes for duration_s in rounds.row.durations_s],
        "pipelined_calls": calls,
        "last_wait": last_wait,
        "few_calls": processes[0].row.limit if last_wait > WAIT_SHARE else "",
    }


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
    precision, throughput = precision_of(measured), throughput_of(measured)
    baseline_of = between_contenders(baseline, list(measured)).baseline
    comparisons = []
    picked_from = 1
    for contender in measured:
        against, picked_from = baseline_of(precision, contender)
        if contender != against:
            ratio = precision.ratio(contender, against, picked_from)
            comparisons.append(_comparison(workload, contender, against, ratio))
            if throughput:
                in_a_row = throughput.ratio(contender, against, picked_from)
                comparisons[-1].pipelined_ratio = in_a_row.ratio
                comparisons[-1].pipelined_interval = (in_a_row.low, in_a_row.high)
    floor = NoiseFloor(
        workload=workload.name,
        resolvable=precision.noise_floor(picked_from),
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
        plain = [other for other in measured if other.framework == contender.framework and not is_tuned(other.mode)]
        if precision is not None and plain:
            best = precision.fastest(plain)
            found.append(_comparison(workload, contender, best, precision.ratio(contender, best, len(plain) + 1)))
    return found


def record_setting(found: Result, setting: Setting, whole: Contender, workload: Workload) -> TunedSetting:
    """What a setting of a mode `tuned` brings, the verdict still to come.

    Args:
        found: what was timed of the whole mode and of that mode without each setting.
        setting: one of them.
        whole: the mode.
        workload: what was timed.
    """
    other = Contender(whole.framework, without(setting.name))
    record = TunedSetting(
        workload=workload.to_json(), contender=str(whole), setting=setting.name, what=setting.what, outcome="ok"
    )
    for case in found.cases:
        of_interest = case.contender in (str(whole), str(other)) and case.parsed_workload() == workload
        if of_interest and case.outcome != "ok" and record.outcome == "ok":
            record.outcome, record.reason = case.outcome, f"{case.contender}: {case.reason}"
    if record.outcome == "ok":
        of_both = (c for c in found.comparisons if (c.workload, c.contender) == (workload.name, str(other)))
        record.comparison = next(of_both, None)
    return record


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
    """Processor time that other processes and other machines had while rounds were timed, over the rounds' own.

    A process that waits for a card takes next to none, so there it is over the time that the rounds took, if longer.
    """
    every = [rounds for processes in groups for rounds in processes]
    own_s = sum(rounds.cpu_s for rounds in every)
    lost_s = sum(rounds.busy_s + sum(rounds.taken_s) for rounds in every) - own_s
    over_s = sum(max(rounds.cpu_s, rounds.length_s.sum() if rounds.on_gpu else 0.0) for rounds in every)
    return float(lost_s / over_s) if over_s > 0 else 0.0


def decide(comparisons: Sequence[Comparison]) -> None:
    """Gives every comparison of a run its verdict, the error rate being held over all of them together."""
    for comparison, p_value in zip(
        comparisons, adjusted([1.0 if c.p_value is None else c.p_value for c in comparisons]), strict=True
    ):
        comparison.adjusted_p = p_value
        comparison.verdict = verdict(comparison.interval, comparison.ratio, p_value)
