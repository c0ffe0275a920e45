"""The rounding-noise arithmetic: what it disturbs, by how much, and what it must not touch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from faceoff.core.errors import InputError
from faceoff.core.precision import DTYPES, storage_dtype
from faceoff.reference import Exact, Rounded, noise_generator, unit_roundoff
from faceoff.reference.draws import Draws
from faceoff.reference.following import FollowedArray, for_many_products, sum_of_products

U32 = 2.0**-24


def rounded(values: np.ndarray, dtype: str = "float32", seed: int = 0) -> FollowedArray:
    array = Rounded(dtype, noise_generator(seed)).array(values)
    assert isinstance(array, FollowedArray)
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


# The dtypes in which everything is computed alike.
PLAIN_DTYPES = [dtype for dtype in DTYPES if storage_dtype(dtype) == dtype]


@pytest.mark.parametrize("dtype", PLAIN_DTYPES)
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
    assert isinstance(product, FollowedArray)
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
    assert isinstance(view, FollowedArray)
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


@pytest.mark.parametrize("dtype", PLAIN_DTYPES)
def test_values_enter_unchanged(dtype: str) -> None:
    x = np.random.default_rng(8).standard_normal(100).astype(np.float32)
    np.testing.assert_array_equal(plain(rounded(x, dtype)), x.astype(np.float64))


def test_tiny_values_in_float16_are_rounded_to_the_spacing_of_its_smallest_numbers() -> None:
    x = np.full(1000, 1e-7)
    error = plain(rounded(x, "float16") * 1.0) - x
    assert rms(error) == pytest.approx(2.0**-24 / np.sqrt(12), rel=0.1)
    assert rms(plain(rounded(x, "bfloat16") * 1.0) - x) < 1e-9


@pytest.mark.parametrize("operation", ["elementwise", "sum", "product"])
def test_in_float16_what_is_below_half_of_its_finest_spacing_is_zero(operation: str) -> None:
    x = rounded(np.geomspace(1e-3, 1e-12, 400), "float16")
    found = plain(
        {
            "elementwise": lambda: x * 1.0,
            "sum": lambda: x[None].sum(axis=0),
            "product": lambda: np.eye(400) @ x[:, None],
        }[operation]()
    )
    assert not found[np.abs(found) < 2.0**-25].any()
    assert found[:100].all()
    assert not found[-100:].any()


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(InputError, match="unknown dtype; got 'float8', expected one of float64, float32"):
        Rounded("float8", noise_generator(0))


def relative_errors(array: np.ndarray) -> np.ndarray:
    return (plain(array * 3.0) / (plain(array) * 3.0) - 1) / U32


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_errors_of_two_operations_have_nothing_in_common(size: int) -> None:
    x = rounded(np.random.default_rng(10).uniform(1, 2, size))
    errors = [relative_errors(x) for _ in range(20)]
    errors += [relative_errors(rounded(plain(x), seed=1))]  # another run
    correlations = np.corrcoef(errors)[np.triu_indices(len(errors), 1)]
    # Chance alone gives 1 / sqrt(size); what blocks share adds to that about as much again.
    assert rms(correlations) < 2 / np.sqrt(size)
    assert np.abs(correlations).max() < 10 / np.sqrt(size)
    assert abs(correlations.mean()) < 5 * rms(correlations) / np.sqrt(correlations.size)


def test_errors_of_neighbours_have_nothing_in_common() -> None:
    errors = relative_errors(rounded(np.random.default_rng(11).uniform(1, 2, 100_000)))
    for lag in (1, 2, 16, 64, 1024):
        assert abs(np.corrcoef(errors[lag:], errors[:-lag])[0, 1]) < 5 / np.sqrt(errors.size)


@pytest.mark.parametrize("operations", [1, 30])
def test_the_error_of_a_whole_sum_is_that_of_independent_draws(operations: int) -> None:
    # The errors of all elements and operations added up: what they have in common would change this most.
    size, runs = 50_000, 200
    totals = []
    for seed in range(runs):
        array = rounded(np.ones(size), seed=seed)
        for _ in range(operations):
            array = array * 1.0
        totals.append(float((plain(array) - 1).sum() / U32))
    assert rms(np.array(totals)) == pytest.approx(np.sqrt(size * operations / 3), rel=0.2)


def test_draws_are_symmetric_and_uniform() -> None:
    draws = Draws(noise_generator(12), limit=0.5)
    taken = np.concatenate([draws.of(np.ones(1000)) for _ in range(1000)])
    assert abs(taken.mean()) < 0.01
    assert rms(taken) == pytest.approx(0.5 / np.sqrt(3), rel=0.01)
    np.testing.assert_allclose(np.quantile(taken, [0.1, 0.5, 0.9]), [-0.4, 0, 0.4], atol=0.01)
    assert np.abs(taken).max() <= 0.5


@pytest.mark.parametrize("pieces", [1, 2, 10])
def test_a_product_in_pieces_has_the_value_and_the_noise_of_the_whole(pieces: int) -> None:
    rng = np.random.default_rng(13)
    a, b = rng.standard_normal((20, 1000)), rng.standard_normal((1000, 30)) + 0.5
    cuts = [slice(begin, begin + 1000 // pieces) for begin in range(0, 1000, 1000 // pieces)]
    np.testing.assert_allclose(sum_of_products((a[:, cut], b[cut]) for cut in cuts), a @ b, rtol=1e-10, atol=1e-10)
    left, right = rounded(a), rounded(b)
    whole = rms(plain(left @ right) - a @ b)
    in_pieces = sum_of_products((left[:, cut], right[cut]) for cut in cuts)
    assert isinstance(in_pieces, FollowedArray)
    assert rms(plain(in_pieces) - a @ b) == pytest.approx(whole, rel=0.15)


def relu_and_scales(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Activations half of which are zero, of channels that differ tenfold, and weights."""
    a = np.maximum(rng.standard_normal((400, 64)), 0) * rng.uniform(0.1, 1, 64)
    return a, rng.standard_normal((64, 50))


