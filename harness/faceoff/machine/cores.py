"""Which cores a run keeps its workers on, where it needs fewer than there are: if it can, none that another holds."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

# So many runs share a core before they no longer look where others are.
MOST_ON_A_CORE = 16


@contextmanager
def held_cores(count: int) -> Iterator[list[int]]:
    """Chooses so many of the cores that this process may run on, those that fewest others hold, and holds them.

    A lone run gets the first ones. The kernel takes a hold back when the process ends, however it ends. Where there is
    no telling who holds what, it is the first ones too; on systems that keep no process on a core, none.
    """
    if not hasattr(os, "sched_getaffinity"):
        yield []
        return
    allowed = sorted(os.sched_getaffinity(0))
    if count >= len(allowed):
        yield allowed
        return
    with ExitStack() as holds:
        try:
            chosen = _hold(allowed, count, holds)
        except OSError:
            chosen = []
        yield chosen or allowed[:count]


def _hold(allowed: Sequence[int], count: int, holds: ExitStack) -> list[int]:
    """The cores that are held from now until `holds` is left; empty when all are held too often already."""
    folder = Path(tempfile.gettempdir()) / f"faceoff-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for level in range(MOST_ON_A_CORE):
        with ExitStack() as here:
            chosen: list[int] = []
            for core in allowed:
                descriptor = os.open(
                    folder / f"{core}-{level}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
                here.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                chosen.append(core)
                if len(chosen) == count:
                    holds.push(here.pop_all())
                    return chosen
    return []
