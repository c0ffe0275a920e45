"""Arithmetic in which equal values are rounded alike, as they are in every dtype."""

from __future__ import annotations

import numpy as np
import pytest

from faceoff.reference.arithmetic import noise_generator, unit_roundoff
from faceoff.reference.draws import DrawsByValue
from faceoff.reference.rounding import Rounded, stochastic

NARROW = ("float32", "bfloat16", "float16")
UNIFORM = np.random.default_rng(10).uniform(1, 2, 20_000)


def plain(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).view(np.ndarray)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(plain(values)))))


def alike(values: np.ndarray, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    array: np.ndarray = stochastic(dtype, noise_generator(seed), alike=True).array(values)
    return array


def errors_of(factor: float, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Of a product by a factor, relative, in units of the roundoff."""
    exact = UNIFORM * factor
    return (plain(alike(UNIFORM, dtype, seed) * factor) - exact) / exact / unit_roundoff(dtype)


@pytest.mark.parametrize("dtype", ["float64", *NARROW])
def test_results_are_off_by_at_most_the_unit_roundoff(dtype: str) -> None:
    errors = errors_of(1.7, dtype)
    # A shift of less than one float64 spacing is rounded once more.
    assert np.abs(errors).max() <= (2.001 if dtype == "float64" else 1.001)
    assert 0.3 < rms(errors) < 0.8
    assert abs(errors.mean()) < 5 * rms(errors) / np.sqrt(errors.size)


@pytest.mark.parametrize("dtype", NARROW)
def test_functions_are_off_by_two_of_them(dtype: str) -> None:
    exact = np.exp(UNIFORM)
    errors = (plain(np.exp(alike(UNIFORM, dtype))) - exact) / exact / unit_roundoff(dtype)
    assert np.abs(errors).max() <= 2.001
    assert rms(errors) > 0.6


@pytest.mark.parametrize("dtype", NARROW)
def test_what_is_on_the_grid_of_a_narrow_dtype_is_exact(dtype: str) -> None:
    x = alike(UNIFORM, dtype) * 3.0
    for same, factor in ((x * 1.0, 1), (x * 4.0, 4), (x + 0.0, 1), (x + unit_roundoff(dtype) / 8, 1)):
        np.testing.assert_allclose(plain(same), factor * plain(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", *NARROW, "mixed_bfloat16"])
def test_equal_values_are_rounded_alike_and_others_are_not(dtype: str) -> None:
    x = UNIFORM[:300]
    array = alike(np.concatenate([x, x[::-1]]), dtype)
    for found in (array * 3.0, np.exp(array), (array[np.newaxis] * np.ones((40, 1))).sum(axis=0)):
        values = plain(found)
        np.testing.assert_array_equal(values[:300], values[:299:-1])
        assert len(np.unique(values)) > (20 if dtype == "bfloat16" else 100)


def test_errors_of_many_equal_terms_add_up() -> None:
    count = 10_000
    totals = [plain(alike(np.full(count, 1.1), seed=seed) * 3.0).sum() / (3.3 * count) - 1 for seed in range(50)]
    apart = [
        plain(stochastic("float32", noise_generator(seed)).array(np.full(count, 1.1)) * 3.0).sum() / (3.3 * count) - 1
        for seed in range(50)
    ]
    assert rms(np.array(totals)) > 0.3 * unit_roundoff("float32")
    assert rms(np.array(apart)) < 0.02 * unit_roundoff("float32")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_errors_of_two_operations_have_nothing_in_common(dtype: str) -> None:
    # Also of one operation in two runs.
    errors = [errors_of(factor, dtype) for factor in (1.1, 1.3, 1.7, 2.3, 2.9, 3.1, 3.7)] + [errors_of(1.1, dtype, 1)]
    correlations = np.corrcoef(errors)[np.triu_indices(len(errors), 1)]
    # Chance alone gives 1 / sqrt(size); what values share by chance adds to that.
    assert rms(correlations) < 2 / np.sqrt(UNIFORM.size)
    assert np.abs(correlations).max() < 10 / np.sqrt(UNIFORM.size)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_error_of_a_whole_sum_of_values_that_differ_is_that_of_independent_draws(dtype: str) -> None:
    errors = np.array([errors_of(3.0, dtype, seed) * UNIFORM for seed in range(200)])
    assert rms(errors.sum(axis=1)) == pytest.approx(rms(errors) * np.sqrt(UNIFORM.size), rel=0.25)


def test_draws_are_symmetric_and_uniform_and_depend_on_the_value_alone() -> None:
    draws, values = DrawsByValue(noise_generator(12), limit=0.5), np.random.default_rng(1).uniform(-3, 3, (1000, 1000))
    taken = np.concatenate([draws.of(row).copy() for row in values])
    assert abs(taken.mean()) < 0.01
    assert rms(taken) == pytest.approx(0.5 / np.sqrt(3), rel=0.01)
    np.testing.assert_allclose(np.quantile(taken, [0.1, 0.5, 0.9]), [-0.4, 0, 0.4], atol=0.01)
    assert np.abs(taken).max() <= 0.5
    np.testing.assert_array_equal(draws.of(values[0]).copy(), draws.of(values[0].copy()))


def test_sums_that_are_equal_by_chance_have_draws_of_their_own() -> None:
    draws, zeros = DrawsByValue(noise_generator(12)), np.zeros(1000)
    squares = np.random.default_rng(2).uniform(1, 2, 1000)
    found = draws.of_sums(zeros, squares).copy()
    assert rms(found) == pytest.approx(np.sqrt(2 / 3), rel=0.1)
    assert abs(found.mean()) < 5 * rms(found) / np.sqrt(1000)
    # Of the same terms they are alike.
    assert np.ptp(draws.of_sums(zeros, np.full(1000, 3.0))) == 0


def test_wider_roundings_are_as_many_times_as_large() -> None:
    spreads = [
        rms(plain(Rounded("float32", noise_generator(3), times, alike=True).array(UNIFORM) * 1.1) / UNIFORM / 1.1 - 1)
        for times in (1.0, 128.0)
    ]
    assert spreads[1] / spreads[0] == pytest.approx(128, rel=0.05)
