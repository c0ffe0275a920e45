"""A run with so many minutes: what does not fit is left out, and rounds are shared out over what does."""

import math
from dataclasses import dataclass

from faceoff.run.wall_time import COSTS_OF_A_SECOND, LEAST_TIMED_S, WRITING_S, WallTime
from tests.unit.results import samples


@dataclass(frozen=True)
class Part:
    units: float
    times: bool = False


PLAN = {
    "agreement a": Part(10),
    "speed a": Part(5, times=True),
    "agreement b": Part(10),
    "speed b": Part(5, times=True),
    "training": Part(20),
}


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def go_through(limit_s, seconds_a_unit, plan=PLAN, left=None):
    """The parts that were done and what each case was allowed, where every unit takes so long; starting took 10."""
    clock, result, done, allowed = Clock(), samples.empty(), [], []
    wall = WallTime(limit_s + WRITING_S, 2.0, 3, clock)
    clock.now_s = 10 * seconds_a_unit
    for key in wall.parts_that_fit(plan, list(left or plan), result, 10.0, allowed.append):
        done.append(key)
        clock.now_s += plan[key].units * seconds_a_unit
    return done, allowed, result.left_out, clock.now_s


def test_without_a_limit_everything_is_done_and_every_case_has_its_time():
    done, allowed, left_out, _ = go_through(math.inf, 1.0)
    assert (done, left_out) == (list(PLAN), 0)
    assert allowed == [2.0] * 5


def test_what_would_end_too_late_is_left_out_and_the_limit_is_kept():
    done, _, left_out, ended_s = go_through(45.0, 1.0)
    assert done == ["agreement a", "speed a", "agreement b", "speed b"]
    assert (left_out, ended_s) == (1, 40.0)
    done, _, left_out, ended_s = go_through(34.0, 1.0)
    assert (done, left_out, ended_s) == (["agreement a", "speed a"], 3, 25.0)


def test_the_first_ranking_is_made_however_little_time_there_is():
    done, allowed, left_out, _ = go_through(1.0, 1.0)
    assert (done, left_out) == (["agreement a", "speed a"], 3)
    assert allowed == [LEAST_TIMED_S] * 2


def test_what_is_left_is_shared_by_the_cases_that_are_still_to_be_timed():
    _, allowed, _, _ = go_through(120.0, 1.0)
    # After the start 110 s, of which 40 are for what times nothing; two steps of three cases.
    assert allowed[0] == (110 - 40) / (6 * COSTS_OF_A_SECOND)
    # After both agreements and one step there are 85 - 20 s for three cases, of which none has more than it may.
    assert allowed[3] == 2.0


def test_a_resumed_run_does_what_is_left():
    done, _, left_out, _ = go_through(1000.0, 1.0, left=["speed b", "training"])
    assert (done, left_out) == (["speed b", "training"], 0)
