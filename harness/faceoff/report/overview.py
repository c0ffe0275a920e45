"""Very many workloads in one table each for speed and agreement, as an article for each would bury the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceoff.report.sections import check_label, worst_figure
from faceoff.report.speed import SpeedGroup
from faceoff.report.words import OUTCOMES, WorkloadText, contender_names, describe_workload, outcome_word
from faceoff.results.agreements import Agreement
from faceoff.results.records import Result

MOST_WORKLOADS = 24
MOST_RECORDS = 300


@dataclass(frozen=True)
class OverviewCell:
    """One contender on one workload.

    Attributes:
        text: its figure, or the outcome in words; empty where nothing was asked.
        mark: `lead`, `tie`, `slower`, ... or `left-out`; empty for none.
    """

    text: str = ""
    mark: str = ""


@dataclass(frozen=True)
class OverviewRow:
    """One workload, with a cell for each contender in the order of `contender_names`."""

    workload: WorkloadText
    cells: list[OverviewCell]


def speed_overview(result: Result, groups: Sequence[SpeedGroup]) -> list[OverviewRow]:
    """Every workload's times: in the unit of its row, and the ratio to the baseline."""
    names = contender_names(result)
    rows = []
    for group in groups:
        cells = {
            left.contender: OverviewCell(_outcome(left.outcome, left.reason), "left-out") for left in group.left_out
        }
        for at, row in enumerate(group.rows):
            ratio = f" ({row.ratio}×)" if row.ratio else ""
            mark = "lead" if at == 0 else row.verdict
            cells[row.contender] = OverviewCell(f"{row.time} {group.unit}{ratio}", mark)
        rows.append(OverviewRow(group.workload, [cells.get(name, OverviewCell()) for name in names]))
    return rows


def agreement_overview(result: Result) -> list[OverviewRow]:
    """Every model's checks: the figure of the worst quantity of each, or how it ended otherwise."""
    names = contender_names(result)
    workloads: dict[str, WorkloadText] = {}
    found: dict[tuple[str, str], dict[str, Agreement]] = {}
    for check in result.agreements:
        workload = describe_workload(check.workload)
        workloads.setdefault(workload.model_key, workload)
        checks = found.setdefault((workload.model_key, check.contender), {})
        label = check_label(check)
        if check.is_everyday or label not in checks or check.badness > checks[label].badness:
            checks[label] = check
    return [
        OverviewRow(workload, [_agreement_cell(found.get((key, name), {})) for name in names])
        for key, workload in workloads.items()
    ]


def _agreement_cell(checks: dict[str, Agreement]) -> OverviewCell:
    if not checks:
        return OverviewCell()
    outcomes = [check.outcome for check in checks.values()]
    bad = next((outcome for outcome in outcomes if outcome != "ok"), None)
    # Meaning comes first by the alphabet.
    figures = " / ".join(worst_figure(checks[label]) or "–" for label in sorted(checks))
    return OverviewCell(f"{_outcome(bad)}: {figures}" if bad else figures, "left-out" if bad else "")


def _outcome(outcome: str, reason: str = "") -> str:
    return f"{OUTCOMES[outcome].symbol} {outcome_word(outcome, reason)}" if outcome != "ok" else "no time"
