"""Fixtures that several suites share: real workers, started once, side by side."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceoff.core.spec import Contender
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.contenders import all_contenders
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool
from faceoff.system.interrupts import SIGNALS

# Three test processes share two cores; runs of the command in tests/contract use all threads.
THREADS = 1


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """Undoes what a command that is run in this process does to signals, as if the process had ended with it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def new_pool(contenders: list[Contender], logs: Path, timeout_s: float = 300.0) -> Pool:
    """A pool on the CPU whose workers are started."""
    pool = Pool(
        contenders,
        device="cpu",
        threads=THREADS,
        seed=0,
        log_directory=logs,
        configuration=Configuration(),
        timeout_s=timeout_s,
    )
    list(pool.start())
    return pool


SLOW_TO_COMPILE = ("pytorch:compile", "tensorflow:graph-onednn", "tensorflow:xla")
"""Contenders that take up to a minute to compile a model with many layers."""


@pytest.fixture(scope="session")
def every_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A worker of every contender."""
    pool = new_pool(list(all_contenders()), tmp_path_factory.mktemp("logs"))
    yield pool
    pool.close()


@pytest.fixture(params=all_contenders(), ids=str)
def contender(request: pytest.FixtureRequest) -> Contender:
    """Each contender in turn."""
    chosen: Contender = request.param
    return chosen


@pytest.fixture
def worker(contender: Contender, every_worker: Pool) -> Worker:
    """The worker of the contender in turn; skips, with the reason, where its framework is missing."""
    error = every_worker.failures.get(contender)
    if error and error.outcome == "missing":
        pytest.skip(str(error))
    return every_worker.worker(contender)


@pytest.fixture(scope="session")
def lightest() -> Contender:
    """A contender that is installed here and starts fast, for tests that need any real worker."""
    for name in ("jax", "pytorch", "tensorflow"):
        if find_installation(FRAMEWORKS[name], Configuration()).installed:
            return Contender(name, next(iter(FRAMEWORKS[name].modes)))
    pytest.skip("no framework is installed")
