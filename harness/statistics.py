"""Intervals and verdicts on speed, from rounds of several processes of each contender.

The model, in logarithms, so that differences are ratios: a process of a contender has its own median, which differs
from the contender's by what that process happened to get (addresses, pages, placement of threads), and from which the
median of its recorded rounds differs by sampling. Both variances are estimated from the run itself: sampling from each
process's rounds (Maritz and Jarrett 1978), the difference between processes from the processes of all contenders of
the workload together, for two or three processes of one contender say little. So every contender is its own A/A twin,
and no verdict is finer than what twins differ by.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy import stats

from harness.results import VerdictWord

CONFIDENCE = 0.95
TIE_MARGIN = 0.05
# With fewer, a median of the undisturbed passes says less than one of all.
LEAST_UNDISTURBED = 0.5
LEAST_PASSES = 5
# A process that changes by more than this share over its rounds, beyond chance, has not reached a steady state.
STEADY = 0.05

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Sample:
    """The rounds of one contender on one workload.

    Args:
        rounds_s: seconds per call, shape (processes, passes); row r is process r, column p was run in pass p.
        disturbed: same shape, True where the kernel's accounting says that the round was disturbed.
    """

    rounds_s: np.ndarray
    disturbed: np.ndarray

    def log_medians(self, left_out: np.ndarray) -> np.ndarray:
        """The logarithm of each process's median over the passes that are not `left_out` in it, shape (processes,)."""
        kept: list[np.ndarray] = [row[~out] for row, out in zip(self.rounds_s, left_out, strict=True)]
        medians: np.ndarray = np.log(np.array([np.median(row) for row in kept]))
        return medians

    def left_out(self, other: Sample | None = None) -> np.ndarray:
        """What is left out of both when this sample is compared with `other`: what was disturbed in either.

        All passes of a process stay where less than half of them, or fewer than five, are undisturbed: then disturbance
        is how this machine runs.
        """
        out = self.disturbed if other is None else self.disturbed | other.disturbed
        passes = out.shape[1]
        enough = (~out).sum(axis=1) >= max(LEAST_PASSES, LEAST_UNDISTURBED * passes)
        left: np.ndarray = out & enough[:, None]
        return left

    def sampling_variance(self) -> float:
        """Variance of a process's log median around the process's true one, mean over the processes."""
        return float(np.mean([_median_variance(np.log(row)) for row in self.rounds_s]))


def _common_drift(samples: Mapping[Key, Sample]) -> np.ndarray:
    """What each pass had in common for all: the median change of all processes in it, logarithms, shape (passes,)."""
    rows = np.log(np.concatenate([sample.rounds_s for sample in samples.values()]))
    common: np.ndarray = np.median(rows - np.median(rows, axis=1, keepdims=True), axis=0)
    return common


def _median_variance(values: np.ndarray) -> float:
    """Variance of the median of a sample, by Maritz and Jarrett's estimate: the exact one of its bootstrap."""
    if values.size < 3:
        return float(np.var(values))
    # Of equal values it takes the root of a difference that rounding may leave below zero.
    with np.errstate(invalid="ignore"):
        deviation = float(stats.mstats.mjci(values, prob=[0.5])[0])
    return 0.0 if math.isnan(deviation) else deviation**2


@dataclass(frozen=True)
class Ratio:
    """A contender's time over the baseline's: above 1 is slower.

    Args:
        ratio: of the geometric means of the processes' medians.
        low, high: its interval at `CONFIDENCE`, for this ratio by itself.
        p_value: how likely a ratio this far from 1 is between equals, before other verdicts are accounted for.
    """

    ratio: float
    low: float
    high: float
    p_value: float


