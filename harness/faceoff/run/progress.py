"""Tells what runs now and how long it may still take: a bar on a terminal, plain lines elsewhere, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

PLAIN_INTERVAL_S = 5.0


def tell(notices: Iterable[str]) -> None:
    """A line on standard error for each thing to know beforehand; of empty ones none."""
    for notice in filter(None, notices):
        print(f"faceoff: {notice}", file=sys.stderr)


class Reporter:
    """Progress of a run in units of work. A context manager.

    Args:
        total: units in the whole run.
        quiet: say nothing.
    """

    def __init__(self, total: float, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._total, self._done, self._stage = total, 0.0, ""
        self._begin_s = time.monotonic()
        self._last_line_s = float("-inf")
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if self._console.is_terminal and not quiet:
            columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=total, left="")

    def __enter__(self) -> Reporter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def stage(self, text: str) -> None:
        """Names what runs now."""
        self._stage = text
        self._show(force=True)

    def advance(self, units: float, text: str | None = None) -> None:
        """Adds finished units of work, and perhaps names what runs now."""
        self._done = min(self._total, self._done + units)
        if text is not None:
            self._stage = text
        self._show(force=False)

    def left(self) -> str:
        """The time left, in words, judged by the work done so far; empty while that says too little."""
        spent_s = time.monotonic() - self._begin_s
        if self._done < 0.05 * self._total:
            return ""
        left_s = spent_s * (self._total - self._done) / self._done
        return f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {left_s:.0f} s left"

    def _show(self, force: bool) -> None:
        left = self.left()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._done, description=self._stage, left=left)
            return
        now_s = time.monotonic()
        if force or now_s - self._last_line_s >= PLAIN_INTERVAL_S:
            self._last_line_s = now_s
            share = 100 * self._done / self._total if self._total else 100
            text = f"[{share:3.0f} %] {self._stage}" + (f", {left}" if left else "")
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
