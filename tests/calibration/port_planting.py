"""Plants faults in the ports of the examples, and asks the shipped check."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from faceoff.agreement.check import Expected, check_agreement
from faceoff.core.errors import InputError, WorkerError
from faceoff.core.own import Port
from faceoff.core.spec import Contender, Optimiser, Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.pool.worker import Worker
from faceoff.ports.opening import open_port
from faceoff.results.agreements import Agreement
from faceoff.run.own_models import BATCH_SIZE, References
from faceoff.workloads.task import Task
from tests.calibration.port_fault import EXAMPLES, PortFault, replace_once
from tests.meta.faults.fault import Edit, Fault
from tests.meta.faults.runner import SEED, Runner

PLAIN = {"jax": "jit", "tensorflow": "graph", "pytorch": "eager"}
"""The frameworks in which faults are planted, each with the mode that is checked."""
REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """What the check says of one port.

    Attributes:
        outcome: of the agreement, or `refused`, where its weights cannot be mapped.
        said: what differs first, or the error.
        note: of an agreement.
        units: of the first quantity that differs, in units of its noise; None where they say nothing.
    """

    outcome: str
    said: str
    note: str = ""
    units: float | None = None

    @staticmethod
    def of(agreement: Agreement) -> Verdict:
        """That of an agreement."""
        first = agreement.first
        units = None if first is None or agreement.outcome == "ok" else first.noise_units
        return Verdict(agreement.outcome, agreement.first_difference or agreement.reason, agreement.note, units)


class PortPlanter(Runner):
    """Checks copies of the examples whose port has been edited. Use it as a context manager.

    Args:
        folder: where the copies and logs go.
        seed: of weights and batches.
    """

    def __init__(self, folder: Path, seed: int = SEED) -> None:
        super().__init__(folder)
        self._references = References(Configuration(), seed, folder)
        self._seed = seed
        self._expected: dict[tuple[str, str, str], tuple[Port, Expected]] = {}
        self._held: dict[str, tuple[Edit, ...]] = {}

    def __enter__(self) -> PortPlanter:
        self._references.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._references.__exit__()
        self.close()

    def plant(self, fault: PortFault, dtype: str = "float64") -> Verdict:
        """What the check says of a port with this fault."""
        return self.ask(fault.example, fault.plant, dtype, fault.optimiser, fault.of_framework(), fault.framework)

    def ask(
        self,
        example: str,
        edit: Callable[[Path], None] = lambda folder: None,
        dtype: str = "float64",
        optimiser: str = "sgd",
        of_framework: tuple[Edit, ...] = (),
        framework: str = "jax",
    ) -> Verdict:
        """What the check says of a copy of an example.

        Args:
            example: a folder of `impls/examples`.
            edit: changes the copy in a folder.
            dtype: working dtype.
            optimiser: the kind that training uses.
            of_framework: edits of the framework's own folder.
            framework: of the side that is checked. PyTorch's is held against JAX's, the others against PyTorch's.
        """
        contender = Contender(framework, PLAIN[framework])
        worker = self._holding(contender, of_framework)
        right, expected = self._right(example, optimiser, contender)
        try:
            port = self._opened(example, edit, contender)
        except InputError as error:
            # Where the copy lies says nothing.
            return Verdict(REFUSED, str(error).replace(f"{self._folder}/", ""))
        task = self._task(port, optimiser)
        if port.weights != right.weights:
            # What is split into other canonical weights has other quantities.
            expected = self._references.expected(task, self._seed)
        return Verdict.of(
            check_agreement(worker, contender, task, lambda: expected, dtype, again="", busy=nullcontext())
        )

    def _holding(self, contender: Contender, edits: tuple[Edit, ...]) -> Worker:
        """The worker, with these edits in its framework's folder."""
        framework = contender.framework
        if self._held.get(framework) != edits or not self._worker(contender).alive:
            self._load(contender, Fault("of the framework", str(contender), "", edits, ""))
            self._held[framework] = edits
        return self._worker(contender)

    def _right(self, example: str, optimiser: str, contender: Contender) -> tuple[Port, Expected]:
        """The example as it is, and what its reference side expects."""
        key = example, optimiser, contender.framework
        if key not in self._expected:
            port = self._opened(example, lambda folder: None, contender)
            self._expected[key] = port, self._references.expected(self._task(port, optimiser), self._seed)
        return self._expected[key]

    def _task(self, port: Port, optimiser: str) -> Task:
        return Task.seeded(Workload(port.spec, BATCH_SIZE, optimiser=Optimiser(optimiser)), self._seed)

    def _opened(self, example: str, edit: Callable[[Path], None], contender: Contender) -> Port:
        checked, reference = contender.framework, "jax" if contender.framework == "pytorch" else "pytorch"
        folder = self._folder / f"{example}-{next(self._copies)}"
        shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("__pycache__"))
        edit(folder)
        replace_once(folder / "port.toml", 'reference = "pytorch"', f'reference = "{reference}"', example)

        def of(framework: str) -> Worker:
            if framework == checked:
                return self._worker(contender)
            if framework != reference:
                raise WorkerError("not asked", outcome="missing", where=framework)
            return self._references.worker(framework)

        return open_port(folder, of, self._seed, notify=lambda line: None)
