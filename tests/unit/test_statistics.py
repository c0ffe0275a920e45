"""Intervals cover what they say, and verdicts follow from them."""

import numpy as np
import pytest

from harness.statistics import median_interval, ratio_interval, verdict


def test_the_median_interval_covers_the_median_at_least_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for count in (7, 12, 30):
        covered = 0
        for _ in range(2000):
            low, high = median_interval(rng.exponential(size=count))
            covered += low <= np.log(2) <= high
        assert covered / 2000 > 0.945


def test_the_median_interval_of_thirty_values_is_not_their_whole_range():
    values = list(range(30))
    assert median_interval(values) == (9, 20)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_values_give_their_whole_range(count):
    assert median_interval(range(count)) == (0, count - 1)


def test_the_ratio_interval_covers_the_true_ratio():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(300):
        baseline = rng.lognormal(0.0, 0.05, 25)
        values = 1.1 * rng.lognormal(0.0, 0.05, 25)
        ratio, low, high = ratio_interval(values, baseline, seed)
        assert low <= ratio <= high
        covered += low <= 1.1 <= high
    assert covered / 300 > 0.90


def test_drift_that_hits_a_pass_alike_does_not_widen_the_ratio():
    drift = np.linspace(1.0, 2.0, 25)
    ratio, low, high = ratio_interval(list(1.2 * drift), list(drift), 0)
    assert ratio == pytest.approx(1.2)
    assert high - low < 0.01


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.2, 1.3, "slower"),
        (0.7, 0.8, "faster"),
        (0.99, 1.02, "tie"),
        (1.01, 1.03, "tie"),
        (0.9, 1.2, "unresolved"),
        (0.99, 1.06, "unresolved"),
        (float("nan"), 1.0, "unresolved"),
        (0.9, float("inf"), "unresolved"),
    ],
)
def test_the_verdict_follows_from_the_interval(low, high, said):
    assert verdict(low, high) == said
