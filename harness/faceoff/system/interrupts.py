"""Signals that end a run: which they are, and how what must not be left half done holds them off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A user's, a system's, and those by which batch systems say that the time is nearly over.
SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
)  # fmt: skip


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler of them all: ends the run in order."""
    raise KeyboardInterrupt


def listen() -> None:
    """From now on each of these signals interrupts, but for what whoever started this process lets it outlive."""
    for number in SIGNALS:
        # As nohup does it, and a shell for what it starts in the background of a script.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def ignore() -> None:
    """From now on none of them does anything: what was to be done is done, and the status is known."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_off() -> Iterator[None]:
    """Lets the block come to its end; a signal that came meanwhile interrupts after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
