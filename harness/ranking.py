"""Which contender to choose in a situation, and how surely: what the page recomputes as the reader moves its controls.

A contender's cost is the weighted geometric mean of what it costs by each criterion, over all workloads that fit the
situation; so a score, its logarithm, is a weighted mean of logarithms, and a difference of scores is a ratio of costs.
Times have intervals, so scores are normal variables, and each contender's probability of being best is an integral over
its own score of the chance that all others cost more. No difference of latencies is surer than the run's own comparison
with the baseline says. Start-up, memory and numerical error have no interval: they are taken as they stand, and where
nothing else matters there is no probability.

`report/templates/choose.js` does the same in the page; `tests/browser` holds the two against each other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import ndtr
from scipy.stats import norm

from harness.core.errors import HarnessError
from harness.core.spec import Workload
from harness.cost_records import ColdStart
from harness.results import CaseResult, Comparison, Result
from harness.statistics import CONFIDENCE, TIE_MARGIN

CRITERIA = ("latency", "throughput", "start", "memory", "error")
TIMED = ("latency", "throughput")
MOST_WEIGHT = 4
# Below a tenth of what rounding does by itself, one error is as good as another.
LEAST_ERROR_UNITS = 0.1
# Contenders without an interval are told apart by any difference.
LEAST_DEVIATION = 1e-9
NORMAL_QUANTILE = float(norm.ppf(0.5 + CONFIDENCE / 2))
_GRID = np.linspace(-8, 8, 2001)
_DENSITY = norm.pdf(_GRID) / norm.pdf(_GRID).sum()


@dataclass(frozen=True)
class Costs:
    """What one contender costs on one workload; natural logarithms, None where it was not measured.

    Attributes:
        deviation, throughput_deviation: standard deviations of the logarithms of both times.
    """

    latency: float
    deviation: float
    throughput: float | None = None
    throughput_deviation: float = 0.0
    start: float | None = None
    memory: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class Measured:
    """One workload with the costs of all contenders that can be compared on it.

    Attributes:
        kind, step, dtype, device, batch_size: what a situation picks by.
        absent: the contenders that cannot be compared, with the outcome, or `not timed`.
    """

    name: str
    kind: str
    step: str
    dtype: str
    device: str
    batch_size: int
    costs: dict[str, Costs]
    absent: dict[str, str]


@dataclass(frozen=True)
class Situation:
    """What a reader has to do and what matters to them.

    Attributes:
        models: kinds of model.
        batch: smallest and largest batch size.
        weights: of `CRITERIA`, 0 or more; a criterion that is not named has none.
    """

    models: frozenset[str]
    step: str
    dtype: str
    device: str
    batch: tuple[int, int]
    weights: Mapping[str, float]

    def fits(self, workload: Measured) -> bool:
        """Whether a workload belongs to the situation."""
        return (
            workload.kind in self.models
            and (workload.step, workload.dtype, workload.device) == (self.step, self.dtype, self.device)
            and self.batch[0] <= workload.batch_size <= self.batch[1]
        )


@dataclass(frozen=True)
class Place:
    """A contender in a ranking.

    Attributes:
        score: logarithm of its weighted cost over that of the first.
        deviation: standard deviation of its own score.
        best: probability that it costs least; None where nothing that matters has an interval.
        near: probability that it costs at most `TIE_MARGIN` more than any other; likewise.
    """

    contender: str
    score: float
    deviation: float
    best: float | None
    near: float | None


@dataclass(frozen=True)
class Ranking:
    """The contenders of a situation, the lowest cost first.

    Attributes:
        answer: `best`: the first is, at 95 %; `alike`: two or more are within the margin, at 95 %; `open`: neither is
            certain; `least`: the first, or several alike, cost least as measured, once; `only`: nothing to compare
            with; `nothing`: no workload, no contender or no criterion.
        leaders: whom the answer is about.
        workloads: names of those that fit.
        left_out: contender to why it has no place.
    """

    answer: Literal["best", "alike", "open", "least", "only", "nothing"]
    leaders: list[str]
    places: list[Place] = field(default_factory=list)
    workloads: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def measured(result: Result) -> list[Measured]:
    """The workloads of a result that can be chosen by, in the order of the file."""
    disagreeing = {
        (check.contender, _model_key(check.workload)) for check in result.agreements if check.outcome == "disagrees"
    }
    errors = {
        (check.contender, _model_key(check.workload), str(check.workload.get("dtype"))): check.worst.noise_units
        for check in result.agreements
        if check.worst is not None and check.worst.noise_units is not None
    }
    starts = {
        (start.contender, _model_key(start.workload)): start for start in result.cold_starts if start.outcome == "ok"
    }
    found: dict[str, Measured] = {}
    for case in result.cases:
        try:
            workload = case.parsed_workload()
        except (HarnessError, TypeError, ValueError, AttributeError):
            continue
        if workload.name not in found:
            at = workload
            found[at.name] = Measured(at.name, at.model.kind, at.step, at.dtype, at.device, at.batch_size, {}, {})
        here = found[workload.name]
        key = _model_key(case.workload)
        if case.outcome != "ok" or (case.contender, key) in disagreeing:
            here.absent[case.contender] = case.outcome if case.outcome != "ok" else "disagrees"
        elif (costs := _costs(case, starts.get((case.contender, key)), _error(errors, case, workload, key))) is None:
            here.absent[case.contender] = "not timed"
        else:
            here.costs[case.contender] = costs
    for comparison in result.comparisons:
        if comparison.workload in found:
            _make_no_surer(found[comparison.workload].costs, comparison)
    return list(found.values())


def _make_no_surer(costs: dict[str, Costs], comparison: Comparison) -> None:
    """Widens a contender's deviation until its difference from the baseline is no surer than their comparison says."""
    ours, theirs = costs.get(comparison.contender), costs.get(comparison.baseline)
    low, high = (_log(bound) for bound in comparison.interval)
    if ours is None or theirs is None or low is None or high is None:
        return
    variance = ((high - low) / (2 * NORMAL_QUANTILE)) ** 2 - theirs.deviation**2
    if variance > ours.deviation**2:
        costs[comparison.contender] = dataclasses.replace(ours, deviation=math.sqrt(variance))


