"""Models of users' own in a run: they are opened before it begins, and their reference lives beside its contenders."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from faceoff.agreement.check import Expected
from faceoff.agreement.own import OwnExpected
from faceoff.agreement.own_timed import OwnTimedExpected
from faceoff.agreement.quantities import Detail
from faceoff.agreement.timed_check import TimedExpected
from faceoff.core.errors import InputError, WorkerError
from faceoff.core.own import Port, port_of
from faceoff.core.spec import STEPS, Contender, OwnSpec, Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool
from faceoff.ports.manifest import read_port
from faceoff.ports.opening import open_port
from faceoff.ports.paths import split
from faceoff.workloads.presets import Sized, choose, named
from faceoff.workloads.task import Task

BATCH_SIZE = 8
# Operations are counted on so many examples: batch norm has no variance of one.
COUNTED_EXAMPLES = 2


def choose_models(
    models: Sequence[str],
    preset: str,
    sizes: tuple[Sequence[int], Sequence[int], Sequence[int]],
    names: Sequence[str],
    configuration: Configuration,
    seed: int,
    timed: bool,
) -> tuple[Sized, ...]:
    """What is run: built-in families of a preset, and users' own models.

    Args:
        models: families and paths; none means all of the preset.
        preset: of the families.
        sizes: of batch, sequence and hidden state, instead of the preset's; models of users' own take the first alone.
        names: of all these, keep those whose `Sized.name` is given; none means all.
        configuration: which interpreters run the sides.
        seed: of the initial weights.
        timed: speed is measured, too: operations are counted where the reference's framework does so.

    Raises:
        InputError: anything that is not known or does not fit, or a model that cannot be opened.
    """
    families, paths = split(models)
    if paths and not families and (sizes[1] or sizes[2]):
        where = "sequence-length" if sizes[1] else "hidden-size"
        raise InputError("a size of built-in models", where=where, got=", ".join(paths), expected="rnn, lstm or dense")
    built_in = choose(preset, families, *sizes) if families or not paths else ()
    return named((*built_in, *open_models(paths, configuration, seed, sizes[0], timed)), names)


def name_sides(models: Sequence[str]) -> None:
    """Lets contenders be named by the sides of users' own models among these, of which a framework may have several."""
    for path in split(models)[1]:
        read_port(Path(path))


def having_sides(contenders: Sequence[Contender], sized: Sequence[Sized], device: str) -> tuple[Contender, ...]:
    """Those of the contenders that run a side of one of these models, and all modes of further sides of a framework.

    All and nobody else if there is a built-in model among them.
    """
    if not all(isinstance(item.model, OwnSpec) for item in sized):
        return tuple(contenders)
    sides = dict.fromkeys(side for item in sized for side in port_of(item.model).sides)
    named = {contender.framework for contender in contenders}
    further = [
        Contender(side, mode) for side in sides if side not in named for mode in FRAMEWORKS[side].modes_on(device)
    ]
    return (*(contender for contender in contenders if contender.framework in sides), *further)


def open_models(
    paths: Iterable[str], configuration: Configuration, seed: int, batch_sizes: Sequence[int], timed: bool
) -> list[Sized]:
    """Asks the sides of each model what they hold; arguments as of `choose_models`.

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
            if timed:
                port = _counted(port, sides.worker(port.reference), seed)
            found += [Sized(port.spec, batch) for batch in batch_sizes or (BATCH_SIZE,)]
    return found


def _counted(port: Port, worker: Worker, seed: int) -> Port:
    """With the operations of one example, where the reference's framework counts them."""
    # In float64 no kernel for a whole layer, which it could not look into, takes the place of matrix products.
    workload = Workload(port.spec, COUNTED_EXAMPLES, "float64", step="training")
    weights, batches = Task.seeded(workload, seed, batches=1).cast("float64")
    flops = {}
    try:
        worker.request("build", workload=workload.to_json(), mode=_plain(port.reference).mode, weights=weights)
        worker.request("load", batches=[batch.to_json() for batch in batches])
        for step in STEPS:
            count = worker.request("operations", step=step)["operations"]
            flops[step] = None if count is None else count // COUNTED_EXAMPLES
    except WorkerError:
        # What fails here fails when it is run, and is told there.
        return port
    return replace(port, flops={step: count for step, count in flops.items() if count is not None})


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
        self._pools: dict[tuple[str, int], Pool] = {}
        self._starting: dict[tuple[str, int], threading.Lock] = {}

    def __enter__(self) -> References:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes of all sides."""
        for pool in self._pools.values():
            pool.close()

    def expected(self, task: Task, seed: int, detail: Detail = "whole") -> Expected:
        """The reference's side of a task."""
        if not isinstance(task.workload.model, OwnSpec):
            return Expected(task, seed, detail=detail)
        framework = port_of(task.workload.model).reference
        first, second = (functools.partial(self.worker, framework, number) for number in (0, 1))
        return OwnExpected(task, seed, first, _plain(framework).mode, detail, second)

    def timed(self, workload: Workload, part: Expected) -> TimedExpected:
        """What timed calls have to return, judged by what is expected of a task with the examples that are compared."""
        if isinstance(part, OwnExpected):
            return OwnTimedExpected(workload, part, self._seed)
        return TimedExpected(workload, part, self._seed)

    def worker(self, framework: str, number: int = 0) -> Worker:
        """A live process of a framework's side, the first or one more; raises WorkerError."""
        contender, key = _plain(framework), (framework, number)
        # Several threads may ask: sides start side by side, and each of them once.
        with self._starting.setdefault(key, threading.Lock()):
            if key not in self._pools:
                # Each writes logs of the same names.
                logs = self._logs / f"process-{number}" if number else self._logs
                self._pools[key] = pool = Pool(
                    [contender], device="cpu", threads=1, seed=self._seed, log_directory=logs,
                    configuration=self._configuration, pinned=False,
                )  # fmt: skip
                list(pool.start())
            return self._pools[key].worker(contender)
