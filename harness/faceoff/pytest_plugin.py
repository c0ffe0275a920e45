"""The engine behind pytest-benchmark: `pytest tests/benchmarks --benchmark-only`.

A test that asks for the fixture `measured_case` becomes one entry for each workload, step and contender. The first
entry of a workload checks agreement and times all its contenders, interleaved; each entry then hands its own rounds to
pytest-benchmark, whose tables, files and comparisons work as always. Its `--benchmark-max-time` and
`--benchmark-min-rounds` set the budget.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from faceoff.core.spec import Contender, Workload
    from faceoff.results.records import CaseResult
    from faceoff.run.options import Options
    from faceoff.speed.budget import Budget

OPTIONS = {
    "preset": "named set of sizes",
    "models": "families, and folders of models of your own, separated by commas",
    "batch-size": "instead of the preset's; several by commas",
    "workload": "names of those to run of all these, separated by commas",
    "contenders": "framework:mode or framework, separated by commas",
    "steps": "inference, gradients, training, separated by commas",
    "dtype": "what is timed",
    "threads": "of each worker",
    "timeout": "seconds that one request to a worker may take",
    "seed": "of weights, batches and order",
    "out": "folder for the logs",
}


OPTIONS_KEY: pytest.StashKey[Any] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--faceoff-*`: what the benchmarks run."""
    group = parser.getgroup("faceoff", "what Face-off's benchmarks run")
    for name, text in OPTIONS.items():
        group.addoption(f"--faceoff-{name}", default=None, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Checks what was asked for while one line still says what is wrong with it."""
    if any(config.getoption(f"--faceoff-{name}") is not None for name in OPTIONS):
        config.stash[OPTIONS_KEY] = _options(config)


@dataclass(frozen=True)
class SpeedCase:
    """What one benchmark entry stands for."""

    workload: Workload
    contender: Contender

    def __str__(self) -> str:
        return f"{self.workload.name}-{self.contender}"


def _options(config: pytest.Config) -> Options:
    from faceoff.core.errors import HarnessError
    from faceoff.run.options import make_options

    def listed(name: str) -> tuple[str, ...]:
        value = config.getoption(f"--faceoff-{name}")
        return tuple(part.strip() for part in value.split(",")) if value else ()

    def number(name: str, kind: type[int] | type[float]) -> Any:
        value = config.getoption(f"--faceoff-{name}")
        return None if value is None else _number(value, name, kind)

    try:
        return make_options(
            "bench",
            preset=config.getoption("--faceoff-preset") or "default",
            models=listed("models"),
            batch_size=[_number(size, "batch-size", int) for size in listed("batch-size")],
            workload=listed("workload"),
            threads=number("threads", int),
            timeout_s=number("timeout", float),
            contenders=listed("contenders"),
            steps=listed("steps"),
            dtype=listed("dtype"),
            seed=number("seed", int) or 0,
            out=config.getoption("--faceoff-out"),
            budget=_budget(config),
            quiet=True,
        )
    except (HarnessError, ValueError) as error:
        # What it advises are the command's options, which have other names here.
        text = re.sub(rf"--(?=(?:{'|'.join(OPTIONS)})\b)", "--faceoff-", str(error))
        raise pytest.UsageError(f"faceoff: {text}") from None


def _number(text: str, name: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name}: not {what}; got {text!r}") from None


def _budget(config: pytest.Config) -> Budget:
    """The engine's budget from pytest-benchmark's own options; a round is never shorter than the engine's."""
    from faceoff.speed.budget import Budget

    standard = Budget()
    rounds = int(config.getoption("benchmark_min_rounds"))
    warmup = config.getoption("benchmark_warmup")
    min_passes = max(1, -(-rounds // standard.processes))
    max_time_s = float(config.getoption("benchmark_max_time"))
    min_round_s = max(standard.min_round_s, float(config.getoption("benchmark_min_time")))
    # As many as there is time for.
    in_time = math.ceil(max_time_s / (standard.processes * min_round_s)) if math.isfinite(max_time_s) else 0
    return Budget(
        max_time_s=max_time_s,
        min_passes=min_passes,
        max_passes=max(min_passes, standard.max_passes, in_time),
        min_round_s=min_round_s,
        max_warmup_s=standard.max_warmup_s if warmup else 0.0,
    )


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Says what the entries will cost before the first of them starts."""
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    cases = [values["speed_case"] for values in parameters if "speed_case" in values]
    if not cases:
        return []
    from faceoff.run.engine import rough_seconds

    options: Options = config.stash[OPTIONS_KEY]
    contenders = tuple(c for c in options.contenders if c in {case.contender for case in cases})
    chosen = {case.workload.replace(step="training") for case in cases}
    workloads = tuple(workload for workload in options.workloads if workload in chosen)
    asked = dataclasses.replace(options, contenders=contenders, workloads=workloads)
    entries = "1 entry" if len(cases) == 1 else f"{len(cases)} entries"
    return [
        f"faceoff: {entries} of {len(contenders)} contenders; the first of a workload checks it and times it for all: "
        f"up to about {rough_seconds(asked):.0f} s on two cores"
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One entry for each workload, step and contender."""
    if "speed_case" in metafunc.fixturenames:
        if hasattr(metafunc.config, "workerinput") or metafunc.config.getoption("dist", "no") != "no":
            # Two processes that time at once measure each other; each would start all contenders, too.
            pytest.fail("faceoff: speed is measured in one process; run with -n 0", pytrace=False)
        stash = metafunc.config.stash
        if OPTIONS_KEY not in stash:
            try:
                stash[OPTIONS_KEY] = _options(metafunc.config)
            except pytest.UsageError as error:
                # By now pytest would show where in this file it was raised.
                pytest.fail(str(error), pytrace=False)
        options = stash[OPTIONS_KEY]
        cases = [
            SpeedCase(workload.replace(step=step), contender)
            for workload in options.workloads
            for step in options.steps
            for contender in options.contenders
        ]
        metafunc.parametrize("speed_case", cases, ids=str)


class _Session:
    """Runs each workload once, when its first entry asks."""

    def __init__(self, options: Options) -> None:
        from faceoff.run.engine import Engine
        from faceoff.run.progress import Reporter
        from faceoff.run.starting import blank_result, make_pool

        self.result = blank_result(options)
        self._pool = make_pool(options)
        self._engine = Engine(options, self._pool, Reporter(1, quiet=True), self.result)
        self._engine.start()
        self._checked: set[Workload] = set()
        self._cases: dict[str, CaseResult] = {}

    def close(self) -> None:
        self._engine.references.close()
        self._pool.close()

    def case(self, wanted: SpeedCase) -> CaseResult:
        from faceoff.core.spec import Case

        name = Case(wanted.workload, wanted.contender).name
        if name not in self._cases:
            checked = wanted.workload.replace(step="training")
            if checked not in self._checked:
                self._checked.add(checked)
                self._engine.check(checked, timed=True)
            for case in self._engine.time_step(checked, wanted.workload.step):
                self._cases[case.name] = case
        return self._cases[name]


@pytest.fixture(scope="session")
def _speed_session(request: pytest.FixtureRequest) -> Iterator[_Session]:
    options: Options = request.config.stash[OPTIONS_KEY]
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    selected = {values["speed_case"].contender for values in parameters if "speed_case" in values}
    chosen = tuple(contender for contender in options.contenders if contender in selected)
    session = _Session(dataclasses.replace(options, contenders=chosen))
    yield session
    session.close()


@pytest.fixture
def measured_case(speed_case: SpeedCase, benchmark: Any, _speed_session: _Session) -> CaseResult:
    """The case of this entry, measured, its rounds handed to pytest-benchmark.

    A contender that is missing or cannot run the case skips; one that disagrees, crashes or hangs fails.
    """
    from faceoff.results.file import extra_info

    case = _speed_session.case(speed_case)
    benchmark.group = speed_case.workload.name
    benchmark.extra_info.update(extra_info(case, _speed_session.result))
    if case.outcome in ("missing", "unsupported", "not_offered"):
        pytest.skip(case.reason)
    if case.speed is None:
        pytest.fail(f"{case.name} {case.outcome}: {case.reason}", pytrace=False)
    if benchmark.enabled:
        # What `benchmark(...)` does with the rounds that it times itself; these were timed in the worker.
        benchmark._mode = "faceoff"
        stats = benchmark._make_stats(case.speed.iterations)
        for duration_s in case.speed.rounds_s:
            stats.update(duration_s * case.speed.iterations)
    return case
