"""One model at several batch sizes: time per example, with gaps where a contender could not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from faceoff.report.speed import LeftOut, SpeedGroup
from faceoff.report.words import WorkloadText

# Two sizes are two workloads; a course needs more.
LEAST_SIZES = 3


@dataclass
class Sweep:
    """A model, step, dtype and device at several batch sizes.

    Attributes:
        workload: the first of them.
        sizes: ascending.
        per_example_s: contender to time, low and high for each size, divided by it; None where it has no time.
        gaps: contender and batch size to what stands in the place of a time.
    """

    workload: WorkloadText
    sizes: list[int]
    per_example_s: dict[str, list[tuple[float, float, float] | None]] = field(default_factory=dict)
    gaps: dict[tuple[str, int], LeftOut] = field(default_factory=dict)


def sweeps(groups: Sequence[SpeedGroup]) -> list[Sweep]:
    """The batch-size sweeps of a result, in the order of the file."""
    families: dict[str, dict[int, SpeedGroup]] = {}
    for group in groups:
        if group.workload.batch_size is not None:
            families.setdefault(group.workload.family, {})[group.workload.batch_size] = group
    return [_sweep(by_size) for by_size in families.values() if len(by_size) >= LEAST_SIZES]


def _sweep(by_size: dict[int, SpeedGroup]) -> Sweep:
    sizes = sorted(by_size)
    found = Sweep(by_size[sizes[0]].workload, sizes)
    for at, size in enumerate(sizes):
        for row in by_size[size].rows:
            times = (row.speed.time_s, *row.speed.interval_s)
            series = found.per_example_s.setdefault(row.contender, [None] * len(sizes))
            series[at] = (times[0] / size, times[1] / size, times[2] / size)
        for left in by_size[size].left_out:
            found.gaps[left.contender, size] = left
    return found
