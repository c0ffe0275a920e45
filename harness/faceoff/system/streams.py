"""Standard streams that end no run: a pipe that was closed, a full disk, a terminal that went away."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Enduring:
    """A text stream that takes what is written to it, whether or not it can be written.

    Args:
        stream: where it goes; after its first error nowhere.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            # A locale without µ is no reason to lose a summary.
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """As of any stream, but for the errors."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Likewise."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.error = self.error or error
            # What is still in the buffer has to go somewhere when Python ends.
            with suppress(OSError):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, self._stream.fileno())
                os.close(devnull)


@contextmanager
def enduring_streams() -> Iterator[Enduring]:
    """Standard output and error endure while the block runs. Gives the output."""
    _take_closed_descriptors()
    before = sys.stdout, sys.stderr
    made: list[Any] = [Enduring(io.StringIO() if stream is None else stream) for stream in before]
    sys.stdout, sys.stderr = made
    try:
        yield made[0]
    finally:
        sys.stdout, sys.stderr = before


def complaint(output: Enduring) -> str:
    """Why what was printed is not complete, in words; empty where it is, or where nobody wanted more of it."""
    output.flush()
    if output.error is None or output.error.errno == errno.EPIPE:
        return ""
    return f"standard output cannot be written: {output.error.strerror}"


def _take_closed_descriptors() -> None:
    """Opens nothing for the standard streams that were closed, or the next file would have their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
