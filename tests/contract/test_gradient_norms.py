"""Every framework follows the gradient back through time as the reference does, through a real worker."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest

from faceoff import load
from faceoff.agreement.gradient_norms import (
    SPECS,
    SPECTRAL_RADII,
    ExpectedNorms,
    choose_contenders,
    judge_norms,
    make_expected,
    settings,
    steps_left,
)
from faceoff.core.spec import Contender
from faceoff.frameworks.contenders import all_contenders
from faceoff.pool.worker import Worker
from faceoff.results.trainings import GradientNorms
from tests.contract.test_runs import finish, kill_at_work, progress, running, wait_for, workers

pytestmark = pytest.mark.thorough

every_framework = pytest.mark.parametrize("contender", choose_contenders(all_contenders()), ids=str, indirect=True)


def judge(worker: Worker, contender: Contender, expected: list[ExpectedNorms], dtype: str) -> list[GradientNorms]:
    return judge_norms(
        lambda: worker, contender, lambda: expected, dtype, again="faceoff agree", busy=contextlib.nullcontext()
    )


@every_framework
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_curve_agrees_however_weights_and_gate_are_set(worker, contender, kind, dtype):
    found = judge(worker, contender, make_expected(kind, "cpu", 0), dtype)
    assert [(record.outcome, record.reason) for record in found] == [("ok", "")] * len(settings(kind))
    for record in found:
        assert record.time_steps == sorted(60 - left for left in steps_left(contender))
        assert record.underflow == []
        assert record.norms == pytest.approx(record.reference_norms, rel=1e-12 if dtype == "float64" else 1e-4)
    if kind == "rnn":
        small, _, large = (record.norms[0] / record.norms[-1] for record in found)
        assert small < 1e-16
        assert large > 1e8
    else:
        shut, *_, ajar, wide_open = (record.norms[0] / record.norms[-1] for record in found)
        assert shut < 1e-11
        assert 0.1 < ajar < wide_open


@every_framework
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_curve_of_other_recurrent_weights_disagrees(worker, contender, dtype):
    expected = make_expected("rnn", "cpu", 0)
    for reference in expected:
        weights = reference.task.weights
        transposed = {**weights, "layer.0.weight_hh": weights["layer.0.weight_hh"].T.copy()}
        # Of the right weights, before others are handed over.
        for alike in (False, True):
            reference.noise(dtype, alike)
        reference.task = dataclasses.replace(reference.task, weights=transposed)
    found = judge(worker, contender, expected, dtype)
    assert {record.outcome for record in found} == {"disagrees"}


def test_a_run_with_gradient_norms_keeps_them_and_one_without_has_none(tmp_path: Path, lightest: Contender) -> None:
    arguments = ["agree", "--preset", "small", "--models", "rnn", "--contenders", str(lightest), "--dtype", "float32"]
    with running(tmp_path / "out", *arguments, "--gradient-norms") as run:
        status, output = finish(run)
    result = load(tmp_path / "out" / "result.json")
    assert status == 0, output
    assert [record.spectral_radius for record in result.gradient_norms] == list(SPECTRAL_RADII)
    assert {record.outcome for record in result.gradient_norms} == {"ok"}
    assert "--gradient-norms" in result.command
    assert "Norm of dLoss/dh_t" in output
    assert "Gradients through time" in (tmp_path / "out" / "page.html").read_text()
    with running(tmp_path / "plain", *arguments) as run:
        finish(run)
    assert load(tmp_path / "plain" / "result.json").gradient_norms == []


def test_a_worker_killed_on_the_way_ends_its_curves_and_the_next_dtype_goes_on(
    tmp_path: Path, lightest: Contender
) -> None:
    arguments = ["agree", "--preset", "small", "--models", "rnn", "--contenders", str(lightest), "--gradient-norms"]
    with running(tmp_path / "out", *arguments) as run:
        wait_for(lambda: "gradient norms: rnn" in progress(tmp_path / "out"), "the gradient norms")
        kill_at_work(workers(run)[lightest.framework])
        status, _ = finish(run)
    result = load(tmp_path / "out" / "result.json")
    assert status == 3
    assert [record.outcome for record in result.gradient_norms] == ["crashed"] * 3 + ["ok"] * 3
    assert "SIGKILL" in result.gradient_norms[0].reason
    assert result.gradient_norms[0].norms == []