def _model_key(record: Mapping[str, object]) -> str:
    return f"{record.get('model')} {record.get('batch_size')} {record.get('device')}"


def _error(
    errors: Mapping[tuple[str, str, str], float], case: CaseResult, workload: Workload, key: str
) -> float | None:
    units = errors.get((case.contender, key, workload.dtype))
    return None if units is None else max(units, LEAST_ERROR_UNITS)


def _costs(case: CaseResult, start: ColdStart | None, error: float | None) -> Costs | None:
    speed = case.speed
    if speed is None:
        return None
    middle, low, high = (_log(value) for value in (speed.time_s, *speed.interval_s))
    if middle is None or low is None or high is None:
        return None
    deviation = max((high - low) / (2 * NORMAL_QUANTILE), LEAST_DEVIATION)
    low, high = (_log(bound) for bound in speed.pipelined_interval_s or (None, None))
    return Costs(
        latency=middle,
        deviation=deviation,
        throughput=_log(speed.pipelined_s),
        # Older results have none of its own.
        throughput_deviation=deviation if low is None or high is None else (high - low) / (2 * NORMAL_QUANTILE),
        start=_log(start.total_s if start is not None else None),
        memory=_log(memory_bytes(case)),
        error=_log(error),
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


def rank(workloads: list[Measured], situation: Situation) -> Ranking:
    """Ranks the contenders that can be compared on every workload of the situation, by every criterion that weighs."""
    names, scores, left_out = _scores(workloads, situation)
    if not scores:
        return Ranking("nothing", [], [], names, left_out)
    places = _places(scores)
    if len(places) == 1:
        return Ranking("only", [places[0].contender], places, names, left_out)
    if places[0].best is None:
        least = [place.contender for place in places if place.score <= LEAST_DEVIATION]
        return Ranking("least", least, places, names, left_out)
    near = [place.contender for place in places if (place.near or 0) >= CONFIDENCE]
    if len(near) > 1:
        return Ranking("alike", near, places, names, left_out)
    if places[0].best >= CONFIDENCE:
        return Ranking("best", [places[0].contender], places, names, left_out)
    leaders = [place.contender for place in places if (place.best or 0) > 1 - CONFIDENCE]
    return Ranking("open", leaders, places, names, left_out)


def is_measured(workloads: list[Measured], criterion: str) -> bool:
    """Whether a criterion can be chosen by: some contender was measured by it on some of the workloads."""
    return any(getattr(costs, criterion) is not None for workload in workloads for costs in workload.costs.values())


def factor(first: Place, other: Place) -> tuple[float, float, float]:
    """How many times as much the other costs, with its 95 % interval."""
    middle = other.score - first.score
    half = NORMAL_QUANTILE * math.hypot(first.deviation, other.deviation)
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def leaders_by_weight(workloads: list[Measured], situation: Situation) -> dict[str, list[str]]:
    """Who comes first as one criterion's weight goes from 0 to `MOST_WEIGHT` and the others stay; empty for nobody."""
    found = {}
    for criterion in CRITERIA:
        firsts = []
        for weight in range(MOST_WEIGHT + 1):
            weights = {**situation.weights, criterion: weight}
            _, scores, _ = _scores(workloads, dataclasses.replace(situation, weights=weights))
            firsts.append(min(scores, key=lambda name: scores[name][0], default=""))
        found[criterion] = firsts
    return found


def _scores(
    workloads: list[Measured], situation: Situation
) -> tuple[list[str], dict[str, tuple[float, float]], dict[str, str]]:
    """The names of the workloads that fit, each contender's score with its deviation, and who has none and why."""
    here = [workload for workload in workloads if situation.fits(workload)]
    weights = {
        name: float(situation.weights.get(name, 0))
        for name in CRITERIA
        if situation.weights.get(name, 0) > 0 and is_measured(here, name)
    }
    left_out: dict[str, str] = {}
    scores: dict[str, tuple[float, float]] = {}
    for contender in dict.fromkeys(name for workload in here for name in (*workload.costs, *workload.absent)):
        reason = _why_not(contender, here, weights)
        if reason:
            left_out[contender] = reason
        elif weights:
            scores[contender] = _score([workload.costs[contender] for workload in here], weights)
    return [workload.name for workload in here], scores, left_out


def _why_not(contender: str, workloads: list[Measured], weights: Mapping[str, float]) -> str:
    for workload in workloads:
        if contender not in workload.costs:
            return f"{workload.absent.get(contender, 'not asked')} on {workload.name}"
        for criterion in weights:
            if getattr(workload.costs[contender], criterion) is None:
                return f"no {criterion} measured on {workload.name}"
    return ""


def _score(costs: list[Costs], weights: Mapping[str, float]) -> tuple[float, float]:
    total = sum(weights.values())
    score = sum(weight * sum(getattr(c, name) for c in costs) for name, weight in weights.items()) / total / len(costs)
    if not any(name in weights for name in TIMED):
        return score, 0.0
    latency, throughput = (weights.get(name, 0) / total for name in TIMED)
    # Both come of the same processes: what one is off by, the other may be too.
    each = (latency * c.deviation + throughput * c.throughput_deviation for c in costs)
    return score, max(math.sqrt(sum(deviation**2 for deviation in each)) / len(costs), LEAST_DEVIATION)


def _places(scores: Mapping[str, tuple[float, float]]) -> list[Place]:
    ordered = sorted(scores, key=lambda name: scores[name][0])
    lowest = scores[ordered[0]][0]
    middle = np.array([scores[name][0] - lowest for name in ordered])
    deviation = np.array([scores[name][1] for name in ordered])
    return [
        Place(
            name,
            float(middle[at]),
            float(deviation[at]),
            _probability(at, middle, deviation, 0.0) if deviation[at] else None,
            _probability(at, middle, deviation, math.log1p(TIE_MARGIN)) if deviation[at] else None,
        )
        for at, name in enumerate(ordered)
    ]


def _probability(at: int, middle: np.ndarray, deviation: np.ndarray, margin: float) -> float:
    """That one's score is at most `margin` above the lowest of the others."""
    own = middle[at] + deviation[at] * _GRID
    chance = _DENSITY.copy()
    for other in range(len(middle)):
        if other != at:
            chance *= ndtr((middle[other] + margin - own) / deviation[other])
    return float(chance.sum())
