"""Intervals and verdicts on speed, from rounds of several processes of each contender.

The time of a process is the mean of the faster half of its rounds. What disturbs a round only ever adds to it. And
where rounds come in two kinds, about as many of each, as they do of thread pools that fall asleep between calls, a
median is now of one kind and now of the other: over 24 pairs of contender and workload it differed between processes
1.8 times as much (root mean square, 24 rounds of each).

The model, in logarithms, so that differences are ratios: a process of a contender has its own time, which differs from
the contender's by what that process happened to get (addresses, pages, placement of threads), and from which that of
its recorded rounds differs by sampling. Both variances are estimated from the run itself: sampling from how rounds lie
(Yuen 1974) and how alike successive ones are, the difference between processes from the contender's own and, as two or
three say little, from those of the others (`faceoff.speed.spread`). So every contender is its own A/A twin, and no
verdict is finer than what twins differ by.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from scipy import special, stats

from faceoff.results.records import Process, VerdictWord
from faceoff.speed.spread import Error, ProcessSpread, Side

CONFIDENCE = 0.95
TIE_MARGIN = 0.05
# Of a process's rounds, those that its time is the mean of.
FASTER_SHARE = 0.5
# Blocks of successive rounds that are set beside each other, to see whether successive rounds are alike.
BLOCKS = 3
# With fewer, a time of the undisturbed passes says less than one of all.
LEAST_UNDISTURBED = 0.5
LEAST_PASSES = 5
# A process that changes by more than this share over its rounds, beyond chance, has not reached a steady state.
STEADY = 0.05
# Of fewer rounds thirds are too short for a trend.
LEAST_FOR_DRIFT = 9

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

    def log_times(self, left_out: np.ndarray) -> np.ndarray:
        """The logarithm of each process's time over the passes that are not `left_out` in it, shape (processes,)."""
        return np.array([_faster(row).mean() for row in self._kept(left_out)])

    def _kept(self, left_out: np.ndarray) -> list[np.ndarray]:
        return [np.log(row[~out]) for row, out in zip(self.rounds_s, left_out, strict=True)]

    def left_out(self) -> np.ndarray:
        """What is left out of it: what was disturbed.

        All passes of a process stay where less than half of them, or fewer than five, are undisturbed: then disturbance
        is how this machine runs.
        """
        left: np.ndarray = self.disturbed & _leaves_enough(self.disturbed)[:, None]
        return left

    def sampling_variance(self, left_out: np.ndarray) -> float:
        """Variance of a process's log time, over the passes not `left_out`, around the process's true one.

        That of a trimmed mean (Yuen 1974, Biometrika 61:165), mean of all processes. It is right from six rounds on.
        """
        return float(np.mean([_variance_of_faster(row) for row in self._kept(left_out)]))

    def likeness(self, left_out: np.ndarray) -> float:
        """How many times the variance of independent rounds it is that blocks of successive rounds differ by.

        Above 1 where a process is slow for a while and then fast for a while, as when another one has its core. 1 where
        there are too few rounds to tell. As often too high as too low: few blocks mostly differ by less than they
        would in the mean.
        """
        found = expected = 0.0
        for row in self._kept(left_out):
            blocks = np.array_split(row, BLOCKS)
            if row.size >= 2 * BLOCKS:
                found += float(np.var([_faster(block).mean() for block in blocks], ddof=1))
                expected += float(np.mean([_variance_of_faster(block) for block in blocks]))
        degrees = (BLOCKS - 1) * len(self.rounds_s)
        median: float = special.chdtri(degrees, 0.5) / degrees
        return found / expected / median if expected > 0 else 1.0

    @property
    def passes(self) -> int:
        """How many passes it ran in."""
        return int(self.rounds_s.shape[1])

    def first(self, passes: int) -> Sample:
        """What it was after so many passes."""
        return self if passes >= self.passes else Sample(self.rounds_s[:, :passes], self.disturbed[:, :passes])


def _common_drift(samples: Mapping[Key, Sample]) -> np.ndarray:
    """What each pass had in common for all that ran in it undisturbed: their median change, logarithms, (passes,).

    Nothing where there is one contender alone: there is nobody whose own noise could be told from the machine's.
    """
    rows = [row for sample in samples.values() for row in np.where(sample.left_out(), np.nan, np.log(sample.rounds_s))]
    common = np.zeros(max(row.size for row in rows))
    if len(samples) == 1:
        return common
    begin = 0
    for end in sorted({row.size for row in rows}):
        # Everybody's own level is that of the passes before, which others who have ended since tell the drift of too.
        known = begin or end
        going = [row for row in rows if row.size >= end]
        changes = [row[begin:end] - _median(row[:known] - common[:known]) for row in going]
        common[begin:end] = np.nan_to_num([_median(change) for change in np.transpose(changes)])
        begin = end
    typical: np.ndarray = common - np.median(common)
    return typical


