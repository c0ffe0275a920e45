"""The reference computes on one thread while as many contenders as there are cores do their part."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

from threadpoolctl import threadpool_limits

from faceoff.core.spec import Contender
from faceoff.pool.workers import Pool
from faceoff.run.progress import Reporter
from faceoff.run.turns import Turns

Found = TypeVar("Found")
Judged = TypeVar("Judged")


class SideBySide:
    """Runs the reference's and the contenders' parts of a comparison at the same time.

    Use it as a context manager: leaving it waits for what still computes in the background.

    Args:
        pool: the workers.
        reporter: of progress.
        compiling: says who has taken longest so far.
    """

    def __init__(self, pool: Pool, reporter: Reporter, compiling: Turns) -> None:
        self._pool, self._reporter, self._compiling = pool, reporter, compiling
        self._warming: list[Future[None]] = []

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(self, *_: object) -> None:
        wait(self._warming)

    def run(
        self,
        make_expected: Callable[[], Found],
        warm: Callable[[Found], Iterable[object]],
        judge: Callable[[Contender, Callable[[], Found]], Judged],
        units: float,
        stage: str,
        contenders: Sequence[Contender] | None = None,
    ) -> tuple[Callable[[], Found], list[Judged]]:
        """Judges every contender against what is expected; keeps their order.

        Args:
            make_expected: computes the reference's side.
            warm: computes more of it, piece by piece, so that it is there when it is asked for; no further than that.
            judge: lets a contender do its part, then compares.
            units: of progress, for each contender.
            stage: what is going on, in words.
            contenders: none means all.

        Raises:
            MemoryError: of the reference; the workers can go on with something smaller.
        """
        # A thread for each: one that waits for the reference must not keep another's worker waiting.
        executor = ThreadPoolExecutor(len(self._pool.contenders) + 2)
        one_thread, over = threadpool_limits(1), threading.Event()

        def warm_until_over() -> None:
            for _ in warm(expected.result()):
                if over.is_set():
                    break

        try:
            expected = executor.submit(make_expected)
            self._warming = [
                *(job for job in self._warming if not job.done()),
                executor.submit(warm_until_over),
            ]
            # Who took longest before begins first, so that none is left to end alone.
            chosen = contenders or self._pool.contenders
            by_cost = sorted(chosen, key=lambda contender: -self._compiling.spent_s(contender))
            jobs = {contender: executor.submit(judge, contender, expected.result) for contender in by_cost}
            names = {job: contender for contender, job in jobs.items()}
            for job in as_completed(names):
                self._reporter.advance(units, f"{stage}: {names[job]} done")
            expected.result()
            return expected.result, [jobs[contender].result() for contender in chosen]
        except MemoryError:
            # The workers are needed for other sizes, so they finish what they were asked.
            executor.shutdown(wait=True, cancel_futures=True)
            raise
        except BaseException:
            # Threads that wait for a worker end when it does.
            self._pool.close()
            raise
        finally:
            over.set()
            executor.shutdown(wait=False, cancel_futures=True)
            one_thread.restore_original_limits()
