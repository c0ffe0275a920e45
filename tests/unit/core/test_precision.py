"""Precision policies: what each holds weights in, where it is refused, and that its noise is that of real rounding."""

import numpy as np
import pytest

from faceoff.agreement.noise import NOISE_RUNS, rms
from faceoff.agreement.quantities import reference_quantities
from faceoff.core.errors import InputError
from faceoff.core.precision import DTYPES, storage_dtype
from faceoff.core.spec import DenseSpec, LstmSpec, Optimiser, ResidualSpec, Workload
from faceoff.core.weights import round_to
from faceoff.reference import Exact, Rounded, noise_generator
from faceoff.reference.rounding import Mixed, stochastic
from faceoff.workloads.task import Task

DENSE = DenseSpec((12, 16, 5))


def test_policies_that_compute_in_less_hold_float32():
    assert {name: storage_dtype(name) for name in DTYPES} == {
        "float64": "float64",
        "float32": "float32",
        "tf32": "float32",
        "bfloat16": "bfloat16",
        "float16": "float16",
        "mixed_bfloat16": "float32",
    }
    assert round_to(np.array([1 + 2.0**-20]), "tf32")[0] == np.float32(1 + 2.0**-20)


def test_tf32_is_refused_where_there_is_no_gpu_to_have_it():
    with pytest.raises(InputError, match="GPUs alone"):
        Workload(DENSE, 2, "tf32", "cpu")
    assert Workload(DENSE, 2, "tf32", "gpu").storage_dtype == "float32"


def test_mixed_precision_trains_with_adam_whose_constants_bfloat16_cannot_hold():
    assert Workload(DENSE, 2, "mixed_bfloat16", optimiser=Optimiser("adam")).dtype == "mixed_bfloat16"
    with pytest.raises(InputError, match="beta2"):
        Workload(DENSE, 2, "bfloat16", optimiser=Optimiser("adam"))


def cut(values, bits):
    """Values rounded to so many significant bits, to the nearest."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent)


def test_the_noise_of_tf32_is_what_a_product_of_operands_rounded_to_11_bits_is_off_by():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((64, 300)), rng.standard_normal((300, 48))
    real = rms(cut(a, 11) @ cut(b, 11) - a @ b)
    arithmetic = stochastic("tf32", noise_generator(1))
    found = rms(np.asarray(arithmetic.array(a) @ arithmetic.array(b)).view(np.ndarray) - a @ b)
    # Rounding to the nearest is off by a third less than a uniform draw over the whole unit in the mean of mantissas.
    assert 1.0 < found / real < 1.7


def test_in_tf32_only_products_are_coarser_than_float32():
    x = np.random.default_rng(2).uniform(0.5, 1.0, 5000)
    for dtype in ("float32", "tf32"):
        array = stochastic(dtype, noise_generator(3)).array(x)
        assert rms(np.tanh(array).view(np.ndarray) - np.tanh(x)) < 2 * 2.0**-24


def spread(arithmetic_of, name, spec=DENSE, optimiser="sgd"):
    task = Task.seeded(Workload(spec, 6, optimiser=Optimiser(optimiser)), 0)
    exact = reference_quantities(task, Exact())[name]
    runs = [reference_quantities(task, arithmetic_of(noise_generator(run)))[name] for run in range(NOISE_RUNS)]
    return float(np.sqrt(np.mean([rms(run - exact) ** 2 for run in runs])))


@pytest.mark.parametrize("spec", [DENSE, LstmSpec(5, 8, 4, 6), ResidualSpec(8, 8, 2, (8, 16), 1, 5)], ids=str)
def test_mixed_precision_computes_as_coarsely_as_bfloat16_and_updates_as_finely_as_float32(spec):
    mixed = spread(Mixed, "outputs", spec)
    narrow = spread(lambda rng: Rounded("bfloat16", rng), "outputs", spec)
    assert 0.5 < mixed / narrow < 3
    name = (
        "weight 'head.bias' after 3 training steps"
        if spec is not DENSE
        else "weight 'layer.1.bias' after 3 training steps"
    )
    # bfloat16 rounds the weight itself after every step, mixed precision only what is taken from it.
    assert spread(Mixed, name, spec) < 0.5 * spread(lambda rng: Rounded("bfloat16", rng), name, spec)


def test_what_is_not_one_arithmetic_is_no_rounded_one():
    with pytest.raises(InputError, match="dtype"):
        Rounded("mixed_bfloat16", noise_generator(0))
