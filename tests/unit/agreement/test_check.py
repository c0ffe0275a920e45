"""The comparison itself: what agrees passes, and everything else fails with its reason."""

import json

import numpy as np
import pytest

from faceoff.agreement.check import Expected, name_precision_findings
from faceoff.agreement.comparison import NOISE_LIMIT, compare_all, compare_quantity
from faceoff.agreement.noise import Noise, SliceNoise, distance_of, noise_of, rms
from faceoff.agreement.quantities import reference_quantities
from faceoff.core.spec import DenseSpec, LstmSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import round_to
from faceoff.reference.arithmetic import Exact, noise_generator
from faceoff.reference.rounding import Rounded
from faceoff.results.agreements import Agreement
from faceoff.workloads.presets import PRESETS
from faceoff.workloads.task import Task

REFERENCE = np.random.default_rng(0).standard_normal((4, 5))


NOISE = 1e-16


def compare(got, noise=NOISE, dtype="float64", reference=REFERENCE):
    return compare_quantity("outputs", got, reference, dtype, Noise(noise))


def test_equal_values_agree():
    assert compare(REFERENCE.copy()).agrees


def test_an_error_above_the_limit_of_meaning_disagrees_at_its_place():
    got = REFERENCE.copy()
    got[2, 3] += 3e-14
    quantity = compare(got)
    assert not quantity.agrees
    assert quantity.worst_index == [2, 3]
    assert quantity.error == pytest.approx(3e-14 / np.abs(REFERENCE).max(), rel=0.02)
    assert quantity.limit == NOISE_LIMIT


def test_an_error_is_measured_in_units_of_noise():
    got = (REFERENCE + 3e-5).astype("float32")
    quantity = compare(got, noise=1e-5, dtype="float32")
    assert quantity.noise_units == pytest.approx(3.0, rel=0.02)
    assert quantity.agrees
    assert not compare(got, noise=3e-5 / (NOISE_LIMIT * 1.1), dtype="float32").agrees


@pytest.mark.parametrize(
    ("got", "problem"),
    [
        (None, "missing"),
        (REFERENCE.T, "wrong shape"),
        (REFERENCE.astype("float32"), "wrong dtype"),
        (np.where(REFERENCE > 1, np.nan, REFERENCE), "not finite"),
        (np.where(REFERENCE > 1, np.inf, REFERENCE), "not finite"),
    ],
    ids=["missing", "shape", "dtype", "nan", "inf"],
)
@pytest.mark.parametrize("noise", [NOISE, 1e30])
def test_what_is_not_a_value_of_the_right_kind_never_agrees(got, problem, noise):
    quantity = compare(got, noise)
    assert not quantity.agrees
    assert problem in quantity.problem


def test_digits_that_bfloat16_does_not_hold_are_a_wrong_dtype():
    rounded = round_to(REFERENCE, "bfloat16")
    assert compare(rounded, 1e-2, "bfloat16").agrees
    assert "bfloat16" in compare(REFERENCE.astype("float32"), 1e-2, "bfloat16").problem


def test_tiny_differences_do_not_vanish_in_their_squares():
    assert rms(np.array([3e-300, -4e-300])) == pytest.approx(3.5355e-300, rel=1e-3)
    assert rms(np.array([0.0, np.inf])) == np.inf
    assert np.isnan(rms(np.array([1.0, np.nan])))


@pytest.mark.parametrize("noise", [NOISE, 1e-7])
def test_all_zeros_do_not_agree_with_values(noise):
    assert not compare(np.zeros_like(REFERENCE), noise).agrees


def test_zeros_agree_with_zeros_and_nothing_else_does():
    zeros = np.zeros((2, 2))
    assert compare(zeros.copy(), 0.0, reference=zeros).agrees
    assert not compare(zeros + 1e-300, 0.0, reference=zeros).agrees
    assert not compare(np.full((2, 2), 1e-30, "float32"), 0.0, "float32", zeros).agrees


