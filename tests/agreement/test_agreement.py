"""Every contender computes what the reference computes: all models, all optimisers, meaning and precision."""

from __future__ import annotations

import pytest

from harness import agree
from harness.comparison import NOISE_LIMIT
from harness.core.spec import MODEL_KINDS, Contender
from harness.results import Result

# What each optimiser is checked in. Momentum in float32 adds nothing to the other two.
DTYPES = {"sgd": ("float64", "float32"), "momentum": ("float64",), "adam": ("float64", "float32")}


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One run over everything with one optimiser."""
    out = tmp_path_factory.mktemp(request.param)
    return agree(preset="small", optimiser=request.param, dtype=DTYPES[request.param], seed=11, out=out, quiet=True)


@pytest.mark.parametrize("model", MODEL_KINDS)
def test_a_contender_agrees_with_the_reference(result: Result, contender: Contender, model: str) -> None:
    (info,) = [info for info in result.contenders if info.contender == str(contender)]
    if info.outcome == "missing":
        pytest.skip(info.reason)
    checks = [a for a in result.agreements if a.contender == str(contender) and a.workload["model"]["kind"] == model]
    assert len(checks) in (1, 2)
    for check in checks:
        assert check.outcome == "ok", check.message or check.reason
        assert len(check.quantities) > 10
        for quantity in check.quantities:
            assert quantity.agrees, quantity
            assert quantity.error is not None
            assert quantity.noise_units is not None
            assert quantity.noise_units < NOISE_LIMIT
            # What users are promised of float64, beside the verdict.
            assert check.check == "precision" or quantity.error < 1e-10
