"""The page of a run that goes on: there as soon as its contenders have started, and written anew as more is known."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from faceoff.core.errors import InputError
from faceoff.report.answer import answer_for, answer_sentence
from faceoff.report.page import GoingOn, write_page
from faceoff.report.speed import speed_groups
from faceoff.results.records import Result
from faceoff.system.texts import cleaned

# Between two writings at least, and what they may take of a run's time.
EVERY_S, SHARE_OF_TIME = 30.0, 0.03
# Of more workloads the page tells more than lines would.
MOST_ANSWERS = 12


class GrowingPage:
    """Writes the page between two parts of a run, when nothing is timed, and says where it is.

    Args:
        path: of the page.
        name: of the run.
        quiet: say nothing.
        clock: seconds.
    """

    def __init__(self, path: Path, name: str, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._name, self._quiet, self._clock = path, name, quiet, clock
        self._due_s = float("-inf")
        self._has_speed = self._is_told = False
        self._answered: set[str] = set()

    def offer(self, result: Result, done: int, parts: int) -> None:
        """Writes the page if it is time to, and prints what is newly known.

        Args:
            result: what is known so far, with its verdicts.
            done, parts: of the run; the last part is left to whoever writes the whole page.
        """
        if done == parts:
            return
        self._tell_answers(result)
        # The first ranking is not kept waiting.
        first = bool(result.cases) and not self._has_speed
        began_s = self._clock()
        if began_s < self._due_s and not first:
            return
        with suppress(InputError):  # What keeps it from being written ends the run by its journal, or at its end.
            write_page([(self._name, cleaned(result))], self._path, GoingOn(done, parts, round(EVERY_S)))
            self._has_speed = bool(result.cases)
            self._tell(f"page, for now: {self._path} (written anew as the run goes on)" if not self._is_told else "")
            self._is_told = True
        ended_s = self._clock()
        self._due_s = ended_s + max(EVERY_S, (ended_s - began_s) / SHARE_OF_TIME)

    def _tell_answers(self, result: Result) -> None:
        groups = [group for group in speed_groups(result) if group.rows]
        for group in groups if len(groups) <= MOST_ANSWERS else ():
            if group.workload.key not in self._answered:
                self._answered.add(group.workload.key)
                self._tell(f"so far: {answer_sentence(answer_for(group, result.comparisons))}")

    def _tell(self, text: str) -> None:
        if text and not self._quiet:
            print(f"faceoff: {text}", file=sys.stderr)
