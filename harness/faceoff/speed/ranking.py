"""Which contender to choose in a situation, and how surely: what the page recomputes as the reader moves its controls.

A contender's cost is the weighted geometric mean of what it costs by each criterion, over all workloads that fit the
situation; so a score, its logarithm, is a weighted mean of logarithms, and a difference of scores is a ratio of costs.
Times have intervals, so scores are normal variables, and each contender's probability of being best is an integral over
its own score of the chance that all others cost more. `faceoff.speed.criteria` says where they come from. Start-up,
memory and numerical error were measured once and have no interval. Where one of them matters no probability is stated,
as none could hold for the whole.

What was measured on a busy machine is less sure than its intervals say: for a probability they are taken wider, by what
calibration found them to lack there, and no probability is stated above that of an interval.

`report/templates/choose.js` does the same in the page; `tests/browser` holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy.special import ndtr
from scipy.stats import norm

from faceoff.speed.criteria import LEAST_DEVIATION, NORMAL_QUANTILE, Costs, Measured
from faceoff.speed.statistics import CONFIDENCE, TIE_MARGIN

CRITERIA = ("latency", "throughput", "start", "memory", "error")
TIMED = ("latency", "throughput")
MOST_WEIGHT = 4
# On a busy machine 95 % of the intervals of planted differences would have held the true ratio if they had been so many
# times as wide (`reports/published/calibration.json`); and a probability of more than the second is not stated then.
BUSY_WIDENING, MOST_IF_BUSY = 1.5, CONFIDENCE
_GRID = np.linspace(-8, 8, 2001)
_DENSITY = norm.pdf(_GRID) / norm.pdf(_GRID).sum()


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
        best: probability that it costs least; None where something that matters has no interval.
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


def rank(workloads: list[Measured], situation: Situation) -> Ranking:
    """Ranks the contenders that can be compared on every workload of the situation, by every criterion that weighs."""
    names, scores, left_out = _scores(workloads, situation)
    if not scores:
        return Ranking("nothing", [], [], names, left_out)
    busy = any(workload.busy for workload in workloads if situation.fits(workload))
    places = _places(scores, busy)
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
            _, scores, _ = _scores(workloads, replace(situation, weights=weights))
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
    # Nothing says how sure that is which was measured without an interval, nor a cost that it is part of.
    if any(name not in TIMED for name in weights):
        return score, 0.0
    if "throughput" in weights and any(c.throughput_deviation is None for c in costs):
        return score, 0.0
    latency, throughput = (weights.get(name, 0) / total for name in TIMED)
    # Both come of the same processes: what one is off by, the other may be too.
    each = (latency * c.deviation + throughput * (c.throughput_deviation or 0.0) for c in costs)
    return score, max(math.sqrt(sum(deviation**2 for deviation in each)) / len(costs), LEAST_DEVIATION)


def _places(scores: Mapping[str, tuple[float, float]], busy: bool) -> list[Place]:
    ordered = sorted(scores, key=lambda name: scores[name][0])
    lowest = scores[ordered[0]][0]
    middle = np.array([scores[name][0] - lowest for name in ordered])
    deviation = np.array([scores[name][1] for name in ordered])
    widening, most = (BUSY_WIDENING, MOST_IF_BUSY) if busy else (1.0, 1.0)

    def probability(at: int, margin: float) -> float | None:
        # One without an interval leaves no probability to anybody.
        return min(most, _probability(at, middle, widening * deviation, margin)) if deviation.all() else None

    return [
        Place(
            name, float(middle[at]), float(deviation[at]), probability(at, 0.0), probability(at, math.log1p(TIE_MARGIN))
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
