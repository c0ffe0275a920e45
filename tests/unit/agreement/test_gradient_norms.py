"""The norm of dLoss/dh_t: the reference's one backward pass, what it shows, and that a wrong curve is told."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest

from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.agreement.gradient_norms import (
    FEW_STEPS_LEFT,
    FORGET_BIASES,
    SPECS,
    SPECTRAL_RADII,
    STEPS_LEFT,
    Curve,
    ExpectedNorms,
    NormTask,
    choose_contenders,
    judge_curve,
    judge_norms,
    largest_radius,
    make_expected,
    settings,
    steps_left,
)
from faceoff.core.errors import InputError, WorkerError
from faceoff.core.spec import Contender, LstmSpec, RnnSpec, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.reference import ReferenceModel, lstm
from faceoff.results.trainings import GradientNorms

every_kind = pytest.mark.parametrize("kind", SPECS)
MOMENTS = [60 - left for left in STEPS_LEFT]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


every_curve = pytest.mark.parametrize(
    ("kind", "radius", "bias"), [(kind, *setting) for kind in SPECS for setting in settings(kind)]
)


def full_signal(kind: str, spectral_radius: float, bias: float | None = None) -> NormTask:
    """A task whose inputs, biases and initial states are not scaled down, so that every path of the gradient counts."""
    task = NormTask.seeded(kind, spectral_radius, bias, "cpu", 3)
    weights = {**task.weights, "layer.0.bias": seeded_weights(task.spec, 3)["layer.0.bias"]}
    return dataclasses.replace(task, weights=weights, batch=seeded_batch(task.workload, 3))


def curve_of_runs(expected: ExpectedNorms, dtype: str = "float64") -> Curve:
    """dLoss/dh_t from one run for each t over the rest of the sequence, not from the one backward pass."""
    found = {}
    for t in MOMENTS:
        workload, batch = expected.task.rest(t, expected.states(t))
        model = ReferenceModel(workload.model, expected.task.weights)
        found[t] = model.gradients(batch)["inputs"]["h0"][0].astype(dtype)
    return found


def record(expected: ExpectedNorms, dtype: str = "float64") -> GradientNorms:
    return GradientNorms(
        workload=expected.task.workload.replace(dtype=dtype).to_json(),
        spectral_radius=expected.task.spectral_radius,
        forget_bias=expected.task.forget_bias,
        contender="jax:jit",
        outcome="ok",
        again="faceoff agree",
    )


@every_curve
@pytest.mark.parametrize(
    "make", [full_signal, lambda kind, radius, bias: NormTask.seeded(kind, radius, bias, "cpu", 0)]
)
def test_one_backward_pass_gives_what_a_run_from_each_state_gives(kind, radius, bias, make):
    expected = ExpectedNorms(make(kind, radius, bias), 0)
    assert len(expected.curve) == 60
    for t, gradient in curve_of_runs(expected).items():
        assert gradient.shape == (8, 32)
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(expected.curve[t], gradient, rtol=0, atol=1e-11 * scale, err_msg=f"t = {t}")


@every_kind
def test_the_states_are_those_of_the_trace(kind):
    expected = ExpectedNorms(full_signal(kind, 1.0), 0)
    task = expected.task
    hidden = ReferenceModel(task.spec, task.weights).trace(task.batch, training=True)["layer.0"]
    for name, value in expected.states(0).items():
        np.testing.assert_array_equal(value, task.batch.inputs[name][0])
    for t in (1, 30, 59):
        np.testing.assert_array_equal(expected.states(t)["h0"], hidden[:, t - 1])


def test_models_that_have_no_such_curve_are_refused():
    for spec in (RnnSpec(2, 3, 2, 4, num_layers=2), LstmSpec(2, 3, 2, 4, many_to_many=True)):
        batch = seeded_batch(Workload(spec, 2, "float64"), 0)
        with pytest.raises(InputError, match="one layer, many-to-one"):
            ReferenceModel(spec, seeded_weights(spec, 0)).through_time(batch)


@every_curve
def test_the_task_has_the_radius_and_the_bias_it_names_and_is_exact_in_float32(kind, radius, bias):
    task = NormTask.seeded(kind, radius, bias, "cpu", 0)
    gates = np.split(task.weights["layer.0.bias"], task.spec.num_gates)
    if bias is not None:
        np.testing.assert_array_equal(gates.pop(1), bias)
    assert np.abs(gates).max() < 1e-8
    assert largest_radius(task.spec, task.weights["layer.0.weight_hh"]) == pytest.approx(radius, rel=1e-5)
    for value in (*task.weights.values(), *task.batch.inputs.values()):
        np.testing.assert_array_equal(value, value.astype(np.float32))
    assert NormTask.seeded(kind, radius, bias, "cpu", 1).weights["head.bias"][0] != task.weights["head.bias"][0]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_gradient_of_the_rnn_vanishes_stays_and_explodes_with_the_spectral_radius(seed):
    small, unit, large = (
        np.linalg.norm(e.curve[0]) / np.linalg.norm(e.curve[59]) for e in make_expected("rnn", "cpu", seed)
    )
    assert 1e-20 < small < 1e-16
    assert 0.1 < unit < 10
    assert 1e8 < large < 1e11


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_gradient_of_the_lstm_outlives_the_rnn_s_as_its_forget_gate_opens(seed):
    (vanishing, *_), curves = make_expected("rnn", "cpu", seed), make_expected("lstm", "cpu", seed)
    # The same radius of W_hh: all that differs is the gate.
    assert {e.task.spectral_radius for e in curves} == {vanishing.task.spectral_radius}
    kept = [float(np.linalg.norm(e.curve[0]) / np.linalg.norm(e.curve[59])) for e in curves]
    assert [e.task.forget_bias for e in curves] == [0, 1, 2, 5]
    assert kept == sorted(kept)
    rnn = float(np.linalg.norm(vanishing.curve[0]) / np.linalg.norm(vanishing.curve[59]))
    assert rnn < 1e-16
    # Half shut it vanishes as well; open it does not.
    assert 1e-14 < kept[0] < 1e-11
    assert 1e-6 < kept[1] < 1e-3
    assert 0.1 < kept[2] < 1
    assert kept[3] > 10


@pytest.mark.parametrize("bias", FORGET_BIASES)
def test_the_forget_gate_stands_where_its_bias_puts_it(bias):
    task = NormTask.seeded("lstm", 0.5, bias, "cpu", 0)
    workload, batch = task.rest(0, {name: value[0] for name, value in task.batch.inputs.items() if name != "x"})
    projected = batch.inputs["x"] @ task.weights["layer.0.weight_ih"].T + task.weights["layer.0.bias"]
    _, saved = lstm.steps(
        workload.model,
        projected.swapaxes(0, 1),
        task.weights["layer.0.weight_hh"],
        (batch.inputs["h0"][0], batch.inputs["c0"][0]),
    )
    gates = np.array([forget for _, forget, *_ in saved])
    np.testing.assert_allclose(gates, 1 / (1 + np.exp(-bias)), rtol=1e-6)


@every_kind
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_right_curve_agrees_and_its_figures_are_kept(kind, dtype):
    expected = make_expected(kind, "cpu", 0)[2]
    judged = judge_curve(record(expected, dtype), expected, curve_of_runs(expected, dtype))
    assert (judged.outcome, judged.reason, judged.underflow) == ("ok", "", [])
    assert judged.time_steps == sorted(MOMENTS)
    assert judged.norms == pytest.approx(judged.reference_norms, rel=1e-5)
    assert judged.limit == NOISE_LIMIT
    assert len(judged.noise) == len(MOMENTS)
    assert all(distance is not None and distance <= judged.limit for distance in judged.distances)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("moment", [0, 59])
def test_one_point_scaled_disagrees_and_is_named(dtype, moment):
    expected = make_expected("rnn", "cpu", 0)[0]
    curve = curve_of_runs(expected, dtype)
    curve[moment] = curve[moment] * np.asarray(1.001, dtype)
    judged = judge_curve(record(expected, dtype), expected, curve)
    assert judged.outcome == "disagrees"
    assert judged.reason.startswith(f"dLoss/dh_{moment} is ")
    assert "1 of 8 time steps disagree" in judged.reason
    assert "again: faceoff agree" in judged.reason


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_gate_detached_from_the_gradient_disagrees(dtype, monkeypatch):
    expected = make_expected("lstm", "cpu", 0)[1]
    steps_backward = lstm.steps_backward

    def detached(spec, grad_hidden, weight_hh, saved):
        cut = weight_hh.copy()
        cut[2 * spec.hidden_size : 3 * spec.hidden_size] = 0  # gate g
        return steps_backward(spec, grad_hidden, cut, saved)

    monkeypatch.setattr(lstm, "steps_backward", detached)
    curve = curve_of_runs(expected, dtype)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    judged = judge_curve(record(expected, dtype), expected, curve)
    assert judged.outcome == "disagrees"
    assert "8 of 8 time steps disagree" in judged.reason


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_start_without_its_cell_state_disagrees(dtype):
    expected = ExpectedNorms(full_signal("lstm", 1.0), 0)
    curve = {}
    for t in MOMENTS:
        states = {**expected.states(t), "c0": np.zeros((8, 32))}
        workload, batch = expected.task.rest(t, states)
        model = ReferenceModel(workload.model, expected.task.weights)
        curve[t] = model.gradients(batch)["inputs"]["h0"][0].astype(dtype)
    assert judge_curve(record(expected, dtype), expected, curve).outcome == "disagrees"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda gradient: gradient * np.nan, "dLoss/dh_35 is not finite: norm not finite"),
        (lambda gradient: gradient[:4], "wrong shape"),
        (lambda gradient: gradient.astype("float32"), "wrong dtype"),
        (lambda gradient: gradient * 0, "norm 0"),
    ],
)
def test_a_point_that_is_no_gradient_disagrees(spoil, said):
    expected = make_expected("rnn", "cpu", 0)[1]
    curve = curve_of_runs(expected)
    curve[35] = spoil(curve[35])
    judged = judge_curve(record(expected), expected, curve)
    assert judged.outcome == "disagrees"
    assert said in judged.reason
    assert judged.distances[judged.time_steps.index(35)] != 0


def test_points_too_small_for_the_dtype_are_kept_and_not_judged_and_all_others_are():
    expected = ExpectedNorms(NormTask.seeded("rnn", 0.125, None, "cpu", 0), 0)
    curve = {
        t: np.where(np.abs(g) < np.finfo("float32").tiny, 0, g) for t, g in curve_of_runs(expected, "float32").items()
    }
    judged = judge_curve(record(expected, "float32"), expected, curve)
    assert judged.outcome == "ok"
    assert judged.underflow == [0, 20]
    assert judged.norms[0] == 0
    assert 0 < judged.reference_norms[0] < 1e-50
    curve[35] = curve[35] * np.float32(1.01)
    assert judge_curve(record(expected, "float32"), expected, curve).outcome == "disagrees"
    exact = judge_curve(record(expected), expected, curve_of_runs(expected))
    assert (exact.outcome, exact.underflow) == ("ok", [])


def test_noise_is_of_the_computation_that_a_contender_does():
    expected = make_expected("lstm", "cpu", 0)[1]
    noise = expected.noise("float32")
    assert noise == ExpectedNorms(expected.task, 0).noise("float32")
    relative = [noise[str(t)] / np.sqrt(np.mean(expected.curve[t] ** 2)) for t in sorted(MOMENTS)]
    # More steps, more rounding; one step rounds about as often as a few units in the last place.
    assert 2**-24 < relative[-1] < relative[0] < 1e-4


@pytest.mark.parametrize("bias", [1.0, 2.0])
def test_gates_that_are_off_by_the_same_at_every_step_are_right(bias):
    expected = ExpectedNorms(NormTask.seeded("lstm", 0.5, bias, "cpu", 0), 0)
    plain, accused = expected.noise("float32"), 0
    # Runs that are not among those of the noise.
    for number in range(100, 106):
        curve = {int(t): value.astype(np.float32) for t, value in expected.run_alike("float32", number).items()}
        off = {t: np.sqrt(np.mean((value - expected.curve[t]) ** 2)) for t, value in curve.items()}
        accused += any(off[t] > NOISE_LIMIT * plain[str(t)] for t in curve)
        judged = judge_curve(record(expected, "float32"), expected, curve)
        assert (judged.outcome, judged.reason) == ("ok", "")
    # By errors of their own at every step some of them would not be.
    assert accused
    wrong = {t: value * np.float32(1.001) for t, value in curve.items()}
    assert judge_curve(record(expected, "float32"), expected, wrong).outcome == "disagrees"


def test_the_first_quick_contender_of_each_framework_is_chosen():
    names = ("jax:jit", "tensorflow:xla", "tensorflow:eager", "pytorch:compile", "tensorflow:graph")
    chosen = choose_contenders([Contender.parse(name) for name in names])
    assert [str(contender) for contender in chosen] == ["jax:jit", "tensorflow:eager", "pytorch:compile"]
    assert [len(steps_left(contender)) for contender in chosen] == [3, 8, 3]
    assert set(FEW_STEPS_LEFT) < set(STEPS_LEFT)


def test_a_contender_without_a_worker_ends_every_curve_with_its_outcome():
    error = WorkerError("not installed", outcome="missing", where="jax:jit", log_tail="")

    def no_worker():
        raise error

    expected = make_expected("rnn", "cpu", 0)
    found = judge_norms(
        no_worker, Contender("jax", "jit"), lambda: expected, "float32", again="", busy=contextlib.nullcontext()
    )
    assert [(r.outcome, r.spectral_radius, r.norms) for r in found] == [("missing", r, []) for r in SPECTRAL_RADII]
    assert all("not installed" in r.reason for r in found)


def test_a_gradient_that_a_contender_does_not_give_is_a_disagreement_and_no_crash():
    class NoGradient:
        contender = Contender("jax", "jit")

        def request(self, kind, **body):
            return {"loss": np.ones(()), "weights": {}, "inputs": {}} if kind == "gradients" else {}

    expected = make_expected("rnn", "cpu", 0)
    worker = NoGradient()
    found = judge_norms(
        lambda: worker, worker.contender, lambda: expected, "float64", again="", busy=contextlib.nullcontext()
    )
    assert {record.outcome for record in found} == {"disagrees"}
    assert all("gradient of input 'h0': missing" in record.reason for record in found)
