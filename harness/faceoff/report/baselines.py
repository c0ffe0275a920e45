"""Ratios to any baseline that a reader picks: what `--baseline` would have given, from the recorded rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faceoff.core.errors import HarnessError
from faceoff.differences.sides import sample_of
from faceoff.report.speed import SpeedGroup
from faceoff.report.text import with_interval
from faceoff.speed.statistics import Precision, Ratio, adjusted, verdict


def ratios_by_baseline(groups: Sequence[SpeedGroup]) -> list[dict[str, Any]]:
    """Every contender against every other on each workload, the error rate held over all verdicts of a baseline.

    A workload whose rounds cannot be compared (an earlier version of Face-off recorded them) is left out.

    Returns:
        For each baseline its name, and by number of the workload and contender the ratio, its interval and the verdict.
    """
    precisions = {number: precision for number, group in enumerate(groups) if (precision := _precision(group))}
    found = []
    for baseline in dict.fromkeys(row.contender for number in precisions for row in groups[number].rows):
        ratios = [
            (number, row.contender, precision.ratio(row.contender, baseline))
            for number, precision in precisions.items()
            if baseline in (row.contender for row in groups[number].rows)
            for row in groups[number].rows
            if row.contender != baseline
        ]
        workloads: dict[int, dict[str, tuple[str, str, str]]] = {}
        p_values = adjusted([ratio.p_value for _, _, ratio in ratios])
        for (number, contender, ratio), p_value in zip(ratios, p_values, strict=True):
            workloads.setdefault(number, {})[contender] = _shown(ratio, p_value)
        found.append({"baseline": baseline, "workloads": workloads})
    return found


def _precision(group: SpeedGroup) -> Precision[str] | None:
    try:
        samples = {row.contender: sample_of(row.speed, group.workload.key) for row in group.rows}
        if len({len(sample.rounds_s) for sample in samples.values()}) > 1:
            return None
        return Precision(samples, group.floor is not None and group.floor.noisy) if len(samples) > 1 else None
    except (HarnessError, ValueError):
        return None


def _shown(ratio: Ratio, p_value: float) -> tuple[str, str, str]:
    figure, interval = with_interval(ratio.ratio, ratio.low, ratio.high)
    return figure, interval, verdict((ratio.low, ratio.high), ratio.ratio, p_value)
