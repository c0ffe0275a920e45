"""Which rounds count as disturbed: by what the kernel says of them, never by how long they took."""

import numpy as np

from harness.measure import Rounds

LENGTH_S = 0.01


def rounds(waiting_s, taken_s=None, broken=None, durations_s=None):
    count = len(waiting_s)
    return Rounds(
        1,
        3,
        LENGTH_S,
        durations_s=list(durations_s or [LENGTH_S] * count),
        taken_s=list(taken_s or [0.0] * count),
        waiting_s=list(waiting_s),
        broken=list(broken or [False] * count),
    )


def test_threads_that_always_wait_for_each_other_disturb_no_round():
    assert not rounds([0.006] * 9).disturbed.any()


def test_a_round_that_waits_much_longer_than_the_process_does_in_the_median_is_disturbed():
    assert np.flatnonzero(rounds([0.006] * 8 + [0.009]).disturbed).tolist() == [8]
    assert not rounds([0.006] * 8 + [0.0065]).disturbed.any()


def test_stolen_time_counts_whole_however_regular_it_is():
    assert rounds([0.0] * 9, taken_s=[0.002] * 9).disturbed.all()


def test_pages_read_from_disk_or_sleep_break_a_round():
    assert np.flatnonzero(rounds([0.0] * 3, broken=[False, True, False]).disturbed).tolist() == [1]


def test_a_long_round_alone_is_not_disturbed():
    assert not rounds([0.0] * 9, durations_s=[LENGTH_S] * 8 + [LENGTH_S * 5]).disturbed.any()
