"""On a GPU: agreement in every precision, fused kernels, device time, memory and a ceiling. Skipped without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faceoff.core.spec import Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.contenders import all_contenders
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.devices import ask_frameworks
from faceoff.pool.workers import Pool, Seat
from faceoff.run.engine import Engine
from faceoff.run.options import make_options
from faceoff.run.progress import Reporter
from faceoff.run.starting import blank_result, make_pool
from faceoff.speed.budget import Budget
from faceoff.speed.ceiling import measure_ceiling
from faceoff.speed.measure import measure, summarise
from faceoff.speed.stopping import between_contenders
from faceoff.workloads.presets import PRESETS
from faceoff.workloads.task import Task

pytestmark = pytest.mark.gpu

FUSED = {"pytorch:eager": "cudnn_rnn", "tensorflow:graph": "cuDNN", "jax:cudnn": "cuDNN's LSTM, all"}


@pytest.fixture(scope="module")
def frameworks() -> list[str]:
    """The frameworks that see a GPU; skips, with what each said, where none does."""
    answers = ask_frameworks(list(FRAMEWORKS), "gpu", Configuration())
    seen = [name for name, answer in answers.items() if not answer.reason]
    if not seen:
        pytest.skip("; ".join(f"{name}: {answer.reason}" for name, answer in answers.items()))
    return seen


@pytest.fixture(scope="module")
def options(frameworks, tmp_path_factory):
    return make_options(
        "agree", preset="small", contenders=frameworks, device="gpu", out=tmp_path_factory.mktemp("gpu")
    )


@pytest.fixture(scope="module")
def pool(options) -> Iterator[Pool]:
    with make_pool(options) as pool:
        list(pool.start())
        yield pool


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float16", "mixed_bfloat16"])
def test_every_model_agrees_in_every_precision(frameworks, tmp_path, dtype):
    options = make_options(
        "agree", preset="small", contenders=frameworks, device="gpu", dtype=[dtype], out=tmp_path, quiet=True
    )
    result = blank_result(options)
    with Reporter(1.0, quiet=True) as reporter, make_pool(options) as pool:
        engine = Engine(options, pool, reporter, result)
        engine.start()
        for workload in options.workloads:
            engine.check(workload, timed=False)
    wrong = [a for a in result.agreements if a.outcome not in ("ok", "unsupported")]
    assert not wrong, [a.message or a.reason for a in wrong]
    assert any(a.outcome == "ok" for a in result.agreements)


def load(worker, contender, workload):
    task = Task.seeded(workload, 0)
    weights, batches = task.cast(workload.dtype)
    worker.request("build", workload=workload.to_json(), mode=contender.mode, weights=weights)
    worker.request("load", batches=[batch.to_json() for batch in batches])
    worker.request("first_call", step="inference")


def test_an_lstm_runs_the_fused_kernel_where_a_framework_has_one(pool, frameworks):
    item = next(sized for sized in PRESETS["small"].sized if sized.model.kind == "lstm")
    for contender in all_contenders("gpu"):
        if str(contender) in FUSED and contender.framework in frameworks:
            worker = pool.worker(contender)
            load(worker, contender, Workload(item.model, item.batch_size, device="gpu"))
            assert FUSED[str(contender)] in str(worker.request("describe")["ledger"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_rounds_know_the_card_and_its_memory(pool, framework):
    contender = next((one for one in pool.available if one.framework == framework), None)
    if contender is None:
        pytest.skip(f"{framework} sees no GPU")
    item = PRESETS["small"].sized[0]
    seats = [Seat(contender, number) for number in (1, 2)]
    for seat in seats:
        with pool.replicate(seat) as worker:
            load(worker, contender, Workload(item.model, item.batch_size, device="gpu"))
    alone = between_contenders(None, [contender])
    measured = measure(pool, seats, "inference", Budget(max_time_s=0.1), 0, lambda share: None, alone)
    process = summarise(measured)[contender].processes[0]
    assert process.memory["device_peak_bytes"] > 0
    if contender.framework == "pytorch":
        assert process.device_s > 0
    if pool.card is not None:
        assert process.card is not None
        assert process.card.clock_mhz[0] > 0


def test_the_card_has_a_ceiling(pool):
    item = PRESETS["small"].sized[0]
    ceiling = measure_ceiling(pool, Workload(item.model, item.batch_size, device="gpu"), 0)
    assert ceiling.best is not None
    assert ceiling.best[1] > 1e12
    assert ceiling.copy_bytes > 1e10
