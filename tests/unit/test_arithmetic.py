"""The rounding-noise arithmetic: what it disturbs, by how much, and what it must not touch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.core.errors import InputError
from harness.core.spec import DTYPES
from harness.reference import Exact, Rounded, noise_generator, unit_roundoff
from harness.reference.arithmetic import UNIT_ROUNDOFF, RoundedArray

U32 = 2.0**-24


def rounded(values: np.ndarray, dtype: str = "float32", seed: int = 0) -> RoundedArray:
    array = Rounded(dtype, noise_generator(seed)).array(values)
    assert isinstance(array, RoundedArray)
    return array


def plain(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).view(np.ndarray)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(plain(values)))))


ELEMENTWISE: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "add": (1, lambda x: x + 2.0),
    "reflected subtract": (1, lambda x: 2.0 - x),
    "multiply": (1, lambda x: x * x),
    "divide": (1, lambda x: 1.0 / x),
    "sqrt": (1, np.sqrt),
    "exp": (2, np.exp),
    "log": (2, np.log),
    "tanh": (2, np.tanh),
    "power": (2, lambda x: x**3),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_results_are_off_by_at_most_the_unit_roundoff(name: str) -> None:
    units, operation = ELEMENTWISE[name]
    x = np.random.default_rng(1).uniform(0.25, 0.75, 20_000)
    exact = operation(x)
    relative = (plain(operation(rounded(x))) - exact) / exact
    assert np.abs(relative).max() <= units * U32 * 1.001
    assert rms(relative) == pytest.approx(units * U32 / np.sqrt(3), rel=0.05)
    assert abs(relative.mean()) < 5 * rms(relative) / np.sqrt(x.size)


@pytest.mark.parametrize("dtype", UNIT_ROUNDOFF)
def test_disturbance_scales_with_the_unit_roundoff_of_the_dtype(dtype: str) -> None:
    x = np.random.default_rng(2).uniform(1, 2, 20_000)
    array = rounded(x, dtype)
    # Against its own start, because a dtype narrower than float32 rounds what it is given.
    error = plain(array + 0.0) - plain(array)
    # A shift of less than one float64 spacing is rounded once more.
    tolerance = 0.5 if dtype == "float64" else 0.05
    assert rms(error / x) == pytest.approx(unit_roundoff(dtype) / np.sqrt(3), rel=tolerance)


def sequential_sum(terms: np.ndarray) -> np.ndarray:
    """Sums over the first axis in float32, one term after the other."""
    total = np.zeros(terms.shape[1:], np.float32)
    for term in terms.astype(np.float32):
        total += term
    return total.astype(np.float64)


@pytest.mark.parametrize("length", [8, 64, 1024])
@pytest.mark.parametrize("mean", [0.0, 0.3, 5.0])
def test_noise_of_a_sum_predicts_a_running_sum_in_float32(length: int, mean: float) -> None:
    terms = (np.random.default_rng(3).standard_normal((length, 500)) + mean).astype(np.float32).astype(np.float64)
    exact = terms.sum(axis=0)
    predicted = rms(plain(rounded(terms).sum(axis=0)) - exact)
    assert 1 / 3 < rms(sequential_sum(terms) - exact) / predicted < 1.5


@pytest.mark.parametrize("length", [8, 64, 1024])
def test_noise_of_a_product_predicts_a_running_sum_in_float32(length: int) -> None:
    rng = np.random.default_rng(4)
    a = rng.standard_normal((20, length)).astype(np.float32).astype(np.float64)
    b = rng.standard_normal((length, 30)).astype(np.float32).astype(np.float64)
    predicted = rms(plain(rounded(a) @ b) - a @ b)
    in_float32 = sequential_sum(a.T[:, :, np.newaxis].astype(np.float32) * b[:, np.newaxis, :].astype(np.float32))
    assert 1 / 3 < rms(in_float32 - a @ b) / predicted < 1.5


@pytest.mark.parametrize("sides", ["left", "right", "both"])
def test_a_product_is_disturbed_whichever_side_is_rounded(sides: str) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((6, 7)), rng.standard_normal((7, 8))
    left = a if sides == "right" else rounded(a)
    right = b if sides == "left" else rounded(b)
    product = left @ right
    assert isinstance(product, RoundedArray)
    assert 0 < np.abs(plain(product) - a @ b).max() < 100 * U32


def test_the_mean_of_many_disturbed_runs_is_the_exact_result() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((4, 50)), rng.standard_normal((50, 5))
    exact = np.tanh(a @ b).sum(axis=0)
    arithmetic = Rounded("float32", noise_generator(6))
    errors = np.array(
        [plain(np.tanh(arithmetic.array(a) @ arithmetic.array(b)).sum(axis=0)) - exact for _ in range(400)]
    )
    assert np.abs(errors.mean(axis=0)).max() < 4 * rms(errors) / np.sqrt(400)


def test_selecting_comparing_and_negating_are_exact() -> None:
    x = np.random.default_rng(7).standard_normal(1000)
    array = rounded(x)
    np.testing.assert_array_equal(plain(np.maximum(array, 0)), np.maximum(x, 0))
    np.testing.assert_array_equal(plain(array > 0), x > 0)
    np.testing.assert_array_equal(plain(array * (array > 0)), x * (x > 0))
    np.testing.assert_array_equal(plain(-array), -x)
    np.testing.assert_array_equal(plain(array.max()), x.max())


def test_disturbed_values_flip_a_relu_at_zero() -> None:
    near_zero = rounded(np.full(1000, 1.0)) * 3.0 - 3.0
    share = plain(np.maximum(near_zero, 0) > 0).mean()
    assert 0.4 < share < 0.6


def test_zero_stays_zero() -> None:
    zeros = rounded(np.zeros((3, 3)))
    assert not plain(zeros * 2.0 + zeros @ zeros + zeros.sum(axis=0)).any()


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "slice": lambda x: x[1:],
    "fancy index": lambda x: x[np.array([0, 1]), np.array([1, 0])],
    "transpose": lambda x: x.T,
    "reshape": lambda x: x.reshape(-1),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "copy": lambda x: x.copy(),
    "stack": lambda x: np.stack([x, x]),
    "concatenate": lambda x: np.concatenate([x, x]),
    "zeros like": lambda x: np.zeros_like(x, shape=(2, 2)) + 1.0,
    "full sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(axis=0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_and_copies_stay_in_the_arithmetic(name: str) -> None:
    x = np.arange(1.0, 7.0).reshape(2, 3)
    view = VIEWS[name](rounded(x))
    assert isinstance(view, RoundedArray)
    expected = VIEWS[name](x)
    np.testing.assert_allclose(plain(view), expected, rtol=1e-6)
    assert not np.array_equal(plain(view * 3.0), expected * 3.0)


def test_operations_in_place_are_disturbed() -> None:
    x = np.arange(1.0, 5.0)
    array = rounded(x)
    array += 1.0
    array[1:3] *= 2.0
    expected = np.array([2.0, 6.0, 8.0, 5.0])
    np.testing.assert_allclose(plain(array), expected, rtol=1e-6)
    assert (plain(array) != expected).all()


REFUSED: dict[str, Callable[[np.ndarray], object]] = {
    "einsum": lambda x: np.einsum("ij,jk->ik", x, x),
    "numpy.dot": lambda x: np.dot(x, x),
    "dot": lambda x: x.dot(x),
    "sin": np.sin,
    "cumsum": lambda x: x.cumsum(axis=0),
    "prod": lambda x: x.prod(),
    "where": lambda x: np.where(x > 0, x, 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_a_rounding_rule_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="has no rounding rule"):
        REFUSED[name](rounded(np.eye(3)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_enter_unchanged(dtype: str) -> None:
    x = np.random.default_rng(8).standard_normal(100).astype(np.float32)
    np.testing.assert_array_equal(plain(rounded(x, dtype)), x.astype(np.float64))


def test_tiny_values_in_float16_are_rounded_to_the_spacing_of_its_smallest_numbers() -> None:
    x = np.full(1000, 1e-7)
    error = plain(rounded(x, "float16") * 1.0) - x
    assert rms(error) == pytest.approx(2.0**-24 / np.sqrt(12), rel=0.1)
    assert rms(plain(rounded(x, "bfloat16") * 1.0) - x) < 1e-9


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(InputError, match="unknown dtype; got 'float8', expected one of float64, float32"):
        Rounded("float8", noise_generator(0))


def test_the_same_seed_gives_the_same_noise_and_another_seed_another() -> None:
    x = np.random.default_rng(9).standard_normal(100)
    first, again, other = (plain(rounded(x, seed=seed) * 3.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_exact_copies_to_float64_and_keeps_complex_values() -> None:
    x = np.array([1.5, 2.5], dtype=np.float32)
    copy = Exact().array(x)
    copy += 1
    assert copy.dtype == np.float64
    assert x[0] == 1.5
    assert type(copy) is np.ndarray
    assert Exact().array(np.array([1j])).dtype == np.complex128
