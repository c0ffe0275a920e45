"""What every contender costs on every workload, by all that can matter: what a ranking is made of.

A time in it is the baseline's times the run's own ratio to it, and as sure as that: so of one workload a cost is the
ratio that stands everywhere else. Start-up, memory and numerical error were measured once and have no interval.
Start-up and error belong to the step that was started, and compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from scipy.stats import norm

from faceoff.core.errors import HarnessError
from faceoff.core.spec import Workload
from faceoff.results.agreements import Agreement
from faceoff.results.costs import ColdStart
from faceoff.results.records import CaseResult, Comparison, Result
from faceoff.speed.rounds import WAIT_SHARE
from faceoff.speed.statistics import CONFIDENCE

# Below a tenth of what rounding does by itself, one error is as good as another.
LEAST_ERROR_UNITS = 0.1
# Contenders without an interval are told apart by any difference.
LEAST_DEVIATION = 1e-9
NORMAL_QUANTILE = float(norm.ppf(0.5 + CONFIDENCE / 2))


@dataclass(frozen=True)
class Costs:
    """What one contender costs on one workload; natural logarithms, None where it was not measured.

    Attributes:
        latency, throughput: times of a call, as the comparison with the baseline has them.
        deviation, throughput_deviation: standard deviations of the logarithms of both; of the latter None where it was
            measured without an interval.
        time, row_time: the contender's own times, which the passes with the baseline differ from a little.
    """

    latency: float
    deviation: float
    throughput: float | None = None
    throughput_deviation: float | None = None
    start: float | None = None
    memory: float | None = None
    error: float | None = None
    time: float | None = None
    row_time: float | None = None


@dataclass(frozen=True)
class Measured:
    """One workload with the costs of all contenders that can be compared on it.

    Attributes:
        kind, step, dtype, device, batch_size: what a situation picks by.
        absent: the contenders that cannot be compared, with the outcome, or `not timed`.
        busy: others had the machine too.
        disturbed: share of the rounds.
    """

    name: str
    kind: str
    step: str
    dtype: str
    device: str
    batch_size: int
    costs: dict[str, Costs]
    absent: dict[str, str]
    busy: bool = False
    disturbed: float = 0.0


def measured(result: Result) -> list[Measured]:
    """The workloads of a result that can be chosen by, in the order of the file."""
    disagreeing = {
        (check.contender, _model_key(check.workload)) for check in result.agreements if check.outcome == "disagrees"
    }
    checks = {
        (check.contender, _model_key(check.workload), str(check.workload.get("dtype"))): check
        for check in result.agreements
    }
    starts = starts_by_case(result)
    last_waits: dict[tuple[str, str], float] = {}
    floors = {floor.workload: floor for floor in result.noise_floors}
    found: dict[str, Measured] = {}
    for case in result.cases:
        try:
            workload = case.parsed_workload()
        except (HarnessError, TypeError, ValueError, AttributeError):
            continue
        if workload.name not in found:
            at = workload
            floor = floors.get(at.name)
            trust = (floor.noisy, floor.disturbed) if floor else (False, 0.0)
            where = (at.model.kind, at.step, at.dtype, at.device, at.batch_size)
            found[at.name] = Measured(at.name, *where, {}, {}, *trust)
        here = found[workload.name]
        key = _model_key(case.workload)
        if case.outcome != "ok" or (case.contender, key) in disagreeing:
            here.absent[case.contender] = case.outcome if case.outcome != "ok" else "disagrees"
            continue
        units = step_error(checks.get((case.contender, key, workload.dtype)), workload.step)
        error = None if units is None else max(units, LEAST_ERROR_UNITS)
        if (costs := _costs(case, starts.get((case.contender, workload.name)), error)) is None:
            here.absent[case.contender] = "not timed"
        else:
            here.costs[case.contender] = costs
            last_waits[case.contender, workload.name] = (case.speed.last_wait if case.speed else None) or 0.0
    for name, here in found.items():
        _take_ratios(here.costs, [comparison for comparison in result.comparisons if comparison.workload == name])
        for contender, costs in here.costs.items():
            # Below a hundredth it is next to nothing.
            last_wait, in_a_row = last_waits[contender, name], costs.throughput_deviation
            if in_a_row is not None and last_wait > WAIT_SHARE:
                here.costs[contender] = replace(costs, throughput_deviation=math.hypot(in_a_row, last_wait))
    return list(found.values())


def starts_by_case(result: Result) -> dict[tuple[str, str], ColdStart]:
    """The cold starts that reached their first result, by contender and name of the workload whose step was started."""
    found = {}
    for start in result.cold_starts:
        with suppress(HarnessError, TypeError, ValueError, AttributeError):
            if start.outcome == "ok":
                found[start.contender, Workload.from_json(start.workload).name] = start
    return found


def step_error(check: Agreement | None, step: str) -> float | None:
    """The largest error, in noise units, of what a step computes; None where a quantity of it has none."""
    if check is None:
        return None
    units = [quantity.noise_units for quantity in check.quantities if _is_of(quantity.name, step)]
    return None if None in units else max((unit for unit in units if unit is not None), default=None)


def _is_of(quantity: str, step: str) -> bool:
    """Whether a step computes a quantity; training computes all that is compared."""
    if step == "inference":
        return quantity == "outputs" or (quantity.startswith("output of ") and quantity.endswith("(inference)"))
    return step == "training" or quantity == "loss" or quantity.startswith("gradient of ")


def _take_ratios(costs: dict[str, Costs], comparisons: Sequence[Comparison]) -> None:
    """Puts contenders as far from the baseline, and as surely, as the run's own comparisons say."""
    _take_ratios_of(
        costs, {(c.contender, c.baseline): (c.ratio, c.interval) for c in comparisons}, "latency", "deviation"
    )
    in_a_row = {
        (c.contender, c.baseline): (c.pipelined_ratio, c.pipelined_interval)
        for c in comparisons
        if c.pipelined_ratio is not None and c.pipelined_interval is not None
    }
    _take_ratios_of(costs, in_a_row, "throughput", "throughput_deviation")


