"""The mode `tuned` of every framework computes the same, says what was tuned, and comes only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.spec import Contender, LstmSpec, RnnSpec, Workload
from harness.environments import ALLOCATOR, FRAMEWORKS, TUNED, parse_contenders
from harness.options import make_options
from harness.pool import Pool
from harness.presets import PRESETS
from harness.progress import Reporter
from harness.runs import Engine
from harness.starting import blank_result
from tests.conftest import new_pool

# Two layers, an initial state, and every time step an output: all that a backward pass by hand could forget.
RNN = (RnnSpec(3, 6, 4, 5, num_layers=2, many_to_many=True), RnnSpec(3, 6, 4, 5, activation="relu"))
LSTM = (LstmSpec(3, 6, 4, 5, num_layers=2, many_to_many=True), LstmSpec(3, 6, 4, 5))
# Where nothing is by hand, what is compiled how depends on the kind of model alone.
MODELS = {
    "pytorch": (*RNN, *LSTM[1:]),
    "tensorflow": tuple(sized.model for sized in PRESETS["small"].sized if sized.model.kind in ("residual", "rnn")),
    "jax": (*RNN, *LSTM),
}


@pytest.fixture(scope="module", params=FRAMEWORKS, ids=str)
def tuned(request: pytest.FixtureRequest) -> Contender:
    return Contender(request.param, TUNED)


@pytest.fixture(scope="module")
def tuned_pool(tuned: Contender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = new_pool([tuned], tmp_path_factory.mktemp("logs"))
    if tuned in pool.failures and pool.failures[tuned].outcome == "missing":
        pytest.skip(str(pool.failures[tuned]))
    yield pool
    pool.close()


def test_it_agrees_in_meaning_and_precision(tuned: Contender, tuned_pool: Pool, tmp_path: Path) -> None:
    options = make_options("bench", contenders=[str(tuned)], seed=3, out=tmp_path, quiet=True)
    result = blank_result(options)
    with Reporter(1.0, quiet=True) as reporter:
        engine = Engine(options, tuned_pool, reporter, result)
        for model in MODELS[tuned.framework]:
            engine.check(Workload(model, 4, step="training", optimiser=options.optimiser), timed=False)
    assert len(result.agreements) == 2 * len(MODELS[tuned.framework])
    for agreement in result.agreements:
        assert agreement.outcome == "ok", agreement.message or agreement.reason


def test_the_ledger_and_the_settings_name_what_was_tuned(tuned: Contender, tuned_pool: Pool) -> None:
    worker = tuned_pool.worker(tuned)
    said = worker.request("describe")
    assert said["ledger"]["tuned"]
    assert said["settings"]["environment"]["GLIBC_TUNABLES"] == ALLOCATOR["GLIBC_TUNABLES"]


def test_it_comes_only_when_it_is_asked_for() -> None:
    assert TUNED not in {contender.mode for contender in parse_contenders([])}
    assert TUNED not in {contender.mode for contender in parse_contenders(["jax"])}
    assert parse_contenders(["jax:tuned"]) == (Contender("jax", TUNED),)
    assert [str(c) for c in parse_contenders(["jax"], tuned=True)] == ["jax:jit", "jax:tuned"]
    assert len(parse_contenders([], tuned=True)) == len(parse_contenders([])) + len(FRAMEWORKS)
