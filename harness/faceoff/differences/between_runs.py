"""What differs between two runs of the same thing, and what of a change is therefore a contender's own.

The model, in logarithms: the change of a case is its contender's own change, plus what the machine changed by for the
whole workload, plus what this case differs by from run to run though nothing was changed, plus what rounds and
processes leave unsure. The second is told by the controls: contenders of the same workload whose code, versions and
switches are the same in both files; or by the canary, where there are none. The third has a variance of its own, which
the controls of all workloads tell together: how far each is from the others of its workload.

A contender is judged by the others alone, for the second and for the third, also where all are the same in both files:
else what slowed down a single one would be taken for the machine, or for what runs differ by.

From run to run most cases differ by 1 % and some by 10 % (56 cases of one commit, minutes apart: median 1.0, 90th
percentile 5.7, at most 11 %). So errors are taken for Student's t, and its scale and its degrees of freedom are
averaged over what the controls leave possible. With few of them that is nearly what is known beforehand.
"""

from __future__ import annotations

import math
import statistics as central
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import optimize, special

from faceoff.speed.spread import Error
from faceoff.speed.statistics import CONFIDENCE, Ratio

Basis = Literal["one run", "controls", "canary", "nothing"]

# What a case differs by from run to run: standard deviation, as a share of its time, before anything is known, and by
# how much, as a factor, runs differ in that.
TYPICAL, TYPICAL_FACTOR = 0.015, 2.5
# What is left of the error that rounds and processes tell: pooled over many cases it turns out smaller or larger.
SHARE_FACTOR = 2.0
# By what the workloads differ from each other, and from the canary, in how they follow the machine: dense models became
# 4 % slower, residual ones 13 %, a matrix product 9 %.
WORKLOADS_DIFFER = 0.05
# By what a machine may change between two runs, where nothing tells it. No verdict is made of that.
MACHINES_CHANGE = 0.25
# Of the regressions of a comparison, at most this share is false in the mean.
FALSE_REGRESSIONS = 0.05
# The grid: standard deviations between runs, shares of the error within runs, degrees of freedom.
_TAU = np.geomspace(0.003, 0.2, 14)
_SHARE = np.geomspace(0.25, 2.5, 5)
_DEGREES = np.array([2.5, 4.0, 8.0, 20.0])
TAU, SHARE, DEGREES = (grid.ravel() for grid in np.meshgrid(_TAU, _SHARE, _DEGREES, indexing="ij"))
# Of the grid, what is less likely than this is left out. Ends of intervals are found to this, as a logarithm.
LEAST_WEIGHT, FINE = 1e-4, 1e-4


@dataclass(frozen=True)
class Change:
    """Of one case from the earlier file to the later one, nothing taken out.

    Args:
        workload, contender: the case.
        difference: of the logarithms of its times.
        error: what rounds and processes leave unsure of it.
    """

    workload: str
    contender: str
    difference: float
    error: Error


@dataclass(frozen=True)
class Judgement:
    """What of a change is the contender's own.

    Args:
        ratio: of its times, with what was taken for the machine's change taken out.
        basis: what told the machine's change.
        machine: that change as a ratio of times; None where nothing told it.
    """

    ratio: Ratio
    basis: Basis
    machine: float | None


def judge(
    changes: Sequence[Change], unchanged: Collection[str], canaries: Mapping[str, Mapping[str, float]]
) -> list[Judgement]:
    """Judges every case by the controls of its workload, or else by the canary.

    Args:
        changes: one for each case that was timed in both files.
        unchanged: the contenders that are the same in both files.
        canaries: of each workload on the processor, of each kind of computation, the logarithm of its later time over
            its earlier one.

    Returns:
        One for each change, in their order.
    """
    found: dict[Change, Judgement] = {}
    for contender in dict.fromkeys(change.contender for change in changes):
        controls: dict[str, list[Change]] = {}
        for change in changes:
            if change.contender in unchanged and change.contender != contender:
                controls.setdefault(change.workload, []).append(change)
        between = BetweenRuns([_figures(of_one) for of_one in controls.values()])
        for change in changes:
            if change.contender == contender:
                others = _figures(controls.get(change.workload, []))
                found[change] = _judge_one(change, between, others, canaries.get(change.workload, {}))
    return [found[change] for change in changes]


