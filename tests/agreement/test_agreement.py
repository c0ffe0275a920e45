"""Every contender computes what the reference computes: all models, all optimisers, meaning and precision.

What `faceoff agree` does, by its own engine, but with workers that were started once: importing the frameworks afresh
for each optimiser took as long as the checks themselves. `tests/contract/test_runs.py` runs the command as a whole.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.core.spec import MODEL_KINDS, Contender
from faceoff.pool.workers import Pool
from faceoff.results.agreements import EVERYDAY, Agreement
from faceoff.run.engine import Engine
from faceoff.run.options import make_options
from faceoff.run.progress import Reporter
from faceoff.run.starting import blank_result
from tests.conftest import THREADS

# What each optimiser is checked in. Momentum in float32 adds nothing to the other two.
DTYPES = {
    "sgd": ("float64", "float32"),
    "momentum": ("float64", "bfloat16", "float16"),
    "adam": ("float64", "float32"),
}


EVERYDAY_ALONE = "sgd in everyday situations"
# A change that breaks one optimiser, dtype or situation alone is rare.
PARAMETERS = [EVERYDAY_ALONE, *(pytest.param(optimiser, marks=pytest.mark.thorough) for optimiser in DTYPES)]


@pytest.fixture(scope="module", params=PARAMETERS)
def agreements(
    request: pytest.FixtureRequest, every_worker: Pool, tmp_path_factory: pytest.TempPathFactory
) -> list[Agreement]:
    """All checks of everything with one optimiser."""
    optimiser = request.param.split()[0]
    # A layer's output has nothing to do with the optimiser: once is enough. `bench` compares no layers.
    options = make_options(
        "agree" if optimiser == "sgd" else "bench",
        preset="small",
        optimiser=optimiser,
        seed=11,
        out=tmp_path_factory.mktemp(optimiser),
        threads=THREADS,
        quiet=True,
    )
    options = replace(options, dtypes=DTYPES[optimiser])
    if request.param == EVERYDAY_ALONE:
        options = replace(options, situations=(EVERYDAY,))
    result = blank_result(options)
    with Reporter(1.0, quiet=True) as reporter:
        engine = Engine(options, every_worker, reporter, result)
        for workload in options.workloads:
            engine.check(workload, timed=False)
    return result.agreements


@pytest.mark.parametrize("model", MODEL_KINDS)
def test_a_contender_agrees_with_the_reference(
    agreements: list[Agreement], every_worker: Pool, contender: Contender, model: str
) -> None:
    error = every_worker.failures.get(contender)
    if error and error.outcome == "missing":
        pytest.skip(str(error))
    checks = [a for a in agreements if a.contender == str(contender) and a.workload["model"]["kind"] == model]
    assert tuple(check.workload["dtype"] for check in checks) == DTYPES[checks[0].workload["optimiser"]["kind"]]
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
