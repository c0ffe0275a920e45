"""Runs of one machine over time: which belong together, their times, and what changed from one to the next."""

from __future__ import annotations

import pytest

from faceoff.report.history import histories, history_chart
from faceoff.report.page import render
from faceoff.report.words import identify
from faceoff.results.records import Result
from tests.unit.results.samples import dated


def test_runs_of_one_machine_are_a_history_in_the_order_of_time() -> None:
    other = {**dated("2025-01-03").machine, "processor": "another"}
    (found,) = histories(
        [
            ("late", dated("2025-01-02")),
            ("elsewhere", dated("2025-01-03", machine=other)),
            ("early", dated("2025-01-01")),
        ]
    )
    assert [name for name, _ in found.runs] == ["early", "late"]
    assert "AMD EPYC 7B13, 2 cores, 2 threads" in found.machine
    assert histories([("a", dated("2025-01-01")), ("b", dated("2025-01-02", threads=1))]) == []
    assert histories([("a", dated("2025-01-01"))]) == []


def test_runs_on_a_card_are_a_history_of_that_card_alone() -> None:
    def on(device: str, card: str, day: int) -> tuple[str, Result]:
        result = dated(f"2025-01-0{day}")
        for case in result.cases:
            case.workload = {**case.workload, "device": device}
        result.machine = {**result.machine, **({"gpu": {"name": card}} if card else {})}
        return f"{device} {card} {day}", result

    runs = [on("cpu", "", 1), on("gpu", "H100", 2), on("gpu", "H200", 3), on("gpu", "H100", 4), on("cpu", "", 5)]
    found = {history.machine: [name for name, _ in history.runs] for history in histories(runs)}
    machine = "AMD EPYC 7B13, 2 cores, 2 threads"
    assert found == {machine: ["cpu  1", "cpu  5"], f"{machine}, H100": ["gpu H100 2", "gpu H100 4"]}


def test_times_have_gaps_where_a_run_has_none_and_single_runs_of_a_workload_are_left_out() -> None:
    second = dated("2025-01-02", models=2)
    second.cases[0].outcome = "timeout"
    (found,) = histories([("a", dated("2025-01-01")), ("b", second)])
    assert [timeline.workload.title for timeline in found.timelines] == ["Dense inference", "Dense training"]
    name = second.cases[0].contender
    before, after = found.timelines[0].times_s[name]
    assert before is not None
    assert after is None
    chart = history_chart(found.timelines[0], found, identify([second]))
    (rows,) = chart["datasets"].values()
    assert {row["run"] for row in rows if row["time"] is None} == {2}


def test_what_changed_is_said_with_its_interval() -> None:
    runs = [("a", dated("2025-01-01")), ("b", dated("2025-01-02", slower=1.5))]
    (found,) = histories(runs)
    (change,) = found.changes
    assert change.diff
    slower = [case for case in change.diff.cases if case.verdict == "slower"]
    assert {case.contender for case in slower} == {"jax:jit"}
    assert all(case.ratio == pytest.approx(1.5, rel=0.01) for case in slower)
    page = render(runs)
    assert "History of 2 runs" in page
    assert "2 regressions beyond 10 %" in page
    assert "that stayed the same." in page


def test_runs_that_cannot_be_compared_say_why_and_are_still_drawn() -> None:
    old = dated("2025-01-01")
    for case in old.cases:
        assert case.speed
        case.speed.processes = []
    runs = [("a", old), ("b", dated("2025-01-02"))]
    (found,) = histories(runs)
    assert found.changes[0].diff is None
    assert "an earlier version" in found.changes[0].reason
    assert len(found.timelines) == 2
    assert "They cannot be compared: does not say which process" in render(runs)