def _judge_one(
    change: Change, between: BetweenRuns, controls: tuple[list[float], list[float]], canary: Mapping[str, float]
) -> Judgement:
    differences, variances = controls
    variance = change.error.variance
    if differences:
        machine = central.median(differences)
        scale = between.scale(variance, variances)
        return Judgement(between.ratio(change.difference - machine, scale), "controls", math.exp(machine))
    if canary:
        machine = central.median(canary.values())
        apart = (max(canary.values()) - min(canary.values())) / 2
        scale = between.scale(variance, [], WORKLOADS_DIFFER**2 + apart**2)
        return Judgement(between.ratio(change.difference - machine, scale), "canary", math.exp(machine))
    guessed = between.ratio(change.difference, between.scale(variance, [], MACHINES_CHANGE**2))
    return Judgement(replace(guessed, p_value=1.0), "nothing", None)


def slower_by_chance(ratio: Ratio) -> float:
    """The p-value of what is asked of a regression, which is slower or is none: of one side alone."""
    return ratio.p_value / 2 if ratio.ratio > 1 else 1 - ratio.p_value / 2


def is_regression(ratio: Ratio, by_chance: float, threshold: float) -> bool:
    """Whether a case is slower by more than the threshold, in percent.

    Args:
        ratio: its own change.
        by_chance: its `slower_by_chance`, adjusted for all cases.
        threshold: in percent.
    """
    return by_chance <= FALSE_REGRESSIONS and ratio.low > 1 and ratio.ratio > 1 + threshold / 100


class BetweenRuns:
    """How far cases differ from run to run though nothing was changed, as far as the controls tell it.

    Args:
        workloads: of each the differences of its controls, and the variances that rounds and processes leave them.
    """

    def __init__(self, workloads: Sequence[tuple[Sequence[float], Sequence[float]]]) -> None:
        log_weights = -0.5 * (np.log(TAU / TYPICAL) / math.log(TYPICAL_FACTOR)) ** 2
        log_weights -= 0.5 * (np.log(SHARE) / math.log(SHARE_FACTOR)) ** 2
        for differences, variances in workloads:
            count = len(differences)
            for index in range(count if count > 1 else 0):
                others, their_variances = _without(differences, index), _without(variances, index)
                residual = differences[index] - central.median(others)
                scale = self.scale(variances[index], their_variances)
                # Each of them is among the others of the rest, so together they tell as much as one fewer.
                log_weights += (1 - 1 / count) * (_log_density(residual / scale) - np.log(scale))
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        self._kept = weights > LEAST_WEIGHT
        self._weights = weights[self._kept] / weights[self._kept].sum()

    def scale(self, variance: float, others: Sequence[float], known: float = 0.0) -> np.ndarray:
        """Standard deviations of a case's change less the median of its controls, one for each point of the grid.

        Args:
            variance: that rounds and processes leave to the case.
            others: the same of its controls; none where the machine's change is told otherwise.
            known: variance of that.
        """
        own = SHARE * variance + TAU**2
        of_median = 0.0
        if others:
            of_median = _share_of_median(len(others)) * (SHARE * central.median(others) + TAU**2)
        found: np.ndarray = np.sqrt(own + of_median + known)
        return found

    def ratio(self, difference: float, scale: np.ndarray) -> Ratio:
        """A case's own change with its interval; `scale` is what `scale` gave, `difference` without the machine's."""
        scale, degrees = scale[self._kept], DEGREES[self._kept]

        def beyond(distance: float) -> float:
            return 2 * float(self._weights @ special.stdtr(degrees, -distance / scale))

        # With no fewer degrees of freedom than the fewest, and no more than infinitely many.
        nearest, farthest = (float(special.stdtrit(d, 0.5 + CONFIDENCE / 2)) for d in (1e9, DEGREES.min()))
        ends = nearest * float(scale.min()), farthest * float(scale.max())
        half = optimize.brentq(lambda distance: beyond(distance) - (1 - CONFIDENCE), *ends, xtol=FINE)
        p_value = min(1.0, beyond(abs(difference)))
        return Ratio(math.exp(difference), math.exp(difference - half), math.exp(difference + half), p_value)


def _share_of_median(count: int) -> float:
    """The variance of the median of so many normal values, as a share of that of one: 1 of one, pi / 2n of many."""
    return math.pi / (2 * count + math.pi - 2)


def _log_density(values: np.ndarray) -> np.ndarray:
    """Of Student's t with `DEGREES`, logarithm."""
    norm = special.gammaln((DEGREES + 1) / 2) - special.gammaln(DEGREES / 2) - 0.5 * np.log(math.pi * DEGREES)
    density: np.ndarray = norm - (DEGREES + 1) / 2 * np.log1p(values**2 / DEGREES)
    return density


def _figures(changes: Sequence[Change]) -> tuple[list[float], list[float]]:
    return [change.difference for change in changes], [change.error.variance for change in changes]


def _without(values: Sequence[float], index: int) -> list[float]:
    return [*values[:index], *values[index + 1 :]]
