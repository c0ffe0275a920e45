"""Checks of one workload in other situations than the everyday one, on models that are built already."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from faceoff.agreement.check import Expected, blank, check_agreement, ended
from faceoff.agreement.quantities import Detail
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, Workload
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool
from faceoff.results.agreements import EVERYDAY, Agreement
from faceoff.run.options import Options
from faceoff.run.turns import Turns
from faceoff.workloads.situations import SITUATIONS


class Situated:
    """What is expected of one workload in each situation, and the checks against it.

    Args:
        options: which situations.
        pool: the workers.
        compiling: turns at the cores.
        workload: what is checked; its dtype does not matter.
    """

    def __init__(self, options: Options, pool: Pool, compiling: Turns, workload: Workload) -> None:
        self._options, self._pool, self._compiling, self._workload = options, pool, compiling, workload
        self._expected: dict[str, Expected] = {}
        self._lock = threading.Lock()

    def names(self, dtype: str, widest: str = "float64") -> list[str]:
        """The situations that are checked in a dtype, without the everyday one."""
        return [name for name in self._options.situations_of(self._workload, dtype, widest) if name != EVERYDAY]

    def warm(self, dtype: str) -> Iterator[object]:
        """Computes the reference's side of all of them, piece by piece, so that it is there when it is asked for."""
        for name in self.names(dtype):
            yield self._of(name).values(dtype)
            yield self._of(name).noise(dtype)

    def check(self, contender: Contender, dtype: str, everyday: Sequence[Agreement]) -> list[Agreement]:
        """Every situation in `dtype`.

        Where the everyday check found a fault, or could not be made, the others would only repeat it, and are left.

        Args:
            contender: who computes.
            dtype: working dtype.
            everyday: the check of the everyday situation in this dtype, which left its model built, or none.
        """
        found: list[Agreement] = []
        if any(check.outcome != "ok" for check in everyday):
            return found
        held: tuple[Worker, Workload] | None = None
        for name in self.names(dtype, FRAMEWORKS[contender.framework].can.widest):
            if found and found[-1].outcome not in ("ok", "disagrees"):
                break
            again = self._options.again(self._workload, contender, dtype, name)
            try:
                worker = self._pool.worker_for(contender, self._workload.replace(dtype=dtype))
            except WorkerError as error:
                found.append(ended(blank(self._workload, contender, dtype, again, name), error))
                break
            if everyday and not found:
                held = worker, self._workload.replace(step="training")
            expected = self._of(name)
            found.append(
                check_agreement(
                    worker, contender, expected.task, lambda e=expected: e, dtype,  # type: ignore[misc]
                    again=again, busy=self._compiling.turn(contender), detail=expected.detail,
                    built=held == (worker, expected.task.workload), situation=name,
                )
            )  # fmt: skip
            held = worker, expected.task.workload
        return found

    def _of(self, name: str) -> Expected:
        with self._lock:
            if name not in self._expected:
                task = SITUATIONS[name].task(self._workload, self._options.seed)
                # Every layer's output costs a pass more, and what differs is placed without.
                detail: Detail = "steps" if self._options.trace else "whole"
                self._expected[name] = Expected(task, self._options.seed, detail=detail)
            return self._expected[name]