def gradients_by_example(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of examples that differ a thousandfold, and their activations."""
    size = np.exp(rng.uniform(-3.5, 3.5, 64))
    return rng.standard_normal((400, 64)) * size, np.maximum(rng.standard_normal((64, 50)), 0)


@pytest.mark.parametrize("make", [relu_and_scales, gradients_by_example])
def test_noise_of_a_product_is_that_of_its_squared_terms(
    make: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]],
) -> None:
    a, b = make(np.random.default_rng(14))
    product, terms = a @ b, a.shape[1]
    variance = U32**2 * terms / 18 * (2 * np.square(product) + np.square(a) @ np.square(b))
    found = rms(plain(rounded(a) @ rounded(b)) - product)
    assert found == pytest.approx(np.sqrt(variance.mean()), rel=0.05)


def test_slices_and_transposes_are_disturbed_in_place_everywhere() -> None:
    x = np.random.default_rng(15).uniform(1, 2, (300, 8, 40))
    for view in (
        lambda a: a[:, 1:5, ::2],
        lambda a: a.transpose(2, 0, 1),
        lambda a: a.swapaxes(0, 1),
        lambda a: a[::-1, :, 3:],
    ):
        array = rounded(x)
        view(array)[...] *= 1.0
        changed = plain(array) != x
        assert view(changed).mean() > 0.99
        assert changed.sum() == view(changed).sum()
        assert np.abs(plain(array) / x - 1).max() <= U32 * 1.001


def test_a_matrix_for_many_products_is_rounded_like_any_other_and_cannot_be_changed() -> None:
    rng = np.random.default_rng(16)
    a, b = rng.standard_normal((30, 50)), rng.standard_normal((40, 50))
    products = []
    for prepare in (lambda matrix: matrix, for_many_products):
        left, right = (rounded(values, seed=7) for values in (a, b))
        prepared = prepare(right.T)
        products.append(plain(left @ prepared))
    # What equal terms do is not looked for in short products, so that other draws follow.
    exact = a @ b.T
    spread = [np.std(product - exact) for product in products]
    assert spread[0] == pytest.approx(spread[1], rel=0.1)
    with pytest.raises(ValueError, match="read-only"):
        prepared[0, 0] = 1.0
    assert for_many_products(b) is b


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


def test_a_sum_whose_every_term_is_zero_stays_zero():
    arithmetic = Rounded("float32", noise_generator(0))
    # Neither operand is zero, yet no term is anything else: as of a weight whose input is never on when its unit is.
    left, right = arithmetic.array([[1.0, 0.0, 2.0, 0.0]]), arithmetic.array([[0.0], [3.0], [0.0], [4.0]])
    assert np.asarray(left @ right).item() == 0.0


def test_the_squared_terms_of_tiny_and_huge_numbers_are_neither_lost_nor_infinite():
    for scale in (1e-150, 1.0, 1e60):
        arithmetic = Rounded("float32", noise_generator(1))
        left, right = arithmetic.array(np.full((1, 400), scale)), arithmetic.array(np.tile([[1.0], [-1.0]], (200, 200)))
        # Terms that cancel: what is left is the rounding, whose size goes with that of the terms.
        off = np.asarray(left @ right).std() / scale
        assert off == pytest.approx(2.0**-24 * np.sqrt(400 / 18 * 400), rel=0.2)
