"""The mode `tuned` of every framework computes the same, says what was tuned, and comes only when it is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceoff.core.errors import InputError
from faceoff.core.spec import DEVICES, Contender, LstmSpec, RnnSpec, Workload
from faceoff.core.tuning import BACKWARD, ONE_TANH, TUNED, left_out, without
from faceoff.frameworks.contenders import parse_contenders
from faceoff.frameworks.manifest import ALLOCATOR
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.workers import Pool
from faceoff.run.engine import Engine, run
from faceoff.run.options import make_options
from faceoff.run.progress import Reporter
from faceoff.run.starting import blank_result
from faceoff.workloads.presets import PRESETS
from tests.conftest import new_pool

pytestmark = pytest.mark.thorough

# Two layers, an initial state, and every time step an output: all that a backward pass by hand could forget.
RNN = (RnnSpec(3, 6, 4, 5, num_layers=2, many_to_many=True), RnnSpec(3, 6, 4, 5, activation="relu"))
LSTM = (LstmSpec(3, 6, 4, 5, num_layers=2, many_to_many=True), LstmSpec(3, 6, 4, 5))
# Where nothing is by hand, what is compiled how depends on the kind of model alone.
MODELS = {
    "pytorch": (*RNN, *LSTM[1:]),
    "tensorflow": tuple(sized.model for sized in PRESETS["small"].sized if sized.model.kind != "lstm"),
    "jax": (*RNN, *LSTM),
}


# Whole, and without each setting that is code; without one of the environment nothing is computed otherwise.
EVERY = [Contender(framework, TUNED) for framework in FRAMEWORKS.usual]
EVERY += [Contender("pytorch", without(BACKWARD)), *(Contender("jax", without(s)) for s in (BACKWARD, ONE_TANH))]


@pytest.fixture(scope="module", params=EVERY, ids=str)
def tuned(request: pytest.FixtureRequest) -> Contender:
    chosen: Contender = request.param
    return chosen


@pytest.fixture(scope="module")
def tuned_pool(tuned: Contender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with new_pool([tuned], tmp_path_factory.mktemp("logs")) as pool:
        if tuned in pool.failures and pool.failures[tuned].outcome == "missing":
            pytest.skip(str(pool.failures[tuned]))
        yield pool


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


def test_the_environment_is_what_the_mode_says(tuned: Contender, tuned_pool: Pool) -> None:
    environment = tuned_pool.worker(tuned).request("describe")["settings"]["environment"]
    variables = FRAMEWORKS[tuned.framework].tuned_variables(left_out(tuned.mode), "cpu")
    assert variables["GLIBC_TUNABLES"] == ALLOCATOR.variables["GLIBC_TUNABLES"]
    assert {name: environment[name] for name in variables} == variables


def test_a_setting_that_is_left_out_leaves_the_environment_as_users_have_it() -> None:
    for framework, device in itertools.product(FRAMEWORKS.values(), DEVICES):
        plain = next(iter(framework.modes.values()))
        settings = [setting for setting in framework.tuned_settings() if device in setting.devices]
        for setting in settings:
            found = framework.variables_of(without(setting.name), device)
            for name in setting.variables:
                assert found.get(name) == plain.variables.get(name)
            others = [other for other in settings if other is not setting]
            assert all(found[name] == value for other in others for name, value in other.variables.items())


def test_a_run_tells_what_each_setting_brings(tmp_path: Path) -> None:
    options = make_options(
        "bench",
        contenders=["jax:tuned"],
        preset="small",
        models=["dense", "lstm"],
        steps=["inference", "training"],
        budget="quick",
        out=tmp_path,
        quiet=True,
    )
    result = run(options, speed=True, training=False, cold_start=False)
    if result.contenders[0].outcome == "missing":
        pytest.skip(result.contenders[0].reason)
    assert result.exit_status == 0
    found = {
        (record.workload["model"]["kind"], record.workload["step"], record.setting): record
        for record in result.tuned_settings
    }
    # No gradient is taken in inference, and a dense model has neither time steps nor gates.
    assert set(found) == {
        ("dense", "inference", "allocator"),
        ("dense", "training", "allocator"),
        ("lstm", "inference", "allocator"),
        ("lstm", "training", "allocator"),
        ("lstm", "inference", ONE_TANH),
        ("lstm", "training", ONE_TANH),
        ("lstm", "training", BACKWARD),
    }
    for (_, _, setting), record in found.items():
        assert record.comparison is not None
        assert record.comparison.contender == f"jax:{without(setting)}"
        assert record.comparison.baseline == "jax:tuned"
        assert record.comparison.adjusted_p is not None
    # The modes without a setting are no contenders of the run.
    assert {case.contender for case in result.cases} == {"jax:tuned"}
    trained = next(
        case for case in result.cases if case.name.startswith("lstm") and case.workload["step"] == "training"
    )
    assert set(trained.ledger["tuned"]) == {"allocator", ONE_TANH, BACKWARD}


def test_it_comes_only_when_it_is_asked_for() -> None:
    assert TUNED not in {contender.mode for contender in parse_contenders([])}
    assert TUNED not in {contender.mode for contender in parse_contenders(["jax"])}
    assert parse_contenders(["jax:tuned"]) == (Contender("jax", TUNED),)
    assert parse_contenders(["jax:tuned-without-one-tanh"]) == (Contender("jax", without(ONE_TANH)),)
    with pytest.raises(InputError, match="tuned-without-one-tanh"):
        parse_contenders(["jax:tuned-without-onednn"])
    # The backward pass by hand is for processors alone.
    with pytest.raises(InputError, match="tuned-without-allocator"):
        parse_contenders(["pytorch:tuned-without-backward-by-hand"], device="gpu")
    assert [str(c) for c in parse_contenders(["jax"], tuned=True)] == ["jax:jit", "jax:tuned"]
    assert len(parse_contenders([], tuned=True)) == len(parse_contenders([])) + len(FRAMEWORKS.usual)