def test_what_overflows_by_rounding_alone_is_left_out_and_all_else_is_judged():
    run = REFERENCE.copy()
    run[1, 2] = np.inf
    noise = noise_of({"outputs": REFERENCE}, [{"outputs": run}, {"outputs": REFERENCE + 1e-7}], "float32")["outputs"]
    assert list(noise.left_out) == [7]
    for value in (np.inf, np.nan, 1e30, REFERENCE[1, 2]):
        got = REFERENCE.astype("float32")
        got[1, 2] = value
        quantity = compare_quantity("outputs", got, REFERENCE, "float32", noise)
        assert quantity.agrees
        assert quantity.left_out == 1
        got[0, 0] += 1e-3
        assert not compare_quantity("outputs", got, REFERENCE, "float32", noise).agrees
        got[0, 0] = np.nan
        assert "not finite" in compare_quantity("outputs", got, REFERENCE, "float32", noise).problem


def wide_noise(rng, shape=(60, 70)):
    """The noise of a matrix whose elements err independently by 1e-7, and its exact values."""
    exact = rng.standard_normal(shape)
    runs = [{"w": exact + 1e-7 * rng.standard_normal(shape)} for _ in range(8)]
    return exact, noise_of({"w": exact}, runs, "float32")["w"]


def test_one_wrong_element_of_a_matrix_is_found_and_named():
    rng = np.random.default_rng(3)
    exact, noise = wide_noise(rng)
    got = (exact + 1e-7 * rng.standard_normal(exact.shape)).astype("float32")
    assert compare_quantity("gradient of 'w'", got, exact, "float32", noise).agrees
    got[59, 69] += 1e-5
    # As a whole the matrix is less than two units off.
    assert distance_of(exact, got).whole < 2 * noise.rms
    quantity = compare_quantity("gradient of 'w'", got, exact, "float32", noise)
    assert not quantity.agrees
    assert quantity.where == "the element [59, 69]"
    assert quantity.worst_index == [59, 69]


@pytest.mark.parametrize(("axis", "place", "word"), [(0, 59, "row 59"), (1, 69, "column 69"), (1, 0, "column 0")])
def test_one_wrong_row_or_column_of_a_matrix_is_found_and_named(axis, place, word):
    rng = np.random.default_rng(4)
    exact, noise = wide_noise(rng)
    error = 1e-7 * rng.standard_normal(exact.shape)
    np.moveaxis(error, axis, 0)[place] *= 15
    quantity = compare_quantity("gradient of 'w'", (exact + error).astype("float32"), exact, "float32", noise)
    assert distance_of(exact, exact + error).whole < 4 * noise.rms
    assert not quantity.agrees
    assert quantity.where == word


def test_a_wrong_time_step_is_found_among_others_with_far_larger_gradients():
    rng = np.random.default_rng(5)
    sizes = np.logspace(0, -30, 16)[np.newaxis, :, np.newaxis]
    exact = rng.standard_normal((4, 16, 6)) * sizes
    runs = [{"x": exact * (1 + 1e-7 * rng.standard_normal(exact.shape))} for _ in range(8)]
    noise = noise_of({"x": exact}, runs, "float32")["x"]
    got = (exact * (1 + 1e-7 * rng.standard_normal(exact.shape))).astype("float32")
    assert compare_quantity("gradient of input 'x'", got, exact, "float32", noise).agrees
    got[:, 12:] = 0
    quantity = compare_quantity("gradient of input 'x'", got, exact, "float32", noise)
    assert not quantity.agrees
    assert quantity.where.startswith("time step 1")


def test_right_values_stay_under_the_limit_in_every_row_column_and_element():
    rng = np.random.default_rng(6)
    largest = 0.0
    for shape in [(1,), (1, 1), (3, 2), (200, 300), (1, 500), (2, 3, 3, 8)] * 20:
        exact, noise = wide_noise(rng, shape)
        got = (exact + 1e-7 * rng.standard_normal(shape)).astype("float32")
        largest = max(largest, compare_quantity("w", got, exact, "float32", noise).noise_units)
    assert largest < NOISE_LIMIT / 1.5


def test_noise_survives_being_written_down():
    _, noise = wide_noise(np.random.default_rng(7), (3, 4))
    again = Noise.from_json(json.loads(json.dumps(noise.to_json())))
    assert (again.rms, again.reach, again.largest, again.left_out) == (
        noise.rms,
        noise.reach,
        noise.largest,
        noise.left_out,
    )
    for part, written in zip(noise.slices, again.slices, strict=True):
        assert isinstance(written, SliceNoise)
        np.testing.assert_allclose(part.rms, written.rms, rtol=1e-3)


