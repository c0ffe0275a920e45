"""The spread between processes: what is put in beforehand gives way to what is seen, and Tukey's range is Tukey's."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.spread import Error, ProcessSpread, combined
from harness.statistics import Sample

CONFIDENCE = 0.95


def half_width(between, within, contenders=6, seed=0):
    rng = np.random.default_rng(seed)
    groups = [(math.hypot(between, within) * rng.standard_normal(2), within**2) for _ in range(contenders)]
    sample = Sample(np.ones((2, 40)), np.zeros((2, 40), dtype=bool))
    return ProcessSpread(groups).error([(sample, within**2)] * 2).half_width(CONFIDENCE)


def mean_half_width(between, within, contenders=6):
    return float(np.mean([half_width(between, within, contenders, seed) for seed in range(40)]))


def test_where_sampling_hides_processes_the_interval_is_little_wider_than_sampling_alone():
    assert 1.96 * 0.03 < mean_half_width(0.0, 0.03) < 1.25 * 1.96 * 0.03


def test_processes_that_differ_far_more_than_was_expected_overrule_it():
    # The mean of two is off by the whole spread of one, times the root of 2 / 2.
    assert mean_half_width(0.2, 0.005) > 0.9 * 1.96 * 0.2


def test_more_contenders_tell_the_spread_better():
    assert mean_half_width(0.05, 0.005, contenders=20) < mean_half_width(0.05, 0.005, contenders=3)


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