def _take_ratios_of(
    costs: dict[str, Costs],
    ratios: Mapping[tuple[str, str], tuple[float, tuple[float, float]]],
    name: str,
    deviation: str,
) -> None:
    for baseline in dict.fromkeys(theirs for _, theirs in ratios):
        middle = getattr(costs.get(baseline), name, None)
        own = getattr(costs.get(baseline), deviation, None)
        found = {}
        for (contender, against), (ratio, interval) in ratios.items():
            log_ratio, low, high = (_log(value) for value in (ratio, *interval))
            known = getattr(costs.get(contender), name, None) is not None
            if against == baseline and known and log_ratio is not None and low is not None and high is not None:
                found[contender] = (log_ratio, (high - low) / (2 * NORMAL_QUANTILE))
        if middle is None or own is None or not found:
            continue
        # The deviation of a difference is shared out; the baseline, which is in all of them, can have no more of any.
        own = min(own, *(both / math.sqrt(2) for _, both in found.values()))
        costs[baseline] = replace(costs[baseline], **{deviation: max(own, LEAST_DEVIATION)})
        for contender, (log_ratio, both) in found.items():
            rest = max(math.sqrt(both**2 - own**2), LEAST_DEVIATION)
            costs[contender] = replace(costs[contender], **{name: middle + log_ratio, deviation: rest})


def _model_key(record: Mapping[str, object]) -> str:
    return f"{record.get('model')} {record.get('batch_size')} {record.get('device')}"


def _costs(case: CaseResult, start: ColdStart | None, error: float | None) -> Costs | None:
    speed = case.speed
    if speed is None:
        return None
    middle, low, high = (_log(value) for value in (speed.time_s, *speed.interval_s))
    if middle is None or low is None or high is None:
        return None
    deviation = max((high - low) / (2 * NORMAL_QUANTILE), LEAST_DEVIATION)
    low, high = (_log(bound) for bound in speed.pipelined_interval_s or (None, None))
    throughput_deviation = None
    if low is not None and high is not None:
        throughput_deviation = max((high - low) / (2 * NORMAL_QUANTILE), LEAST_DEVIATION)
    return Costs(
        latency=middle,
        deviation=deviation,
        throughput=_log(speed.pipelined_s),
        throughput_deviation=throughput_deviation,
        start=_log(start.total_s if start is not None else None),
        memory=_log(memory_bytes(case)),
        error=_log(error),
        time=middle,
        row_time=_log(speed.pipelined_s),
    )


def _log(value: float | None) -> float | None:
    return math.log(value) if value is not None and math.isfinite(value) and value > 0 else None


def memory_bytes(case: CaseResult) -> float | None:
    """Memory that a case takes while it is timed: of its process on the CPU, of the card on a GPU."""
    return _least(case, "host_in_use_bytes" if case.workload.get("device") == "cpu" else "device_peak_bytes")


def host_peak_bytes(case: CaseResult) -> float | None:
    """The most that its process held outside a card while the case was timed."""
    return _least(case, "host_peak_bytes")


def _least(case: CaseResult, name: str) -> float | None:
    """Of its processes: one of them has checked agreement before, also in float64, and holds what that left."""
    processes = case.speed.processes if case.speed is not None else []
    return min((size for process in processes if (size := process.memory.get(name, 0))), default=None)