def test_a_quantity_that_is_missing_is_a_disagreement():
    quantities = compare_all(
        {"a": REFERENCE, "b": REFERENCE}, {"a": REFERENCE}, "float64", dict.fromkeys("ab", Noise(NOISE))
    )
    assert [quantity.agrees for quantity in quantities] == [True, False]


def test_noise_is_never_finer_than_the_rounding_of_the_result():
    exact = {"x": REFERENCE}
    noise = noise_of(exact, [exact, exact], "float32")["x"]
    assert noise.rms > 0
    assert noise.largest > 0
    assert all((part.rms > 0).all() for part in noise.slices)


@pytest.mark.parametrize("sized", PRESETS["small"].sized, ids=lambda sized: sized.model.kind)
def test_a_float32_evaluation_of_the_reference_is_about_one_noise_unit_off(sized):
    """The limit means something: rounding stands well under it, and a fault of one part in a thousand well above."""
    task = Task.seeded(Workload(sized.model, sized.batch_size), seed=3)
    expected = Expected(task, seed=3)
    noise = expected.noise("float32")
    rounded = reference_quantities(task, Rounded("float32", noise_generator(99)))
    units = {
        name: compare_quantity(
            name, value.astype("float32"), expected.values("float64")[name], "float32", noise[name]
        ).noise_units
        for name, value in rounded.items()
    }
    assert max(units.values()) < NOISE_LIMIT / 2
    outputs = expected.values("float64")["outputs"]
    wrong = compare_quantity("outputs", (1.001 * outputs).astype("float32"), outputs, "float32", noise["outputs"])
    assert wrong.noise_units is not None
    assert wrong.noise_units > 20 * NOISE_LIMIT


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (DenseSpec((4, 3, 2)), 4 + 1),
        (ResidualSpec(8, 8, 1, (4,), 1, 5), 11 + 1),
        (RnnSpec(2, 3, 4, 5), 5 + 2),
        (LstmSpec(2, 3, 4, 5), 5 + 3),
    ],
    ids=["dense", "residual", "rnn", "lstm"],
)
def test_every_weight_and_every_input_has_its_gradient_compared(spec, count):
    values = reference_quantities(Task.seeded(Workload(spec, 3), 0), Exact())
    assert sum(name.startswith("gradient of") for name in values) == count
    assert {"outputs", "loss", "losses in training", "weights before training"} <= set(values)
    assert "outputs after 3 training steps" in values


@pytest.mark.parametrize(("meaning", "named"), [("ok", True), ("disagrees", False), ("crashed", False)])
def test_what_agrees_in_float64_alone_is_a_finding_of_precision(meaning, named):
    workload = Workload(DenseSpec((4, 3, 2)), 3)
    coarse = compare((REFERENCE + 1e-3).astype("float32"), 1e-7, "float32")
    assert not coarse.agrees
    records = [
        Agreement(workload=workload.replace(dtype=dtype).to_json(), contender="jax:jit", check=check, outcome=outcome)
        for dtype, check, outcome in (("float64", "meaning", meaning), ("float32", "precision", "disagrees"))
    ]
    records[1].quantities = [coarse]
    name_precision_findings(records)
    assert ("finding of precision" in records[1].message) is named
    assert ("unit roundoff 0.0006 would (float32 has 6e-08)" in records[1].message) is named
    assert records[0].message == ""


def test_what_other_code_serves_in_float64_is_not_cleared_of_meaning_by_it():
    workload = Workload(LstmSpec(2, 3, 4, 5), 3)
    for contender, cleared in (("jax:cudnn", False), ("jax:jit", True)):
        of = workload.to_json()
        records = [
            Agreement(workload={**of, "dtype": dtype}, contender=contender, check=check, outcome=outcome)
            for dtype, check, outcome in (("float64", "meaning", "ok"), ("float32", "precision", "disagrees"))
        ]
        name_precision_findings(records)
        assert ("not of meaning" in records[1].message) is cleared
        assert ("meaning is not cleared" in records[1].message) is not cleared
