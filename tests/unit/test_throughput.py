"""Throughput has few rounds of its own, and an interval that their own spread makes."""

import math

import numpy as np
import pytest

from harness.core.spec import Contender
from harness.measure import summarise
from harness.rounds import Rounds

EAGER, JIT = Contender("pytorch", "eager"), Contender("jax", "jit")


def process(time_s, pipelined_s):
    """Quiet rounds of waited calls, and these of calls in a row."""
    steady = [time_s * (1 + 0.001 * n) for n in range(12)]
    return Rounds(
        4, 5, time_s, durations_s=steady, taken_s=[0.0] * 12, waiting_s=[0.0] * 12, broken=[False] * 12,
        calls_s=[np.array(steady)], pipelined_s=list(pipelined_s),
    )  # fmt: skip


def width(interval_s):
    return math.log(interval_s[1] / interval_s[0])


def test_rounds_that_differ_make_its_interval_wide_and_leave_that_of_latency_narrow():
    speeds = summarise(
        {
            EAGER: [process(2.0, (1.9, 1.91, 1.9)), process(2.0, (1.9, 1.9, 1.91))],
            JIT: [process(1.0, (0.9, 0.91, 0.9)), process(1.0, (1.8, 1.81, 1.8))],
        }
    )
    speed = speeds[JIT]
    assert speed.pipelined_interval_s[0] < 0.9 < 1.8 < speed.pipelined_interval_s[1]
    assert width(speed.pipelined_interval_s) > 5 * width(speed.interval_s)
    assert speeds[EAGER].pipelined_s == pytest.approx(1.9, rel=0.01)


def test_of_long_calls_one_round_does_for_all_processes():
    speeds = summarise({EAGER: [process(2.0, (1.9, 1.91, 1.9)), process(2.0, (1.92,))]})
    assert speeds[EAGER].pipelined_s == pytest.approx(math.sqrt(1.9 * 1.92), rel=0.01)


def test_without_such_rounds_there_is_none():
    speed = summarise({EAGER: [process(2.0, ()), process(2.0, ())]})[EAGER]
    assert (speed.pipelined_s, speed.pipelined_interval_s) == (None, None)
