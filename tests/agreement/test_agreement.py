"""Every contender computes what the reference computes: all models, all optimisers, meaning and precision.

What `faceoff agree` does, by its own engine, but with workers that were started once: importing the frameworks afresh
for each optimiser took as long as the checks themselves. `tests/contract/test_runs.py` runs the command as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest

from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.core.spec import MODEL_KINDS, Contender
from faceoff.frameworks.contenders import all_contenders
from faceoff.pool.workers import Pool
from faceoff.results.agreements import Agreement
from faceoff.run.engine import Engine
from faceoff.run.options import make_options
from faceoff.run.progress import Reporter
from faceoff.run.starting import blank_result
from tests.conftest import SLOW_TO_COMPILE, THREADS

# What each optimiser is checked in. Momentum in float32 adds nothing to the other two.
DTYPES = {
    "sgd": ("float64", "float32"),
    "momentum": ("float64", "bfloat16", "float16"),
    "adam": ("float64", "float32"),
}


SLOW = [contender for contender in all_contenders() if str(contender) in SLOW_TO_COMPILE]
QUICK = [contender for contender in all_contenders() if contender not in SLOW]
# A change that breaks one optimiser alone is rare, and so is one that breaks what compiles slowly and nothing else.
SETS = [("sgd", QUICK), ("sgd", SLOW), *((optimiser, QUICK + SLOW) for optimiser in DTYPES if optimiser != "sgd")]
CASES = [
    pytest.param(
        number, contender, model, id=f"{optimiser}-{contender}-{model}", marks=pytest.mark.thorough if number else ()
    )
    for number, (optimiser, contenders) in enumerate(SETS)
    for contender in contenders
    for model in MODEL_KINDS
]


@pytest.fixture(scope="module")
def agreements_of(every_worker: Pool, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Agreement]]:
    """All checks of a set of `SETS`, made once."""

    @functools.cache
    def check(number: int) -> list[Agreement]:
        optimiser, contenders = SETS[number]
        # A layer's output has nothing to do with the optimiser: once is enough. `bench` compares no layers.
        options = make_options(
            "agree" if optimiser == "sgd" else "bench",
            preset="small",
            optimiser=optimiser,
            contenders=[str(contender) for contender in contenders],
            seed=11,
            out=tmp_path_factory.mktemp(optimiser),
            threads=THREADS,
            quiet=True,
        )
        options = replace(options, dtypes=DTYPES[optimiser])
        result = blank_result(options)
        with Reporter(1.0, quiet=True) as reporter:
            engine = Engine(options, every_worker, reporter, result)
            for workload in options.workloads:
                engine.check(workload, timed=False)
        return result.agreements

    return check


@pytest.mark.parametrize(("number", "contender", "model"), CASES)
def test_a_contender_agrees_with_the_reference(
    agreements_of: Callable[[int], list[Agreement]], every_worker: Pool, number: int, contender: Contender, model: str
) -> None:
    error = every_worker.failures.get(contender)
    if error and error.outcome == "missing":
        pytest.skip(str(error))
    checks = [
        a for a in agreements_of(number) if a.contender == str(contender) and a.workload["model"]["kind"] == model
    ]
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
