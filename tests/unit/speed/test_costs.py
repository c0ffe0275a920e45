"""Compiling longer pays off after the calls that the arithmetic says."""

import pytest

from faceoff.core.spec import DenseSpec, Workload
from faceoff.results.costs import ColdStart
from faceoff.results.records import CaseResult, Speed
from faceoff.speed.costs import find_break_evens

WORKLOAD = Workload(DenseSpec((4, 3)), 2, step="inference")


def start(contender, build_s, first_call_s, outcome="ok"):
    return ColdStart(
        workload=WORKLOAD.to_json(), contender=contender, outcome=outcome, build_s=build_s, first_call_s=first_call_s
    )


def case(contender, time_s, half_s=0.0):
    interval_s = time_s - half_s, time_s + half_s
    speed = Speed(rounds_s=[time_s], iterations=1, warmup_calls=3, time_s=time_s, interval_s=interval_s)
    return CaseResult(
        name=f"{WORKLOAD.name}-{contender}", workload=WORKLOAD.to_json(), contender=contender, outcome="ok", speed=speed
    )


def test_the_slower_starter_catches_up_when_its_calls_have_saved_what_it_spent():
    found = find_break_evens(
        [start("pytorch:compile", 1.0, 9.0), start("pytorch:eager", 0.5, 0.5)],
        [case("pytorch:compile", 0.002), case("pytorch:eager", 0.005)],
    )
    assert [(b.contender, b.other) for b in found] == [("pytorch:compile", "pytorch:eager")]
    assert found[0].calls == pytest.approx(9.0 / 0.003)
    after_s = 10.0 + found[0].calls * 0.002
    assert after_s == pytest.approx(1.0 + found[0].calls * 0.005)


def test_who_starts_sooner_and_runs_faster_has_nothing_to_catch_up_with():
    assert not find_break_evens(
        [start("pytorch:compile", 1.0, 9.0), start("pytorch:eager", 0.5, 0.5)],
        [case("pytorch:compile", 0.006), case("pytorch:eager", 0.005)],
    )


@pytest.mark.parametrize(("half_s", "pairs"), [(0.0014, 1), (0.0016, 0)])
def test_nothing_is_paid_off_by_a_difference_that_the_intervals_do_not_show(half_s, pairs):
    found = find_break_evens(
        [start("pytorch:compile", 1.0, 9.0), start("pytorch:eager", 0.5, 0.5)],
        [case("pytorch:compile", 0.002, half_s), case("pytorch:eager", 0.005, half_s)],
    )
    assert len(found) == pairs


def test_a_start_that_failed_is_not_counted():
    assert not find_break_evens(
        [start("pytorch:compile", 1.0, 9.0, "crashed"), start("pytorch:eager", 0.5, 0.5)],
        [case("pytorch:compile", 0.002), case("pytorch:eager", 0.005)],
    )
