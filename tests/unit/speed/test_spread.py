"""The spread between processes: what is put in beforehand gives way to what is seen, a contender whose processes differ
is taken as such and not the others, and Tukey's range is Tukey's."""

import math

import numpy as np
import pytest
from scipy import stats

from faceoff.speed.spread import Error, ProcessSpread, Side, combined

CONFIDENCE = 0.95


def compare_first_two(spreads, within, runs, processes=2):
    """Half widths, and differences, of the first contender to the second one, whose true difference is nothing."""
    rng = np.random.default_rng(0)
    half_widths, differences = [], []
    for _ in range(runs):
        groups = [(math.hypot(s, within) * rng.standard_normal(processes), within**2) for s in spreads]
        sides = [Side(group, processes, 40, within**2) for group in (0, 1)]
        half_widths.append(ProcessSpread(groups).error(sides).half_width(CONFIDENCE))
        differences.append(groups[0][0].mean() - groups[1][0].mean())
    return np.array(half_widths), np.array(differences)


def mean_half_width(spreads, within):
    return float(np.mean(compare_first_two(spreads, within, runs=40)[0]))


def test_where_sampling_hides_processes_the_interval_is_little_wider_than_sampling_alone():
    assert 1.96 * 0.03 < mean_half_width([0.0] * 6, 0.03) < 1.25 * 1.96 * 0.03


def test_processes_that_differ_far_more_than_was_expected_overrule_it():
    # The mean of two is off by the whole spread of one, times the root of 2 / 2.
    assert mean_half_width([0.2] * 6, 0.005) > 0.9 * 1.96 * 0.2


def test_who_has_two_processes_alike_by_chance_is_less_trusted_where_those_of_others_differ():
    def width(others):
        groups = [(np.zeros(2), 0.005**2)] * 2 + [(np.array([-others, others]), 0.005**2)] * 4
        return ProcessSpread(groups).error([Side(group, 2, 40, 0.005**2) for group in (0, 1)]).half_width(CONFIDENCE)

    assert width(others=0.1) > 1.5 * width(others=0.0)


def test_one_contender_whose_processes_differ_hardly_widens_the_intervals_of_the_others():
    alike = mean_half_width([0.005] * 6, 0.005)
    assert mean_half_width([0.005] * 6 + [0.1], 0.005) < 1.25 * alike
    assert mean_half_width([0.1] + [0.005] * 6, 0.005) > 5 * alike


@pytest.mark.parametrize("spread", [0.0, 0.005, 0.02, 0.1])
@pytest.mark.parametrize("processes", [2, 4])
def test_intervals_hold_nothing_where_there_is_nothing(spread, processes):
    half_widths, differences = compare_first_two([spread] * 6, 0.01, runs=400, processes=processes)
    # A spread of twice the sampling error is the worst case: it takes luck to see it in two processes.
    assert np.mean(np.abs(differences) < half_widths) > 0.88


def test_processes_are_taken_to_differ_by_more_where_others_have_the_processor_too():
    groups = [(np.zeros(2), 0.002**2)] * 6
    sides = [Side(group, 2, 40, 0.002**2) for group in (0, 1)]
    quiet, busy = (ProcessSpread(groups, busy).error(sides).half_width(CONFIDENCE) for busy in (False, True))
    assert 1.05 * quiet < busy < 2 * quiet


def test_one_process_of_each_is_refused():
    with pytest.raises(ValueError, match="spread between processes"):
        ProcessSpread([(np.zeros(1), 0.01)] * 3)


@pytest.mark.parametrize("count", [3, 7])
def test_a_picked_baseline_is_judged_by_the_range_of_so_many(count):
    error = Error(1.0, 1e9)
    tukey = stats.studentized_range.ppf(CONFIDENCE, count, 1e9) / math.sqrt(2)
    assert error.half_width(CONFIDENCE, count) == pytest.approx(tukey, rel=1e-3)
    assert error.p_value(tukey, count) == pytest.approx(1 - CONFIDENCE, rel=1e-2)


def test_few_degrees_make_a_picked_baseline_no_easier_than_tukey_does():
    tukey = stats.studentized_range.ppf(CONFIDENCE, 7, 10) / math.sqrt(2)
    assert tukey < Error(1.0, 10).half_width(CONFIDENCE, 7) < 1.1 * tukey


@pytest.mark.parametrize("picked_from", [1, 2, 5])
def test_interval_and_p_value_say_the_same(picked_from):
    error = Error(0.02**2, 12.5)
    half = error.half_width(CONFIDENCE, picked_from)
    assert error.p_value(half, picked_from) == pytest.approx(0.05, rel=1e-2)
    assert error.p_value(2 * half, picked_from) < 0.05 < error.p_value(0.5 * half, picked_from)
    far = [error.p_value(distance, picked_from) for distance in (0.1, 0.5, 2.0, 10.0)]
    assert far == sorted(far, reverse=True)
    assert far[-1] > 0


def test_errors_add_up_and_the_least_known_one_counts():
    both = combined([Error(3.0, 5), Error(1.0, 1000)])
    assert both.variance == 4.0
    assert 5 < both.degrees < 10
    assert combined([Error(0.0, 5), Error(0.0, 7)]) == Error(0.0, 5)


def test_nothing_unsure_leaves_no_doubt():
    assert Error(0.0, 5).half_width(CONFIDENCE) == 0.0
    assert (Error(0.0, 5).p_value(0.0), Error(0.0, 5).p_value(0.1)) == (1.0, 0.0)
