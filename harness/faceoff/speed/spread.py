"""How far processes of one contender differ, and what that leaves unsure of a difference between contenders.

Two or three processes of each contender tell their spread badly, and the sampling of rounds mostly hides it. An
estimate of it by itself is zero in one run and much too large in the next, and intervals that allow for that are wide
in both. So what is known beforehand is put in: contenders of a workload have a typical spread in common, and each its
own around it, by the half-t family that Gelman (2006, Bayesian Analysis 1:515) recommends for a spread between few
groups. With two degrees of freedom its tail is so heavy that one whose processes do differ is taken as such, and hardly
widens the intervals of the others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

# Standard deviation between processes of a contender, as a share of its time, before anything is known: the middle of
# what is typical of a workload, and by how much, as a factor, workloads differ from that. Measured over 24 pairs of
# contender and workload: at most 1 % for 21 of them, 5 % for the worst. With one of two cores busy it was several times
# as much, for a process may have to share its core for as long as it is timed.
TYPICAL_SPREAD, TYPICAL_SPREAD_IF_BUSY, TYPICAL_FACTOR = 0.01, 0.02, 2.25
TYPICAL = np.geomspace(TYPICAL_SPREAD / 20, TYPICAL_SPREAD * 20, 25)
# Standard deviations that the prior is taken at, and how much of it each stands for: shape (typical, spreads).
_EDGES = np.concatenate([[0.0], np.geomspace(5e-5, 1e3, 70), [np.inf]])
SPREADS = np.concatenate([[2.5e-5], np.sqrt(_EDGES[1:-2] * _EDGES[2:-1]), [1e3]])
_SCALED = _EDGES / TYPICAL[:, None]
PRIOR = np.diff(1 / np.sqrt(1 + 2 / np.maximum(_SCALED, 1e-9) ** 2), axis=1)
# A time is the mean of half of the rounds, and its variance as surely known as that many tell a normal one.
INFORMATION_OF_ROUNDS = 0.5

# Where runs say of the spread that it is either small or huge, Student's t says no more than this.
LEAST_DEGREES = 2.0
# Far beyond any difference of times, and what a ratio can still be made of.
WIDEST = 300.0


@dataclass(frozen=True)
class Error:
    """Of an estimate: its variance, and how surely that is known.

    Args:
        variance: of a logarithm.
        degrees: of freedom; with them the estimate is off by Student's t.
    """

    variance: float
    degrees: float

    def half_width(self, confidence: float, picked_from: int = 1) -> float:
        """Half the width of the interval of a difference, logarithm.

        Args:
            confidence: how often intervals hold the true value.
            picked_from: over how many estimates a side of the difference was picked as the smallest.
        """
        alone = _alone(1 - confidence, picked_from)
        quantile: float = special.stdtrit(self.degrees, 1 - alone / 2)
        return min(WIDEST, quantile * math.sqrt(self.variance))

    def p_value(self, difference: float, picked_from: int = 1) -> float:
        """How likely an estimate as far from zero is where the true value is zero."""
        if self.variance == 0:
            return 1.0 if difference == 0 else 0.0
        alone = 2 * float(special.stdtr(self.degrees, -abs(difference) / math.sqrt(self.variance)))
        return _together(alone, picked_from)


def combined(errors: Sequence[Error]) -> Error:
    """The error of a sum of independent estimates (Welch 1947)."""
    variance = sum(error.variance for error in errors)
    if variance == 0:
        return Error(0.0, min(error.degrees for error in errors))
    unsure = sum(error.variance**2 / error.degrees for error in errors if error.variance)
    return Error(variance, variance**2 / unsure)


@dataclass(frozen=True)
class Side:
    """One contender of a difference.

    Args:
        group: its number in the groups that told the spread.
        processes: of it.
        passes: that are compared, in the mean of its processes.
        within: variance by sampling of a process's log time.
    """

    group: int
    processes: int
    passes: float
    within: float

    @property
    def sampling(self) -> Error:
        """What its rounds leave unsure of its mean log time."""
        return Error(self.within / self.processes, INFORMATION_OF_ROUNDS * self.processes * (self.passes - 1))


class ProcessSpread:
    """The variance between processes of each contender, as far as a run tells it.

    Args:
        groups: of each contender the log times of its processes, and their variance by sampling.
        busy: whether others had the processor too.

    Raises:
        ValueError: one process of each.
    """

    def __init__(self, groups: Sequence[tuple[np.ndarray, float]], busy: bool = False) -> None:
        if all(len(times) < 2 for times, _ in groups):
            raise ValueError("one process of each contender: the spread between processes is not known")
        middle = TYPICAL_SPREAD_IF_BUSY if busy else TYPICAL_SPREAD
        typical = -0.5 * (np.log(TYPICAL / middle) / math.log(TYPICAL_FACTOR)) ** 2
        self._spreads = []
        for times, within in groups:
            variance = SPREADS**2 + within
            squares = float(np.sum((times - times.mean()) ** 2))
            log_likelihood = -0.5 * ((len(times) - 1) * np.log(variance) + squares / variance)
            joint = PRIOR * np.exp(log_likelihood - log_likelihood.max())
            share = joint.sum(axis=1, keepdims=True)
            typical = typical + np.log(share[:, 0])
            self._spreads.append(joint / share)
        weights = np.exp(typical - typical.max())
        self._typical: np.ndarray = weights / weights.sum()

    def error(self, sides: Sequence[Side], known: Sequence[Error] = ()) -> Error:
        """Of a contender's mean log time, or of the difference of two.

        Args:
            sides: one or two contenders.
            known: what else makes it unsure, independent of the processes.
        """
        first = sides[0]
        between = SPREADS**2 / first.processes
        if len(sides) == 1:
            weights = self._weights(first)
        else:
            second = sides[1]
            between = between[:, None] + SPREADS**2 / second.processes
            # Both spreads depend on what is typical here, and on nothing else in common.
            weights = (self._spreads[first.group].T * self._typical) @ self._spreads[second.group]
        return _as_error(between, weights, [*(side.sampling for side in sides), *known])

    def error_to(self, side: Side, earlier: ProcessSpread, before: Side) -> Error:
        """Of the difference between a contender here and in an earlier run, whose spread is not the same one.

        Args:
            side: the contender in this run.
            earlier: of the other run.
            before: the contender there.
        """
        between = SPREADS[:, None] ** 2 / side.processes + SPREADS**2 / before.processes
        weights = self._weights(side)[:, None] * earlier._weights(before)
        return _as_error(between, weights, [side.sampling, before.sampling])

    def _weights(self, side: Side) -> np.ndarray:
        weights: np.ndarray = self._typical @ self._spreads[side.group]
        return weights


def _as_error(between: np.ndarray, weights: np.ndarray, known: Sequence[Error]) -> Error:
    """The posterior of a variance, taken for that of Student's t with the same mean and spread of 1 / variance.

    Args:
        between: variances that processes may bring in.
        weights: how likely each is; same shape.
        known: the rest of the variance.
    """
    rest = combined(known)
    precision = 1 / (between + rest.variance)
    mean = float(np.sum(weights * precision))
    unsure = float(np.sum(weights * (precision / mean - 1) ** 2)) / 2
    unsure += (rest.variance * mean) ** 2 / max(rest.degrees, 1)
    return Error(1 / mean, max(LEAST_DEGREES, 1 / max(unsure, 1e-9)))


def _alone(together: float, picked_from: int) -> float:
    """The p-value of one difference alone with which the widest of all between so many has the p-value `together`."""
    if picked_from <= 2:
        return together
    points, tails = _widest(picked_from)
    z = float(np.interp(-math.log(together), -np.log(tails), points))
    return 2 * float(special.ndtr(-z))


def _together(alone: float, picked_from: int) -> float:
    """The p-value of the widest difference between so many, of the p-value that it has by itself."""
    if picked_from <= 2:
        return alone
    points, tails = _widest(picked_from)
    z = -float(special.ndtri(alone / 2)) if alone > 0 else math.inf
    if z < points[-1]:
        return float(np.exp(np.interp(z, points, np.log(tails))))
    # So far out hardly ever two of them are that wide at once.
    return alone * picked_from * (picked_from - 1) / 2


@functools.cache
def _widest(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences z, and how often the range of `count` normal values is above z times the root of 2 (Tukey)."""
    z = np.linspace(0, 6, 241)
    x = np.linspace(-9, 9, 1801)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    inside = special.ndtr(x[:, None]) - special.ndtr(x[:, None] - math.sqrt(2) * z)
    below = count * np.trapezoid(density[:, None] * inside ** (count - 1), x, axis=0)
    return z, np.clip(1 - below, 1e-300, 1)
