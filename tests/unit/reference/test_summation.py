"""Equal terms round alike: the noise of their sum knows it, be it a sum or a matrix product."""

import numpy as np
import pytest

from faceoff.reference.arithmetic import noise_generator
from faceoff.reference.following import sum_of_products
from faceoff.reference.rounding import Rounded, stochastic
from faceoff.reference.summation import NaiveProduct, naive_sum_errors

COUNT = 20_000


def spread(compute, runs=40, dtype="float32"):
    """The rms distance of stochastic runs from the exact value."""
    exact = compute(None)
    found = [np.asarray(compute(Rounded(dtype, noise_generator(run)))) - exact for run in range(runs)]
    return float(np.sqrt(np.mean(np.square(found))))


def enter(arithmetic, values):
    return values if arithmetic is None else arithmetic.array(values)


def running_error(terms):
    """What a running sum in float32 is off by."""
    return abs(
        float(np.add.accumulate(terms.astype(np.float32))[-1]) - float(terms.astype(np.float32).sum(dtype=float))
    )


@pytest.mark.parametrize("columns", [1, 7])
def test_a_running_sum_of_equal_terms_stays_within_the_noise(columns):
    for value in (0.1, 1 / 3, 0.7, 1.9):
        terms = np.full((COUNT, columns), value)
        noise = spread(lambda arithmetic, terms=terms: enter(arithmetic, terms).sum(axis=0))
        assert running_error(terms[:, 0]) < 4 * noise
        # As random roundings its error would be a twentieth.
        assert noise > 5 * 2.0**-24 * np.sqrt(COUNT / 9) * value * COUNT / 10


def test_a_sum_of_random_terms_has_the_noise_of_random_roundings():
    terms = np.random.default_rng(0).standard_normal((COUNT, 5))
    noise = spread(lambda arithmetic: enter(arithmetic, terms).sum(axis=0))
    walk = 2.0**-24 * np.sqrt(COUNT / 18 * (2 * np.mean(terms.sum(axis=0) ** 2) + COUNT))
    assert noise == pytest.approx(walk, rel=0.3)


def test_a_product_of_equal_terms_has_their_noise_also_in_pieces():
    left, right = np.full((3, COUNT), 0.7), np.full((COUNT, 4), 0.3)

    def whole(arithmetic):
        return enter(arithmetic, left) @ enter(arithmetic, right)

    def in_pieces(arithmetic):
        pieces = np.array_split(np.arange(COUNT), 9)
        return sum_of_products((enter(arithmetic, left[:, p]), enter(arithmetic, right[p])) for p in pieces)

    error = running_error(np.full(COUNT, 0.7 * 0.3))
    for compute in (whole, in_pieces):
        assert error < 4 * spread(compute)


def test_a_product_of_random_terms_has_the_noise_of_random_roundings():
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((20, 400)), rng.standard_normal((400, 20))
    noise = spread(lambda arithmetic: enter(arithmetic, left) @ enter(arithmetic, right))
    walk = 2.0**-24 * np.sqrt(400 / 18 * (2 * np.mean((left @ right) ** 2) + 400))
    assert noise == pytest.approx(walk, rel=0.3)


def test_float64_has_the_same_floor_in_its_own_units():
    terms = np.full((COUNT, 2), 0.1)
    wide, narrow = (spread(lambda a: enter(a, terms).sum(axis=0), 20, dtype) for dtype in ("float64", "float32"))
    assert wide == pytest.approx(narrow * 2.0**-29, rel=0.5)


def test_sums_of_nothing_and_of_zeros_are_exact():
    rng = np.random.default_rng(2)
    assert not naive_sum_errors(np.zeros((100, 3)), 0, rng).any()
    product = NaiveProduct(rng)
    product.add(np.zeros((2, 100)), np.zeros((100, 2)))
    assert not product.errors().any()


def test_the_axes_of_a_sum_do_not_matter_to_its_floor():
    terms = np.full((50, 40, 6), 0.1)
    by_pair = naive_sum_errors(terms, (0, 1), np.random.default_rng(3))
    flat = naive_sum_errors(terms.reshape(2000, 6), 0, np.random.default_rng(3))
    np.testing.assert_allclose(by_pair, flat)


def test_a_sum_over_the_last_axis_has_the_same_floor():
    terms = np.full((6, 2000), 0.1)
    last = naive_sum_errors(terms, 1, np.random.default_rng(3))
    np.testing.assert_array_equal(last, naive_sum_errors(np.ascontiguousarray(terms.T), 0, np.random.default_rng(3)))


def moved_by_one_step(count: int) -> np.ndarray:
    """Weights that are exact in float32 and were then all moved by the same: their last bits are alike."""
    drawn = np.random.default_rng(5).standard_normal((count, 40)).astype(np.float32) * np.float32(0.1)
    return drawn.astype(np.float64) - 0.1 / 3 * 1e-3


def test_terms_whose_last_bits_are_alike_round_alike_in_float64_and_their_noise_knows():
    # Of so many the error stands out whatever the order in which a processor's BLAS sums.
    count = COUNT // 4
    weights, x = moved_by_one_step(count), np.full((1, count), np.float64(np.float32(0.01763986)))
    exact = (x.astype(np.longdouble) @ weights.astype(np.longdouble)).astype(np.float64)
    running = np.zeros(weights.shape[1])
    for row in weights:
        running += x[0, 0] * row
    error = np.sqrt(np.mean(np.square(running - exact)))

    def noise(alike: bool) -> float:
        found = []
        for run in range(8):
            arithmetic = stochastic("float64", np.random.default_rng(run), alike=alike)
            found.append(np.asarray(arithmetic.array(x) @ arithmetic.array(weights)) - exact)
        return float(np.sqrt(np.mean(np.square(found))))

    assert error > 8 * noise(alike=False)
    assert error < 4 * noise(alike=True)


def test_a_sum_may_begin_at_the_bias():
    rng = np.random.default_rng(6)
    x, weights, bias = rng.standard_normal((50, 300)) * 1e-3, rng.standard_normal((300, 20)), rng.standard_normal(20)
    exact, running = x @ weights + bias, np.tile(bias, (50, 1)).astype(np.float32)
    for column, row in zip(x.T.astype(np.float32), weights.astype(np.float32), strict=True):
        running += np.outer(column, row)
    error = np.sqrt(np.mean(np.square(running - exact)))
    runs = []
    for run in range(8):
        arithmetic = stochastic("float32", np.random.default_rng(run), alike=True)
        runs.append(np.asarray(arithmetic.array(x) @ arithmetic.array(weights) + arithmetic.array(bias)) - exact)
    noise = np.sqrt(np.mean(np.square(runs)))
    assert 0.3 < error / noise < 2
