"""Models of users' own in a run: they are opened before it begins, and their reference lives beside its contenders."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from faceoff.agreement.check import Expected
from faceoff.agreement.own import OwnExpected
from faceoff.agreement.quantities import Detail
from faceoff.core.errors import InputError, WorkerError
from faceoff.core.own import port_of
from faceoff.core.spec import Contender, OwnSpec, Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool
from faceoff.ports.opening import open_port
from faceoff.workloads.presets import Sized
from faceoff.workloads.task import Task

BATCH_SIZE = 8


def open_models(
    paths: Iterable[str], configuration: Configuration, seed: int, batch_sizes: Sequence[int]
) -> list[Sized]:
    """Asks the sides of each model what they hold; returns what is run.

    Raises:
        InputError: a model that cannot be opened, or two of one name.
    """
    found: list[Sized] = []
    with tempfile.TemporaryDirectory(prefix="faceoff-") as logs, References(configuration, seed, Path(logs)) as sides:
        for path in paths:
            port = open_port(Path(path), sides.worker, seed)
            if port.name in {sized.model.label for sized in found}:
                raise InputError(
                    "two models of this name", where="models", got=port.name, next_step="name one otherwise"
                )
            found += [Sized(port.spec, batch) for batch in batch_sizes or (BATCH_SIZE,)]
    return found


def _plain(framework: str) -> Contender:
    """The mode in which a framework runs operation by operation, or as near to it as it has."""
    if framework not in FRAMEWORKS:
        raise InputError("unknown framework", where="sides", got=framework, expected=", ".join(FRAMEWORKS))
    return Contender(framework, FRAMEWORKS[framework].modes_on("cpu")[0])


class References:
    """What is expected of a task, by the NumPy reference or by the reference side of a user's own model; its processes.

    Args:
        configuration: which interpreters run what.
        seed: of the run.
        logs: folder for the logs of the sides.
    """

    def __init__(self, configuration: Configuration, seed: int, logs: Path) -> None:
        self._configuration, self._seed, self._logs = configuration, seed, logs
        self._pools: dict[str, Pool] = {}

    def __enter__(self) -> References:
        return self

    def start(self, workloads: Iterable[Workload]) -> None:
        """Starts the reference side of every user's model among these.

        From here and not when it is asked for first: that is on a thread which gives way to all others, and so would
        whatever it starts.
        """
        for workload in workloads:
            if isinstance(workload.model, OwnSpec):
                # One that does not start is told where it is asked for.
                with suppress(WorkerError):
                    self.worker(port_of(workload.model).reference)

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.close()

    def expected(self, task: Task, seed: int, detail: Detail = "whole") -> Expected:
        """The reference's side of a task."""
        if not isinstance(task.workload.model, OwnSpec):
            return Expected(task, seed, detail=detail)
        framework = port_of(task.workload.model).reference
        return OwnExpected(task, seed, lambda: self._reference(framework), _plain(framework).mode, detail)

    def worker(self, framework: str) -> Worker:
        """The live process of a framework's side; raises WorkerError."""
        contender = _plain(framework)
        if framework not in self._pools:
            self._pools[framework] = pool = Pool(
                [contender], device="cpu", threads=1, seed=self._seed, log_directory=self._logs,
                configuration=self._configuration,
            )  # fmt: skip
            list(pool.start())
        return self._pools[framework].worker(contender)

    def _reference(self, framework: str) -> Worker:
        try:
            return self.worker(framework)
        except WorkerError as error:
            what = f"the reference side: {error.what}"
            raise WorkerError(what, outcome=error.outcome, where=framework) from None