def _median(values: np.ndarray) -> float:
    """Of the values that are known; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else math.nan


def _leaves_enough(out: np.ndarray) -> np.ndarray:
    """Of which processes enough passes are left without those that are `out`, shape (processes,)."""
    enough: np.ndarray = (~out).sum(axis=1) >= max(LEAST_PASSES, LEAST_UNDISTURBED * out.shape[1])
    return enough


def _faster(values: np.ndarray) -> np.ndarray:
    """The smaller half of the values, in order; of two or three, two."""
    ordered: np.ndarray = np.sort(values)
    return ordered[: max(2, math.ceil(FASTER_SHARE * values.size))]


def _variance_of_faster(values: np.ndarray) -> float:
    faster = _faster(values)
    if faster.size < 2:
        return 0.0
    winsorised = np.minimum(values, faster[-1])
    return float(np.sum((winsorised - winsorised.mean()) ** 2)) / (faster.size * (faster.size - 1))


def _median_variance(values: np.ndarray, size: float) -> float:
    """Variance of the median of `size` draws from these values: the exact one of the bootstrap (Maritz and Jarrett)."""
    ordered, half = np.sort(values), (size + 1) / 2
    weights = np.diff(special.betainc(half, half, np.arange(ordered.size + 1) / ordered.size))
    return float(weights @ (ordered - weights @ ordered) ** 2)


@dataclass(frozen=True)
class Ratio:
    """A contender's time over the baseline's: above 1 is slower.

    Args:
        ratio: of the geometric means of the processes' times.
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
        samples: of the contenders; one that was measured no further has the first passes alone.
        busy: whether others had the processor too, as `NoiseFloor.noisy` says.

    Raises:
        ValueError: one process of each contender, which says nothing of the spread between processes.
    """

    def __init__(self, samples: Mapping[Key, Sample], busy: bool = False) -> None:
        common = _common_drift(samples)
        # In no ratio within a run, where it is taken out of both sides, and in every one between two runs.
        self._common = Error(_median_variance(common, common.size), max(1, common.size - 1))
        self._samples = {
            key: Sample(sample.rounds_s / np.exp(common[: sample.passes]), sample.disturbed)
            for key, sample in samples.items()
        }
        self._numbers = {key: number for number, key in enumerate(self._samples)}
        out = {key: sample.left_out() for key, sample in self._samples.items()}
        # One contender's rounds tell it badly, all of a workload together well enough.
        likeness = [sample.likeness(out[key]) for key, sample in self._samples.items()]
        self._likeness = max(1.0, float(np.median(likeness)))
        self._spread = ProcessSpread(
            [
                (sample.log_times(out[key]), self._likeness * sample.sampling_variance(out[key]))
                for key, sample in self._samples.items()
            ],
            busy,
        )

    @property
    def keys(self) -> Collection[Key]:
        """The contenders."""
        return self._samples.keys()

    def fastest(self, among: Iterable[Key] | None = None) -> Key:
        """Whose time is shortest, of all or of some."""
        return min(self._samples if among is None else among, key=self._log_time)

    def half_width(self, key: Key) -> float:
        """Of the interval of a contender's time by itself, logarithm: what the passes have in common is in it too."""
        return self._spread.error([self._side(key)], [self._common]).half_width(CONFIDENCE)

    def interval(self, key: Key) -> tuple[float, float, float]:
        """The contender's time, as in all passes: geometric mean of its processes' times, and interval; seconds."""
        middle = self._log_time(key)
        half = self._spread.error([self._side(key)]).half_width(CONFIDENCE)
        return math.exp(middle), math.exp(middle - half), math.exp(middle + half)

    def ratio(self, key: Key, baseline: Key, picked_from: int = 1) -> Ratio:
        """A contender against a baseline, in the passes that both ran in and that disturbed neither.

        Where these are too few, as after few passes many of which were disturbed, each in its own.

        Args:
            key, baseline: two different contenders.
            picked_from: over how many contenders the baseline was picked as the fastest. Whoever is fastest by chance
                makes the others look slow, so then the ratio is judged as the widest difference of that many (Tukey's
                test); 1 when the baseline was named beforehand.
        """
        compared = self._compared(key, baseline)
        ours, theirs = (float(np.mean(sample.log_times(out))) for sample, out in compared.values())
        difference = ours - theirs
        error = self._spread.error([self._side(k, out) for k, (_, out) in compared.items()])
        return _as_ratio(difference, error, picked_from)

    def half_width_after(self, times: float, key: Key, baseline: Key, picked_from: int = 1) -> float:
        """Half the width that the interval of a ratio would have after more passes, logarithm.

        Sampling gets less, and what processes differ by stays as it is.

        Args:
            times: how many times as many passes, 1 or more.
            key, baseline, picked_from: as of `ratio`.
        """
        sides = [self._side(k, out) for k, (_, out) in self._compared(key, baseline).items()]
        later = [replace(side, passes=side.passes * times, within=side.within / times) for side in sides]
        return self._spread.error(later).half_width(CONFIDENCE, picked_from)

    def passes(self, key: Key) -> int:
        """How many passes a contender ran in."""
        return self._samples[key].passes

    def change_since(self, earlier: Precision[Key], key: Key) -> tuple[float, Error]:
        """A contender in this run against the same contender in an earlier one, before anything is taken out.

        No pass of one run is set beside one of the other, and each run has its own spread. What the passes of a run
        have in common, and what the machine changed by between the runs, is in the difference and not in the error: it
        is the same for all contenders of the workload.

        Args:
            earlier: of the same workload, with its own processes and passes.
            key: a contender of both.

        Returns:
            The difference of the logarithms of both times, and what rounds and processes leave unsure of it.
        """
        difference = self._log_time(key) - earlier._log_time(key)
        return difference, self._spread.error_to(self._side(key), earlier._spread, earlier._side(key))

    def noise_floor(self, picked_from: int = 1) -> float:
        """The ratio above 1 that two contenders of this workload must typically differ by to be told apart.

        Args:
            picked_from: as of `ratio`.
        """
        errors = [self._spread.error([self._side(key)] * 2) for key in self._samples]
        return math.exp(float(np.median([error.half_width(CONFIDENCE, picked_from) for error in errors])))

    def twin_ratio(self, key: Key) -> float:
        """The slowest process of a contender over its fastest: how far the same thing differs from itself."""
        sample = self._samples[key]
        times = sample.log_times(sample.left_out())
        return math.exp(float(times.max() - times.min()))

    def _compared(self, key: Key, baseline: Key) -> dict[Key, tuple[Sample, np.ndarray]]:
        """Both, each in the passes to compare it in and with which of those are left out."""
        shared = min(self._samples[key].passes, self._samples[baseline].passes)
        both = {k: self._samples[k].first(shared) for k in (key, baseline)}
        out = both[key].disturbed | both[baseline].disturbed
        if _leaves_enough(out).all():
            return {k: (sample, out) for k, sample in both.items()}
        return {k: (self._samples[k], self._samples[k].left_out()) for k in both}

    def _side(self, key: Key, left_out: np.ndarray | None = None) -> Side:
        """A contender in the passes it ran in, or in the first ones, without those that are left out."""
        out = self._samples[key].left_out() if left_out is None else left_out
        processes, passes = out.shape
        within = self._likeness * self._samples[key].first(passes).sampling_variance(out)
        return Side(self._numbers[key], processes, float((~out).sum()) / processes, within)

    def _log_time(self, key: Key) -> float:
        # What passes had in common is taken out: who ran in the first ones alone may have met a faster machine.
        sample = self._samples[key]
        return float(np.mean(sample.log_times(sample.left_out())))


def _as_ratio(difference: float, error: Error, picked_from: int = 1) -> Ratio:
    half = error.half_width(CONFIDENCE, picked_from)
    return Ratio(
        math.exp(difference), math.exp(difference - half), math.exp(difference + half),
        error.p_value(difference, picked_from),
    )  # fmt: skip


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
        p > 0.001) or there are fewer than `LEAST_FOR_DRIFT` passes.
    """
    if rounds_s.size < LEAST_FOR_DRIFT:
        return 0.0
    own = np.log(rounds_s)
    if len(others_s):
        own = own - np.median(np.log(others_s), axis=0)
    if stats.kendalltau(np.arange(own.size), own).pvalue > 0.001:
        return 0.0
    third = own.size // 3
    return math.expm1(float(np.median(own[-third:]) - np.median(own[:third])))


def unsteadiness(processes: Sequence[Process]) -> str:
    """What shows that a case has not reached a steady state; empty where nothing does."""
    change = max((process.drift for process in processes), key=abs, default=0.0)
    if abs(change) > STEADY:
        return f"{100 * change:+.1f} % from the first third of its rounds to the last"
    if not all(process.warm for process in processes):
        return "calls still got faster when the time for warming up was over"
    return ""