class Precision(Generic[Key]):
    """How surely the contenders of one workload can be told apart.

    Args:
        samples: of the contenders, all with the same passes.

    Attributes:
        between_variance: of the log median between processes of a contender, beyond sampling; pooled.
        degrees: of freedom of that estimate.
        common_variance: of the log median by what all processes of a pass had in common. It is in no ratio within a
            run, where it is taken out of both sides, and in every one between two runs, whose passes are not the same.

    Raises:
        ValueError: one process of each contender, which says nothing of the spread between processes.
    """

    def __init__(self, samples: Mapping[Key, Sample]) -> None:
        self._raw = samples
        common = _common_drift(samples)
        self.common_variance, self._common_degrees = _median_variance(common), max(1, common.size - 1)
        samples = {key: Sample(sample.rounds_s / np.exp(common), sample.disturbed) for key, sample in samples.items()}
        self._samples = samples
        self._within = {key: sample.sampling_variance() for key, sample in samples.items()}
        spread = within = 0.0
        self.degrees = 0
        for key, sample in samples.items():
            medians = sample.log_medians(sample.left_out())
            self.degrees += len(medians) - 1
            spread += float(np.sum((medians - medians.mean()) ** 2))
            within += (len(medians) - 1) * self._within[key]
        if not self.degrees:
            raise ValueError("one process of each contender: the spread between processes is not known")
        self.between_variance = max(0.0, (spread - within) / self.degrees)

    def variance(self, key: Key) -> float:
        """Variance of a contender's mean log median."""
        return (self.between_variance + self._within[key]) / len(self._samples[key].rounds_s)

    def interval(self, key: Key) -> tuple[float, float, float]:
        """The contender's time: geometric mean of its processes' medians and interval, seconds."""
        middle = self._log_time(key)
        half = self._quantile(1) * math.sqrt(self.variance(key))
        return math.exp(middle), math.exp(middle - half), math.exp(middle + half)

    def ratio(self, key: Key, baseline: Key, picked_from: int = 1) -> Ratio:
        """A contender against a baseline, in the passes that disturbed neither.

        Args:
            key, baseline: two different contenders.
            picked_from: over how many contenders the baseline was picked as the fastest. Whoever is fastest by chance
                makes the others look slow, so then the ratio is judged by the studentized range of that many (Tukey's
                test) instead of Student's t; 1 when the baseline was named beforehand.
        """
        ours, theirs = self._samples[key], self._samples[baseline]
        out = ours.left_out(theirs) | theirs.left_out(ours)
        difference = float(np.mean(ours.log_medians(out) - theirs.log_medians(out)))
        error = math.sqrt(self.variance(key) + self.variance(baseline))
        half = self._quantile(picked_from) * error
        statistic = abs(difference) / error if error > 0 else (0.0 if difference == 0 else math.inf)
        if picked_from > 2:
            p_value = float(stats.studentized_range.sf(statistic * math.sqrt(2), picked_from, self.degrees))
        else:
            p_value = 2 * float(stats.t.sf(statistic, self.degrees))
        return Ratio(math.exp(difference), math.exp(difference - half), math.exp(difference + half), p_value)

    def ratio_to_run(self, earlier: Precision[Key], key: Key) -> Ratio:
        """A contender in this run against the same contender in an earlier one.

        Nothing is taken out of the passes and no pass of one run is set beside one of the other; each run has its own
        spread (Welch's test). What the machine itself changed by between the runs is not in the interval.

        Args:
            earlier: of the same workload, with its own processes and passes.
            key: a contender of both.
        """
        difference = self._log_time(key) - earlier._log_time(key)
        parts = [
            part
            for run in (self, earlier)
            for part in ((run.variance(key), run.degrees), (run.common_variance, run._common_degrees))
        ]
        variance = sum(part for part, _ in parts)
        if variance == 0:
            ratio = math.exp(difference)
            return Ratio(ratio, ratio, ratio, 1.0 if difference == 0 else 0.0)
        degrees = variance**2 / sum(part**2 / free for part, free in parts)
        error = math.sqrt(variance)
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, degrees)) * error
        p_value = 2 * float(stats.t.sf(abs(difference) / error, degrees))
        return Ratio(math.exp(difference), math.exp(difference - half), math.exp(difference + half), p_value)

    def noise_floor(self) -> float:
        """The smallest ratio above 1 that two contenders of this workload must differ by to be told apart."""
        typical = float(np.mean([self.variance(key) for key in self._samples]))
        return math.exp(self._quantile(1) * math.sqrt(2 * typical))

    def twin_ratio(self, key: Key) -> float:
        """The slowest process of a contender over its fastest: how far the same thing differs from itself."""
        sample = self._samples[key]
        medians = sample.log_medians(sample.left_out())
        return math.exp(float(medians.max() - medians.min()))

    def _log_time(self, key: Key) -> float:
        sample = self._raw[key]
        return float(np.mean(sample.log_medians(sample.left_out())))

    def _quantile(self, picked_from: int) -> float:
        return _quantile(picked_from, self.degrees)


@functools.cache
def _quantile(picked_from: int, degrees: int) -> float:
    if picked_from > 2:
        # Found by integration and search, which takes a fifth of a second.
        return float(stats.studentized_range.ppf(CONFIDENCE, picked_from, degrees)) / math.sqrt(2)
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, degrees))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for all verdicts of a run (Benjamini and Hochberg 1995).

    Of the verdicts `faster` and `slower` at 0.05, at most 5 % are false in the mean.
    """
    return stats.false_discovery_control(p_values).tolist() if p_values else []


def verdict(interval: tuple[float, float], ratio: float, adjusted_p: float, margin: float = TIE_MARGIN) -> VerdictWord:
    """A tie when the whole interval is within the margin; else faster or slower when 1 is ruled out; else unresolved.

    Args:
        interval: of the ratio to the baseline.
        ratio: to the baseline.
        adjusted_p: its p-value after `adjusted`.
        margin: that makes no difference, as a share.
    """
    low, high = interval
    if 1 / (1 + margin) <= low and high <= 1 + margin:
        return "tie"
    if adjusted_p <= 1 - CONFIDENCE and not low <= 1 <= high:
        return "faster" if ratio < 1 else "slower"
    return "unresolved"


def drift(rounds_s: np.ndarray, others_s: np.ndarray) -> float:
    """How a process's rounds change over the passes, the machine's own drift taken out.

    Args:
        rounds_s: of the process, shape (passes,).
        others_s: of all other processes of the workload, shape (processes, passes); may be empty.

    Returns:
        The last third's median over the first third's, less 1; 0 where the trend is no more than chance (Kendall's tau,
        p > 0.001) or there are fewer than 9 passes.
    """
    if rounds_s.size < 9:
        return 0.0
    own = np.log(rounds_s)
    if len(others_s):
        own = own - np.median(np.log(others_s), axis=0)
    if stats.kendalltau(np.arange(own.size), own).pvalue > 0.001:
        return 0.0
    third = own.size // 3
    return math.expm1(float(np.median(own[-third:]) - np.median(own[:third])))
