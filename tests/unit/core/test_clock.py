"""The clock's tick: the smallest step that it makes."""

import itertools

from faceoff.core.clock import monotonic_ns, tick_s


def test_the_tick_of_a_coarse_clock_is_its_step_however_often_it_is_read():
    readings = itertools.count()
    assert tick_s(lambda: next(readings) // 7 * 4_000_000) == 0.004


def test_a_clock_that_stands_still_has_no_tick():
    assert tick_s(lambda: 42) == 0.0


def test_this_machine_s_clock_is_fine_enough_for_a_round_of_ten_milliseconds():
    assert 0 < tick_s(monotonic_ns) < 1e-5
