"""Where errors multiply, larger roundings tell how far they go; where they add up, nothing is excused by that."""

import numpy as np
import pytest

from faceoff.agreement.check import CHAOTIC, Expected
from faceoff.agreement.noise import rms
from faceoff.core.spec import DenseSpec, LstmSpec, Optimiser, RnnSpec, Workload
from faceoff.workloads.situations import SITUATIONS

CHAOS = Workload(RnnSpec(13, 16, 9, 246, 3, many_to_many=True), 2, optimiser=Optimiser("sgd", 1e-4))


def expected_of(workload, situation="everyday", seed=5):
    return Expected(SITUATIONS[situation].task(workload, seed), seed, keep=False)


@pytest.fixture(scope="module")
def chaos():
    return expected_of(CHAOS, "saturated")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("model", [DenseSpec((12, 16, 5), "tanh"), LstmSpec(5, 8, 4, 6)], ids=lambda model: model.kind)
def test_it_is_hardly_larger_where_errors_add_up(model, dtype):
    expected = expected_of(Workload(model, 6))
    larger, grown = expected.larger_noise(dtype), expected.grown_noise(dtype)
    factors = [grown[name].rms / noise.rms for name, noise in larger.items() if noise.rms]
    assert min(factors) >= 1
    assert np.median(factors) < 1.1
    assert max(factors) < 2.5


def test_a_fault_of_everyday_size_is_found_all_the_same():
    expected = expected_of(Workload(DenseSpec((12, 16, 5), "tanh"), 6))
    name = "gradient of 'layer.0.weight'"
    got = {key: value.astype(np.float32) for key, value in expected.values("float32").items()}
    got[name] = got[name] * np.float32(1 + 1e-4)
    quantities, note = expected.judge(got, "float32")
    assert [quantity.name for quantity in quantities if not quantity.agrees] == [name]
    assert note == ""


def test_what_follows_from_chaos_is_not_judged_and_said_so(chaos):
    got = {key: value.astype(np.float32) for key, value in chaos.values("float32").items()}
    name = "gradient of 'layer.1.weight_hh'"
    got[name] = got[name] * 1e6
    quantities, note = chaos.judge(got, "float32")
    assert all(quantity.agrees for quantity in quantities)
    assert CHAOTIC in note
    assert next(q.left_out for q in quantities if q.name == name) == got[name].size


def test_what_is_missing_or_wrong_in_the_outputs_is_found_in_chaos_too(chaos):
    got = {key: value.astype(np.float32) for key, value in chaos.values("float32").items()}
    got["outputs"] = got["outputs"] + 1000
    del got["gradient of 'layer.1.weight_hh'"]
    quantities, _ = chaos.judge(got, "float32")
    assert {q.name for q in quantities if not q.agrees} >= {"outputs", "gradient of 'layer.1.weight_hh'"}


def test_what_larger_roundings_explain_is_not_named_beside_what_is_wrong():
    """Else the first of both would be taken for the place of the fault."""
    multiplying = Workload(RnnSpec(13, 16, 9, 60, 2, many_to_many=True), 2, optimiser=Optimiser("sgd", 1e-4))
    expected = expected_of(multiplying, "saturated")
    explained, wrong = "gradient of 'layer.1.weight_ih'", "weights before training"
    got = {key: value.astype(np.float32) for key, value in expected.values("float32").items()}
    off = 30 * expected.larger_noise("float32")[explained].rms / rms(got[explained])
    got[explained] = got[explained] * np.float32(1 + off)
    quantities, _ = expected.judge(got, "float32")
    assert all(quantity.agrees for quantity in quantities)
    got[wrong] = got[wrong] * np.float32(1.01)
    quantities, _ = expected.judge(got, "float32")
    assert [quantity.name for quantity in quantities if not quantity.agrees] == [wrong]
