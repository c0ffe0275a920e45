"""The processes of a reference side: one, and where runs of it take long one more that shares them."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator

import psutil

from faceoff.agreement.noise import Run, run_all
from faceoff.core.errors import WorkerError
from faceoff.machine.processor import usable_cores
from faceoff.pool.memory import available_bytes
from faceoff.pool.worker import Worker

# Another process takes seconds to start, and as much memory as the first. Others of the run take some meanwhile.
LONG_RUN_S, ROOM = 3.0, 3


class SideProcesses:
    """Gives the processes of a reference side to whoever needs one.

    Args:
        first: gives the live process.
        another: gives one more; None: there is one.
    """

    def __init__(self, first: Callable[[], Worker], another: Callable[[], Worker] | None = None) -> None:
        self._first = first
        # Whoever runs alone is given the first one.
        self._free: queue.LifoQueue[Callable[[], Worker]] = queue.LifoQueue()
        for process in (another, first) if another else (first,):
            self._free.put(process)

    @contextlib.contextmanager
    def one(self) -> Iterator[Worker]:
        """A process that nobody else uses while the block runs.

        What the reference side cannot do is no fault of the side that is held against it: there is no verdict.

        Raises:
            WorkerError: of the process, told as one of the reference side.
        """
        process = self._free.get()
        try:
            yield process()
        except WorkerError as error:
            raise _told_as_the_reference(error) from error
        finally:
            self._free.put(process)

    def run_all(self, run: Callable[[int], Run]) -> list[Run]:
        """What every disturbed run finds, by its number; long ones go side by side."""
        return run_all(run, self._at_once, LONG_RUN_S)

    def _at_once(self) -> int:
        """As many as there are processes, if another one has room."""
        most = min(self._free.qsize(), usable_cores())
        if most > 1 and available_bytes() < ROOM * psutil.Process(self._first().process_id).memory_info().rss:
            return 1
        return most


def _told_as_the_reference(error: WorkerError) -> WorkerError:
    if error.outcome != "disagrees":
        return WorkerError(
            f"the reference side: {error.what}", outcome=error.outcome, where=error.where, got=error.got,
            expected=error.expected, next_step=error.next_step, log_tail=error.log_tail,
        )  # fmt: skip
    return WorkerError(
        "there is nothing to compare with: the reference side fails", outcome="crashed", where=error.where,
        got=error.reason or error.what, next_step="mend that side", log_tail=error.log_tail,
    )  # fmt: skip
